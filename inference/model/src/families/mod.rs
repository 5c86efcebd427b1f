//! The families: one small file each, which states what differs from the plain decoder.

mod gemma3;
mod llama;

use crate::error::ModelError;
use crate::shape::{Plan, Reader};

/// A family of models.
struct Family {
    /// `general.architecture` in GGUF.
    architecture: &'static str,
    /// Its plan from its metadata and, where it has them, its rotary frequency factors.
    plan: fn(Reader<'_>, Option<&[f32]>) -> Result<Plan, ModelError>,
}

const FAMILIES: [Family; 2] = [
    Family { architecture: "gemma3", plan: gemma3::plan },
    Family { architecture: "llama", plan: llama::plan },
];

/// The architectures that can be run.
#[must_use]
pub fn supported() -> Vec<&'static str> {
    FAMILIES.iter().map(|family| family.architecture).collect()
}

/// The plan of a model.
pub(crate) fn plan(reader: Reader<'_>, rope_factors: Option<&[f32]>) -> Result<Plan, ModelError> {
    let family = FAMILIES.iter().find(|family| family.architecture == reader.architecture);
    let family = family.ok_or_else(|| ModelError::Architecture {
        found: reader.architecture.to_owned(),
        supported: supported().join(", "),
    })?;
    (family.plan)(reader, rope_factors)
}
