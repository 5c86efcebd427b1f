"""Files that `ondol quantize` writes, in an engine that is not ours: llama.cpp must load each and see the same perplexity.

Quantises MODEL to each type, has llama.cpp tell its perplexity on TEXT (reference.py beside this, which needs the PyPI package
xllamacpp), and ours with `ondol eval ppl --reference`. Prints a line for each type; fails when a file is not read there or the
two differ by more than LIMIT percent. Types of ours alone are refused by llama.cpp and left out. MODEL is best in F16, TEXT
some 6,000 characters: each of its tokens is a request.

Run: python3 quantised.py ONDOL MODEL.gguf TEXT [--imatrix FILE] [--threads N] [TYPE...]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

LIMIT = 1.0
TYPES = (
    "F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S"
).split()
# Refused without an importance matrix, there and here.
NEED_IMATRIX = {"Q2_K_S"}


def check(arguments, kind, folder):
    """Perplexity here and there, and what else `ondol eval ppl` compares."""
    file = folder / f"{kind}.gguf"
    golden = folder / "golden.json"
    command = [arguments.ondol, "quantize", arguments.model, file, "--type", kind, "--report", "json", "--force"]
    if arguments.imatrix and kind not in {"F32", "F16", "BF16"}:
        command += ["--imatrix", arguments.imatrix]
    run(command)
    reference = pathlib.Path(__file__).with_name("reference.py")
    golden.write_text(run([sys.executable, reference, file, arguments.text, arguments.threads]))
    said = run([arguments.ondol, "eval", "ppl", file, "--text", arguments.text, "--reference", golden, "--json"])
    file.unlink()
    return json.loads(said)


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} {command[1]} failed: " + " / ".join(done.stderr.splitlines()[-3:]))
    return done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ondol")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("types", nargs="*", default=TYPES)
    parser.add_argument("--imatrix")
    parser.add_argument("--threads", default=2)
    arguments = parser.parse_args()
    worst, failed = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.types:
            if kind in NEED_IMATRIX and not arguments.imatrix:
                print(f"{kind:7} is left out: it needs --imatrix", flush=True)
                continue
            try:
                said = check(arguments, kind, pathlib.Path(folder))
            except RuntimeError as error:
                failed.append(kind)
                print(f"{kind:7} {error}", flush=True)
                continue
            there = said["reference"]
            apart = there["difference_percent"]
            worst = max(worst, abs(apart))
            if not abs(apart) <= LIMIT:
                failed.append(kind)
            print(
                f"{kind:7} here {said['perplexity']:9.4f}  there {there['perplexity']:9.4f}  apart {apart:+.3f} %  "
                f"divergence {there['mean_kl_divergence']:.6f}  same first {there['top1_agreement_percent']:.2f} %",
                flush=True,
            )
    print(f"at most {worst:.3f} % apart" + (f"; failed: {' '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
