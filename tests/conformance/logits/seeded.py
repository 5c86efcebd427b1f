"""The tiny models of tests/seeded, made again from the same seed: shapes, names and numbers, without reading any file
that our programs wrote. The rules stand in tests/seeded/src/random.rs. Used by reference.py and check_files.py."""

from dataclasses import dataclass

import numpy as np

SEED = 0x6F6E646F6C  # "ondol"
NORM_SPREAD = 0.25
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Shape:
    family: str
    layers: int
    width: int
    ff: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    eps: float
    rope_base: float
    rope_base_local: float | None = None
    window: int | None = None


def tiny(family: str, long_blocks: bool = False) -> Shape:
    """`long_blocks`: the block type holds 256 weights, so rows are four times as long."""
    k = 4 if long_blocks else 1
    if family == "llama":
        return Shape(family, 3, 64 * k, 192 * k, 4, 2, 16 * k, 512, 1e-5, 1e4)
    return Shape(family, 7, 64 * k, 192 * k, 4, 1, 32 * k, 640, 1e-6, 1e6, 1e4, 16)


def fnv1a(text: str) -> int:
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def splitmix64(name: str, count: int) -> np.ndarray:
    """The first `count` outputs of the generator of tensor `name`."""
    with np.errstate(over="ignore"):
        step = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = np.uint64(fnv1a(name) ^ SEED) + step
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def numbers(name: str, count: int, scale: float, centre: float) -> np.ndarray:
    unit = (splitmix64(name, count) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return unit * np.float32(scale) + np.float32(centre)


def tensors(shape: Shape) -> dict[str, np.ndarray]:
    """Name → float32 array, [rows, row length] for matrices, in the order of the file."""
    out = {}

    def matrix(name: str, row_len: int, rows: int) -> None:
        out[name] = numbers(name, row_len * rows, np.sqrt(3.0 / row_len), 0.0).reshape(rows, row_len)

    def norm(name: str, length: int) -> None:
        out[name] = numbers(name, length, NORM_SPREAD, 1.0)

    gemma3 = shape.family == "gemma3"
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    matrix("token_embd.weight", shape.width, shape.vocab)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight", shape.width)
        matrix(block + "attn_q.weight", shape.width, queries)
        matrix(block + "attn_k.weight", shape.width, keys)
        matrix(block + "attn_v.weight", shape.width, keys)
        matrix(block + "attn_output.weight", queries, shape.width)
        if gemma3:
            norm(block + "attn_q_norm.weight", shape.head_dim)
            norm(block + "attn_k_norm.weight", shape.head_dim)
            norm(block + "post_attention_norm.weight", shape.width)
        norm(block + "ffn_norm.weight", shape.width)
        matrix(block + "ffn_gate.weight", shape.width, shape.ff)
        matrix(block + "ffn_up.weight", shape.width, shape.ff)
        matrix(block + "ffn_down.weight", shape.ff, shape.width)
        if gemma3:
            norm(block + "post_ffw_norm.weight", shape.width)
    norm("output_norm.weight", shape.width)
    if not gemma3:
        matrix("output.weight", shape.width, shape.vocab)
    return out
