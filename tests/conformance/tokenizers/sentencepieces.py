"""SentencePiece's own files against SentencePiece itself: trains tiny models and writes, for each, NAME.model and
NAME.json, the ids that it gives for every string of the corpus of pipelines.py.

    python sentencepieces.py FOLDER     (the goldens are in sentencepiece/, read by `tests/pipelines.rs` of `text`)

Needs: pip install sentencepiece==0.2.3 tokenizers==0.23.3
"""

import io
import json
import pathlib
import sys

import sentencepiece
from pipelines import SENTENCES, corpus, golden, training

# A few of the rules that real models have by the ten thousand: wide letters, a ligature, Jamo.
RULES = [("Ａ", "A"), ("Ｂ", "B"), ("ﬁ", "fi"), ("①", "1"), ("\u3000", " "), ("\t", " "), ("\n", " "), ("\u200b", " "),
         ("\u1112\u1161\u11ab", "한"), ("\u1100\u1173\u11af", "글"), ("e\u0301", "é"), ("\u0301", "")]

MODELS = {
    "llama": {"model_type": "bpe", "byte_fallback": True, "split_digits": True, "normalization_rule_name": "identity",
              "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
    "bpe-rules": {"model_type": "bpe", "rules": True},
    "gemma": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
              "remove_extra_whitespaces": False, "add_dummy_prefix": False,
              "user_defined_symbols": ["<mark>", "▁▁", "</i>"]},
    "unigram-rules": {"model_type": "unigram", "rules": True},
    "unigram-bytes": {"model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "identity"},
}


def main(folder):
    tsv = folder / "rules.tsv"
    tsv.write_text("".join(
        f"{' '.join(f'{ord(c):X}' for c in old)}\t{' '.join(f'{ord(c):X}' for c in new)}\n" for old, new in RULES))
    strings = corpus()
    for name, options in MODELS.items():
        options = dict(options)
        if options.pop("rules", False):
            options["normalization_rule_tsv"] = str(tsv)
        out = io.BytesIO()
        lines = [line for text in training() for line in text.splitlines() if line.strip()]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=out, hard_vocab_limit=False, num_threads=1,
            vocab_size=900 if options.get("byte_fallback") else 600, character_coverage=0.98, minloglevel=2, **options)
        (folder / f"{name}.model").write_bytes(out.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
        # A zero byte ends a text for SentencePiece's table of characters, and is a character for us.
        cases = [golden(model.encode(string)) for string in strings]
        (folder / f"{name}.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")
        print(name, model.vocab_size(), len(out.getvalue()))
    tsv.unlink()


assert SENTENCES
main(pathlib.Path(sys.argv[1]))
