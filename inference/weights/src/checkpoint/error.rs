//! What can be wrong with a folder of a model.
//! Each says what to do about it.

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
    /// Weights only in a form that is a program for Python.
    #[error(
        "{file} in {} is a Python pickle, a program as much as data, which is never opened: get the model's safetensors, or \
         save it again in Python with `save_pretrained(FOLDER, safe_serialization=True)`", folder.display()
    )]
    Pickle {
        /// The file.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Weights of another framework.
    #[error(
        "{file} in {} is of another framework, and there are no safetensors beside it: get the model in safetensors or GGUF",
        folder.display()
    )]
    OtherFramework {
        /// The file.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Safetensors under a name that models do not have.
    #[error(
        "{file} in {} is not called {} and no index names it: copy the whole folder of the model, in the form that \
         transformers reads", folder.display(), super::files::SINGLE
    )]
    OtherName {
        /// The file.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A folder in which GGUF files lie.
    #[error("{} holds GGUF files: name the file itself, for example {}", folder.display(), folder.join(file).display())]
    GgufInside {
        /// The first of them.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A pipeline of several models.
    #[error("{} holds a pipeline of several models, as the Python package diffusers makes them, not a language model", folder.display())]
    Pipeline {
        /// The folder.
        folder: PathBuf,
    },
    /// Weights that were quantised in a way that is not read.
    #[error(
        "the weights in {} were quantised ({way}), which is not read: get the model as its maker trained it (BF16 or F16) and \
         let Ondol quantise it, or get a GGUF file of it", folder.display()
    )]
    Quantized {
        /// The folder.
        folder: PathBuf,
        /// `quant_method` of the configuration.
        way: String,
    },
    /// A file that the index names is not there.
    #[error(
        "{file} is missing in {}, and the index says that weights lie in it: copy the whole folder of the model",
        folder.display()
    )]
    MissingShard {
        /// The file.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A tensor that the index names is in no file.
    #[error(
        "the tensor {name} is not in {file}, where the index says it is: the files are of different versions, copy the whole \
         folder again"
    )]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The file.
        file: String,
    },
    /// A file that stands for another, which was not fetched.
    #[error("{} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
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
    #[error(
        "the tensor {name} has numbers of type {found}, and F32, F16 and BF16 are read: get the model in one of these, or as GGUF"
    )]
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
    /// A tensor that the model needs is in no file.
    #[error("the tensor {name} is missing: copy the whole folder of the model")]
    NoTensor {
        /// Its name.
        name: String,
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
