//! A model as Hugging Face keeps it, made from a golden of `tests/conformance/families`: a folder with `config.json`,
//! `tokenizer.json` and `model.safetensors`. Numbers of a tensor follow from its name (`random`), its spread and its centre.
//!
//! Layout of safetensors: the header's length in eight bytes, the header in JSON, then the tensors as it says.

use std::{fs, io, path::Path};

use crate::{SEED, random};

/// One tensor of a golden.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// As PyTorch calls it.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// How far numbers are from the centre at most.
    pub spread: f32,
    /// Around which they lie.
    pub centre: f32,
}

/// Writes the folder's three files. `number_type` is F32, F16 or BF16.
///
/// # Errors
/// When a file cannot be written, or the type is another.
pub fn write(
    folder: &Path,
    config: &str,
    tokenizer: &str,
    number_type: &str,
    tensors: &[Tensor],
) -> io::Result<()> {
    fs::write(folder.join("config.json"), config)?;
    fs::write(folder.join("tokenizer.json"), tokenizer)?;
    fs::write(folder.join("model.safetensors"), safetensors(number_type, tensors)?)
}

fn safetensors(number_type: &str, tensors: &[Tensor]) -> io::Result<Vec<u8>> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for Tensor { name, shape, spread, centre } in tensors {
        let from = data.len();
        for number in random::numbers(SEED, name, shape.iter().product(), *spread, *centre) {
            match number_type {
                "F32" => data.extend(number.to_le_bytes()),
                "F16" => data.extend(half::f16::from_f32(number).to_le_bytes()),
                "BF16" => data.extend(half::bf16::from_f32(number).to_le_bytes()),
                other => return Err(io::Error::new(io::ErrorKind::InvalidInput, other.to_owned())),
            }
        }
        entries.push(format!(
            r#"{name:?}:{{"dtype":{number_type:?},"shape":{shape:?},"data_offsets":[{from},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    Ok(file)
}
