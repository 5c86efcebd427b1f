//! What can be wrong with a folder of a model.

use std::path::PathBuf;

use crate::error::GgufError;

/// Why a folder was not accepted as a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that every model has is not there.
    #[error("{} is missing in {}: copy the whole folder of the model", .file, folder.display())]
    Missing {
        /// Its name.
        file: &'static str,
        /// Where it should be.
        folder: PathBuf,
    },
    /// The folder holds an adapter, which is no model by itself.
    #[error(
        "{} holds a PEFT adapter, not a model: adapters are for a later version; merge it into its model with \
         `merge_and_unload` of the Python package peft, and save that", folder.display()
    )]
    Adapter {
        /// The folder.
        folder: PathBuf,
    },
    /// A JSON file is damaged, or not what its name says.
    #[error("{} is not as expected: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of weights is damaged.
    #[error("{} is damaged: {problem}; copy it again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Numbers of a type that is not read.
    #[error("the tensor {name} has numbers of type {found}; F32, F16 and BF16 are read")]
    NumberType {
        /// The tensor.
        name: String,
        /// The type's name in safetensors.
        found: String,
    },
    /// A tensor that no model of this kind has.
    #[error(
        "the tensor {name} is not known for models of type {model}; the folder is of another model, or newer than this version"
    )]
    UnknownTensor {
        /// Its name.
        name: String,
        /// `model_type` of the configuration.
        model: String,
    },
    /// A tensor of another shape than its use needs.
    #[error("the tensor {name} has shape {found:?}, which does not fit {wanted}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it is for.
        wanted: &'static str,
    },
    /// A kind of model that is not read from folders.
    #[error(
        "models of architecture {found} are not supported as safetensors; these are: {supported}. A GGUF file of it may work"
    )]
    Architecture {
        /// As the configuration has it.
        found: String,
        /// All that are read.
        supported: String,
    },
    /// A setting is missing or has a value that is not supported.
    #[error("config.json: {key} {problem}")]
    Config {
        /// Its name.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer is of a kind that is not read.
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    /// What was made of the folder is no sound model.
    #[error("the folder does not make a sound model: {0}")]
    Assembled(#[source] GgufError),
}
