//! Sound containers with wrong contents: the tiny models of this crate with a few keys or tensors changed, for the
//! tokenizer, the model and the template to refuse.

use weights::{Gguf, gguf::write::Writer};

use super::{Case, Layer, sound};
use crate::{BlockType, Family};

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const TEMPLATE: &str = "tokenizer.chat_template";

/// `base` without the keys and tensors named in `without`, with what `add` writes behind the keys.
///
/// The model's own tensors follow, so one that `add` writes comes first in the file; its name must be in `without`.
/// `base` must be sound.
#[must_use]
pub fn edited(base: &[u8], without: &[&str], add: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let Ok(base) = Gguf::from_bytes(base.to_vec()) else { unreachable!("the tiny models are sound") };
    let mut writer = Writer::new();
    for (key, value) in base.metadata().iter().filter(|(key, _)| !without.contains(key)) {
        writer.value(key, &value);
    }
    add(&mut writer);
    for tensor in base.tensors().iter().filter(|tensor| !without.contains(&&*tensor.name)) {
        writer.tensor(&tensor.name, &tensor.shape, tensor.block_type, base.view(tensor).to_vec());
    }
    writer.finish()
}

/// Cases of one layer over one sound file.
struct Cases {
    layer: Layer,
    base: Vec<u8>,
    cases: Vec<Case>,
}

impl Cases {
    fn of(layer: Layer, family: Family) -> Self {
        Self { layer, base: sound(family), cases: Vec::new() }
    }

    fn add(&mut self, name: &'static str, without: &[&str], add: impl FnOnce(&mut Writer)) {
        let bytes = edited(&self.base, without, add);
        self.cases.push(Case { name, bytes, layer: self.layer });
    }

    /// One key with another value.
    fn set(&mut self, name: &'static str, key: &str, add: impl FnOnce(&mut Writer, &str)) {
        self.add(name, &[key], |writer| add(writer, key));
    }
}

pub(super) fn tokenizer() -> Vec<Case> {
    [byte_pairs(), sentence_piece()].concat()
}

fn byte_pairs() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Tokenizer, Family::Llama);
    let vocab = crate::Shape::tiny(Family::Llama, BlockType::Q4_0).vocab();
    let id = |name: &str| format!("tokenizer.ggml.{name}_token_id");
    bad.add("no tokenizer model", &["tokenizer.ggml.model"], |_| {});
    bad.set("tokenizer model unknown", "tokenizer.ggml.model", |w, key| _ = w.string(key, "gpt9"));
    bad.set("tokenizer model a number", "tokenizer.ggml.model", |w, key| _ = w.u32(key, 2));
    bad.set("pre-tokenizer unknown", "tokenizer.ggml.pre", |w, key| {
        _ = w.string(key, "no-such-pre-tokenizer")
    });
    bad.add("no tokens", &[TOKENS], |_| {});
    bad.set("0 tokens", TOKENS, |w, key| _ = w.strings::<&str>(key, &[]));
    bad.set("tokens as numbers", TOKENS, |w, key| _ = w.u32s(key, &[1, 2, 3]));
    bad.set("tokens as one text", TOKENS, |w, key| _ = w.string(key, "a b c"));
    bad.set("tokens not UTF-8", TOKENS, |w, key| _ = w.strings(key, &vec![b"\xff\xfe"; vocab]));
    bad.add("no merges", &[MERGES], |_| {});
    bad.set("merge of missing tokens", MERGES, |w, key| _ = w.strings(key, &["nosuch token"]));
    bad.set("merge into a missing token", MERGES, |w, key| _ = w.strings(key, &["q q"]));
    bad.set("merge of one part", MERGES, |w, key| _ = w.strings(key, &["the"]));
    bad.set("merge empty", MERGES, |w, key| _ = w.strings(key, &[""]));
    bad.set("merges as numbers", MERGES, |w, key| _ = w.i32s(key, &[1]));
    // llama.cpp 25475: ids used as indices.
    bad.set("bos id past the vocabulary", &id("bos"), |w, key| _ = w.u32(key, vocab as u32));
    bad.set("eos id 2^31", &id("eos"), |w, key| _ = w.u32(key, 1 << 31));
    bad.set("eos id negative", &id("eos"), |w, key| _ = w.i32(key, -7));
    bad.set("eot id past the vocabulary", &id("eot"), |w, key| _ = w.u32(key, 1_000_000));
    bad.set("unknown id 2^40", &id("unknown"), |w, key| _ = w.u64(key, 1 << 40));
    bad.set("bos id as text", &id("bos"), |w, key| _ = w.string(key, "<s>"));
    bad.set("token types too few", KINDS, |w, key| _ = w.i32s(key, &[1, 1]));
    bad.set("token types as text", KINDS, |w, key| _ = w.strings(key, &["1"]));
    bad.set("token types as fractions", KINDS, |w, key| _ = w.f32s(key, &vec![1.0; vocab]));
    bad.cases
}

fn sentence_piece() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Tokenizer, Family::Gemma3);
    let tokens: Vec<String> =
        crate::vocabulary::tokens(Family::Gemma3).into_iter().map(|(name, _)| name).collect();
    let vocab = tokens.len();
    let renamed = |from: &str, to: &str| -> Vec<String> {
        tokens.iter().map(|name| if name == from { to.to_owned() } else { name.clone() }).collect()
    };
    // llama.cpp 25969: text after "<0x" taken for two digits.
    bad.set("byte token <0x-1>", TOKENS, |w, key| _ = w.strings(key, &renamed("<0x41>", "<0x-1>")));
    bad.set("byte token <0xZZ>", TOKENS, |w, key| _ = w.strings(key, &renamed("<0x41>", "<0xZZ>")));
    bad.set("byte token of no form", TOKENS, |w, key| _ = w.strings(key, &renamed("<0x41>", "<0x4")));
    bad.add("no scores", &[SCORES], |_| {});
    bad.set("scores too few", SCORES, |w, key| _ = w.f32s(key, &[0.0; 3]));
    bad.set("score NaN", SCORES, |w, key| _ = w.f32s(key, &vec![f32::NAN; vocab]));
    // llama.cpp 26690: bytes read as fractions, four times past their end.
    bad.set("scores as bytes", SCORES, |w, key| _ = w.u8s(key, &vec![0; vocab]));
    bad.set("scores as text", SCORES, |w, key| _ = w.strings(key, &["0.0"]));
    bad.cases
}

pub(super) fn model() -> Vec<Case> {
    [llama_keys(), llama_tensors(), gemma3_model()].concat()
}

fn llama_keys() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Model, Family::Llama);
    bad.add("no architecture", &["general.architecture"], |_| {});
    bad.set("architecture unknown", "general.architecture", |w, key| _ = w.string(key, "gpt9"));
    bad.set("architecture a number", "general.architecture", |w, key| _ = w.u32(key, 1));
    bad.add("no block count", &["llama.block_count"], |_| {});
    bad.set("block count 0", "llama.block_count", |w, key| _ = w.u32(key, 0));
    bad.set("block count 10^9", "llama.block_count", |w, key| _ = w.u32(key, 1_000_000_000));
    bad.set("block count negative", "llama.block_count", |w, key| _ = w.i32(key, -1));
    bad.set("block count one more than there are", "llama.block_count", |w, key| _ = w.u32(key, 4));
    bad.set("context length 0", "llama.context_length", |w, key| _ = w.u32(key, 0));
    bad.set("context length 2^63", "llama.context_length", |w, key| _ = w.u64(key, 1 << 63));
    bad.set("embedding length 0", "llama.embedding_length", |w, key| _ = w.u32(key, 0));
    bad.set("embedding length not that of the tensors", "llama.embedding_length", |w, key| {
        _ = w.u32(key, 128)
    });
    bad.set("embedding length 2^32 - 1", "llama.embedding_length", |w, key| _ = w.u32(key, u32::MAX));
    bad.set("feed-forward length not that of the tensors", "llama.feed_forward_length", |w, key| {
        _ = w.u32(key, 64)
    });
    bad.set("0 heads", "llama.attention.head_count", |w, key| _ = w.u32(key, 0));
    bad.set("10^9 heads", "llama.attention.head_count", |w, key| _ = w.u32(key, 1_000_000_000));
    bad.set("heads that do not divide the width", "llama.attention.head_count", |w, key| _ = w.u32(key, 5));
    bad.set("0 key heads", "llama.attention.head_count_kv", |w, key| _ = w.u32(key, 0));
    bad.set("key heads that do not divide the heads", "llama.attention.head_count_kv", |w, key| {
        _ = w.u32(key, 3)
    });
    bad.set("more key heads than heads", "llama.attention.head_count_kv", |w, key| _ = w.u32(key, 8));
    bad.set("key heads for too few layers", "llama.attention.head_count_kv", |w, key| {
        _ = w.u32s(key, &[2, 2])
    });
    bad.set("key heads with a zero", "llama.attention.head_count_kv", |w, key| _ = w.u32s(key, &[2, 0, 2]));
    bad.set("key heads as text", "llama.attention.head_count_kv", |w, key| _ = w.string(key, "2"));
    bad.set("rope base 0", "llama.rope.freq_base", |w, key| _ = w.f32(key, 0.0));
    bad.set("rope base NaN", "llama.rope.freq_base", |w, key| _ = w.f32(key, f32::NAN));
    bad.set("rope base negative", "llama.rope.freq_base", |w, key| _ = w.f32(key, -10_000.0));
    bad.set("rope base infinite", "llama.rope.freq_base", |w, key| _ = w.f32(key, f32::INFINITY));
    bad.set("rope dimensions odd", "llama.rope.dimension_count", |w, key| _ = w.u32(key, 15));
    bad.set("rope dimensions beyond the head", "llama.rope.dimension_count", |w, key| _ = w.u32(key, 64));
    bad.set("norm epsilon NaN", "llama.attention.layer_norm_rms_epsilon", |w, key| _ = w.f32(key, f32::NAN));
    bad.set("norm epsilon negative", "llama.attention.layer_norm_rms_epsilon", |w, key| _ = w.f32(key, -1.0));
    bad.add("no norm epsilon", &["llama.attention.layer_norm_rms_epsilon"], |_| {});
    bad.cases
}

fn llama_tensors() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Model, Family::Llama);
    let zeros = |w: &mut Writer, name: &str, shape: &[usize], kind: BlockType| {
        let rows: usize = shape[1..].iter().product();
        let size = kind.row_bytes(shape[0]).unwrap_or(0) * rows;
        w.tensor(name, shape, kind, vec![0; size]);
    };
    let mut shaped = |name: &'static str, tensor: &str, shape: &[usize], kind| {
        bad.add(name, &[tensor], |w| zeros(w, tensor, shape, kind));
    };
    shaped("query matrix with wrong rows", "blk.1.attn_q.weight", &[64, 32], BlockType::F32);
    shaped("key matrix with wrong row length", "blk.1.attn_k.weight", &[32, 32], BlockType::F32);
    shaped("down matrix the other way around", "blk.2.ffn_down.weight", &[64, 192], BlockType::Q4_0);
    shaped("norm too short", "blk.0.attn_norm.weight", &[32], BlockType::F32);
    shaped("norm of two dimensions", "blk.0.ffn_norm.weight", &[64, 2], BlockType::F32);
    shaped("embedding of a smaller vocabulary", "token_embd.weight", &[64, 100], BlockType::Q4_0);
    shaped("head of a smaller vocabulary", "output.weight", &[64, 100], BlockType::Q4_0);
    shaped("matrix of one dimension", "blk.0.attn_v.weight", &[2048], BlockType::F32);
    shaped("matrix of three dimensions", "blk.0.ffn_up.weight", &[64, 96, 2], BlockType::F32);
    bad.add("no embedding", &["token_embd.weight"], |_| {});
    bad.add("no output norm", &["output_norm.weight"], |_| {});
    bad.add("no value matrix in the last layer", &["blk.2.attn_v.weight"], |_| {});
    bad.cases
}

fn gemma3_model() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Model, Family::Gemma3);
    bad.set("key length 0", "gemma3.attention.key_length", |w, key| _ = w.u32(key, 0));
    bad.set("key length 2^31", "gemma3.attention.key_length", |w, key| _ = w.u32(key, 1 << 31));
    bad.set("key length odd", "gemma3.attention.key_length", |w, key| _ = w.u32(key, 31));
    bad.set("value length not that of the tensors", "gemma3.attention.value_length", |w, key| {
        _ = w.u32(key, 16)
    });
    bad.set("sliding window as text", "gemma3.attention.sliding_window", |w, key| _ = w.string(key, "16"));
    bad.set("sliding window negative", "gemma3.attention.sliding_window", |w, key| _ = w.i32(key, -1));
    bad.add("no query norm", &["blk.3.attn_q_norm.weight"], |_| {});
    bad.add("no post norm", &["blk.6.post_ffw_norm.weight"], |_| {});
    bad.cases
}

pub(super) fn template() -> Vec<Case> {
    let mut bad = Cases::of(Layer::Template, Family::Llama);
    let deep_calls = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}";
    let deep_blocks = format!("{}x{}", "{% if true %}".repeat(5000), "{% endif %}".repeat(5000));
    let deep_brackets = format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
    let deep_lists = format!("{{{{ {}{} }}}}", "[".repeat(20_000), "]".repeat(20_000));
    let doubling = format!("{{% set x = 'x' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(40));
    let sources: [(&'static str, &str); 18] = [
        ("template that repeats to 100 MB", "{{ 'x' * 100000000 }}"),
        ("template that repeats in a loop", "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}"),
        ("template that doubles 40 times", &doubling),
        ("template with a loop of 10^9", "{% for i in range(1000000000) %}{% endfor %}"),
        (
            "template with loops in loops",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}\
             {% endfor %}",
        ),
        ("template that pads to 10^9", "{{ 'x' | indent(1000000000) }}{{ '%1000000000d' | format(1) }}"),
        ("template that lists 10^9", "{{ range(1000000000) | list | length }}"),
        (
            "template that joins a long list",
            "{{ range(100000) | join('xxxxxxxxxxxxxxxxxxxxxxxx' * 100000) }}",
        ),
        ("template that calls itself", deep_calls),
        ("template of 5,000 nested blocks", &deep_blocks),
        ("template of 20,000 brackets", &deep_brackets),
        ("template of 20,000 lists", &deep_lists),
        ("template never closed", "{% for message in messages %}{{ message.content }}"),
        // CVE-2024-34359 and advisory 5760: from a string to Python's classes, to the shell. Not Python here: must not render.
        ("template to Python's classes", "{{ ''.__class__.__mro__[1].__subclasses__()[104].__init__ }}"),
        ("template to the shell", "{{ cycler.__init__.__globals__.os.popen('id').read() }}"),
        ("template to the loader", "{% include '/etc/passwd' %}"),
        ("template that imports", "{% import 'os' as os %}{{ os.system('id') }}"),
        ("template of an unknown filter", "{{ messages | no_such_filter }}"),
    ];
    for (name, source) in sources {
        bad.set(name, TEMPLATE, |w, key| _ = w.string(key, source));
    }
    bad.set("template as a number", TEMPLATE, |w, key| _ = w.u32(key, 1));
    bad.set("template as a list", TEMPLATE, |w, key| _ = w.strings(key, &["{{ 1 }}"]));
    bad.cases
}
