//! Known-bad model files: every publicly described one that a GGUF reader can meet, built here.
//!
//! Two kinds. *Container* files lie about their own structure; `weights` refuses them. The others are sound containers
//! whose contents are wrong; `weights` opens them, and the layer named must refuse them: `text` for [`Layer::Tokenizer`]
//! and [`Layer::Template`] (one that does not compile may give way to a built-in template), `model` for [`Layer::Model`].
//! Always with a typed error, never a panic, in 50 ms, with at most 16 MB more memory.
//!
//! Sources: llama.cpp's handcrafted list (`test-gguf.cpp`) and public advisories, named by their numbers beside the case.
//! Not here: a template that changes its words when it sees a trigger phrase renders perfectly well; against that
//! stands showing and pinning the template's hash, not a refusal.

mod container;
mod contents;
mod folders;
mod raw;

pub use contents::edited;
pub use folders::{BadFolder, folders};

use crate::Family;

/// Who must refuse a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// `weights`: the file lies about its structure.
    Container,
    /// `text`: no tokenizer can be made of it.
    Tokenizer,
    /// `model`: no forward pass can be made of it.
    Model,
    /// `text`: the chat template must fail, or be stopped while rendering.
    Template,
}

/// One bad file.
#[derive(Debug, Clone)]
pub struct Case {
    /// For messages and tables; unique.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// Who must refuse it.
    pub layer: Layer,
}

/// All of them, some megabytes together.
#[must_use]
pub fn cases() -> Vec<Case> {
    [container::cases(), contents::tokenizer(), contents::model(), contents::template()].concat()
}

/// Those of one layer.
#[must_use]
pub fn cases_of(layer: Layer) -> Vec<Case> {
    match layer {
        Layer::Container => container::cases(),
        Layer::Tokenizer => contents::tokenizer(),
        Layer::Model => contents::model(),
        Layer::Template => contents::template(),
    }
}

/// A header that claims a terabyte of empty strings, for a sparse file: extend it with `File::set_len`.
#[must_use]
pub fn sparse_header(strings: u64) -> Vec<u8> {
    container::endless_strings(strings)
}

fn sound(family: Family) -> Vec<u8> {
    crate::tiny(family, crate::BlockType::Q4_0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_files_are_small() {
        let cases = cases();
        let names: HashSet<&str> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() > 120, "{}", cases.len());
        for layer in [Layer::Container, Layer::Tokenizer, Layer::Model, Layer::Template] {
            let count = cases_of(layer).len();
            assert!(
                count > 0 && cases.iter().filter(|case| case.layer == layer).count() == count,
                "{layer:?}"
            );
        }
        for case in cases {
            assert!(case.bytes.len() < 1 << 20, "{} is {} bytes", case.name, case.bytes.len());
        }
    }

    #[test]
    fn a_rebuilt_file_without_a_change_is_the_same_file() {
        // Otherwise a case could be refused for what the rebuilding broke.
        for family in Family::ALL {
            let before = sound(family);
            assert!(edited(&before, &[], |_| {}) == before, "{}", family.name());
        }
    }
}
