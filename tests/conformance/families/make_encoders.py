"""What tiny encoders, decoder embedders and rerankers compute in the Python package transformers: the goldens that `model`'s
tests of encoders are held against. As make.py beside it, which says how weights are made again from their names.

    python3 make_encoders.py             computes all again and fails when one differs from its golden
    python3 make_encoders.py --write     writes encoders/NAME.json

With names, only those. Vectors are of length 1, pooled in each way; scores are a head's logits of pairs of texts.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from make import TYPES, VOCAB, WIDE

sys.path.append(str(Path(__file__).parent.parent / "logits"))
from seeded import numbers  # noqa: E402

GOLDENS = Path(__file__).parent / "encoders"
TOLERANCE = 1e-5
LENGTHS = [1, 2, 17, 33, 60]  # beside each other, and beyond the windows

BERT = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=64,
    type_vocab_size=2,
    bos_token_id=256,
    eos_token_id=257,
    pad_token_id=0,
)
# Positions are counted from behind the padding's id.
ROBERTA = BERT | dict(max_position_embeddings=66, pad_token_id=1, type_vocab_size=1)
MODERN = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=5,
    num_attention_heads=2,
    max_position_embeddings=64,
    local_attention=16,
    pad_token_id=0,
    bos_token_id=256,
    eos_token_id=257,
    cls_token_id=256,
    sep_token_id=257,
)
DISTIL = dict(vocab_size=VOCAB, dim=32, hidden_dim=64, n_layers=3, n_heads=4, max_position_embeddings=64)



def pooling(mode):
    """The files in which sentence-transformers says it."""
    modes = {f"pooling_mode_{flag}": flag == mode for flag in ["cls_token", "mean_tokens", "lasttoken", "max_tokens"]}
    modules = [
        dict(idx=0, name="0", path="", type="sentence_transformers.models.Transformer"),
        dict(idx=1, name="1", path="1_Pooling", type="sentence_transformers.models.Pooling"),
        dict(idx=2, name="2", path="2_Normalize", type="sentence_transformers.models.Normalize"),
    ]
    return {"modules.json": modules, "1_Pooling/config.json": dict(word_embedding_dimension=32) | modes}


def dense(path, inputs, outputs, activation="Identity", bias=False):
    """A Dense of sentence-transformers, as its folder says it."""
    module = "activation" if activation == "Tanh" else "linear"
    settings = dict(in_features=inputs, out_features=outputs, bias=bias, activation_function=f"torch.nn.modules.{module}.{activation}")
    return dict(path=path, settings=settings)


def with_dense(mode, *all):
    """Pooling, and products behind it; without a way of pooling they are with each token, as PyLate has it."""
    files = pooling(mode or "mean_tokens")
    before, (pooled, normed) = files["modules.json"][:1], files["modules.json"][1:]
    modules = [dict(idx=0, name=one["path"], path=one["path"], type="sentence_transformers.models.Dense") for one in all]
    files["modules.json"] = before + [pooled] * bool(mode) + modules + [normed] * bool(mode)
    return files | {"dense": list(all)}


def models_to_make():
    t = transformers
    # Each with the type its weights are kept in, and files beside them.
    yield "bert", "F32", t.BertModel, t.BertConfig(**BERT), pooling("mean_tokens")
    yield "bert-relu", "F16", t.BertModel, t.BertConfig(**BERT | dict(hidden_act="relu")), {}
    yield "roberta", "F32", t.RobertaModel, t.RobertaConfig(**ROBERTA), pooling("cls_token")
    yield "xlm-roberta", "BF16", t.XLMRobertaModel, t.XLMRobertaConfig(**ROBERTA), pooling("mean_tokens")
    yield "distilbert", "F32", t.DistilBertModel, t.DistilBertConfig(**DISTIL), pooling("mean_tokens")
    yield "nomic-bert", "F32", t.NomicBertModel, t.NomicBertConfig(**BERT), pooling("mean_tokens")
    yield "modernbert", "F32", t.ModernBertModel, t.ModernBertConfig(**MODERN), pooling("cls_token")
    yield "qwen3-embedding", "F32", t.Qwen3Model, t.Qwen3Config(**WIDE), pooling("lasttoken")
    yield "gemma3-embedding", "F32", t.Gemma3TextModel, t.Gemma3TextConfig(
        **WIDE, query_pre_attn_scalar=24, sliding_window=16, hidden_activation="gelu_pytorch_tanh"
    ), pooling("mean_tokens")
    yield "bert-dense", "F32", t.BertModel, t.BertConfig(**BERT), with_dense("cls_token", dense("2_Dense", 32, 24, "Tanh", bias=True))
    yield "qwen3-embedding-dense", "BF16", t.Qwen3Model, t.Qwen3Config(**WIDE), with_dense(
        "lasttoken", dense("2_Dense", 32, 96), dense("3_Dense", 96, 32)
    )
    yield "modernbert-tokens", "F32", t.ModernBertModel, t.ModernBertConfig(**MODERN), with_dense(None, dense("1_Dense", 32, 16))
    one = dict(num_labels=1)
    yield "bert-rerank", "F32", t.BertForSequenceClassification, t.BertConfig(**BERT, **one), {}
    yield "bert-labels", "F16", t.BertForSequenceClassification, t.BertConfig(**BERT, num_labels=3), {}
    yield "xlm-roberta-rerank", "F32", t.XLMRobertaForSequenceClassification, t.XLMRobertaConfig(**ROBERTA, **one), {}
    for mode in ["cls", "mean"]:
        config = t.ModernBertConfig(**MODERN, classifier_pooling=mode, **one)
        yield f"modernbert-rerank-{mode}", "F32", t.ModernBertForSequenceClassification, config, {}


def texts():
    return [[256] + [(3 + 29 * i * i + 7 * i * length) % 256 for i in range(2, length)] + [257] * (length > 1) for length in LENGTHS]


def make(kept_as, cls, config):
    """The model, and for each tensor of its checkpoint: shape, spread, centre."""
    torch.manual_seed(1)
    model = cls(config).eval()
    described = {}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            shape = list(tensor.shape)
            matrix = len(shape) > 1
            centre = 0.0 if matrix else float(tensor.flatten()[0])
            spread = float(np.float32(np.sqrt(3.0 / shape[-1]) if matrix else 0.25))
            values = numbers(name, tensor.numel(), np.float32(spread), centre).reshape(shape)
            tensor.copy_(torch.from_numpy(values).to(TYPES[kept_as]).float())
            described[name] = [shape, spread, centre]
    return model, described


def rounded(values):
    return [float(f"{value:.7g}") for value in values]


def embed(model):
    """Each way of pooling, for each text."""
    out = {"mean": [], "first": [], "last": []}
    for tokens in texts():
        states = model(input_ids=torch.tensor([tokens])).last_hidden_state[0]
        for mode, vector in [("mean", states.mean(0)), ("first", states[0]), ("last", states[-1])]:
            out[mode].append(rounded(torch.nn.functional.normalize(vector, dim=0).tolist()))
    return out


def products(all, kept_as):
    """The products of the Dense modules, and how their tensors are described."""
    made = []
    for one in all:
        inputs, outputs = one["settings"]["in_features"], one["settings"]["out_features"]
        linear = torch.nn.Linear(inputs, outputs, bias=one["settings"]["bias"])
        one["tensors"] = {}
        for name, tensor in linear.state_dict().items():
            shape, matrix = list(tensor.shape), tensor.dim() > 1
            spread = float(np.float32(np.sqrt(3.0 / shape[-1]) if matrix else 0.25))
            values = numbers(f"linear.{name}", tensor.numel(), np.float32(spread), 0.0).reshape(shape)
            tensor.copy_(torch.from_numpy(values).to(TYPES[kept_as]).float())
            one["tensors"][f"linear.{name}"] = [shape, spread, 0.0]
        tanh = one["settings"]["activation_function"].endswith("Tanh")
        made.append(lambda x, linear=linear, tanh=tanh: linear(x).tanh() if tanh else linear(x))
    return made


def multiplied(model, all, mode):
    """The vector of each text behind its products; or those of its tokens."""
    out = []
    for tokens in texts():
        states = model(input_ids=torch.tensor([tokens])).last_hidden_state[0]
        vectors = {"cls_token": states[0], "lasttoken": states[-1], None: states}[mode]
        for product in all:
            vectors = product(vectors)
        out.append(rounded(torch.nn.functional.normalize(vectors, dim=-1).flatten().tolist()))
    return out


def score(model):
    """Pairs of texts: where types are known, the second of a pair has type 1."""
    out = []
    for index, tokens in enumerate(texts()):
        second = len(tokens) * index // len(LENGTHS)
        inputs = dict(input_ids=torch.tensor([tokens]))
        if getattr(model.config, "type_vocab_size", 1) > 1:
            inputs["token_type_ids"] = torch.tensor([[int(at >= second) for at in range(len(tokens))]])
        out.append([second, rounded(model(**inputs).logits[0].tolist())])
    return out


def difference(ours, golden):
    if not isinstance(golden, dict) and isinstance(golden[0][0], float):
        return max(np.abs(np.array(a) - np.array(b)).max() for a, b in zip(ours, golden))
    if isinstance(golden, dict):
        return max(difference(ours[key], golden[key]) for key in golden)
    return np.abs(np.concatenate([np.ravel(b) for _, b in ours]) - np.concatenate([np.ravel(b) for _, b in golden])).max() if isinstance(golden[0][0], int) else np.abs(np.array(ours) - np.array(golden)).max()


def main():
    write = "--write" in sys.argv
    GOLDENS.mkdir(exist_ok=True)
    failed = False
    only = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    for name, kept_as, cls, config, files in models_to_make():
        if only and name not in only:
            continue
        with torch.no_grad():
            model, described = make(kept_as, cls, config)
            key, ours = ("scores", score(model)) if "Classification" in cls.__name__ else ("vectors", embed(model))
            if "dense" in files:
                mode = {"bert-dense": "cls_token", "qwen3-embedding-dense": "lasttoken"}.get(name)
                key, ours = "multiplied", multiplied(model, products(files["dense"], kept_as), mode)
                # Read again below, as all that is no file.
                behind = files.pop("dense")
            else:
                behind = []
        path = GOLDENS / f"{name}.json"
        if write:
            made = config.to_dict()
            golden = dict(config=made, type=kept_as, tensors=described, files=files, texts=texts()) | {key: ours}
            golden |= dict(dense=behind) if behind else {}
            path.write_text(json.dumps(golden))
        golden = json.loads(path.read_text())
        apart = difference(ours, golden[key])
        failed |= apart > TOLERANCE or described != golden["tensors"]
        print(f"{name:24} largest difference {apart:.1e}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
