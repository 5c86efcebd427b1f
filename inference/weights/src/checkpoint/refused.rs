//! Folders that are something else than a model in safetensors, told by what lies in them before anything is read: each with
//! what can be done about it.

use std::path::Path;

use serde_json::Value as Json;

use super::config::json;
use super::error::CheckpointError;
use super::files::{INDEX, SINGLE, listed};

/// Ways of quantising whose tensors are read.
const READ: [&str; 1] = ["mxfp4"];

/// Refuses what is known to be no model that can be read.
pub(super) fn check(folder: &Path) -> Result<(), CheckpointError> {
    let (files, _) = listed(folder)?;
    let has = |name: &str| files.iter().any(|file| file == name);
    let weights = has(SINGLE) || has(INDEX);
    if !weights && has("adapter_config.json") {
        return Err(CheckpointError::Adapter { folder: folder.to_owned() });
    }
    if has("model_index.json") && !has("config.json") {
        return Err(CheckpointError::Pipeline { folder: folder.to_owned() });
    }
    if !weights && let Some(error) = other_weights(folder, &files) {
        return Err(error);
    }
    if !has("config.json") {
        return Err(CheckpointError::Missing { file: "config.json", folder: folder.to_owned() });
    }
    if !weights {
        return Err(CheckpointError::Missing { file: SINGLE, folder: folder.to_owned() });
    }
    let way = match quantized(&json(&folder.join("config.json"))?) {
        Some(way) => Some(way),
        None if has("quantize_config.json") => Some("gptq".to_owned()),
        None if has("quant_config.json") => Some("awq".to_owned()),
        None => None,
    };
    match way.filter(|way| !READ.contains(&way.as_str())) {
        Some(way) => Err(CheckpointError::Quantized { folder: folder.to_owned(), way }),
        None => Ok(()),
    }
}

/// Weights in a form that is not read from folders.
fn other_weights(folder: &Path, files: &[String]) -> Option<CheckpointError> {
    let ending = |wanted: &[&str]| {
        let ends = |file: &&String| {
            file.rsplit_once('.').is_some_and(|(_, ending)| wanted.contains(&&*ending.to_ascii_lowercase()))
        };
        files.iter().filter(ends).min().cloned()
    };
    let folder = folder.to_owned();
    if let Some(file) = ending(&["gguf"]) {
        return Some(CheckpointError::GgufInside { file, folder });
    }
    if let Some(file) = ending(&["safetensors"]) {
        return Some(CheckpointError::OtherName { file, folder });
    }
    // What others call by this ending too, such as `training_args.bin`, does not come alone.
    if let Some(file) = ending(&["bin", "pt", "pth", "ckpt"]) {
        return Some(CheckpointError::Pickle { file, folder });
    }
    let file = ending(&["h5", "msgpack", "onnx", "tflite", "mlmodel", "ot", "npz"])?;
    Some(CheckpointError::OtherFramework { file, folder })
}

/// The way in which a configuration says that the weights were quantised.
fn quantized(config: &Json) -> Option<String> {
    let of = |config: &Json| {
        let settings = config.get("quantization_config").or_else(|| config.get("compression_config"))?;
        let settings = settings.as_object()?;
        let named = settings.get("quant_method").or_else(|| settings.get("quant_algo"));
        // The first files of bitsandbytes did not say so.
        let old = ["load_in_4bit", "load_in_8bit"].iter().any(|key| settings.contains_key(*key));
        let named = named.and_then(Json::as_str).unwrap_or(if old { "bitsandbytes" } else { "not named" });
        Some(named.chars().take(64).flat_map(char::escape_debug).collect())
    };
    // MLX keeps bits and the size of groups under a name of its own.
    let mlx = || config.get("quantization")?.get("bits").map(|_| "mlx".to_owned());
    of(config).or_else(|| of(config.get("text_config")?)).or_else(mlx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_quantising() {
        for (config, expected) in [
            (r#"{"quantization_config": {"quant_method": "gptq", "bits": 4}}"#, Some("gptq")),
            (r#"{"quantization_config": {"quant_method": "mxfp4"}}"#, Some("mxfp4")),
            (r#"{"quantization_config": {"load_in_4bit": true}}"#, Some("bitsandbytes")),
            (r#"{"text_config": {"quantization_config": {"quant_method": "awq"}}}"#, Some("awq")),
            (r#"{"compression_config": {"quant_method": "compressed-tensors"}}"#, Some("compressed-tensors")),
            (r#"{"quantization": {"group_size": 64, "bits": 4}}"#, Some("mlx")),
            (r#"{"quantization_config": {}}"#, Some("not named")),
            (r#"{"quantization_config": null}"#, None),
            ("{}", None),
            ("[]", None),
        ] {
            let config = serde_json::from_str(config).expect("JSON");
            assert_eq!(quantized(&config).as_deref(), expected, "{config}");
        }
    }
}
