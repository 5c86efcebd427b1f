"""Golden values of every block type, from an implementation that is not ours.

Makes blocks from a seed (splitmix64), unpacks them with the `gguf` package (PyPI, of the llama.cpp project), and
prints one line a type: name, FNV-1a hash over the bits of all values, the first eight values. `kernels` makes the
same blocks and compares. NF4 is a type of ours: the levels are those of the package bitsandbytes (PyPI) in whole 127ths, and
what the block is, `kernels::unpack` says.

Run: python3 reference.py > goldens.txt   (needs: pip install gguf numpy bitsandbytes)
"""

import struct

import bitsandbytes.functional
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

BLOCKS = 16
# Type, bytes of a block, places of its f16 scales: there the top exponent bit is cleared, so that they are finite.
TYPES = [
    ("F16", 2, [0]), ("BF16", 2, [0]), ("Q4_0", 18, [0]), ("Q4_1", 20, [0, 2]), ("Q5_0", 22, [0]),
    ("Q5_1", 24, [0, 2]), ("Q8_0", 34, [0]), ("Q2_K", 84, [80, 82]), ("Q3_K", 110, [108]), ("Q4_K", 144, [0, 2]),
    ("Q5_K", 176, [0, 2]), ("Q6_K", 210, [208]), ("IQ2_XXS", 66, [0]), ("IQ4_NL", 18, [0]), ("IQ4_XS", 136, [0]),
    ("MXFP4", 17, []), ("NF4", 34, [0]),
]
MASK = (1 << 64) - 1


def splitmix64(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def blocks(seed, size, scales):
    numbers = splitmix64(seed)
    count = 256 if size == 2 else BLOCKS
    data = bytearray(b"".join(struct.pack("<Q", next(numbers)) for _ in range((count * size + 7) // 8))[: count * size])
    for block in range(count):
        for place in scales:
            data[block * size + place + 1] &= 0xBF
    return bytes(data)


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def nf4(raw):
    levels = np.round(bitsandbytes.functional.get_4bit_type("nf4", device="cpu").numpy() * 127)
    raw = raw.reshape(-1, 34)
    scale = raw[:, :2].copy().view("<f2").astype("<f4")
    halves = raw[:, 2:].reshape(-1, 2, 1, 16)
    numbers = np.concatenate([halves & 15, halves >> 4], axis=2).reshape(-1, 64)
    return scale * levels[numbers].astype("<f4")


for seed, (name, size, scales) in enumerate(TYPES):
    raw = np.frombuffer(blocks(seed, size, scales), dtype=np.uint8).reshape(1, -1)
    values = nf4(raw) if name == "NF4" else quants.dequantize(raw, T[name])
    values = values.astype("<f4").reshape(-1)
    # -0.0 and 0.0 are the same weight: make them one before hashing.
    values = values + np.float32(0.0)
    print(name, f"{fnv(values.tobytes()):016x}", *(f"{v:.9g}" for v in values[:8]))
