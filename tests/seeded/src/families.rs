//! Shape → file: the metadata keys and tensors of each family, named as in llama.cpp. The vocabulary and the numbers come
//! from their own files.

use kernels::BlockType;
use weights::gguf::write::Writer;

use crate::{Family, Shape, blocks::matrix, random::numbers, vocabulary};

/// How far norm weights stray from 1.
const NORM_SPREAD: f32 = 0.25;

/// `experts`: how many there are, and how many each token asks, for a mixture of them; a Llama's, as Mixtral has it.
pub(crate) fn gguf(shape: &Shape, experts: Option<(usize, usize)>) -> Vec<u8> {
    let mut writer = Writer::new();
    general(&mut writer, shape);
    if let Some((count, used)) = experts {
        writer.u32("llama.expert_count", count as u32).u32("llama.expert_used_count", used as u32);
    }
    match shape.family {
        Family::Llama => llama_keys(&mut writer, shape),
        Family::Gemma3 => gemma3_keys(&mut writer, shape),
    }
    vocabulary::write(&mut writer, shape.family);
    tensors(&mut writer, shape, experts.map(|(count, _)| count));
    writer.finish()
}

fn general(writer: &mut Writer, shape: &Shape) {
    let Shape { family, block_type, .. } = shape;
    writer.string("general.architecture", family.name());
    writer.string("general.type", "model");
    writer.string("general.name", &format!("Seeded {} {}", family.name(), block_type.name()));
    writer.string("general.license", "apache-2.0");
    writer.string("general.size_label", "tiny");
    writer.u32("general.quantization_version", 2);
    writer.u32("general.file_type", file_type(*block_type));
    let mut number = |key: &str, value: usize| {
        writer.u32(&format!("{}.{key}", family.name()), u32::try_from(value).unwrap_or(u32::MAX));
    };
    number("block_count", shape.layers);
    number("context_length", shape.context);
    number("embedding_length", shape.width);
    number("feed_forward_length", shape.ff);
    number("attention.head_count", shape.heads);
    number("attention.head_count_kv", shape.kv_heads);
}

fn llama_keys(writer: &mut Writer, shape: &Shape) {
    writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    writer.f32("llama.rope.freq_base", 10_000.0);
    writer.u32("llama.rope.dimension_count", shape.head_dim as u32);
    writer.u32("llama.vocab_size", shape.vocab() as u32);
}

fn gemma3_keys(writer: &mut Writer, shape: &Shape) {
    writer.f32("gemma3.attention.layer_norm_rms_epsilon", 1e-6);
    writer.u32("gemma3.attention.key_length", shape.head_dim as u32);
    writer.u32("gemma3.attention.value_length", shape.head_dim as u32);
    // Of the global layers; local ones have 10,000, which files of this family do not say.
    writer.f32("gemma3.rope.freq_base", 1_000_000.0);
    if let Some(window) = shape.sliding_window {
        writer.u32("gemma3.attention.sliding_window", window as u32);
    }
}

fn tensors(writer: &mut Writer, shape: &Shape, experts: Option<usize>) {
    let Shape { width, ff, heads, kv_heads, head_dim, .. } = *shape;
    let gemma3 = shape.family == Family::Gemma3;
    put_matrix(writer, shape, "token_embd.weight", width, shape.vocab());
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        put_norm(writer, shape, &name("attn_norm"), width);
        put_matrix(writer, shape, &name("attn_q"), width, heads * head_dim);
        put_matrix(writer, shape, &name("attn_k"), width, kv_heads * head_dim);
        put_matrix(writer, shape, &name("attn_v"), width, kv_heads * head_dim);
        put_matrix(writer, shape, &name("attn_output"), heads * head_dim, width);
        if gemma3 {
            put_norm(writer, shape, &name("attn_q_norm"), head_dim);
            put_norm(writer, shape, &name("attn_k_norm"), head_dim);
            put_norm(writer, shape, &name("post_attention_norm"), width);
        }
        put_norm(writer, shape, &name("ffn_norm"), width);
        if let Some(count) = experts {
            put_matrix(writer, shape, &name("ffn_gate_inp"), width, count);
            for (part, [columns, rows]) in
                [("ffn_gate_exps", [width, ff]), ("ffn_up_exps", [width, ff]), ("ffn_down_exps", [ff, width])]
            {
                let bytes = matrix(shape.seed, &name(part), columns, rows * count, shape.block_type);
                writer.tensor(&name(part), &[columns, rows, count], shape.block_type, bytes);
            }
        } else {
            put_matrix(writer, shape, &name("ffn_gate"), width, ff);
            put_matrix(writer, shape, &name("ffn_up"), width, ff);
            put_matrix(writer, shape, &name("ffn_down"), ff, width);
        }
        if gemma3 {
            put_norm(writer, shape, &name("post_ffw_norm"), width);
        }
    }
    put_norm(writer, shape, "output_norm.weight", width);
    if !gemma3 {
        put_matrix(writer, shape, "output.weight", width, shape.vocab());
    }
}

fn put_matrix(writer: &mut Writer, shape: &Shape, name: &str, row_len: usize, rows: usize) {
    let bytes = matrix(shape.seed, name, row_len, rows, shape.block_type);
    writer.tensor(name, &[row_len, rows], shape.block_type, bytes);
}

fn put_norm(writer: &mut Writer, shape: &Shape, name: &str, len: usize) {
    let values = numbers(shape.seed, name, len, NORM_SPREAD, 1.0);
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    writer.tensor(name, &[len], BlockType::F32, bytes);
}

/// `general.file_type` of a file that is mostly of this type. Numbers of `llama_ftype` in `llama.h` of llama.cpp.
pub(crate) const fn file_type(block_type: BlockType) -> u32 {
    match block_type {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::Q4_0 => 2,
        BlockType::Q4_1 => 3,
        BlockType::Q8_0 => 7,
        BlockType::Q5_0 => 8,
        BlockType::Q5_1 => 9,
        BlockType::Q2_K => 10,
        BlockType::Q3_K => 12,
        BlockType::Q4_K => 15,
        BlockType::Q5_K => 17,
        BlockType::Q6_K => 18,
        BlockType::IQ2_XXS => 19,
        BlockType::IQ4_NL => 25,
        BlockType::IQ4_XS => 30,
        BlockType::BF16 => 32,
        BlockType::MXFP4 => 38,
        BlockType::NF4 => kernels::blocks::NF4_ID,
        _ => 1024,
    }
}
