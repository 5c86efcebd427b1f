"""Holds the files that tests/seeded writes against other programs. Run by hand, after a change to the writer or to seeded:

    cargo run -p seeded --example write -- FOLDER
    python3 check_files.py FOLDER               names, shapes, bytes; needs the Python packages gguf and numpy
    python3 check_files.py FOLDER --llamacpp    next-token probabilities too; needs xllamacpp (llama.cpp)
"""

import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, quants

from reference import logits, prompt
from seeded import Shape, tensors, tiny

QUANTISED_BY_US = ["F32", "F16", "BF16", "Q8_0", "Q4_0"]
RANDOM_BLOCKS = ["Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ4_NL", "IQ4_XS"]
LONG = {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ4_XS"}


def stored(values: np.ndarray, kind: GGMLQuantizationType) -> bytes:
    """The bytes the gguf package would write."""
    return quants.quantize(values, kind).tobytes()


def check_file(path: Path, family: str, kind: str) -> dict[str, np.ndarray]:
    """Compares a file with our second making of it; returns its tensors as float32."""
    reader = GGUFReader(path)
    shape = tiny(family, kind in LONG)
    expected = tensors(shape)
    assert [t.name for t in reader.tensors] == list(expected), "names or order"
    assert reader.fields["general.architecture"].contents() == family
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == shape.vocab
    found = {}
    for tensor in reader.tensors:
        want = expected[tensor.name]
        assert tuple(tensor.shape) == want.shape[::-1], f"{tensor.name}: {tensor.shape}"
        wanted_kind = kind if want.ndim == 2 else "F32"
        assert tensor.tensor_type.name == wanted_kind, tensor.name
        if wanted_kind in QUANTISED_BY_US:
            assert tensor.data.tobytes() == stored(want, tensor.tensor_type), f"{tensor.name}: bytes differ"
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(want.shape)
        assert np.isfinite(values).all(), tensor.name
        spread = values.std() / want.std()
        assert 0.3 < spread < 3, f"{tensor.name}: spread {spread}"
        found[tensor.name] = values
    return found


def llamacpp(path: Path, shape: Shape, weights: dict, kind: str) -> None:
    """Log-probabilities of the next token after prompts of three lengths, llama.cpp's against ours."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 256
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    ids = prompt(shape)
    ours = logits(shape, weights, ids, np.float64)
    differences, agreed = [], 0
    lengths = (1, 16, 17, 30, 40)
    for length in lengths:
        # The answer lists probabilities only with whole characters, so it is pushed to an ASCII letter; what is listed
        # is the distribution before that push.
        question = {"prompt": ids[:length], "n_predict": 1, "n_probs": shape.vocab, "temperature": 0.0}
        question |= {"cache_prompt": False, "logit_bias": [["A", 1000.0]]}
        answer = ask(server.listening_address + "/completion", question)
        theirs = {t["id"]: t["logprob"] for t in answer["completion_probabilities"][0]["top_logprobs"]}
        row = ours[length - 1]
        row = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        differences += [row[i] - p for i, p in theirs.items()]
        agreed += max(theirs, key=theirs.get) == int(row.argmax())
        assert len(theirs) > shape.vocab // 2, f"only {len(theirs)} tokens came back"
    worst, usual = np.abs(differences).max(), np.sqrt(np.mean(np.square(differences)))
    print(f"    llama.cpp: log-probabilities differ by {usual:.1e} (at most {worst:.1e}), top-1 {agreed} of {len(lengths)}")
    # llama.cpp rounds activations to the weights' kind (8 bits with quants), and its GELU goes through a float16 table.
    limit = {"F32": 2e-3, "F16": 1e-2, "BF16": 5e-2}.get(kind, 0.2)
    assert usual < limit, "llama.cpp computes something else"


def ask(address: str, question: dict) -> dict:
    request = urllib.request.Request(address, json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main() -> int:
    folder = Path(sys.argv[1])
    for family in ("llama", "gemma3"):
        for kind in QUANTISED_BY_US + RANDOM_BLOCKS:
            path = folder / f"{family}-{kind}.gguf"
            found = check_file(path, family, kind)
            print(f"{path.name}: {len(found)} tensors " + ("equal" if kind in QUANTISED_BY_US else "sane"))
            if "--llamacpp" in sys.argv:
                llamacpp(path, tiny(family, kind in LONG), found, kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
