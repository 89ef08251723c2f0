//! The rows that no request to a server shows as they stand, each with what is seen instead.

use postern_access::Layer;

/// A row that is seen elsewise.
#[derive(Clone, Copy, Debug)]
pub struct Elsewise {
    /// The row's name.
    pub row: &'static str,
    /// The operation, as a row made by `may` or `each` has it.
    pub kind: &'static str,
    /// What is recorded: the deciding layer of a denial, `None` for an allow.
    pub denied: Option<Layer>,
    /// What is answered.
    pub status: u16,
    /// Why it is so.
    pub why: &'static str,
}

const fn elsewise(
    row: &'static str,
    kind: &'static str,
    denied: Option<Layer>,
    status: u16,
    why: &'static str,
) -> Elsewise {
    Elsewise { row, kind, denied, status, why }
}

const NOBODY: &str = "the gate lets the question in, and then there is nobody to issue a token to";
const SOONER: &str = "credentials of a caller that is switched off or gone do not hold: authentication refuses sooner";
const SCANNER: &str = "the scanner's token claims what it may and no more, so that it is sent for another one";
const ANONYMOUS: &str = "mounting is a push to the target, which anonymous callers never may";
const QUIET: &str = "a mount that is refused becomes an upload: the client sends the bytes itself";

/// Every such row.
pub const ELSEWISE: &[Elsewise] = &[
    elsewise("asking for an anonymous token — false", "issueToken", Some(Layer::Authentication), 401, NOBODY),
    elsewise(
        "Container Instances, asking for a token — issueToken",
        "issueToken",
        Some(Layer::Authentication),
        401,
        NOBODY,
    ),
    elsewise("the admin user when it is off", "pullManifest", Some(Layer::Authentication), 401, SOONER),
    elsewise(
        "token of the admin user, which was switched off since",
        "pullManifest",
        Some(Layer::Authentication),
        401,
        SOONER,
    ),
    elsewise("token: disabled", "pullManifest", Some(Layer::Authentication), 401, SOONER),
    elsewise(
        "token: disabled, and its scope map lacks the action",
        "pullManifest",
        Some(Layer::Authentication),
        401,
        SOONER,
    ),
    elsewise("token: deleted", "pullManifest", Some(Layer::Authentication), 401, SOONER),
    elsewise(
        "Defender reads, and writes nothing — pushManifest",
        "pushManifest",
        Some(Layer::Authorization),
        401,
        SCANNER,
    ),
    elsewise(
        "Defender reads, and writes nothing — deleteManifest",
        "deleteManifest",
        Some(Layer::Authorization),
        401,
        SCANNER,
    ),
    elsewise(
        "Defender reads, and writes nothing — writeMetadata",
        "writeMetadata",
        Some(Layer::Authorization),
        401,
        SCANNER,
    ),
    elsewise(
        "anonymous pull on, either mode — LegacyRegistryPermissions",
        "mountBlob",
        Some(Layer::Authorization),
        401,
        ANONYMOUS,
    ),
    elsewise(
        "anonymous pull on, either mode — AbacRepositoryPermissions",
        "mountBlob",
        Some(Layer::Authorization),
        401,
        ANONYMOUS,
    ),
    elsewise("anonymous pull off", "mountBlob", Some(Layer::Authorization), 401, ANONYMOUS),
    elsewise("token: content/write alone does not push", "mountBlob", None, 202, QUIET),
    elsewise("token: content/delete", "mountBlob", None, 202, QUIET),
    elsewise("token: metadata/read", "mountBlob", None, 202, QUIET),
    elsewise("token: metadata/write", "mountBlob", None, 202, QUIET),
    elsewise("token: another repository", "mountBlob", None, 202, QUIET),
    elsewise("repository readEnabled=false refuses — mountBlob", "mountBlob", None, 202, QUIET),
];
