"""Which type llama.cpp's quantiser gives each tensor of models that `inference/weights/tests/quantize.rs` makes too.

The models have real names and metadata, and matrices of a few rows: only names, row lengths and metadata decide. Prints a
line for each model, mix, and whether there was an importance matrix: how many tensors got which type, and the FNV-1a hash
of "NAME=TYPE\\n" over all tensors, sorted by name.

Run: python3 reference.py LLAMA_QUANTIZE > goldens.txt    (needs: pip install gguf numpy; llama-quantize of llama.cpp, here
of the PyPI package llama-cpp-python 0.3.36)
"""

import collections
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

MIXES = (
    "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS"
).split()

# Name: layers, heads, heads of keys, row length of most matrices, row length of ffn_down, experts, whether there is a head.
MODELS = {
    "grouped": (24, 8, 2, 256, 512, 0, True),
    "plain": (16, 4, 4, 256, 256, 0, False),
    "narrow": (10, 9, 3, 96, 160, 0, False),
    "odd": (9, 2, 2, 100, 256, 0, True),
    "experts": (17, 8, 2, 256, 256, 8, True),
    "two": (8, 8, 2, 256, 256, 2, True),
    "large": (80, 64, 8, 256, 256, 0, True),
}


def tensors(layers, width, down, experts, head):
    yield "token_embd.weight", (4, width)
    yield "output_norm.weight", (width,)
    if head:
        yield "output.weight", (4, width)
    for layer in range(layers):
        for part in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{part}.weight", (width,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{layer}.{part}.weight", (2, width)
        if experts:
            yield f"blk.{layer}.ffn_gate_inp.weight", (experts, width)
            for part, columns in (("ffn_gate_exps", width), ("ffn_up_exps", width), ("ffn_down_exps", down)):
                yield f"blk.{layer}.{part}.weight", (experts, 2, columns)
        else:
            for part, columns in (("ffn_gate", width), ("ffn_up", width), ("ffn_down", down)):
                yield f"blk.{layer}.{part}.weight", (2, columns)


def write(path, layers, heads, keys, width, down, experts, head):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(down)
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(1e-5)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(1)
    writer.add_uint32("llama.vocab_size", 4)
    for name, shape in tensors(layers, width, down, experts, head):
        kind = np.float32 if len(shape) == 1 or "gate_inp" in name else np.float16
        writer.add_tensor(name, np.full(shape, 0.5, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_imatrix(path, layers, width, down, experts, head):
    writer = gguf.GGUFWriter(str(path), "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["even"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, shape in tensors(layers, width, down, experts, head):
        if len(shape) > 1 and "gate_inp" not in name:
            matrices = shape[0] if len(shape) == 3 else 1
            writer.add_tensor(name + ".in_sum2", np.ones((matrices, shape[-1]), np.float32))
            writer.add_tensor(name + ".counts", np.ones((matrices, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return value


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        source, out, matrix = folder / "in.gguf", folder / "out.gguf", folder / "imatrix.gguf"
        for model, (layers, heads, keys, width, down, experts, head) in MODELS.items():
            write(source, layers, heads, keys, width, down, experts, head)
            write_imatrix(matrix, layers, width, down, experts, head)
            for mix in MIXES:
                for weighed in (False, True):
                    options = ["--imatrix", str(matrix)] if weighed else []
                    done = subprocess.run([sys.argv[1], *options, str(source), str(out), mix], capture_output=True)
                    if done.returncode:
                        print(model, mix, weighed, done.stderr.decode()[-300:], file=sys.stderr)
                        continue
                    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(str(out)).tensors}
                    counts = collections.Counter(kinds.values())
                    text = "".join(f"{name}={kinds[name]}\n" for name in sorted(kinds))
                    counted = ",".join(f"{kind}:{counts[kind]}" for kind in sorted(counts))
                    print(model, mix, "weighed" if weighed else "even", counted, f"{fnv(text.encode()):016x}")


main()
