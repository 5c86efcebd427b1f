//! `benches/model.toml` and `benches/peers.toml` as values, and commands with their places filled in.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Definition {
    pub(super) full: Effort,
    pub(super) test: Effort,
    pub(super) engine: Vec<Engine>,
}

/// How much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Effort {
    pub(super) models: Vec<String>,
    pub(super) rounds: usize,
    pub(super) repeat: usize,
    pub(super) prefill: Vec<usize>,
    pub(super) decode: usize,
    pub(super) context: Vec<usize>,
    pub(super) batch: Vec<usize>,
}

/// Something that prints figures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    pub(super) name: String,
    /// Words with places in braces; a word is an argument.
    pub(super) command: String,
    /// The same, run once for each model before the rounds: what an engine keeps between runs is made by it.
    #[serde(default)]
    pub(super) prepare: Option<String>,
}

impl Definition {
    pub(super) fn read(root: &Path, name: &str) -> Result<Self> {
        let path = format!("benches/{name}.toml");
        let text =
            std::fs::read_to_string(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
        toml::from_str(&text).with_context(|| format!("{path} is no definition"))
    }
}

impl Effort {
    /// What the places of a command stand for.
    pub(super) fn places(&self) -> Vec<(&'static str, String)> {
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        vec![
            ("prefill", list(&self.prefill)),
            ("prompt_tokens", list(&self.prefill)),
            ("decode", self.decode.to_string()),
            ("new_tokens", self.decode.to_string()),
            ("context", list(&self.context)),
            ("batch", list(&self.batch)),
            ("repeat", self.repeat.to_string()),
        ]
    }
}

impl Engine {
    /// Program and arguments.
    pub(super) fn words(&self, places: &[(&'static str, String)]) -> Result<Vec<String>> {
        self.filled(&self.command, places)
    }

    /// The same of what comes before.
    pub(super) fn prepare_words(&self, places: &[(&'static str, String)]) -> Result<Option<Vec<String>>> {
        self.prepare.as_ref().map(|command| self.filled(command, places)).transpose()
    }

    /// Values may hold spaces: they are filled in after the words are told apart.
    fn filled(&self, command: &str, places: &[(&'static str, String)]) -> Result<Vec<String>> {
        let fill = |word: &str| {
            places
                .iter()
                .fold(word.to_owned(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
        };
        let words: Vec<String> = command.split_whitespace().map(fill).collect();
        ensure!(!words.is_empty(), "the engine {} has no command", self.name);
        Ok(words)
    }
}

/// Operations on 8-bit integers that a core does a cycle at most, as `benches/kernels.toml` states them.
pub(super) fn peak_ops(root: &Path, kernels: &str) -> Option<f64> {
    let text = std::fs::read_to_string(root.join("benches/kernels.toml")).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let value = table.get("int8_ops_per_cycle")?.get(kernels)?;
    value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in() {
        let engine = |command: &str, prepare: Option<&str>| Engine {
            name: "x".into(),
            command: command.into(),
            prepare: prepare.map(str::to_owned),
        };
        let running = engine("run {model}  -p {prefill} {unknown}", Some("make {model}"));
        let places = [("model", "a b.gguf".to_owned()), ("prefill", "64,512".to_owned())];
        assert_eq!(running.words(&places).unwrap(), ["run", "a b.gguf", "-p", "64,512", "{unknown}"]);
        assert_eq!(running.prepare_words(&places).unwrap().unwrap(), ["make", "a b.gguf"]);
        assert_eq!(engine("x", None).prepare_words(&places).unwrap(), None);
        assert!(engine(" ", None).words(&places).is_err());
    }
}
