//! A model as Hugging Face keeps it: a folder with `config.json`, `tokenizer.json` and weights in safetensors, read as if
//! it were a GGUF file. What the rest of the house sees is a [`Gguf`] whose keys and names are those that llama.cpp's
//! converter gives; weights are mapped where they may stay as they are, and made anew where GGUF wants them otherwise
//! ([`tensors`]). Writing that GGUF out is the conversion.
//!
//! The folder comes from strangers: every size and place is proven, by the `safetensors` crate for one file and here
//! for what the files say of each other. Tests: `model`'s, with what the Python
//! package transformers computes from the same folder.

mod config;
mod decoders;
mod describe;
mod encoders;
mod error;
mod files;
mod gpt_oss;
mod modules;
mod refused;
mod tensors;
mod vocabulary;

use std::path::{Path, PathBuf};

pub use error::CheckpointError;

use crate::gguf::{Failure, Gguf, write::Writer};

/// Whether a path is a folder with a model in it.
#[must_use]
pub fn is_checkpoint(path: &Path) -> bool {
    path.join("config.json").is_file()
}

/// Opens a folder. Weights are not read yet.
///
/// # Errors
/// When a file is missing or damaged, or the model is of a kind that this version does not read.
pub fn open(folder: &Path) -> Result<Gguf, CheckpointError> {
    refused::check(folder)?;
    let config = config::Config::read(folder)?;
    let mut files = files::Files::open(folder)?;
    let mut writer = Writer::new();
    let encoder = encoders::is_one(&config);
    if encoder {
        encoders::write(folder, &config, &files, &mut writer)?;
    } else {
        config.write(&mut writer)?;
    }
    let modules = modules::read(folder, &config, &files, &mut writer)?;
    describe::write(folder, &files, &mut writer)?;
    vocabulary::write(folder, Some(&config), &mut writer)?;
    let mut origins = if encoder {
        encoders::write_tensors(folder, &config, &files, &mut writer)?
    } else {
        tensors::write(&config, &files, &mut writer)?
    };
    files.stamps.extend(modules.stamps.iter().cloned());
    origins.extend(modules.write(&mut writer)?);
    Gguf::assembled(&writer, origins, files.stamps, Failure::default()).map_err(CheckpointError::Assembled)
}

/// The tokenizer of a folder alone, which need hold nothing else: what a GGUF file would carry of it.
///
/// # Errors
/// When it is missing, damaged, or of a kind that this version does not read.
pub fn tokenizer(folder: &Path) -> Result<Gguf, CheckpointError> {
    let mut writer = Writer::new();
    vocabulary::write(folder, None, &mut writer)?;
    Gguf::from_bytes(writer.finish()).map_err(CheckpointError::Assembled)
}

/// The same from the bytes of `tokenizer.json`, or of SentencePiece's file, and of `tokenizer_config.json`.
///
/// # Errors
/// As [`tokenizer`].
pub fn tokenizer_from(tokenizer: &[u8], settings: &[u8]) -> Result<Gguf, CheckpointError> {
    let mut writer = Writer::new();
    vocabulary::write_bytes(tokenizer, settings, &mut writer)?;
    Gguf::from_bytes(writer.finish()).map_err(CheckpointError::Assembled)
}

/// Names of all files that make up the model of a folder, sorted: those of its weights, and those that describe it. Other
/// forms of the same weights, pictures and the like are none of them.
///
/// # Errors
/// When there are no weights, or the index of them is damaged.
pub fn model_files(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    files::of_model(folder)
}

/// The files in which the weights of a folder lie.
///
/// # Errors
/// When there are none, or the index of them is damaged.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    Ok(files::names(folder)?.iter().map(|name| folder.join(name)).collect())
}
