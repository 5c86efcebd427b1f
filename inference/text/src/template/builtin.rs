//! The built-in templates: plain turns for the common families, for files without a template, or with one that does
//! not compile. None of them knows tools. Written by us after each family's published prompt format.

/// Name, source, and the vocabulary entries of which all must be there for the family to be recognised. Names are
/// those that users of other runners know. Order matters: the first that fits is taken.
const TEMPLATES: [(&str, &str, &[&str]); 12] = [
    ("chatml", include_str!("builtin/chatml.jinja"), &["<|im_start|>", "<|im_end|>"]),
    ("llama3", include_str!("builtin/llama3.jinja"), &["<|start_header_id|>", "<|eot_id|>"]),
    ("gemma", include_str!("builtin/gemma.jinja"), &["<start_of_turn>", "<end_of_turn>"]),
    ("phi3", include_str!("builtin/phi3.jinja"), &["<|assistant|>", "<|user|>", "<|end|>"]),
    ("deepseek", include_str!("builtin/deepseek.jinja"), &["<｜Assistant｜>", "<｜end▁of▁sentence｜>"]),
    ("command-r", include_str!("builtin/command-r.jinja"), &["<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"]),
    ("exaone", include_str!("builtin/exaone.jinja"), &["[|assistant|]", "[|endofturn|]"]),
    ("mistral", include_str!("builtin/mistral.jinja"), &["[INST]", "[/INST]"]),
    ("zephyr", include_str!("builtin/zephyr.jinja"), &["<|assistant|>", "<|user|>"]),
    ("llama2", include_str!("builtin/llama2.jinja"), &[]),
    ("alpaca", include_str!("builtin/alpaca.jinja"), &[]),
    ("vicuna", include_str!("builtin/vicuna.jinja"), &[]),
];

/// The source of a built-in template.
pub(super) fn source(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(own, _, _)| *own == name).map(|(_, source, _)| *source)
}

/// The names of the built-in templates.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, _, _)| *name)
}

/// The template of the family that a vocabulary shows, by its special tokens.
pub(super) fn recognise(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let fits = |marks: &[&str]| !marks.is_empty() && marks.iter().all(|mark| has(mark));
    TEMPLATES.iter().find(|(_, _, marks)| fits(marks)).map(|(name, _, _)| *name)
}
