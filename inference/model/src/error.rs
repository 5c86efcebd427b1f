//! Why a file that is a sound container is not a model we can run.

use kernels::ComputeError;
use weights::MetadataError;

/// A model that cannot be loaded. The text names the thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file does not say what it is.
    #[error("the file has no general.architecture: it is not a model, or was cut short in conversion")]
    NoArchitecture,
    /// A family we do not have.
    #[error("architecture '{found}' is not supported yet; supported are {supported}")]
    Architecture { found: String, supported: String },
    /// A key that every model of the family has is missing.
    #[error("'{0}' is missing from the model's metadata")]
    MissingKey(String),
    /// A value that no such model can have.
    #[error("'{key}' is {value}: {why}")]
    Value { key: String, value: String, why: &'static str },
    /// A value of the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tensor that every model of the family has is missing.
    #[error("tensor '{0}' is missing: the file is incomplete, or of another variant of its family")]
    MissingTensor(String),
    /// A tensor of another shape than the metadata says.
    #[error("tensor '{name}' has shape {found:?}, its metadata says {wanted:?}")]
    TensorShape { name: String, found: Vec<usize>, wanted: Vec<usize> },
    /// The device cannot take it.
    #[error("tensor '{name}': {source}")]
    Device { name: String, source: ComputeError },
}
