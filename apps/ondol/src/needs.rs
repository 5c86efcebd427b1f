//! What a model will take of memory, in words, told from its header before anything of it is loaded.

use std::path::Path;

use engine::LocatedModel;
use kernels::KvType;
use model::Footprint;
use weights::Gguf;

use crate::commands::Context;
use crate::memory;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::units;

/// The sizes that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub weight_bytes: u64,
    pub context_tokens: u64,
    /// Keys and values of the whole context.
    pub context_bytes: u64,
}

impl Needs {
    /// Of a model's header; `None` where it is no model that generates text here.
    pub(crate) fn of(file: &Gguf, kv_type: KvType, context_tokens: Option<u32>) -> Option<Self> {
        let footprint = Footprint::of(file).ok()?;
        let trained = footprint.shape.context_tokens;
        let context_tokens = u64::from(context_tokens.unwrap_or(trained).clamp(1, trained.max(1)));
        Some(Self {
            weight_bytes: footprint.weight_bytes,
            context_tokens,
            context_bytes: footprint.context_bytes(kv_type, context_tokens),
        })
    }

    /// The row of `show`.
    pub(crate) fn row(self, language: Language) -> String {
        let [weights, cache] = [self.weight_bytes, self.context_bytes].map(units::bytes);
        let context = self.context_tokens.to_string();
        let values = [("weights", &*weights), ("cache", &*cache), ("context", &*context)];
        say(language, Message::MemoryOfModel, &values)
    }
}

/// Says what a model will take before it is loaded, where its size says little of that: a folder, or a model that is quantised
/// meanwhile.
pub(crate) fn announce(context: &Context, located: &LocatedModel, context_tokens: Option<u32>) {
    if !Path::new(&located.path).is_dir() && located.quant.is_none() {
        return;
    }
    // What is wrong with it is said when it is loaded.
    let Ok(file) = located.open(1) else { return };
    let settings = &context.settings;
    let asked = context_tokens.or(located.context_tokens).or(settings.context_tokens);
    let Some(needs) = Needs::of(&file, settings.kv_type, asked) else { return };
    let quant = located.quant.map(|quant| format!(" ({})", quant.mix.name())).unwrap_or_default();
    let free = memory::free().map_or_else(|| "?".to_owned(), units::bytes);
    let [weights, cache] = [needs.weight_bytes, needs.context_bytes].map(units::bytes);
    let values = [
        ("model", &*format!("{}{quant}", located.name)),
        ("weights", &*weights),
        ("cache", &*cache),
        ("context", &*needs.context_tokens.to_string()),
        ("free", &*free),
    ];
    context.terminal.note(Message::MemoryNeeded, &values);
}
