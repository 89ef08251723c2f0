use std::io;
use std::path::PathBuf;

use postern_store::StoreError;

/// Why the identity services could not start, or could not issue something.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A key could not be made, read or used.
    #[error("a signing key is not usable: {0}")]
    Key(&'static str),
    /// A certificate could not be made or read.
    #[error("a certificate could not be made or read")]
    Certificate(#[from] rcgen::Error),
    /// The TLS set-up was refused.
    #[error("the TLS configuration is not usable")]
    Tls(#[from] rustls::Error),
    /// The operator's certificate or key file is not usable.
    #[error("`{}` is not usable: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// Something that was stored cannot be understood.
    #[error("stored {0} are not readable")]
    Corrupt(&'static str),
    /// The process is shutting down.
    #[error("interrupted by shutdown")]
    Interrupted,
}

/// What is wrong with a certificate or key file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It holds no PEM section of the kind that is needed.
    #[error("it holds no PEM certificate or private key")]
    NotPem,
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key do not fit together")]
    Mismatch,
}

/// Why no workload certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadCertificateError {
    /// Workloads of this type are services of the server itself.
    #[error("certificates for the server's own services cannot be requested")]
    FirstParty,
    /// The signing request cannot be read, is too large, or its signature does not fit.
    #[error("the certificate signing request is not valid")]
    BadRequest,
    /// Signing failed.
    #[error("the certificate could not be signed")]
    Signing(#[source] rcgen::Error),
}
