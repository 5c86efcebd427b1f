//! What a model file says about itself: the short form kept in manifests, the long form for `show`.
//!
//! Only the header is read. Whether the engine can run the model is the engine's to say.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use weights::{Array, Gguf, Metadata, Value};

use crate::entry::{ModelEntry, Origin, TemplateDialect, WeightsFormat};
use crate::error::RegistryError;
use crate::folder;
use crate::manifest::InPlace;
use crate::name::ModelName;
use crate::quantization;

/// Elements of a metadata array that are shown unless everything is asked for.
const ARRAY_SHOWN_MAX: usize = 16;

/// The facts about weights that a list shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    pub(crate) family: Option<String>,
    pub(crate) parameter_size: Option<String>,
    pub(crate) quantization: Option<String>,
    pub(crate) context_length: Option<u64>,
    /// The licence's short name, as the file gives it.
    pub(crate) licence: Option<String>,
}

/// Everything `show` tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelDetails {
    pub entry: ModelEntry,
    /// Every key of the file in its order; long arrays are cut to their first elements, see [`Self::cut`].
    pub metadata: Vec<(String, Json)>,
    /// Keys of `metadata` whose arrays are not shown whole.
    pub cut: Vec<String>,
    pub tensors: Vec<TensorInfo>,
    /// What our server can do with the model: Ollama's words.
    pub capabilities: Vec<String>,
    pub architecture: String,
    pub parameter_count: u64,
    pub context_length: Option<u64>,
    pub embedding_length: Option<u64>,
    pub block_count: Option<u64>,
    /// The chat template: the stored one, or else the one in the weights.
    pub template: Option<String>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    pub name: String,
    /// GGUF order: the row length first.
    pub shape: Vec<u64>,
    pub block_type: String,
}

impl About {
    /// Reads the header of a file whose bytes are already trusted to be the right ones. A header that this version
    /// cannot read gives what little is known; a file that is no GGUF at all is an error.
    pub(crate) fn of_file(path: &Path) -> Result<Self, RegistryError> {
        ensure_magic(path)?;
        match Gguf::open(path) {
            Ok(file) => Ok(Self::of(&file)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the header of a model");
                Ok(Self::default())
            }
        }
    }

    pub(crate) fn of(file: &Gguf) -> Self {
        let metadata = file.metadata();
        let architecture = text(metadata, "general.architecture");
        let context_length =
            architecture.as_deref().and_then(|name| number(metadata, name, "context_length"));
        Self {
            parameter_size: Some(quantization::human_count(parameter_count(file))),
            quantization: quantization::of_file(file),
            context_length,
            licence: text(metadata, "general.license"),
            family: architecture,
        }
    }
}

impl ModelDetails {
    /// Of a file or folder where it lies, in no store: without name and digest. `whole`: arrays are not cut.
    ///
    /// # Errors
    /// When it is no model.
    pub fn of_path(path: &Path, whole: bool) -> Result<Self, RegistryError> {
        let about = About::of(&open(path)?);
        let (_, mut size_bytes) = InPlace::look(path).map_err(RegistryError::io("read", path))?;
        if path.is_dir() {
            size_bytes = folder::size_bytes_of(path)?;
        }
        let read = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        Self::read(
            ModelEntry {
                name: ModelName::of_path(path),
                path: path.to_owned(),
                format: WeightsFormat::of(path),
                digest: String::new(),
                size_bytes,
                modified: read.map_err(RegistryError::io("read", path))?,
                origin: Origin::File,
                template: None,
                template_dialect: TemplateDialect::Jinja,
                system: None,
                parameters: Vec::new(),
                licence: about.licence,
                family: about.family,
                parameter_size: about.parameter_size,
                quantization: about.quantization,
                context_length: about.context_length,
            },
            whole,
        )
    }

    /// Reads the header of the entry's file. `whole`: arrays are not cut.
    pub(crate) fn read(entry: ModelEntry, whole: bool) -> Result<Self, RegistryError> {
        let file = open(&entry.path)?;
        let metadata = file.metadata();
        let architecture = text(metadata, "general.architecture").unwrap_or_default();
        let mut cut = Vec::new();
        let mut shown = Vec::new();
        for (key, value) in metadata.iter() {
            let (value, is_cut) = json(&value, if whole { usize::MAX } else { ARRAY_SHOWN_MAX });
            if is_cut {
                cut.push(key.to_owned());
            }
            shown.push((key.to_owned(), value));
        }
        let tensors = file.tensors().iter().map(|tensor| TensorInfo {
            name: tensor.name.clone(),
            shape: tensor.shape.iter().map(|&size| size as u64).collect(),
            block_type: format!("{:?}", tensor.block_type),
        });
        let of_architecture = |key| number(metadata, &architecture, key);
        Ok(Self {
            metadata: shown,
            cut,
            tensors: tensors.collect(),
            capabilities: capabilities(&architecture),
            parameter_count: parameter_count(&file),
            context_length: of_architecture("context_length"),
            embedding_length: of_architecture("embedding_length"),
            block_count: of_architecture("block_count"),
            template: entry.template.clone().or_else(|| text(metadata, "tokenizer.chat_template")),
            architecture,
            entry,
        })
    }
}

/// What our server can do with models of this architecture today. Tools, thinking, vision, embedding and insert are
/// added here when the server does them, not when a model claims them.
fn capabilities(_architecture: &str) -> Vec<String> {
    vec!["completion".to_owned()]
}

/// Opens a model's file or folder.
pub(crate) fn open(path: &Path) -> Result<Gguf, RegistryError> {
    weights::open(path).map_err(|error| match error {
        weights::OpenError::Folder(error) => {
            RegistryError::BadFolder { path: path.to_owned(), reason: error.to_string() }
        }
        other => RegistryError::NotGguf { path: path.to_owned(), reason: other.to_string() },
    })
}

pub(crate) fn ensure_magic(path: &Path) -> Result<(), RegistryError> {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if magic == *b"GGUF" => Ok(()),
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(RegistryError::io("read", path)(error))
        }
        _ => {
            let reason = "it does not begin with the letters GGUF".to_owned();
            Err(RegistryError::NotGguf { path: path.to_owned(), reason })
        }
    }
}

fn parameter_count(file: &Gguf) -> u64 {
    file.tensors().iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements() as u64))
}

fn text(metadata: &Metadata, key: &str) -> Option<String> {
    metadata.string(key).ok().flatten().map(str::to_owned)
}

fn number(metadata: &Metadata, architecture: &str, key: &str) -> Option<u64> {
    metadata.u64(&format!("{architecture}.{key}")).ok().flatten()
}

/// A metadata value as JSON, arrays no longer than `array_max`, and whether one was cut.
fn json(value: &Value<'_>, array_max: usize) -> (Json, bool) {
    match value {
        Value::Array(Array::Strings(strings)) => {
            let shown = strings.iter_bytes().take(array_max);
            let list = shown.map(|bytes| Json::from(String::from_utf8_lossy(bytes))).collect();
            (Json::Array(list), strings.len() > array_max)
        }
        Value::Array(Array::Numbers(numbers)) => {
            let list = numbers.iter().take(array_max).map(|value| json(&value, array_max).0).collect();
            (Json::Array(list), numbers.len() > array_max)
        }
        _ => (scalar(value), false),
    }
}

fn scalar(value: &Value<'_>) -> Json {
    match *value {
        Value::Bool(flag) => Json::from(flag),
        Value::String(text) => Json::from(text),
        Value::Bytes(bytes) => Json::from(String::from_utf8_lossy(bytes)),
        // Through decimal text, so that 1e-5 does not become 9.999999747378752e-6. JSON has no NaN: it becomes null.
        Value::F32(number) => number.to_string().parse::<f64>().map_or(Json::Null, Json::from),
        Value::F64(number) => Json::from(number),
        Value::U64(number) => Json::from(number),
        ref other => {
            other.integer().and_then(|number| i64::try_from(number).ok()).map_or(Json::Null, Json::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_json_a_person_expects() {
        let check = |value: Value<'_>, expected: &str| assert_eq!(scalar(&value).to_string(), expected);
        check(Value::F32(1e-5), "0.00001");
        check(Value::F32(1_000_000.0), "1000000.0");
        check(Value::F32(f32::NAN), "null");
        check(Value::F64(f64::INFINITY), "null");
        check(Value::U64(u64::MAX), "18446744073709551615");
        check(Value::I8(-3), "-3");
        check(Value::Bool(true), "true");
        check(Value::Bytes(b"a\xff"), "\"a\u{fffd}\"");
    }

    #[test]
    fn a_file_tells_about_itself_and_long_arrays_are_cut() {
        let mut writer = weights::gguf::write::Writer::new();
        let words: Vec<String> = (0..100).map(|index| format!("word{index}")).collect();
        writer
            .string("general.architecture", "llama")
            .u32("llama.context_length", 2048)
            .u32("general.file_type", 15);
        writer.strings("tokenizer.ggml.tokens", &words).string("tokenizer.chat_template", "{{ x }}");
        let file = Gguf::from_bytes(writer.finish()).unwrap();
        let about = About::of(&file);
        assert_eq!(about.family.as_deref(), Some("llama"));
        assert_eq!(about.quantization.as_deref(), Some("Q4_K_M"));
        assert_eq!(about.context_length, Some(2048));
        let tokens = file.metadata().get("tokenizer.ggml.tokens").unwrap();
        let (list, cut) = json(&tokens, ARRAY_SHOWN_MAX);
        assert_eq!((list.as_array().unwrap().len(), cut), (ARRAY_SHOWN_MAX, true));
        let (list, cut) = json(&tokens, usize::MAX);
        assert_eq!((list.as_array().unwrap().len(), cut), (100, false));
    }
}
