//! What a folder says of its model beside its shape, in GGUF's keys: what it is called, how large it is, its licence, and how
//! its maker would sample from it.

use std::path::Path;

use serde_json::Value as Json;

use super::config::{json_if_there, text};
use super::error::CheckpointError;
use super::files::Files;
use crate::gguf::write::Writer;

/// The beginning of a model card that is read, and a licence longer than this is none.
const CARD_CHARS_MAX: usize = 64 << 10;
const LICENCE_CHARS_MAX: usize = 100;
/// Digits of a revision, after which hubs name the folders of their caches.
const REVISION_DIGITS: usize = 40;

/// Settings of `generation_config.json`, and the keys that llama.cpp has for them.
const SAMPLING: [(&str, &str); 5] = [
    ("temperature", "temp"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repetition_penalty", "penalty_repeat"),
    ("top_k", "top_k"),
];

/// Writes what is known.
pub(super) fn write(folder: &Path, files: &Files, writer: &mut Writer) -> Result<(), CheckpointError> {
    writer.string("general.type", "model");
    if let Some(name) = name(folder) {
        writer.string("general.name", &name);
    }
    let parameters = files.tensors.values().map(|stored| stored.shape.iter().product::<usize>() as u64);
    writer.string("general.size_label", &size_label(parameters.fold(0, u64::saturating_add)));
    let card = folder.join("README.md");
    if card.is_file()
        && let Some(licence) = licence(&text(&card)?)
    {
        writer.string("general.license", &licence);
    }
    if let Some(generation) = json_if_there(&folder.join("generation_config.json"))? {
        for (theirs, ours) in SAMPLING {
            let key = format!("general.sampling.{ours}");
            match generation.get(theirs).and_then(Json::as_f64).filter(|number| number.is_finite()) {
                Some(number) if ours == "top_k" => _ = writer.i32(&key, number as i32),
                Some(number) => _ = writer.f32(&key, number as f32),
                None => {}
            }
        }
    }
    Ok(())
}

/// The model's name: its folder's, or, in the cache of a hub, the repository's.
fn name(folder: &Path) -> Option<String> {
    let absolute = std::path::absolute(folder).ok()?;
    let own = absolute.file_name()?.to_str()?;
    let is_revision = own.len() == REVISION_DIGITS && own.bytes().all(|byte| byte.is_ascii_hexdigit());
    // models--OWNER--NAME/snapshots/REVISION
    let repository = absolute.ancestors().nth(2).and_then(|above| above.file_name()?.to_str());
    let name = match repository.filter(|_| is_revision).and_then(|above| above.rsplit_once("--")) {
        Some((_, name)) => name,
        None => own,
    };
    Some(name.replace(['-', '_'], " ").trim().to_owned()).filter(|name| !name.is_empty())
}

/// A number of parameters with its unit, to two digits at least: 135M, 1.1B, 12B.
fn size_label(parameters: u64) -> String {
    let (unit, letter) = match parameters {
        1_000_000_000_001.. => (1e12, 'T'),
        1_000_000_001.. => (1e9, 'B'),
        1_000_001.. => (1e6, 'M'),
        _ => (1e3, 'K'),
    };
    let number = parameters as f64 / unit;
    match number.round() as u64 {
        0 => format!("{number:.2}{letter}"),
        1..10 => format!("{number:.1}{letter}"),
        _ => format!("{number:.0}{letter}"),
    }
}

/// The licence that a model card names between the lines of three dashes at its beginning.
fn licence(card: &str) -> Option<String> {
    let card: String = card.chars().take(CARD_CHARS_MAX).collect();
    let head = card.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let (head, _) = head.split_once("\n---")?;
    let named = head.lines().find_map(|line| line.strip_prefix("license:"))?;
    let named = named.trim().trim_matches(['"', '\'']);
    let sound = !named.is_empty() && named.len() <= LICENCE_CHARS_MAX && !named.starts_with(['[', '{', '|']);
    sound.then(|| named.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_others_round_them() {
        for (parameters, expected) in [
            (134_515_008, "135M"),
            (1_100_048_384, "1.1B"),
            (9_900_000, "10M"),
            (9_400_000, "9.4M"),
            (12_000_000_000, "12B"),
            (1_500, "1.5K"),
            (120, "0.12K"),
            (2_000_000_000_000, "2.0T"),
        ] {
            assert_eq!(size_label(parameters), expected, "{parameters}");
        }
    }

    #[test]
    fn licences_of_model_cards() {
        for (card, expected) in [
            ("---\nlanguage: ko\nlicense: apache-2.0\n---\n# Model", Some("apache-2.0")),
            ("---\nlicense: 'mit'\ntags: [a]\n---", Some("mit")),
            ("---\nlicense:\n- a\n- b\n---", None),
            ("# Model\nlicense: mit\n", None),
            ("---\nlicense: mit\n", None),
            ("", None),
        ] {
            assert_eq!(licence(card).as_deref(), expected, "{card:?}");
        }
    }

    #[test]
    fn names_of_folders() {
        for (path, expected) in [
            ("/models/SmolLM2-135M-Instruct", "SmolLM2 135M Instruct"),
            ("/c/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca", "Qwen3 0.6B"),
            (
                "/x/snapshots/c1899de289a04d12100db370d81485cdf75e47ca",
                "c1899de289a04d12100db370d81485cdf75e47ca",
            ),
        ] {
            assert_eq!(name(Path::new(path)).as_deref(), Some(expected));
        }
    }
}
