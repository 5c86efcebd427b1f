"""Vectors of texts by sentence-transformers, or by onnxruntime: a peer of `cargo xtask bench embed`.

    python3 embed.py MODEL TEXTS --out FILE [--threads N] [--repeat N] [--bfloat16 | --onnx]

TEXTS is a JSON list. Prints one JSON object; writes the vectors, of length 1, as f32. With --onnx the model is MODEL/onnx/model.onnx
with mean pooling, its texts sorted by length and padded in batches of 32, as sentence-transformers does.
"""

import argparse
import json
import os
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("texts")
arguments.add_argument("--out", required=True)
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--repeat", type=int, default=1)
arguments.add_argument("--bfloat16", action="store_true")
arguments.add_argument("--onnx", action="store_true")
arguments = arguments.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)

import numpy as np  # noqa: E402


def with_transformers():
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.threads)
    kind = torch.bfloat16 if arguments.bfloat16 else torch.float32
    model = SentenceTransformer(arguments.model, device="cpu", model_kwargs={"dtype": kind})
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def with_onnx():
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(os.path.join(arguments.model, "onnx/model.onnx"), options)
    names = {one.name for one in session.get_inputs()}
    tokenizer = Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json"))
    cut = json.load(open(os.path.join(arguments.model, "sentence_bert_config.json")))["max_seq_length"]
    tokenizer.enable_truncation(cut)
    tokenizer.enable_padding()

    def encode(texts):
        order = np.argsort([-len(text) for text in texts])
        out = [None] * len(texts)
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            encoded = tokenizer.encode_batch([texts[at] for at in batch])
            feeds = dict(
                input_ids=np.array([one.ids for one in encoded], np.int64),
                attention_mask=np.array([one.attention_mask for one in encoded], np.int64),
                token_type_ids=np.array([one.type_ids for one in encoded], np.int64),
            )
            states = session.run(None, {name: feeds[name] for name in names})[0]
            mask = feeds["attention_mask"][:, :, None].astype(np.float32)
            vectors = (states * mask).sum(1) / mask.sum(1)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for at, vector in zip(batch, vectors):
                out[at] = vector
        return np.stack(out)

    return encode


texts = json.load(open(arguments.texts))
encode = with_onnx() if arguments.onnx else with_transformers()
encode(texts[:64])
passes = []
for _ in range(arguments.repeat):
    began = time.perf_counter()
    vectors = encode(texts)
    passes.append(time.perf_counter() - began)
usual = sorted(passes)[len(passes) // 2]
np.asarray(vectors, np.float32).tofile(arguments.out)
print(json.dumps(dict(sentences_per_s=len(texts) / usual, width=int(vectors.shape[1]))))
