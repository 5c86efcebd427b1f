//! What stands behind an embedding model: the modules of sentence-transformers (`modules.json`) that make one vector of many and
//! multiply it once more, and the projections of tokens with which late interaction works (ColBERT).
//!
//! In GGUF: `pooling_type`; `dense_2.weight`, `dense_3.weight` … with the keys that llama.cpp has for them, in the order of
//! their use; beyond llama.cpp's, their biases, `dense_2_activation`, and `token_projection.weight`.

use std::path::Path;
use std::sync::Arc;

use kernels::BlockType;
use serde_json::Value as Json;

use super::config::{Config, json_if_there};
use super::encoders;
use super::error::CheckpointError;
use super::files::{Files, SINGLE, Stored};
use super::tensors::{Form, check, origin};
use crate::gguf::{Origin, write::Writer};
use crate::map::FileStamp;

/// Pooling, as GGUF numbers it.
pub(super) const MEAN: u32 = 1;
pub(super) const FIRST: u32 = 2;
const LAST: u32 = 3;
const RANK: u32 = 4;
/// The first number of a product behind pooling: as the folders of sentence-transformers are called.
const FIRST_DENSE: usize = 2;
/// More follow one another in no real model.
const DENSE_MAX: usize = 8;
/// BGE-M3's projection of tokens.
pub(super) const COLBERT: &str = "colbert_linear";

/// What a folder's modules do beyond pooling.
#[derive(Default)]
pub(super) struct Modules {
    /// Products with a text's vector, or one with each token's: tensors, and what they are called in GGUF.
    tensors: Vec<(String, Arc<Stored>)>,
    /// Which versions of the files they are in.
    pub stamps: Vec<FileStamp>,
}

/// Writes how the vectors of a text's tokens become one, where the folder says it: of any kind of model.
pub(super) fn read(
    folder: &Path,
    config: &Config,
    files: &Files,
    writer: &mut Writer,
) -> Result<Modules, CheckpointError> {
    let key = format!("{}.pooling_type", config.kind.architecture);
    let mut modules = Modules::default();
    if encoders::is_one(config) && encoders::has_classifier(files) {
        writer.u32(&key, RANK);
        return Ok(modules);
    }
    modules.read_colbert(folder, config, writer)?;
    let Some(list) = json_if_there(&folder.join("modules.json"))? else { return Ok(modules) };
    let (mut pooled, mut normed, mut count) = (false, false, 0);
    for module in list.as_array().map_or(&[][..], Vec::as_slice) {
        let of = |key: &str| module.get(key).and_then(Json::as_str).unwrap_or_default();
        let (kind, path) = (of("type").rsplit('.').next().unwrap_or_default(), of("path"));
        // A name and no path: nothing outside the folder is read.
        let inside = !path.is_empty() && !path.contains(['/', '\\']) && !path.starts_with('.');
        match kind {
            "Transformer" => {}
            "Normalize" => normed = true,
            "Pooling" if inside => {
                let settings = json_if_there(&folder.join(path).join("config.json"))?.unwrap_or_default();
                writer.u32(&key, pooling(&settings).map_err(wrong)?);
                pooled = true;
            }
            "Dense" if inside && !normed && count < DENSE_MAX => {
                modules.read_dense(
                    &folder.join(path),
                    config,
                    pooled.then_some(FIRST_DENSE + count),
                    writer,
                )?;
                count += usize::from(pooled);
            }
            other => {
                return Err(wrong(format!(
                    "has a module of type {other}, which is not supported where it stands: vectors without it would be wrong"
                )));
            }
        }
    }
    Ok(modules)
}

fn wrong(problem: String) -> CheckpointError {
    CheckpointError::Config { key: "modules.json".to_owned(), problem }
}

impl Modules {
    /// Declares the tensors, and says where their bytes come from.
    pub(super) fn write(self, writer: &mut Writer) -> Result<Vec<Origin>, CheckpointError> {
        let mut origins = Vec::new();
        for (name, stored) in self.tensors {
            let form = if stored.shape.len() == 1 { Form::F32 } else { Form::Same };
            check(&name, &stored, form)?;
            let shape: Vec<usize> = stored.shape.iter().rev().copied().collect();
            let block_type = if form == Form::F32 { BlockType::F32 } else { stored.block_type };
            writer.declare(&name, &shape, block_type);
            origins.push(origin(&stored, form));
        }
        Ok(origins)
    }

    /// A product, with a text's vector if it has a number, else with each token's.
    fn read_dense(
        &mut self,
        folder: &Path,
        config: &Config,
        number: Option<usize>,
        writer: &mut Writer,
    ) -> Result<(), CheckpointError> {
        let settings = json_if_there(&folder.join("config.json"))?.unwrap_or_default();
        let name = number.map_or_else(|| "token_projection".to_owned(), |number| format!("dense_{number}"));
        let key = |what: &str| format!("{}.{name}_{what}", config.kind.architecture);
        let activation = match settings.get("activation_function").and_then(Json::as_str) {
            None => "tanh",
            Some(path) => path.rsplit('.').next().unwrap_or_default(),
        };
        let activation = match activation.to_ascii_lowercase().as_str() {
            "tanh" => "tanh",
            "identity" => "identity",
            other => {
                let problem = format!("has a Dense with {other}; Tanh and Identity are supported");
                return Err(wrong(problem));
            }
        };
        if settings.get("use_residual") == Some(&Json::Bool(true)) {
            return Err(wrong("has a Dense with use_residual, which is not supported".to_owned()));
        }
        if !folder.join(SINGLE).is_file() && folder.join("pytorch_model.bin").is_file() {
            let file = "pytorch_model.bin".to_owned();
            return Err(CheckpointError::Pickle { file, folder: folder.to_owned() });
        }
        let files = Files::open(folder)?;
        let shape = self.take(&files, &name, "linear.")?;
        writer.string(&key("activation"), activation);
        for (what, size) in [("feat_in", shape[1]), ("feat_out", shape[0])] {
            let size = u32::try_from(size);
            writer.u32(&key(what), size.map_err(|_| wrong(format!("has a Dense of {shape:?}")))?);
        }
        Ok(())
    }

    /// BGE-M3 keeps the projection of its tokens in a file beside the model's.
    fn read_colbert(
        &mut self,
        folder: &Path,
        config: &Config,
        writer: &mut Writer,
    ) -> Result<(), CheckpointError> {
        let file = format!("{COLBERT}.safetensors");
        if folder.join(&file).is_file() {
            let files = Files::open_file(folder, &file)?;
            return self.take(&files, "token_projection", "").map(|_| ());
        }
        if folder.join(format!("{COLBERT}.pt")).is_file() {
            // Its vectors of texts do without.
            writer.bool(&format!("{}.token_projection_left_out", config.kind.architecture), true);
        }
        Ok(())
    }

    /// A weight and, if there is one, its bias; returns the weight's shape, rows first.
    fn take(&mut self, files: &Files, name: &str, prefix: &str) -> Result<[usize; 2], CheckpointError> {
        let theirs = |end: &str| format!("{prefix}{end}");
        if let Some(other) =
            files.tensors.keys().find(|key| **key != theirs("weight") && **key != theirs("bias"))
        {
            return Err(CheckpointError::UnknownTensor { name: other.clone(), model: name.to_owned() });
        }
        let weight = files.tensors.get(&theirs("weight"));
        let weight = weight.ok_or_else(|| CheckpointError::NoTensor { name: theirs("weight") })?;
        let &[rows, columns] = weight.shape.as_slice() else {
            let (name, found) = (theirs("weight"), weight.shape.clone());
            return Err(CheckpointError::Shape { name, found, wanted: "a matrix" });
        };
        self.stamps.extend(files.stamps.iter().cloned());
        self.tensors.push((format!("{name}.weight"), weight.clone()));
        if let Some(bias) = files.tensors.get(&theirs("bias")) {
            self.tensors.push((format!("{name}.bias"), bias.clone()));
        }
        Ok([rows, columns])
    }
}

fn pooling(settings: &Json) -> Result<u32, String> {
    let modes =
        [("cls", "cls_token", FIRST), ("mean", "mean_tokens", MEAN), ("lasttoken", "lasttoken", LAST)];
    let other = ["max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"];
    let on = |mode: &str| settings.get(format!("pooling_mode_{mode}")) == Some(&Json::Bool(true));
    let named = settings.get("pooling_mode").and_then(Json::as_str);
    let chosen: Vec<u32> = modes
        .iter()
        .filter(|(name, flag, _)| on(flag) || named == Some(*name))
        .map(|(_, _, number)| *number)
        .collect();
    match &chosen[..] {
        [one] if !other.iter().any(|mode| on(mode)) => Ok(*one),
        _ => Err(format!("pools in a way that is not supported: {settings}; cls, mean and last token are")),
    }
}
