//! Why the store could not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::name::NameError;

/// What went wrong in the store or in a pull.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is not a model name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such model here.
    #[error("model '{name}' not found")]
    NotFound { name: String },
    /// No source has a model of that name.
    #[error("no source has a model named '{name}': {detail}")]
    NotAtSource { name: String, detail: String },
    /// The model belongs to an Ollama folder, which is only read.
    #[error("model '{name}' belongs to Ollama's models folder, which is only read; remove it with Ollama")]
    ReadOnly { name: String },
    /// An imported file is no longer what was imported.
    #[error("model '{name}' at {} has changed or is gone since it was imported; import it again", path.display())]
    Changed { name: String, path: PathBuf },
    /// Not a model file.
    #[error("{} is not a GGUF model file: {reason}", path.display())]
    NotGguf { path: PathBuf, reason: String },
    /// Weights came whole but are not the ones they should be. They were deleted.
    #[error("the bytes from {source_name} have digest {found} instead of {wanted}; they were thrown away")]
    WrongDigest { source_name: String, wanted: Digest, found: Digest },
    /// More or fewer bytes than there should be.
    #[error("{source_name} has {found} bytes for a file that should have {wanted}")]
    WrongSize { source_name: String, wanted: u64, found: u64 },
    /// The disk has not enough room; checked before anything is fetched, and met while writing.
    #[error("not enough disk space at {}: {free_bytes} bytes are free{}; make room, or choose another models folder", path.display(), needed(*needed_bytes))]
    DiskFull {
        path: PathBuf,
        /// `None`: met in the middle of writing.
        needed_bytes: Option<u64>,
        free_bytes: u64,
    },
    /// A folder that is no model.
    #[error("the folder {} cannot be used as a model: {reason}", path.display())]
    BadFolder { path: PathBuf, reason: String },
    /// A package client is not on this machine.
    #[error("{client} is not installed: {hint}")]
    NoClient { client: &'static str, hint: &'static str },
    /// A package client ran and failed.
    #[error("{client} could not fetch {package}: {detail}")]
    ClientFailed { client: &'static str, package: String, detail: String },
    /// A package does not hold what the catalogue says.
    #[error("package {package} is not what the catalogue describes: {detail}")]
    BadPackage { package: String, detail: String },
    /// Outbound traffic is switched off.
    #[error(
        "offline: '{name}' is not in the store and nothing may be fetched; switch offline mode off to pull it"
    )]
    Offline { name: String },
    /// The host wants a login, or this one may not have the file.
    #[error(
        "{host} refuses access to {what} (status {status}); a token, or accepting its terms there, may be needed"
    )]
    Unauthorised { host: String, what: String, status: u16 },
    /// The host asked for a pause, more than once.
    #[error("{host} is limiting requests; try again{}", after.map(|s| format!(" in {s} s")).unwrap_or_default())]
    RateLimited { host: String, after: Option<u64> },
    /// Any other status that is not success.
    #[error("{host} answers {status} for {what}")]
    Status { host: String, what: String, status: u16 },
    /// An answer that does not follow its protocol.
    #[error("{host} answers {what} in a form that cannot be used: {detail}")]
    Protocol { host: String, what: String, detail: String },
    /// Something a source offers that this version does not handle.
    #[error("'{name}' cannot be used: {what}")]
    Unsupported { name: String, what: String },
    /// The network failed.
    #[error(transparent)]
    Net(#[from] net::NetError),
    /// Every source of a name failed.
    #[error("no source of '{name}' worked:\n{}", list(attempts))]
    AllFailed { name: String, attempts: Vec<(String, RegistryError)> },
    /// A manifest or the catalogue cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// A file operation that failed. A full disk has its own variant.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let free_bytes = crate::disk::free_bytes(&path).unwrap_or(0);
                Self::DiskFull { path, needed_bytes: None, free_bytes }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether trying again a little later may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Net(error) => error.is_transient(),
            Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether another source of the same weights cannot help either.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Io { .. } | Self::Offline { .. } | Self::Name(_))
    }
}

fn needed(bytes: Option<u64>) -> String {
    bytes.map(|bytes| format!(", {bytes} are needed")).unwrap_or_default()
}

fn list(attempts: &[(String, RegistryError)]) -> String {
    attempts.iter().map(|(source, error)| format!("  {source}: {error}")).collect::<Vec<_>>().join("\n")
}
