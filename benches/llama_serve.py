"""llama.cpp's server (PyPI package `xllamacpp`) for `cargo xtask bench serve`: prints its address when it can answer, and
stays until it is killed. Slots of their own size, each with its prompt cache; every other setting as llama.cpp has it.
"""

import argparse
import time
import urllib.error
import urllib.request

import xllamacpp

START_SECONDS_MAX = 600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--positions", type=int, default=1024, help="of each slot")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = asked.model
    params.n_ctx = asked.slots * asked.positions
    params.n_parallel = asked.slots
    params.kv_unified = False
    params.cpuparams.n_threads = asked.threads
    params.cpuparams_batch.n_threads = asked.threads
    params.cache_prompt = True
    params.port = 0
    server = xllamacpp.Server(params)
    began = time.monotonic()
    # 503 while the model loads.
    while True:
        try:
            with urllib.request.urlopen(server.listening_address + "/health", timeout=60):
                break
        except (OSError, urllib.error.URLError):
            if time.monotonic() - began > START_SECONDS_MAX:
                raise
            time.sleep(0.05)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


main()
