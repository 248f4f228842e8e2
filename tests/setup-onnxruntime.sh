#!/usr/bin/env bash
# Makes a Python environment with onnxruntime and what tools/check_onnx.py needs beside it, in the cache, and prints its
# python. Where Python or its packages cannot be had it says so and fails; nothing is installed elsewhere.
set -euo pipefail

packages=("numpy<3" "onnx<2" "onnxruntime<2" "safetensors<1" "tokenizers<1")
folder=${XDG_CACHE_HOME:-$HOME/.cache}/distil-gpu/onnxruntime
python=$folder/bin/python
said=$folder/packages

if [[ -x $python && -f $said && $(<"$said") == "${packages[*]}" ]]; then
    echo "$python"
    exit
fi
command -v python3 >/dev/null || {
    echo "setup-onnxruntime: python3 is not there" >&2
    exit 1
}
rm -rf "$folder"
# Debian's Python has no pip of its own without a further package.
python3 -m venv "$folder" >&2 || {
    rm -rf "$folder"
    echo "setup-onnxruntime: python3 has no venv (on Debian: python3-venv)" >&2
    exit 1
}
"$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2 || {
    rm -rf "$folder"
    echo "setup-onnxruntime: the packages cannot be had" >&2
    exit 1
}
echo "${packages[*]}" >"$said"
echo "$python"
