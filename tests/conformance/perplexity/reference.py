"""Perplexity and next-token distributions of a model from an engine that is not ours: llama.cpp.

Starts llama.cpp in this process (PyPI package `xllamacpp`), cuts a text into windows of tokens as `ondol eval ppl`
does, and asks for each position: the log-probability of the token that really follows (a request for one token, forced
by a logit bias; llama.cpp reports probabilities from the raw logits), the likeliest token, and at every 16th position
the likeliest sixteen with their log-probabilities. Prints the golden as JSON; `skipped` counts places over the whole text.

A window is WINDOW tokens. Where the model's tokenizer begins a text with BOS, so does every window. Every token of a
window but its first is scored.

Run: python3 reference.py MODEL.gguf TEXT > goldens/NAME.json     (needs: pip install xllamacpp)
"""

import hashlib
import json
import math
import sys
import urllib.request

import xllamacpp

WINDOW = 512
TOP = 16
EVERY = 16
FORCE = 1e6


def main():
    model, path = sys.argv[1:3]
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    text = open(path, encoding="utf-8").read()
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 2 * WINDOW
    params.n_parallel = 1
    params.port = 0
    params.warmup = False
    params.swa_full = True
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def post(route, body):
        request = urllib.request.Request(server.listening_address + route, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.loads(reply.read())

    tokens = post("/tokenize", {"content": text, "add_special": False, "parse_special": False})["tokens"]
    start = post("/tokenize", {"content": "", "add_special": True})["tokens"]
    step = WINDOW - len(start)
    windows, top1, sampled, skipped = [], [], [], []
    place = 0
    for first in range(0, len(tokens), step):
        window = start + tokens[first : first + step]
        nll = 0.0
        for at in range(1, len(window)):
            wide = at % EVERY == 0
            body = {
                "prompt": window[:at], "n_predict": 1, "n_probs": TOP if wide else 1, "cache_prompt": True,
                "temperature": 1.0, "samplers": ["temperature"], "logit_bias": [[window[at], FORCE]],
                "post_sampling_probs": False,
            }
            reply = post("/completion", body)
            if "completion_probabilities" not in reply:
                # llama.cpp tells nothing of a token that is only part of a character: the place is left out.
                skipped.append(place)
                place += 1
                continue
            place += 1
            entry = reply["completion_probabilities"][0]
            assert entry["id"] == window[at], (first, at, entry["id"], window[at])
            nll -= entry["logprob"]
            best = entry["top_logprobs"]
            top1.append(best[0]["id"])
            if wide:
                sampled.append([[one["id"], round(one["logprob"], 5)] for one in best])
        missing = sum(1 for one in skipped if one >= place - (len(window) - 1))
        windows.append({"scored": len(window) - 1 - missing, "nll": round(nll, 5)})
        print(f"{first + step} of {len(tokens)} tokens, {nll / (len(window) - 1):.4f}", file=sys.stderr, flush=True)
    scored = sum(window["scored"] for window in windows)
    total = sum(window["nll"] for window in windows)
    golden = {
        "engine": f"xllamacpp {xllamacpp.__version__ if hasattr(xllamacpp, '__version__') else ''}".strip(),
        "model_sha256": hashlib.sha256(open(model, "rb").read()).hexdigest(),
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "window": WINDOW, "tokens": len(tokens), "scored": scored,
        "tokens_sha256": hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest(),
        "perplexity": round(math.exp(total / scored), 5),
        "windows": windows, "every": EVERY, "top1": top1, "top": sampled,
        "skipped": skipped,
    }
    print(json.dumps(golden, separators=(",", ":")))


main()
