"""The reference side of the Hangul set.

    python goldens.py convert FOLDER VOCABULARIES
        writes a GGUF with nothing but a tokenizer for families of which llama.cpp's sources carry none
    python goldens.py FOLDER [MODELS] > goldens.json
        encodes every string of hangul.json with each family's own tokenizer: the `tokenizers` Python package reading
        the family's tokenizer.json (for BERT, built from the vocabulary of the GGUF); SentencePiece itself, its model
        put together from the pieces and scores of the GGUF; and for the models of folder MODELS llama.cpp (PyPI
        package xllamacpp). Needs: pip install gguf tokenizers sentencepiece protobuf xllamacpp

FOLDER is that of fetch.sh. A golden is the number of ids and the first 16 hex digits of the SHA-256 of the ids in
decimal, one space between.
"""

import hashlib
import json
import pathlib
import sys

import gguf

HERE = pathlib.Path(__file__).parent

# Vocabulary, its family's tokenizer.json.
FAMILIES = {
    "ggml-vocab-llama-bpe": "llama3_2",
    "ggml-vocab-command-r": "command_r_plus",
    "ggml-vocab-qwen2": "qwen3",
    "vocab-deepseek-v3": "deepseek_v3",
    "vocab-gemma3": "gemma3",
    "vocab-gpt-oss": "gptoss",
    "vocab-mistral-nemo": "mistral_nemo",
}
# What fetch.sh converts, and its tokenizer.ggml.pre; None: SentencePiece.
CONVERTED = {
    "vocab-deepseek-v3": "deepseek-v3",
    "vocab-gemma3": None,
    "vocab-gpt-oss": "gpt-4o",
    "vocab-mistral-nemo": "tekken",
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def cases():
    return json.loads((HERE / "hangul.json").read_text())


def golden(ids):
    text = " ".join(map(str, ids))
    return [len(ids), hashlib.sha256(text.encode()).hexdigest()[:16]]


def read_json(folder, family):
    return json.loads((folder / family / "tokenizer.json").read_text())


def convert(folder, target):
    for name, pre in CONVERTED.items():
        path = target / f"{name}.gguf"
        if path.exists():
            continue
        data = read_json(folder, FAMILIES[name])
        vocab, added = data["model"]["vocab"], data["added_tokens"]
        size = max([*vocab.values(), *(token["id"] for token in added)]) + 1
        texts, types = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
        for text, i in vocab.items():
            texts[i], types[i] = text, NORMAL
        for token in added:
            texts[token["id"]] = token["content"]
            types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
        writer = gguf.GGUFWriter(path, "llama")
        if pre is None:
            # tokenizer.json has merges in place of scores: a token's score is that of the first merge that makes it.
            ranks = {}
            for rank, merge in enumerate(data["model"]["merges"]):
                ranks.setdefault("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1), rank)
            scores = [-float(ranks.get(text, len(ranks))) for text in texts]
            for i, text in enumerate(texts):
                if len(text) == 6 and text.startswith("<0x"):
                    types[i] = BYTE
            types[vocab["<unk>"]] = UNKNOWN
            writer.add_tokenizer_model("llama")
            writer.add_token_scores(scores)
            writer.add_add_space_prefix(False)
            writer.add_unk_token_id(vocab["<unk>"])
        else:
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre(pre)
            merges = data["model"]["merges"]
            writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
        writer.add_token_list(texts)
        writer.add_token_types(types)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()


def family_tokenizer(folder, family):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / family / "tokenizer.json"))


def field(reader, name):
    return reader.fields["tokenizer.ggml." + name].contents()


def bert_tokenizer(path):
    from tokenizers import BertWordPieceTokenizer

    reader = gguf.GGUFReader(path)
    vocab = {}
    for i, (text, kind) in enumerate(zip(field(reader, "tokens"), field(reader, "token_type"))):
        special = kind == CONTROL or (text.startswith("[") and text.endswith("]") and len(text) > 1)
        vocab[text if special else text[1:] if text.startswith("\u2581") else "##" + text] = i
    return BertWordPieceTokenizer(vocab=vocab, lowercase=True)


def sentencepiece_model(path):
    """SentencePiece's own encoder with the vocabulary of a GGUF."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    reader = gguf.GGUFReader(path)
    unigram = field(reader, "model") == "t5"
    model = pb.ModelProto()
    model.trainer_spec.model_type = pb.TrainerSpec.UNIGRAM if unigram else pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = not unigram
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = unigram
    model.normalizer_spec.escape_whitespaces = True
    if unigram:
        chars_map = bytes(byte % 256 for byte in field(reader, "precompiled_charsmap"))
        model.normalizer_spec.precompiled_charsmap = chars_map
    # GGUF and SentencePiece number the types alike.
    for text, score, kind in zip(field(reader, "tokens"), field(reader, "scores"), field(reader, "token_type")):
        model.pieces.add(piece=text, score=score, type=kind)
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def llama_cpp_ids(path, texts):
    import http.client

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 256
    params.n_parallel = 1
    params.port = 18431
    server = xllamacpp.Server(params)
    result = []
    for text in texts:
        connection = http.client.HTTPConnection("127.0.0.1", 18431, timeout=60)
        body = json.dumps({"content": text, "add_special": False, "parse_special": False})
        connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
        result.append(json.loads(connection.getresponse().read())["tokens"])
        connection.close()
    del server
    return result


def main():
    if sys.argv[1] == "convert":
        convert(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
        return
    folder = pathlib.Path(sys.argv[1])
    llama = folder / "llama_cpp_python-0.3.36/vendor/llama.cpp/models"
    tokenizers = {name: family_tokenizer(folder, family) for name, family in FAMILIES.items()}
    tokenizers["ggml-vocab-bert-bge"] = bert_tokenizer(llama / "ggml-vocab-bert-bge.gguf")
    texts = cases()
    rows = {}
    for name, tokenizer in tokenizers.items():
        # Text is text: what reads like a special token is not one.
        tokenizer.encode_special_tokens = True
        rows[name] = {
            "reference": "tokenizers 0.23.3",
            **{case: golden(tokenizer.encode(text, add_special_tokens=False).ids) for case, text in texts.items()},
        }
    for name in ["ggml-vocab-baichuan", "ggml-vocab-llama-spm", "ggml-vocab-nomic-bert-moe"]:
        model = sentencepiece_model(llama / f"{name}.gguf")
        ids = map(model.encode, texts.values())
        rows[name] = {"reference": "sentencepiece 0.2.3", **dict(zip(texts, map(golden, ids)))}
    for path in sorted(pathlib.Path(sys.argv[2]).glob("*.gguf")) if len(sys.argv) > 2 else []:
        ids = llama_cpp_ids(path, texts.values())
        rows[path.stem] = {"reference": "xllamacpp 2026.10.11549", **dict(zip(texts, map(golden, ids)))}
    lines = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    print("{\n" + ",\n".join(lines) + "\n}")


main()
