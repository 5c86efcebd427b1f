#!/usr/bin/env python3
"""A folder as Hugging Face keeps models, made of a GGUF file of the architecture llama with a byte-level vocabulary
(SmolLM2 is one): weights in F16 in two files, settings, tokenizer, chat template. The journey runs it, has it converted,
and reads the result.

    folder.py MODEL.gguf FOLDER            writes the folder
    folder.py --compare FILE.gguf FOLDER   fails unless the file holds just the weights of the folder, read by the PyPI
                                           package gguf

Needs the PyPI package gguf (and numpy, which it brings). Layouts: safetensors is the header's length in eight bytes, the
header in JSON, then the tensors as it says; rows of queries and keys lie in GGUF files in the order 0, n/2, 1, n/2 + 1 … of
each head, and in the folder in the order 0, 1, 2 …
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize

WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3


def name_of(ours):
    parts = ours.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{LAYER[parts[2]]}.weight"
    return WHOLE[parts[0]] + ".weight"


def heads_of(file, ours):
    """Heads whose rows are in another order."""
    part = ours.split(".")[-2]
    key = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(part)
    return file.fields[f"llama.attention.{key}"].contents() if key else None


def values(tensor):
    shape = [int(extent) for extent in reversed(tensor.shape)]
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)


def in_order(file, tensor):
    """The weights as PyTorch has them."""
    found, heads = values(tensor), heads_of(file, tensor.name)
    if heads is None:
        return found
    return found.reshape(heads, found.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(found.shape)


def write_weights(file, folder):
    tensors = [tensor for tensor in file.tensors if tensor.name != "rope_freqs.weight"]
    half, index = len(tensors) // 2, {}
    for number, part in enumerate([tensors[:half], tensors[half:]], 1):
        path = f"model-{number:05}-of-00002.safetensors"
        header, data = {"__metadata__": {"format": "pt"}}, []
        at = 0
        for tensor in part:
            weights = in_order(file, tensor).astype(np.float16)
            name = name_of(tensor.name)
            header[name] = {"dtype": "F16", "shape": list(weights.shape), "data_offsets": [at, at + weights.nbytes]}
            at += weights.nbytes
            data.append(weights.tobytes())
            index[name] = path
        text = json.dumps(header).encode()
        with open(folder / path, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            out.writelines(data)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def write_settings(file, folder):
    def field(key):
        return file.fields[key].contents()

    has_head = any(tensor.name == "output.weight" for tensor in file.tensors)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "tie_word_embeddings": not has_head,
        "torch_dtype": "float16",
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    special = [
        {"id": id, "content": text, "special": True, "normalized": False}
        | dict.fromkeys(["single_word", "lstrip", "rstrip"], False)
        for id, (text, kind) in enumerate(zip(tokens, types))
        if kind == CONTROL
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    steps = [{"type": "Digits", "individual_digits": True}, bytes_of]
    tokenizer = {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "byte_fallback": False,
            "vocab": {text: id for id, text in enumerate(tokens)},
            "merges": list(field("tokenizer.ggml.merges")),
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "chat_template": field("tokenizer.chat_template"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def compare(path, folder):
    """Every tensor of the file against the bytes of the folder."""
    file, stored = GGUFReader(path), {}
    for weights in sorted(folder.glob("model-*.safetensors")):
        data = weights.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        for name, described in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                start, end = described["data_offsets"]
                bytes_ = data[8 + length + start : 8 + length + end]
                stored[name] = np.frombuffer(bytes_, np.float16).reshape(described["shape"])
    wrong = [
        tensor.name
        for tensor in file.tensors
        if not np.array_equal(in_order(file, tensor).astype(np.float16), stored.pop(name_of(tensor.name)))
    ]
    if wrong or stored:
        sys.exit(f"other weights: {wrong[:5]}, missing: {list(stored)[:5]}")
    print(len(file.tensors))


def main():
    if sys.argv[1] == "--compare":
        return compare(sys.argv[2], Path(sys.argv[3]))
    file, folder = GGUFReader(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(file, folder)
    write_settings(file, folder)


if __name__ == "__main__":
    main()
