"""llama.cpp (PyPI package `xllamacpp`) doing the work that `ondol bench` does, for `cargo xtask bench peers`.

Starts llama.cpp's server in this process and asks it over loopback for prompts of random token ids; speeds are the
server's own timings. Its prompt cache is off, every prompt is another one, the end of text is ignored, the likeliest
token is taken. Prints one JSON object with the keys of `ondol bench --json`, as far as llama.cpp knows them.

Several sequences at once: one slot each, requests sent together; the speed is the tokens made while all of them run, that is
the sum of what each reports.
"""

import argparse
import json
import random
import statistics
import threading
import time
import urllib.request

import xllamacpp

REQUEST_SECONDS_MAX = 1800
START_SECONDS_MAX = 600
FIRST_PROMPT_TOKENS = 4
# Room for a token that begins a sequence, and for the server's own margin.
SPARE_TOKENS = 32


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--prefill", type=numbers, default=[512])
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--context", type=numbers, default=[0])
    parser.add_argument("--batch", type=numbers, default=[1])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def peak_bytes():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


class Engine:
    """A server with `slots` slots of `positions` tokens."""

    def __init__(self, model, threads, slots, positions):
        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_ctx = slots * positions
        params.n_parallel = slots
        params.kv_unified = False
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0
        params.warmup = False
        params.port = 0
        self.random = random.Random(7)
        began = time.monotonic()
        self.server = xllamacpp.Server(params)
        # 503 while the model loads.
        while True:
            try:
                self.get("/health")
                break
            except OSError:
                if time.monotonic() - began > START_SECONDS_MAX:
                    raise
                time.sleep(0.01)
        self.load_s = time.monotonic() - began
        self.vocabulary = self.get("/v1/models")["data"][0]["meta"]["n_vocab"]

    def get(self, route):
        with urllib.request.urlopen(self.server.listening_address + route, timeout=60) as reply:
            return json.loads(reply.read())

    def complete(self, prompt_tokens, new_tokens):
        """The server's timings of one request."""
        prompt = [self.random.randrange(300, self.vocabulary) for _ in range(prompt_tokens)]
        body = {
            "prompt": prompt, "n_predict": new_tokens, "ignore_eos": True, "cache_prompt": False,
            "temperature": 0, "samplers": ["temperature"],
        }
        request = urllib.request.Request(self.server.listening_address + "/completion", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS_MAX) as reply:
            timings = json.loads(reply.read())["timings"]
        if timings["prompt_n"] < prompt_tokens or timings["predicted_n"] != new_tokens:
            raise SystemExit(f"llama.cpp did other work than it was asked for: {timings}")
        return timings

    def together(self, count, prompt_tokens, new_tokens):
        """The timings of `count` requests sent at once."""
        results = [None] * count

        def one(index):
            results[index] = self.complete(prompt_tokens, new_tokens)

        threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if None in results:
            raise SystemExit("a request failed")
        return results


def main():
    asked = arguments()
    longest = max([*asked.prefill, *(max(context, 1) + asked.decode for context in asked.context)]) + SPARE_TOKENS
    began = time.monotonic()
    engine = Engine(asked.model, asked.threads, 1, longest)
    engine.complete(FIRST_PROMPT_TOKENS, 1)
    first_token_s, load_s = time.monotonic() - began, engine.load_s
    runs = []

    def add(samples, **work):
        runs.append({**work, "tokens_per_s": statistics.median(samples), "samples": samples})

    def decode(context, batch):
        engine.together(batch, max(context, 1), min(asked.decode, 8))
        samples = []
        for _ in range(asked.repeat):
            replies = engine.together(batch, max(context, 1), asked.decode)
            samples.append(sum(reply["predicted_per_second"] for reply in replies))
        add(samples, work="decode", tokens=asked.decode, context=context, batch=batch)

    for tokens in asked.prefill:
        engine.complete(min(tokens, 512), 1)
        samples = [engine.complete(tokens, 1)["prompt_per_second"] for _ in range(asked.repeat)]
        add(samples, work="prefill", tokens=tokens)
    for context in asked.context if asked.decode else []:
        decode(context, 1)
    # What peaks are compared by is one sequence: the servers with more slots come after.
    peak = peak_bytes()
    for batch in asked.batch if asked.decode else []:
        if batch > 1:
            engine = None
            engine = Engine(asked.model, asked.threads, batch, max(asked.context[0], 1) + asked.decode + SPARE_TOKENS)
            decode(asked.context[0], batch)
    print(json.dumps({
        "engine": "llama.cpp", "version": f"xllamacpp {xllamacpp.__version__}", "model": asked.model,
        "threads": asked.threads, "load_s": load_s, "first_token_s": first_token_s, "peak_bytes": peak, "runs": runs,
    }), flush=True)


main()
