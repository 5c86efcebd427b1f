"""Logits of the tiny seeded models, computed without our engine: the goldens that `model`'s tests are held against.

    python3 reference.py            compares with goldens/*.json and fails on a difference
    python3 reference.py --write    writes them anew

Needs numpy. Weights are float32 as in the files; everything after that is float64, so a golden is the exact answer as
far as six digits go. The same code in float32 shows what rounding alone costs. Formulas: Llama 2 paper and Gemma 3
report; details where papers are silent (which pairs rotate, where norms stand, what the window counts) as in llama.cpp
(build_llama, build_gemma3).
"""

import json
import sys
from pathlib import Path

import numpy as np

from seeded import Shape, tensors, tiny

GOLDENS = Path(__file__).parent / "goldens"
PROMPT_TOKENS = 40  # longer than the sliding window of 16, twice
TOLERANCE = 1e-4


def prompt(shape: Shape) -> list[int]:
    """Fixed ids all over the vocabulary; the first is the beginning-of-sequence token."""
    bos = 1 if shape.family == "llama" else 2
    return [bos] + [(5 + 37 * i * i + 11 * i) % shape.vocab for i in range(1, PROMPT_TOKENS)]


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(eps)) * weight.astype(x.dtype)


def rotate(x, base, neighbours):
    """Rotary positions on x[position, head, dimension]. Pairs are neighbours (2i, 2i+1) or halves (i, i + d/2)."""
    positions, _, d = x.shape
    angle = np.arange(positions)[:, None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = (f(angle)[:, None, :].astype(x.dtype) for f in (np.cos, np.sin))
    out = np.empty_like(x)
    first, second = (slice(0, d, 2), slice(1, d, 2)) if neighbours else (slice(0, d // 2), slice(d // 2, d))
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


def attend(q, k, v, window):
    """q[position, head, d], k and v[position, kv head, d] → [position, head, d]. A position sees itself and what came
    before, at most `window` positions in all."""
    positions, heads, d = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.dtype.type(d))
    distance = np.arange(positions)[:, None] - np.arange(positions)[None, :]
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return x * (1 + np.tanh(np.sqrt(x.dtype.type(2 / np.pi)) * (x + x.dtype.type(0.044715) * x**3))) / 2


def logits(shape: Shape, weights: dict, ids: list[int], dtype) -> np.ndarray:
    """[position, vocabulary]"""
    gemma3 = shape.family == "gemma3"
    w = {name: value.astype(dtype) for name, value in weights.items()}
    x = w["token_embd.weight"][ids]
    if gemma3:
        x = x * dtype(np.sqrt(shape.width))
    for layer in range(shape.layers):
        def weight(part, layer=layer):
            return w[f"blk.{layer}.{part}.weight"]

        def heads(h, part):
            return (h @ weight(part).T).reshape(len(ids), -1, shape.head_dim)

        h = rms_norm(x, weight("attn_norm"), shape.eps)
        q, k, v = heads(h, "attn_q"), heads(h, "attn_k"), heads(h, "attn_v")
        if gemma3:
            q = rms_norm(q, weight("attn_q_norm"), shape.eps)
            k = rms_norm(k, weight("attn_k_norm"), shape.eps)
        local = gemma3 and layer % 6 < 5
        base = shape.rope_base_local if local else shape.rope_base
        q, k = rotate(q, base, not gemma3), rotate(k, base, not gemma3)
        h = attend(q, k, v, shape.window if local else None).reshape(len(ids), -1) @ weight("attn_output").T
        x = x + (rms_norm(h, weight("post_attention_norm"), shape.eps) if gemma3 else h)
        h = rms_norm(x, weight("ffn_norm"), shape.eps)
        gate = (gelu_tanh if gemma3 else silu)(h @ weight("ffn_gate").T)
        h = (gate * (h @ weight("ffn_up").T)) @ weight("ffn_down").T
        x = x + (rms_norm(h, weight("post_ffw_norm"), shape.eps) if gemma3 else h)
    x = rms_norm(x, w["output_norm.weight"], shape.eps)
    return x @ w["token_embd.weight" if gemma3 else "output.weight"].T


def golden(shape: Shape) -> dict:
    """The whole last position, and the beginning of some before it: inside the window, at its edge, behind it."""
    ids = prompt(shape)
    exact = logits(shape, tensors(shape), ids, np.float64)
    rows = [(0, 32), (1, 32), (15, 32), (16, 32), (38, 32), (39, shape.vocab)]
    return {
        "model": f"seeded::tiny({shape.family}, F32)",
        "tokens": ids,
        "logits": [
            {"position": position, "values": [round(float(v), 6) for v in exact[position, :count]]}
            for position, count in rows
        ],
    }


def write(path: Path, found: dict) -> None:
    """One line a position: a difference shows as one."""
    rows = ",\n    ".join(json.dumps(row, separators=(",", ":")) for row in found["logits"])
    path.write_text(
        f'{{\n  "model": {json.dumps(found["model"])},\n  "tokens": {json.dumps(found["tokens"])},\n'
        f'  "logits": [\n    {rows}\n  ]\n}}\n'
    )


def main() -> int:
    failed = False
    for family in ("llama", "gemma3"):
        shape, path = tiny(family), GOLDENS / f"{family}.json"
        found = golden(shape)
        single = logits(shape, tensors(shape), prompt(shape), np.float32)
        double = logits(shape, tensors(shape), prompt(shape), np.float64)
        rounding = float(np.abs(single - double).max())
        if "--write" in sys.argv:
            GOLDENS.mkdir(exist_ok=True)
            write(path, found)
        kept = json.loads(path.read_text())
        difference = max(
            abs(a - b)
            for row, kept_row in zip(found["logits"], kept["logits"], strict=True)
            for a, b in zip(row["values"], kept_row["values"], strict=True)
        )
        right = kept["tokens"] == found["tokens"] and difference < TOLERANCE and rounding < TOLERANCE
        failed |= not right
        print(
            f"{family}: golden differs by {difference:.1e}, float32 by {rounding:.1e}, "
            f"spread of logits {double.std():.2f}: {'ok' if right else 'WRONG'}"
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
