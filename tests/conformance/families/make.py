"""What tiny models of every family compute in the Python package transformers: the goldens that `model`'s tests are held
against.

    python3 make.py             computes all again and fails when one differs from its golden
    python3 make.py --write     writes goldens/FAMILY.json, and goldens/tokenizer.json

With names, only those families.

Needs torch and transformers (5.23 computed what is there). Weights are not kept: those of a tensor follow from its name, in
the way of ../logits/seeded.py, and a golden says each one's shape, spread and centre. So the folder can be made again by
whoever reads the golden, `seeded::checkpoint` in Rust. Logits are of some positions of one prompt, in float32.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

sys.path.append(str(Path(__file__).parent.parent / "logits"))
from seeded import numbers  # noqa: E402

GOLDENS = Path(__file__).parent / "goldens"
TOLERANCE = 1e-4
PROMPT = 40  # longer than the sliding windows, twice
WRITTEN = 24
VOCAB = 288

SIZES = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=256,
    eos_token_id=257,
)
WIDE = SIZES | dict(head_dim=16)
SIXTY_FOUR = SIZES | dict(hidden_size=64)
GEMMA = WIDE | dict(query_pre_attn_scalar=24, sliding_window=16, hidden_activation="gelu_pytorch_tanh")
LLAMA3_ROPE = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
GPT = dict(vocab_size=VOCAB, max_position_embeddings=128, bos_token_id=256, eos_token_id=257)
HYBRID = dict(layer_types=["sliding_attention", "sliding_attention", "full_attention"], sliding_window=16)


def long_rope(original):
    """Factors of LongRoPE, and the context they were found for."""
    factors = dict(short_factor=[1.0 + 0.1 * i for i in range(8)], long_factor=[1.0 + 0.7 * i for i in range(8)])
    return dict(
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=original) | factors,
        original_max_position_embeddings=original,
    )


def models_to_make():
    t = transformers
    # Each with the type its weights are kept in.
    yield "llama", "BF16", t.LlamaForCausalLM, t.LlamaConfig(**WIDE, tie_word_embeddings=False)
    yield "llama3", "F32", t.LlamaForCausalLM, t.LlamaConfig(**WIDE, tie_word_embeddings=True, rope_parameters=LLAMA3_ROPE)
    yield "mistral", "BF16", t.MistralForCausalLM, t.MistralConfig(**WIDE, sliding_window=None)
    yield "mistral-window", "BF16", t.MistralForCausalLM, t.MistralConfig(**WIDE, sliding_window=16)
    yield "ministral", "BF16", t.MinistralForCausalLM, t.MinistralConfig(**WIDE | HYBRID)
    yield "mixtral", "BF16", t.MixtralForCausalLM, t.MixtralConfig(**WIDE, sliding_window=None, num_local_experts=5)
    yield "qwen2", "F16", t.Qwen2ForCausalLM, t.Qwen2Config(**SIZES | dict(num_attention_heads=2, num_key_value_heads=1), tie_word_embeddings=True)
    yield "qwen2-yarn", "F32", t.Qwen2ForCausalLM, t.Qwen2Config(**SIXTY_FOUR, rope_parameters=YARN)
    yield "qwen3", "F32", t.Qwen3ForCausalLM, t.Qwen3Config(**WIDE)
    yield "qwen3-moe", "BF16", t.Qwen3MoeForCausalLM, t.Qwen3MoeConfig(**WIDE, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True)
    yield "gemma", "BF16", t.GemmaForCausalLM, t.GemmaConfig(**WIDE | dict(num_key_value_heads=1))
    yield "gemma2", "BF16", t.Gemma2ForCausalLM, t.Gemma2Config(**GEMMA, attn_logit_softcapping=20.0)
    yield "gemma3", "F16", t.Gemma3ForCausalLM, t.Gemma3TextConfig(**GEMMA | dict(num_hidden_layers=7))
    phi = dict(pad_token_id=0)
    yield "phi3", "BF16", t.Phi3ForCausalLM, t.Phi3Config(**SIXTY_FOUR | phi, sliding_window=24)
    yield "phi3-long", "BF16", t.Phi3ForCausalLM, t.Phi3Config(**SIXTY_FOUR | phi, **long_rope(32))
    # A context for which it was not trained at first, and a prompt that stays within the one for which it was.
    yield "phi3-within", "F32", t.Phi3ForCausalLM, t.Phi3Config(**SIXTY_FOUR | phi, **long_rope(48))
    yield "phi3-short", "F16", t.Phi3ForCausalLM, t.Phi3Config(**SIXTY_FOUR | phi, **long_rope(128))
    yield "exaone4", "BF16", t.Exaone4ForCausalLM, t.Exaone4Config(**SIXTY_FOUR | dict(num_hidden_layers=5), sliding_window=16, sliding_window_pattern=4)
    yield "exaone4-small", "BF16", t.Exaone4ForCausalLM, t.Exaone4Config(**SIXTY_FOUR, sliding_window=None, layer_types=["full_attention"] * 3)
    yield "granite", "BF16", t.GraniteForCausalLM, t.GraniteConfig(**SIXTY_FOUR, embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.0625)
    yield "granitemoe", "BF16", t.GraniteMoeForCausalLM, t.GraniteMoeConfig(**SIXTY_FOUR, num_local_experts=6, num_experts_per_tok=3, embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.0625)
    yield "olmo2", "BF16", t.Olmo2ForCausalLM, t.Olmo2Config(**SIXTY_FOUR)
    yield "command-r", "F16", t.CohereForCausalLM, t.CohereConfig(**SIXTY_FOUR, logit_scale=0.25)
    yield "command-r-plus", "BF16", t.CohereForCausalLM, t.CohereConfig(**SIXTY_FOUR, logit_scale=0.25, use_qk_norm=True)
    yield "command-r7b", "BF16", t.Cohere2ForCausalLM, t.Cohere2Config(**SIXTY_FOUR | dict(num_hidden_layers=5), sliding_window=16, logit_scale=0.25)
    yield "stablelm", "BF16", t.StableLmForCausalLM, t.StableLmConfig(**SIZES | dict(hidden_size=128), use_qkv_bias=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25))
    yield "stablelm-parallel", "F16", t.StableLmForCausalLM, t.StableLmConfig(**SIXTY_FOUR, use_parallel_residual=True)
    yield "stablelm-12b", "F16", t.StableLmForCausalLM, t.StableLmConfig(**SIXTY_FOUR, use_parallel_residual=True, qk_layernorm=True)
    yield "starcoder2", "BF16", t.Starcoder2ForCausalLM, t.Starcoder2Config(**SIXTY_FOUR, sliding_window=16)
    yield "gpt2", "F16", t.GPT2LMHeadModel, t.GPT2Config(vocab_size=VOCAB, n_embd=64, n_layer=3, n_head=4, n_positions=128, bos_token_id=256, eos_token_id=257)
    yield "gpt-neox", "F16", t.GPTNeoXForCausalLM, t.GPTNeoXConfig(**GPT, hidden_size=128, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    latent = dict(
        kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, num_key_value_heads=4, head_dim=16,
        n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2, moe_intermediate_size=32, first_k_dense_replace=1,
    )
    yield "deepseek2-lite", "BF16", t.DeepseekV2ForCausalLM, t.DeepseekV2Config(**SIZES | latent | dict(q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1))
    yield "deepseek2", "BF16", t.DeepseekV2ForCausalLM, t.DeepseekV2Config(**SIZES | latent | dict(q_lora_rank=48, topk_method="group_limited_greedy", n_group=3, topk_group=2, routed_scaling_factor=2.5, rope_parameters=YARN | dict(mscale=0.7, mscale_all_dim=0.7, beta_fast=32.0, beta_slow=1.0)))
    yield "gpt-oss", "BF16", t.GptOssForCausalLM, t.GptOssConfig(**WIDE, num_local_experts=6, num_experts_per_tok=3, sliding_window=16, rope_parameters=YARN | dict(truncate=False, beta_fast=32.0, beta_slow=1.0))
    yield "gpt-neox-serial", "F32", t.GPTNeoXForCausalLM, t.GPTNeoXConfig(**GPT, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, use_parallel_residual=False, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))


# Kinds that transformers does not have, as those it has whose sums are the same: their tensors' names, and settings.
def exaone():
    """EXAONE 3.5, whose own code names its parts as GPT-2 does."""
    config = transformers.LlamaConfig(**WIDE, tie_word_embeddings=True, rope_parameters=LLAMA3_ROPE)
    names = [
        ("model.embed_tokens", "transformer.wte"),
        ("model.norm", "transformer.ln_f"),
        ("model.layers.", "transformer.h."),
        ("input_layernorm", "ln_1"),
        ("post_attention_layernorm", "ln_2"),
        ("self_attn.o_proj", "attn.attention.out_proj"),
        ("self_attn.", "attn.attention."),
        ("mlp.gate_proj", "mlp.c_fc_0"),
        ("mlp.up_proj", "mlp.c_fc_1"),
        ("mlp.down_proj", "mlp.c_proj"),
    ]
    settings = dict(
        model_type="exaone",
        num_layers=config.num_hidden_layers,
        num_hidden_layers=None,
        layer_norm_epsilon=config.rms_norm_eps,
        rms_norm_eps=None,
        activation_function="silu",
        hidden_act=None,
        rope_parameters=None,
        rope_theta=10000.0,
        rope_scaling={key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"},
    )
    return "exaone", "BF16", transformers.LlamaForCausalLM, config, names, settings


def prompt():
    return [256] + [(5 + 37 * i * i + 11 * i) % 256 for i in range(1, PROMPT)]


def tokenizer():
    """GPT-2's byte alphabet, a few merges, and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    merges = []
    for left, right in [("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the"), ("a", "n")]:
        merges.append((left, right))
        vocab[left + right] = 258 + len(merges) - 1
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|begin|>", "<|end|>"])
    text = json.loads(made.to_str())
    for token, id in zip(text["added_tokens"], [256, 257]):
        token["id"] = id
    return json.dumps(text)


TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def make(kept_as, cls, config, names):
    """For each tensor of the model's folder, as `save_pretrained` writes it: shape, spread, centre; the logits of the model
    that `from_pretrained` makes of the folder, its numbers replaced; and how it goes on where that is of interest."""
    torch.manual_seed(1)
    described = {}
    with tempfile.TemporaryDirectory() as folder:
        cls(config).save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        tensors = {}
        for name, tensor in load_file(path).items():
            shape = list(tensor.shape)
            # Matrices keep the size of what goes in. Norms and biases must do something, or nobody sees them forgotten; what
            # they begin with says whether they multiply, multiply with 1 added, or are added.
            matrix = len(shape) > 1 and not name.endswith("norm.weight")
            centre = 0.0 if matrix else float(tensor.flatten()[0])
            spread = float(np.float32(np.sqrt(3.0 / shape[-1]) if matrix else 0.25))
            theirs = name
            for ours, other in names:
                theirs = theirs.replace(ours, other)
            values = numbers(theirs, tensor.numel(), np.float32(spread), centre).reshape(shape)
            tensors[name] = torch.from_numpy(values).to(TYPES[kept_as])
            described[theirs] = [shape, spread, centre]
        save_file(tensors, path, metadata={"format": "pt"})
        model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.tensor([prompt()])
    with torch.no_grad():
        logits = model(tokens).logits[0]
        written = []
        if getattr(config, "rope_parameters", None) and config.rope_parameters.get("rope_type") == "longrope":
            # Beyond the context for which it was trained at first, where there is such a bound.
            likeliest = dict(do_sample=False, eos_token_id=-1, max_new_tokens=WRITTEN)
            written = model.generate(tokens, attention_mask=torch.ones_like(tokens), **likeliest)[0, PROMPT:].tolist()
    return described, logits, written


def main():
    write = "--write" in sys.argv
    only = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    GOLDENS.mkdir(exist_ok=True)
    if write:
        (GOLDENS / "tokenizer.json").write_text(tokenizer())
    failed = False
    every = PROMPT // 8
    for name, kept_as, cls, config, *other in [*models_to_make(), exaone()]:
        if only and name not in only:
            continue
        names, settings = other or ([], {})
        described, logits, written = make(kept_as, cls, config, names)
        path = GOLDENS / f"{name}.json"
        if write:
            rows = [[float(f"{value:.6g}") for value in row] for row in logits[::every].tolist()]
            golden = dict(
                config=config.to_dict() | settings, type=kept_as, tensors=described, tokens=prompt(), every=every, logits=rows
            )
            golden |= dict(written=written) if written else {}
            path.write_text(json.dumps(golden))
        golden = json.loads(path.read_text())
        difference = (logits[:: golden["every"]] - torch.tensor(golden["logits"])).abs().max().item()
        failed |= difference > TOLERANCE or described != golden["tensors"] or written != golden.get("written", [])
        print(f"{name:10} largest difference {difference:.1e}, largest logit {logits.abs().max().item():.1f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
