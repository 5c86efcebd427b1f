//! Decoders: the kinds that are read, and what each one's settings and tensors are called. The keys of GGUF are those of
//! llama.cpp's converter.

use serde_json::{Map, Value as Json};

use super::config::{Config, Kind};
use super::error::CheckpointError;
use crate::gguf::write::Writer;

const PLAIN: Kind = Kind {
    model_types: &[],
    architecture: "",
    adjacent_pairs: false,
    gains_less_one: false,
    post_norms: false,
    activations: &["silu", "swish"],
};
const GELU: &[&str] = &["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"];

pub(super) const KINDS: [Kind; 21] = [
    Kind { model_types: &["deepseek_v2"], architecture: "deepseek2", ..PLAIN },
    Kind {
        model_types: &["llama", "mistral", "ministral", "mixtral"],
        architecture: "llama",
        adjacent_pairs: true,
        ..PLAIN
    },
    Kind { model_types: &["qwen2"], architecture: "qwen2", ..PLAIN },
    Kind { model_types: &["qwen3"], architecture: "qwen3", ..PLAIN },
    Kind { model_types: &["qwen3_moe"], architecture: "qwen3moe", ..PLAIN },
    Kind { model_types: &["gemma"], architecture: "gemma", gains_less_one: true, activations: GELU, ..PLAIN },
    Kind {
        model_types: &["gemma2"],
        architecture: "gemma2",
        gains_less_one: true,
        post_norms: true,
        activations: GELU,
        ..PLAIN
    },
    Kind {
        model_types: &["gemma3_text", "gemma3"],
        architecture: "gemma3",
        gains_less_one: true,
        post_norms: true,
        activations: GELU,
        ..PLAIN
    },
    Kind { model_types: &["phi3"], architecture: "phi3", ..PLAIN },
    Kind { model_types: &["exaone"], architecture: "exaone", ..PLAIN },
    Kind { model_types: &["exaone4"], architecture: "exaone4", post_norms: true, ..PLAIN },
    Kind { model_types: &["granite"], architecture: "granite", adjacent_pairs: true, ..PLAIN },
    Kind { model_types: &["granitemoe"], architecture: "granitemoe", adjacent_pairs: true, ..PLAIN },
    Kind { model_types: &["olmo2"], architecture: "olmo2", post_norms: true, ..PLAIN },
    Kind { model_types: &["cohere"], architecture: "command-r", ..PLAIN },
    Kind { model_types: &["cohere2"], architecture: "cohere2", ..PLAIN },
    Kind { model_types: &["stablelm"], architecture: "stablelm", ..PLAIN },
    Kind {
        model_types: &["starcoder2"],
        architecture: "starcoder2",
        activations: &["gelu_pytorch_tanh", "gelu_new", "gelu_fast"],
        ..PLAIN
    },
    Kind {
        model_types: &["gpt2"],
        architecture: "gpt2",
        activations: &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"],
        ..PLAIN
    },
    Kind { model_types: &["gpt_neox"], architecture: "gptneox", activations: &["gelu"], ..PLAIN },
    Kind { model_types: &["gpt_oss"], architecture: "gpt-oss", ..PLAIN },
];

/// Settings that some kinds name in their own way.
const OTHER_NAMES: [(&str, &[(&str, &str)]); 3] = [
    (
        "gpt2",
        &[
            ("n_embd", "hidden_size"),
            ("n_layer", "num_hidden_layers"),
            ("n_head", "num_attention_heads"),
            ("n_positions", "max_position_embeddings"),
            ("n_inner", "intermediate_size"),
            ("layer_norm_epsilon", "layer_norm_eps"),
            ("activation_function", "hidden_act"),
        ],
    ),
    (
        "exaone",
        &[
            ("num_layers", "num_hidden_layers"),
            ("layer_norm_epsilon", "rms_norm_eps"),
            ("activation_function", "hidden_act"),
        ],
    ),
    ("starcoder2", &[("norm_epsilon", "layer_norm_eps")]),
];

/// Gives settings their usual names.
pub(super) fn rename(all: &mut Map<String, Json>) {
    let model_type = all.get("model_type").and_then(Json::as_str).unwrap_or_default().to_owned();
    let names =
        OTHER_NAMES.iter().find(|(theirs, _)| *theirs == model_type).map_or(&[][..], |(_, names)| names);
    for (theirs, usual) in names {
        if let Some(value) = all.remove(*theirs).filter(|value| !value.is_null()) {
            all.insert((*usual).to_owned(), value);
        }
    }
    // GPT-2's feed-forward is four times as wide as its states, where nothing else is said.
    if model_type == "gpt2"
        && !all.contains_key("intermediate_size")
        && let Some(width) = all.get("hidden_size").and_then(Json::as_u64)
    {
        all.insert("intermediate_size".to_owned(), width.saturating_mul(4).into());
    }
}

/// Settings that are right at one value only, and what they are. Another value is another model.
const FIXED: [(&str, &[&str], Json); 6] = [
    ("scale_attn_by_inverse_layer_idx", &["gpt2"], Json::Bool(false)),
    ("scale_attn_weights", &["gpt2"], Json::Bool(true)),
    ("add_cross_attention", &["gpt2"], Json::Bool(false)),
    ("clip_qkv", &["olmo2"], Json::Null),
    // EmbeddingGemma sees both ways.
    ("use_bidirectional_attention", &["gemma3"], Json::Bool(false)),
    ("use_parallel_embedding", &["command-r", "cohere2"], Json::Bool(false)),
];

/// Refuses settings that would make another model of it than the one that is computed.
pub(super) fn check(config: &Config) -> Result<(), CheckpointError> {
    let architecture = config.kind.architecture;
    for (key, of, value) in &FIXED {
        if of.contains(&architecture)
            && let Some(found) = config.get(key)
            && found != value
        {
            return Err(Config::wrong(
                key,
                format!("is {found}, which is not supported; it must be {value}"),
            ));
        }
    }
    let act = config.get("hidden_activation").or_else(|| config.get("hidden_act")).and_then(Json::as_str);
    if let Some(act) = act.filter(|act| !config.kind.activations.contains(act)) {
        let known = config.kind.activations.join(", ");
        return Err(Config::wrong("hidden_act", format!("is {act}; models of this type have {known}")));
    }
    if architecture == "qwen3moe" {
        let dense = config.get("mlp_only_layers").and_then(Json::as_array).is_some_and(|all| !all.is_empty());
        if dense || config.u64("decoder_sparse_step")?.unwrap_or(1) != 1 {
            return Err(Config::wrong(
                "mlp_only_layers",
                "and decoder_sparse_step: layers without experts are not supported",
            ));
        }
    }
    Ok(())
}

/// Writes what only some kinds have: factors, flags, experts.
pub(super) fn write(config: &Config, writer: &mut Writer) -> Result<(), CheckpointError> {
    let architecture = config.kind.architecture;
    let key = |name: &str| format!("{architecture}.{name}");
    let numbers = [
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("attention.scale", "attention_multiplier"),
        ("logit_scale", "logits_scaling"),
        ("logit_scale", "logit_scale"),
        ("expert_weights_scale", "routed_scaling_factor"),
    ];
    for (name, theirs) in numbers {
        if let Some(number) = config.f64(theirs)? {
            writer.f32(&key(name), number as f32);
        }
    }
    if let Some(Json::Bool(parallel)) = config.get("use_parallel_residual") {
        writer.bool(&key("use_parallel_residual"), *parallel);
    }
    write_latent(config, writer)?;
    let Some(count) = experts(config)? else { return Ok(()) };
    let used = config.u64("num_experts_per_tok")?.or(config.u64("experts_per_token")?);
    let grouped = config.get("topk_method") == Some(&Json::from("group_limited_greedy"));
    // gpt-oss has but one width.
    let experts_width = match architecture {
        "gpt-oss" => config.u64("intermediate_size")?,
        _ => config.u64("moe_intermediate_size")?,
    };
    let sizes = [
        ("expert_count", Some(count)),
        ("expert_used_count", used),
        ("expert_feed_forward_length", experts_width),
        ("expert_shared_count", config.u64("n_shared_experts")?),
        ("leading_dense_block_count", config.u64("first_k_dense_replace")?.filter(|count| *count > 0)),
        ("expert_group_count", grouped.then(|| config.u64("n_group")).transpose()?.flatten()),
        ("expert_group_used_count", grouped.then(|| config.u64("topk_group")).transpose()?.flatten()),
    ];
    for (name, size) in sizes {
        let Some(size) = size else { continue };
        let size = u32::try_from(size).map_err(|_| Config::wrong(name, format!("of {size} is too large")))?;
        writer.u32(&key(name), size);
    }
    if let Some(Json::Bool(norm)) = config.get("norm_topk_prob") {
        writer.bool(&key("expert_weights_norm"), *norm);
    }
    Ok(())
}

/// Widths of attention over short vectors.
fn write_latent(config: &Config, writer: &mut Writer) -> Result<(), CheckpointError> {
    let architecture = config.kind.architecture;
    if architecture != "deepseek2" {
        return Ok(());
    }
    for (name, theirs) in [("q_lora_rank", "q_lora_rank"), ("kv_lora_rank", "kv_lora_rank")] {
        let Some(size) = config.u64(theirs)? else { continue };
        let size =
            u32::try_from(size).map_err(|_| Config::wrong(theirs, format!("of {size} is too large")))?;
        writer.u32(&format!("{architecture}.attention.{name}"), size);
    }
    // What each factor of stretched positions adds to scores.
    if let Some(scale) = config.rope("mscale_all_dim")?.filter(|scale| *scale > 0.0) {
        writer.f32(&format!("{architecture}.rope.scaling.yarn_log_multiplier"), (0.1 * scale) as f32);
    }
    Ok(())
}

/// How many experts a layer has.
pub(super) fn experts(config: &Config) -> Result<Option<u64>, CheckpointError> {
    const MOST: u64 = 4096;
    let count = match config.u64("num_local_experts")? {
        Some(count) => Some(count),
        None => match config.u64("num_experts")? {
            Some(count) => Some(count),
            None => config.u64("n_routed_experts")?,
        },
    };
    match count {
        Some(count) if count > MOST => {
            Err(Config::wrong("num_experts", format!("is {count}; no real model has so many")))
        }
        count => Ok(count.filter(|count| *count > 0)),
    }
}

/// Names outside layers, without the model's own prefix.
pub(super) const WHOLE: [(&str, &str); 10] = [
    ("embed_tokens", "token_embd"),
    ("norm", "output_norm"),
    ("lm_head", "output"),
    ("wte", "token_embd"),
    ("wpe", "position_embd"),
    ("ln_f", "output_norm"),
    ("embed_in", "token_embd"),
    ("final_layer_norm", "output_norm"),
    ("final_layernorm", "output_norm"),
    ("embed_out", "output"),
];

/// Of each expert the gate's rows and those of what it lets through, one upon the other: two tensors in GGUF.
pub(super) const GATES_AND_UPS: &str = "ffn_gate_up_exps";

/// Names within a layer. `post_attention_layernorm` has two meanings: see [`in_layer`].
const LAYER: [(&str, &str); 54] = [
    // DeepSeek's.
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
    ("input_layernorm", "attn_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    // StableLM's: one tensor a head, whose numbers are taken out.
    ("self_attn.q_layernorm.norms", "attn_q_norm"),
    ("self_attn.k_layernorm.norms", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    // Phi 3.
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_up_proj", "ffn_up"),
    // GPT-2, StarCoder 2, EXAONE.
    ("ln_1", "attn_norm"),
    ("ln_2", "ffn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("attn.attention.q_proj", "attn_q"),
    ("attn.attention.k_proj", "attn_k"),
    ("attn.attention.v_proj", "attn_v"),
    ("attn.attention.out_proj", "attn_output"),
    ("mlp.c_fc_0", "ffn_gate"),
    ("mlp.c_fc_1", "ffn_up"),
    // GPT-NeoX.
    ("attention.query_key_value", "attn_qkv"),
    ("attention.dense", "attn_output"),
    ("mlp.dense_h_to_4h", "ffn_up"),
    ("mlp.dense_4h_to_h", "ffn_down"),
    // Mixtures of experts: Mixtral's, Qwen's and gpt-oss's routers, then experts, whose numbers are taken out.
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
    ("block_sparse_moe.experts.w1", "ffn_gate_exps"),
    ("block_sparse_moe.experts.w3", "ffn_up_exps"),
    ("block_sparse_moe.experts.w2", "ffn_down_exps"),
    // Granite's, all experts in one.
    ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("block_sparse_moe.input_linear", GATES_AND_UPS),
    ("block_sparse_moe.output_linear", "ffn_down_exps"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
    ("self_attn.sinks", "attn_sinks"),
];

/// GGUF's name of a part of a layer.
pub(super) fn in_layer(part: &str, config: &Config) -> Option<&'static str> {
    if part == "post_attention_layernorm" {
        // gpt-oss's files call it so, though it stands before the feed-forward.
        let after = config.kind.post_norms || config.kind.architecture == "gpt-oss";
        return Some(if after { "post_attention_norm" } else { "ffn_norm" });
    }
    LAYER.iter().find(|(theirs, _)| *theirs == part).map(|(_, ours)| *ours)
}
