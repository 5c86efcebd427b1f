"""Tokenizers of Hugging Face's form against the Python package that defines them.

    python pipelines.py train FOLDER
        trains a tiny tokenizer of each kind and writes FOLDER/NAME.json: the tokenizer, and what the Python package makes
        of every string of the corpus. These are in the repository, so that the test needs neither Python nor a download.
    python pipelines.py expect FOLDER
        for each FOLDER/NAME/tokenizer.json of a real model writes FOLDER/NAME/expected.json, whole ids this time.

Needs: pip install tokenizers==0.23.3
Each string is encoded in three ways: as text (what reads like a special token is text, nothing around), as a prompt
(special tokens are read, and put around), and in a pair with the next string.
"""

import hashlib
import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "I'll say it's HE'S we'Ve DON'T they're 'tis",
    "Hello,world!How are you?I'm fine...",
    "naïve café Ångström Straße ĲSSEL İstanbul ǅ ﬁne ﬀ",
    "def f(x: int) -> str:\n    return f\"{x:>{width}}\" if x else None  # ok\n",
    "for (int i=0;i<n;++i){a[i]+=b[i]*c[i];}\r\n\tprintf(\"%d\\n\", i);",
    "{\"a\": [1, 2.5e-3, null, true], \"b\": {\"c\": \"d\\u00e9\"}}",
    "SELECT * FROM t WHERE a='b' AND c<>3; -- done",
    "https://example.com/a/b?c=d&e=%20f#g user@example.co.kr",
    "1 12 123 1234 12345 1234567890 3.14159 1,234,567 0x1F 1e10 ½ ² Ⅷ ٣",
    "!!!???...;;; --- === ~~~ ``` *** ___ /// \\\\\\ @#$%^&*()",
    "中文分词测试，很简单。日本語のテスト、カタカナ、ひらがな。",
    "Ελληνικά Русский עברית العربية हिन्दी ไทย ქართული",
    "a\u0301 e\u0301\u0304 o\u0302\u0323 \u1EA4 \u212B \uFB01 \u00C5 q\u0307\u0323",
    "👍 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇰🇷 1️⃣ ❤️ ☺",
    "\u200b\u200d\ufeff\u00a0\u2003\u3000\u2028\u2029\u0085\u180e",
    "\x00\x01\x07\x08\x0b\x0c\x1b\x1f\x7f",
    "\ue000 \U000f0000 \u0378 \ufffd \ufffe",
    "  leading", "trailing  ", "   ", " ", "\t", "\n", "\n\n\n", "\r\n\r\n", " \n \n ", "\t\t a \t b", "a\n\n  b\n c",
    "a" * 60, "ab" * 40, " " * 37, " a" * 20, "aaaa bbbb  cccc   dddd    eeee",
    "<s> </s> <unk> <pad> <mask> [CLS] [SEP] [MASK] [UNK]",
    "<|endoftext|><|im_start|>user\nhi<|im_end|>",
    "before<extra>after <extra> x<extra>",
    "word single word asingle single_",
    "  <mask>  after  <strip>  end",
    "▁ ▁▁ a▁b <0x41> Ġ Ċ ##ing",
    "", "x", "가", "한국어 Korean 混合 mixed",
    "supercalifragilisticexpialidocious" * 4,
    "HelloWORLDÉcole fooBar XMLHttpRequest iPhone",
    "don`t “quote” ‘single’ «x» „y‟ …—–",
    "12345678901234567890가나다라마바사1234",
    "e\u0301" * 30, "\u1100\u1161" * 20,
]


def corpus():
    strings = list(SENTENCES)
    strings += json.loads((HERE / "hangul.json").read_text()).values()
    strings += [unicodedata.normalize("NFD", text) for text in SENTENCES[3:14]]
    rng = random.Random(20)
    alphabet = "abcXYZ 가각힣ㄱ\u1112\u1161\u11ab中あ1239.,!?'\"-_()[]<>\n\t\r \u00a0é\u0301İß👍\u200d\x00▁"
    for _ in range(60):
        strings.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 50))))
    return strings


def expected(tokenizer, text, second):
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    prompt = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = True
    pair = tokenizer.encode(text, second)
    return plain, prompt, pair.ids, pair.type_ids


def golden(ids):
    text = " ".join(map(str, ids))
    return [len(ids), hashlib.sha256(text.encode()).hexdigest()[:16]]


def training():
    words = " ".join(json.loads((HERE / "hangul.json").read_text()).values())
    return [*SENTENCES[:14], words, *(["the word and the other words are lower and lowest"] * 3)] * 2


ALPHABET = pre_tokenizers.ByteLevel.alphabet()
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
O200K = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


def bytes_(regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert=invert)


def byte_level(pre, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=ALPHABET, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(training(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama(normalizer, pre, unknown="<unk>", fallback=True):
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] * fallback
    trainer = trainers.BpeTrainer(vocab_size=900 if fallback else 500, special_tokens=special, show_progress=False)
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, fuse_unk=True, byte_fallback=fallback))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    # Words are trained apart, or a sentence would become a token.
    own, tokenizer.pre_tokenizer = tokenizer.pre_tokenizer, split("▁", "merged_with_next")
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in training()[:18]], trainer)
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = json.loads(Tokenizer(models.BPE()).to_str())["pre_tokenizer"]
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    if own:
        tokenizer.pre_tokenizer = own
    around(tokenizer, "<s> $A", "<s> $A <s> $B:1", ["<s>", "</s>"])
    return tokenizer


def around(tokenizer, single, pair, names):
    special = [(name, tokenizer.token_to_id(name)) for name in names]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)


def wordpiece(lowercase, names=("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=50))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        training(), trainers.WordPieceTrainer(vocab_size=700, special_tokens=list(names), show_progress=False)
    )
    around(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    return tokenizer


def unigram(normalizer, pre, fallback=False):
    special = ["<s>", "<pad>", "</s>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)] * fallback
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    trainer = trainers.UnigramTrainer(vocab_size=600, unk_token="<unk>", special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(training(), trainer)
    data = json.loads(tokenizer.to_str())
    data["model"]["byte_fallback"] = fallback
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    # Training is not the same twice in the last digits, and scores of real models are numbers of 32 bits.
    data["model"]["vocab"] = [[text, round(score * 1024) / 1024] for text, score in data["model"]["vocab"]]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    around(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ["<s>", "</s>"])
    return tokenizer


def flags(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<strip>", rstrip=True, lstrip=True)])
    tokenizer.add_tokens([
        AddedToken("<extra>", normalized=False),
        AddedToken("single", single_word=True, normalized=True),
        AddedToken("Fox", normalized=True),
        AddedToken("fi", normalized=True),
    ])
    return tokenizer


def roberta():
    tokenizer = byte_level(bytes_(True, True))
    special = {name: tokenizer.add_special_tokens([name]) or tokenizer.token_to_id(name) for name in ["<s>", "</s>"]}
    special = {name: tokenizer.token_to_id(name) for name in special}
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", special["</s>"]), ("<s>", special["<s>"]))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def bert_processing():
    tokenizer = wordpiece(False)
    ids = {name: tokenizer.token_to_id(name) for name in ["[CLS]", "[SEP]"]}
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return tokenizer


def kinds():
    n, p = normalizers, pre_tokenizers
    marks = n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")])
    digits = p.Digits(individual_digits=True)
    yield "gpt2", byte_level(bytes_(True))
    yield "gpt-neox", byte_level(bytes_(True), n.NFC())
    yield "starcoder", byte_level(sequence(digits, bytes_(True)))
    yield "falcon", byte_level(sequence(p.Punctuation("contiguous"), bytes_(True), p.Digits(False), split("[0-9][0-9][0-9]")))
    yield "llama3", byte_level(sequence(split(LLAMA3), bytes_()), ignore_merges=True)
    yield "cl100k", byte_level(sequence(split(CL100K), bytes_()))
    yield "cl100k-removed", byte_level(sequence(split(LLAMA3, "removed", True), bytes_()))
    yield "o200k", byte_level(sequence(split(O200K), bytes_()))
    yield "qwen2", byte_level(sequence(split(LLAMA3.replace("{1,3}", "")), bytes_()), n.NFC())
    yield "bloom", byte_level(sequence(split(BLOOM), bytes_()))
    yield "deepseek", byte_level(sequence(
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"), digits, bytes_()))
    yield "claude", byte_level(bytes_(True), n.NFKC())
    yield "flags", flags(byte_level(bytes_(True), n.Sequence([n.NFKC(), n.Lowercase()])))
    yield "roberta", roberta()
    yield "normalized-bytes", byte_level(split(r"\s+", "merged_with_previous"), n.Sequence([n.NFD(), n.ByteLevel()]))
    yield "llama2", llama(marks, None)
    yield "gemma", llama(n.Replace(" ", "▁"), split(" ", "merged_with_previous"))
    yield "mistral", llama(None, p.Metaspace(prepend_scheme="first", split=False))
    yield "kogpt2", llama(n.NFKC(), p.Metaspace(), fallback=False)
    yield "strip", llama(n.Sequence([n.Nmt(), n.Strip(), n.StripAccents(), n.Replace(Regex(" {2,}"), " ")]), p.Metaspace(prepend_scheme="always"))
    yield "bert-uncased", wordpiece(True)
    yield "bert-cased", bert_processing()
    yield "xlm-roberta", unigram(n.Sequence([n.NFKC(), n.Replace(Regex(" {2,}"), " ")]), p.Metaspace())
    yield "t5", unigram(n.NFKC(), sequence(p.WhitespaceSplit(), p.Metaspace()))
    yield "unigram-bytes", unigram(n.NFKC(), p.Metaspace(), True)
    yield "whitespace", byte_level(sequence(p.Whitespace(), p.CharDelimiterSplit("_"), bytes_(False, True)))


def train(folder):
    strings = corpus()
    for name, tokenizer in kinds():
        # What is written is what is asked, so that nothing of the training stays.
        text = tokenizer.to_str()
        tokenizer = Tokenizer.from_str(text)
        cases = []
        for index, string in enumerate(strings):
            plain, prompt, pair, types = expected(tokenizer, string, strings[(index + 1) % len(strings)])
            cases.append([golden(plain), golden(prompt), golden(pair), golden(types)])
        lines = ",\n".join(json.dumps(case) for case in cases)
        data = json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))
        (folder / f"{name}.json").write_text(f'{{"tokenizer":{data},\n"cases":[\n{lines}\n]}}\n')
        print(name, tokenizer.get_vocab_size(), (folder / f"{name}.json").stat().st_size)
    lines = ",\n".join(json.dumps(string) for string in strings)
    (folder / "corpus.json").write_text(f"[\n{lines}\n]\n")


def expect(folder):
    strings = corpus()
    for path in sorted(folder.glob("*/tokenizer.json")):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        cases = []
        for index, string in enumerate(strings):
            cases.append([string, *expected(tokenizer, string, strings[(index + 1) % len(strings)])])
        (path.parent / "expected.json").write_text(json.dumps(cases))
        print(path.parent.name, len(cases))


if __name__ == "__main__":
    {"train": train, "expect": expect}[sys.argv[1]](pathlib.Path(sys.argv[2]))
