"""What other quantisers make of the numbers that `base/kernels/tests/encode.rs` makes: the same generator in both.

Prints the goldens. `bytes TYPE HASH`: the blocks that the PyPI package `gguf` writes, for types whose format leaves no
choice. `error TYPE DATA PLAIN WEIGHED`: the relative root mean square error of llama.cpp's quantiser without importance,
and, weighed by it, with importance; DATA is gauss or heavy.

The second needs llama.cpp's library (`libggml-base.so`, of the PyPI package llama-cpp-python 0.3.36 for the goldens here,
built with its CMake). Without an argument only the first are printed. NF4, a type of ours, is held against that of the PyPI package
bitsandbytes (0.50.2 for the goldens), which has its scales in f32, its levels as they are, and no importance.

Run: python3 reference.py [LIBGGML] > goldens.txt     (needs: pip install gguf numpy bitsandbytes)
"""

import ctypes
import sys

import bitsandbytes.functional
import gguf
import numpy as np
import torch

ROWS, COLUMNS = 64, 1024
MASK = (1 << 64) - 1
EXACT = {"F16": 1, "BF16": 30, "Q8_0": 8}
SEARCHED = {
    "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
    "IQ4_NL": 20, "IQ4_XS": 23,
}


def uniforms(seed, count):
    state, out = seed, np.empty(count, np.float64)
    for i in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out[i] = ((z ^ (z >> 31)) >> 44) / 2**20
    return out


def gauss(seed, count):
    """Sums of twelve: exact in f32."""
    return (uniforms(seed, 12 * count).reshape(count, 12).sum(1) - 6).astype(np.float32)


def data(name):
    x = gauss(1, ROWS * COLUMNS) * np.float32(0.03125)
    if name == "heavy":
        x = x * np.abs(x) * np.float32(16)
    return x.reshape(ROWS, COLUMNS)


def importance():
    u = uniforms(2, COLUMNS).astype(np.float32)
    return u * u * u * np.float32(8) + np.float32(0.0625)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def main():
    kinds = gguf.GGMLQuantizationType
    for name in EXACT:
        blocks = gguf.quants.quantize(data("heavy"), kinds[name])
        print("bytes", name, f"{fnv(blocks.tobytes()):016x}")
    if len(sys.argv) < 2:
        return
    lib = ctypes.CDLL(sys.argv[1])
    floats = ctypes.POINTER(ctypes.c_float)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, floats, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, floats,
    ]
    weight = importance()
    for name, kind in SEARCHED.items():
        for source in ("gauss", "heavy"):
            x = np.ascontiguousarray(data(source))
            figures = []
            for w in (None, weight):
                out = np.empty(gguf.quants.quant_shape_to_byte_shape(x.shape, kinds[name]), np.uint8)
                lib.ggml_quantize_chunk(
                    kind, x.ctypes.data_as(floats), out.ctypes.data, 0, ROWS, COLUMNS,
                    w.ctypes.data_as(floats) if w is not None else None,
                )
                figures.append(relative_rms(x, gguf.quants.dequantize(out, kinds[name]), w))
            print("error", name, source, *(f"{figure:.6f}" for figure in figures))
    for source in ("gauss", "heavy"):
        x = data(source)
        y = normal_float(x)
        print("error", "NF4", source, *(f"{relative_rms(x, y, w):.6f}" for w in (None, weight)))


def normal_float(x):
    blocks, state = bitsandbytes.functional.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type="nf4")
    return bitsandbytes.functional.dequantize_4bit(blocks, state).numpy()


def relative_rms(x, y, w):
    each, x = np.ones(COLUMNS) if w is None else w.astype(np.float64), x.astype(np.float64)
    return np.sqrt((each * (x - y) ** 2).sum() / (each * x ** 2).sum())


main()
