//! What can be wrong with a model file: one enum for the container, one for asking its metadata.
//!
//! Names inside messages come from the file, so they are escaped and shortened before they reach a terminal.

use std::{io, path::PathBuf};

use crate::gguf::ValueType;

/// Why a file was not accepted as GGUF.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be opened or mapped.
    #[error("cannot open the model file {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("the model file is empty; remove it and pull or copy it again")]
    Empty,
    /// The file is something else.
    #[error("not a GGUF file: {0}")]
    NotGguf(FileKind),
    /// The file was written for a machine of the other byte order.
    #[error(
        "this GGUF file is big-endian; only little-endian files are supported: convert it with gguf-convert-endian \
         of the Python package gguf, or get the little-endian file"
    )]
    BigEndian,
    /// A version that this reader does not know.
    #[error("GGUF version {0} is not supported (2 and 3 are); {advice}", advice = version_advice(*.0))]
    Version(u32),
    /// The file ends in the middle of something.
    #[error(
        "the file ends too early: {what} at byte {offset} needs {needed} bytes and {left} are left; the file is \
         damaged or was not fully downloaded, pull or copy it again"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: u64,
        /// Bytes it claims.
        needed: u64,
        /// Bytes there are.
        left: u64,
    },
    /// A count that the rest of the file cannot hold, or beyond the stated limit.
    #[error(
        "the file claims {claimed} {what}, but at most {possible} can be there; the file is damaged or hostile"
    )]
    Count {
        /// What is counted.
        what: &'static str,
        /// What the file says.
        claimed: u64,
        /// What the bytes left, or our limit, allow.
        possible: u64,
    },
    /// A metadata key without characters, too long, or not UTF-8.
    #[error("metadata key number {index} is {problem}; the file is damaged")]
    Key {
        /// Position of the key, from 0.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same metadata key twice.
    #[error("metadata key \"{0}\" appears twice; the file is damaged, or was edited by a broken tool")]
    DuplicateKey(String),
    /// A value type number outside the specification.
    #[error(
        "metadata key \"{key}\" has the unknown value type {type_id}; the file is damaged or newer than this program"
    )]
    ValueType {
        /// The key.
        key: String,
        /// The number found.
        type_id: u32,
    },
    /// An array inside an array.
    #[error("metadata key \"{0}\" is an array of arrays, which no known model uses; such files are refused")]
    NestedArray(String),
    /// A boolean that is neither 0 nor 1.
    #[error("metadata key \"{key}\" holds {value} where a boolean (0 or 1) belongs; the file is damaged")]
    Bool {
        /// The key.
        key: String,
        /// The byte found.
        value: u8,
    },
    /// `general.alignment` is not a power of two of at least 8, or not an unsigned 32-bit number.
    #[error(
        "general.alignment is {found}; it must be an unsigned 32-bit power of two, 8 or more: the file is damaged"
    )]
    Alignment {
        /// What the file says.
        found: String,
    },
    /// One part of a model that was split into several files.
    #[error(
        "this is part {} of a model split into {count} files, which are not read one by one: join them first with \
         llama-gguf-split --merge, or get the model as one file",
        number.saturating_add(1)
    )]
    Split {
        /// Number of this part, from 0.
        number: u64,
        /// Parts in all.
        count: u64,
    },
    /// Split metadata that contradicts itself or is of the wrong type.
    #[error("the file's split.* metadata is wrong ({0}); the file is damaged: get the model as one file")]
    SplitMetadata(String),
    /// A tensor name that is empty, too long or not UTF-8.
    #[error("the name of tensor number {index} is {problem}; the file is damaged")]
    TensorName {
        /// Position of the tensor, from 0.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same tensor name twice.
    #[error("tensor \"{0}\" appears twice; the file is damaged")]
    DuplicateTensor(String),
    /// A tensor with no dimensions or more than four.
    #[error("tensor \"{name}\" has {found} dimensions; 1 to 4 are possible: the file is damaged")]
    TensorDimensions {
        /// The tensor.
        name: String,
        /// Dimensions claimed.
        found: u32,
    },
    /// A shape that cannot be: a zero, a size that overflows, or rows that are not whole blocks.
    #[error("tensor \"{name}\" has the impossible shape {shape:?}: {problem}; the file is damaged")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A block type that cannot be read (yet).
    #[error(
        "tensor \"{name}\" is stored as {} (type number {type_id}), which is not supported; get the model in another \
         quantisation, for example Q4_K_M or Q8_0",
        type_name(*type_id)
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The number found.
        type_id: u32,
    },
    /// An offset that is not a multiple of the file's alignment.
    #[error(
        "tensor \"{name}\" starts at offset {offset}, not a multiple of the file's alignment {alignment}; the file is damaged"
    )]
    TensorOffset {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor that ends behind the end of the file.
    #[error(
        "tensor \"{name}\" needs {needed} bytes at offset {offset} of the data section, which has {left} bytes; the \
         file is damaged or was not fully downloaded, pull or copy it again"
    )]
    TensorBeyondFile {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// Its bytes.
        needed: u64,
        /// Bytes of the data section.
        left: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors \"{first}\" and \"{second}\" overlap; the file is damaged or hostile")]
    TensorsOverlap {
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
    },
}

/// Why a metadata value could not be given as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The value is of another type.
    #[error(
        "metadata key \"{key}\" should hold {wanted} and holds {found}; the file is damaged or made by a broken tool"
    )]
    Type {
        /// The key.
        key: String,
        /// What was asked for.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// The number does not fit.
    #[error(
        "metadata key \"{key}\" holds {value}, which is out of range for {wanted}; the file is damaged or hostile"
    )]
    Range {
        /// The key.
        key: String,
        /// What was asked for.
        wanted: &'static str,
        /// The number.
        value: String,
    },
    /// Text that is not UTF-8.
    #[error("metadata key \"{key}\" holds text that is not UTF-8{}; the file is damaged", place(*index))]
    NotUtf8 {
        /// The key.
        key: String,
        /// Which string of an array.
        index: Option<usize>,
    },
}

/// What a file is when it is not GGUF, guessed from its first bytes, with what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileKind {
    /// A zip archive, as PyTorch checkpoints and downloaded bundles are.
    #[error(
        "it is a zip archive; unpack it and use the .gguf file inside (a PyTorch checkpoint must be converted)"
    )]
    Zip,
    /// A gzip stream.
    #[error("it is gzip-compressed; unpack it first")]
    Gzip,
    /// A safetensors file.
    #[error("it is a safetensors file, which is a model only together with its folder: name the folder")]
    Safetensors,
    /// A GGML, GGMF, GGJT or GGLA file, the formats before GGUF.
    #[error("it is a GGML file from before GGUF; get a newer file of the model")]
    OldGgml,
    /// A Python pickle.
    #[error(
        "it is a Python pickle (an old PyTorch checkpoint), which is never opened; get the model as GGUF"
    )]
    Pickle,
    /// A Git LFS pointer instead of the file itself.
    #[error(
        "it is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder or download the file"
    )]
    GitLfsPointer,
    /// A web page, what a failed download often leaves.
    #[error("it is a web page, most likely the error page of a failed download; download the file again")]
    Html,
    /// Anything else.
    #[error("it does not begin with the letters GGUF; check that this is the file you meant")]
    Unknown,
}

/// A name from the file, safe to print: control characters escaped, at most 96 characters.
pub(crate) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 96;
    let mut text: String = name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

/// What is there, for [`MetadataError::Type`].
pub(crate) fn described(kind: ValueType, of_array: bool) -> String {
    if of_array { format!("an array of {}", kind.name()) } else { kind.name().to_owned() }
}

fn place(index: Option<usize>) -> String {
    index.map(|index| format!(" (element {index})")).unwrap_or_default()
}

const fn version_advice(version: u32) -> &'static str {
    match version {
        0 => "the file is damaged",
        1 => "it is from 2023: get a newer file of the model",
        _ => "the file is damaged, or newer than this program: update the program",
    }
}

/// Names of the types that other programs know, so that a message can say more than a number. From `ggml.h` of
/// llama.cpp.
fn type_name(id: u32) -> &'static str {
    match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24..=27 => "integers",
        28 => "F64",
        29 => "IQ1_M",
        31..=33 => "a repacked Q4_0",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36..=38 => "a repacked IQ4_NL",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => "an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_file_cannot_drive_the_terminal() {
        let error = GgufError::DuplicateKey(shown("a\u{1b}[2Jb"));
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        assert!(shown(&"x".repeat(70_000)).len() < 120);
    }

    #[test]
    fn messages_say_what_to_do() {
        for (error, wanted) in [
            (GgufError::Version(1).to_string(), "newer file"),
            (GgufError::Version(9).to_string(), "update the program"),
            (GgufError::Split { number: 1, count: 3 }.to_string(), "part 2 of a model split into 3 files"),
            (GgufError::TensorType { name: "t".into(), type_id: 21 }.to_string(), "IQ3_S (type number 21)"),
            (GgufError::NotGguf(FileKind::Safetensors).to_string(), "name the folder"),
        ] {
            assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
        }
    }
}
