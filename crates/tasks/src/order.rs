//! What a worker is given and what it reports: the documents between the server and its workers.
//!
//! ```text
//!  worker ─ LeaseRequest ─▶ server ─ Leased { lease, order } ─▶ worker
//!         ─ BeatRequest ──▶        ─ Beat { canceled } ───────▶
//!         ─ RunReport ────▶
//! ```

use postern_model::Secret;
use serde::{Deserialize, Serialize};

/// A worker asks for a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseRequest {
    /// What the worker calls itself, for people.
    pub worker: String,
    /// How long to wait for a run, in seconds.
    pub wait_seconds: u32,
}

/// A run that is the worker's until its lease runs out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leased {
    /// What the worker names the run by in all further requests.
    pub lease: String,
    /// How long the lease lasts without a heartbeat, in seconds.
    pub lease_seconds: u32,
    /// What is to be done.
    pub order: RunOrder,
}

/// A worker still has a run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeatRequest {
    /// Whether anything outside of the worker may have changed: from then on the run is not begun again when the worker dies.
    pub has_effects: bool,
}

/// What a worker hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// Whether the run was called off.
    pub canceled: bool,
}

/// What a run is to do, as its worker needs it. It holds secrets: it is written to no log and no disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOrder {
    /// Its id in the registry: `ca1`.
    pub run_id: String,
    /// The registry's login server, with the port that the server is reached at.
    pub registry: String,
    /// The registry's name.
    pub registry_name: String,
    /// The task's name; none for a quick build or a quick run.
    pub task_name: Option<String>,
    /// The id of the resource that the run proves to be: its task, or for a quick run the run itself.
    pub workload: String,
    /// What began it, as `{{.Run.TriggeredBy}}`: `manual`, `timer`, `image update`, `commit` or `pull request`.
    pub triggered_by: String,
    /// When it was asked for, in seconds since 1970.
    pub created: i64,
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64` and so on.
    pub architecture: String,
    /// How long it may take, in seconds.
    pub timeout_seconds: u32,
    /// How many processors it gets.
    pub cpu: u32,
    /// Where its files come from.
    pub source: Source,
    /// What is done with them.
    pub work: Work,
    /// Where it logs in, the registry itself first if it does there.
    pub logins: Vec<RegistryLogin>,
}

/// Where a run's files come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Source {
    /// It has none.
    None,
    /// An archive that was uploaded to the server, which gives it to the worker.
    Uploaded,
    /// As it was asked for: a git URL, the URL of an archive, or `oci://registry/repository:tag`.
    #[serde(rename_all = "camelCase")]
    Remote {
        /// The location.
        location: String,
        /// What a private repository asks for.
        #[serde(with = "secret::option")]
        access_token: Option<Secret>,
    },
}

/// What a run does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Work {
    /// Builds an image and pushes it.
    Docker(DockerWork),
    /// A task file among the run's files.
    #[serde(rename_all = "camelCase")]
    File {
        /// Its path.
        task_file: String,
        /// The path of the file that `{{.Values}}` come from.
        values_file: Option<String>,
        /// Values that win over the file's.
        values: Vec<Argument>,
    },
    /// A task file that came with the request.
    #[serde(rename_all = "camelCase")]
    Encoded {
        /// The task file.
        task: String,
        /// The file that `{{.Values}}` come from.
        values_content: Option<String>,
        /// Values that win over the file's.
        values: Vec<Argument>,
    },
}

/// A build.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerWork {
    /// Names in the registry, with templates of `.Run` only: `hello:{{.Run.ID}}`.
    pub image_names: Vec<String>,
    /// Whether the image is pushed.
    pub push: bool,
    /// Whether layers of earlier builds are not used.
    pub no_cache: bool,
    /// The Dockerfile's path among the run's files.
    pub dockerfile: String,
    /// The stage to build.
    pub target: Option<String>,
    /// Build arguments.
    pub arguments: Vec<Argument>,
}

/// A name with a value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value, which may be secret.
    #[serde(with = "secret")]
    pub value: Secret,
    /// Whether it may not be shown.
    pub is_secret: bool,
}

/// A registry that a run logs in to before its first step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryLogin {
    /// The login server.
    pub server: String,
    /// How.
    pub login: Login,
}

/// How a run logs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Login {
    /// With a refresh token that the server made for the run.
    Token {
        /// The token.
        #[serde(with = "secret")]
        token: Secret,
    },
    /// By exchanging a token of the workload's identity.
    #[serde(rename_all = "camelCase")]
    Identity {
        /// Of the user-assigned identity; none for the system-assigned one.
        client_id: Option<String>,
    },
    /// With a name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        #[serde(with = "secret")]
        password: Secret,
    },
    /// Not at all: what it was to be is not to be had.
    Unavailable {
        /// Why, for people.
        reason: String,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    /// Every step did what it should.
    Succeeded,
    /// A step failed.
    Failed,
    /// It was called off.
    Canceled,
    /// It could not be carried out.
    Error,
    /// It took too long.
    Timeout,
}

/// What a worker reports of a run that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// Why it did not succeed, for people.
    pub message: Option<String>,
    /// What was pushed.
    pub outputs: Vec<ImageName>,
    /// What was built upon, or run.
    pub dependencies: Vec<ImageDependency>,
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageName {
    /// The registry's login server.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest of its manifest.
    pub digest: Option<String>,
}

/// An image that a run needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDependency {
    /// Whether it is the base of what is run, and not of a stage before.
    pub is_runtime: bool,
    /// The image.
    pub image: ImageName,
}

/// Secrets on their way to a worker: over the connection that the worker proved itself on.
mod secret {
    use postern_model::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Secret, Serializer};

        #[expect(clippy::ref_option, reason = "this is how the field is given")]
        pub(in super::super) fn serialize<S: Serializer>(
            secret: &Option<Secret>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match secret {
                Some(secret) => serializer.serialize_some(secret.expose()),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Secret>, D::Error> {
            Option::<String>::deserialize(deserializer).map(|text| text.map(Secret::new))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_way_and_shows_no_secret() {
        let order = RunOrder {
            run_id: "ca1".into(),
            registry: "myregistry.azurecr.io:8443".into(),
            registry_name: "myregistry".into(),
            task_name: None,
            workload: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/r/runs/ca1"
                .into(),
            triggered_by: "manual".into(),
            created: 1_795_308_729,
            os: "linux".into(),
            architecture: "amd64".into(),
            timeout_seconds: 3600,
            cpu: 2,
            source: Source::Remote {
                location: "https://host/app.git".into(),
                access_token: Some(Secret::new("s3cret-a")),
            },
            work: Work::Docker(DockerWork {
                image_names: vec!["hello:{{.Run.ID}}".into()],
                push: true,
                no_cache: false,
                dockerfile: "Dockerfile".into(),
                target: None,
                arguments: vec![Argument { name: "A".into(), value: Secret::new("s3cret-b"), is_secret: true }],
            }),
            logins: vec![RegistryLogin {
                server: "other.azurecr.io".into(),
                login: Login::Password { user: "u".into(), password: Secret::new("s3cret-c") },
            }],
        };
        let wire = serde_json::to_string(&order).unwrap();
        let read: RunOrder = serde_json::from_str(&wire).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), wire);
        assert_eq!(wire.matches("s3cret").count(), 3);
        assert!(!format!("{read:?}").contains("s3cret"));
    }
}
