"""What tiny models of every family compute in the Python package transformers: the goldens that `model`'s tests are held
against.

    python3 make.py             computes all again and fails when one differs from its golden
    python3 make.py --write     writes goldens/FAMILY.json, and goldens/tokenizer.json

Needs torch and transformers (5.23 computed what is there). Weights are not kept: those of a tensor follow from its name, in
the way of ../logits/seeded.py, and a golden says each one's shape, spread and centre. So the folder can be made again by
whoever reads the golden, `seeded::checkpoint` in Rust. Logits are of some positions of one prompt, in float32.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

sys.path.append(str(Path(__file__).parent.parent / "logits"))
from seeded import numbers  # noqa: E402

GOLDENS = Path(__file__).parent / "goldens"
TOLERANCE = 1e-4
PROMPT = 40  # longer than the sliding windows, twice
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
GEMMA = WIDE | dict(query_pre_attn_scalar=24, sliding_window=16, hidden_activation="gelu_pytorch_tanh")
LLAMA3_ROPE = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)


def models_to_make():
    t = transformers
    # Each with the type its weights are kept in.
    yield "llama", "BF16", t.LlamaForCausalLM, t.LlamaConfig(**WIDE, tie_word_embeddings=False)
    yield "llama3", "F32", t.LlamaForCausalLM, t.LlamaConfig(**WIDE, tie_word_embeddings=True, rope_parameters=LLAMA3_ROPE)
    yield "mistral", "BF16", t.MistralForCausalLM, t.MistralConfig(**WIDE, sliding_window=None)
    yield "qwen2", "F16", t.Qwen2ForCausalLM, t.Qwen2Config(**SIZES | dict(num_attention_heads=2, num_key_value_heads=1), tie_word_embeddings=True)
    yield "qwen3", "F32", t.Qwen3ForCausalLM, t.Qwen3Config(**WIDE)
    yield "gemma2", "BF16", t.Gemma2ForCausalLM, t.Gemma2Config(**GEMMA, attn_logit_softcapping=20.0)
    yield "gemma3", "F16", t.Gemma3ForCausalLM, t.Gemma3TextConfig(**GEMMA | dict(num_hidden_layers=7))


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


def make(kept_as, cls, config):
    """The model, and for each tensor of its checkpoint: shape, spread, centre."""
    torch.manual_seed(1)
    model = cls(config).eval()
    described = {}
    with torch.no_grad():
        tied = {name for name in ["lm_head.weight"] if config.tie_word_embeddings}
        for name, tensor in model.state_dict().items():
            if name in tied:
                continue
            shape = list(tensor.shape)
            # Matrices keep the size of what goes in. Norms and biases must do something, or nobody sees them forgotten; what
            # they begin with says whether they multiply, multiply with 1 added, or are added.
            matrix = len(shape) > 1
            centre = 0.0 if matrix else float(tensor.flatten()[0])
            spread = float(np.float32(np.sqrt(3.0 / shape[-1]) if matrix else 0.25))
            values = numbers(name, tensor.numel(), np.float32(spread), centre).reshape(shape)
            tensor.copy_(torch.from_numpy(values).to(TYPES[kept_as]).float())
            described[name] = [shape, spread, centre]
        logits = model(torch.tensor([prompt()])).logits[0]
    return described, logits


def main():
    write = "--write" in sys.argv
    GOLDENS.mkdir(exist_ok=True)
    if write:
        (GOLDENS / "tokenizer.json").write_text(tokenizer())
    failed = False
    every = PROMPT // 8
    for name, kept_as, cls, config in models_to_make():
        described, logits = make(kept_as, cls, config)
        path = GOLDENS / f"{name}.json"
        if write:
            rows = [[float(f"{value:.6g}") for value in row] for row in logits[::every].tolist()]
            golden = dict(
                config=config.to_dict(), type=kept_as, tensors=described, tokens=prompt(), every=every, logits=rows
            )
            path.write_text(json.dumps(golden))
        golden = json.loads(path.read_text())
        difference = (logits[:: golden["every"]] - torch.tensor(golden["logits"])).abs().max().item()
        failed |= difference > TOLERANCE or described != golden["tensors"]
        print(f"{name:10} largest difference {difference:.1e}, largest logit {logits.abs().max().item():.1f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
