#!/usr/bin/env bash
# Runs every test, on a real GPU if there is one, else on software Vulkan drivers.
# Further arguments go to cargo test: tests/run.sh -p distil-gpu-kernels matmul
set -euo pipefail
cd "$(dirname "$0")/.."

vulkan_env=$(tests/setup-vulkan.sh)
# shellcheck source=/dev/null
. "$vulkan_env"
tests/setup-chromium.sh
cargo test --workspace --locked "$@"
# The programs that show the way in, once each; tests are built with them.
if [[ $# -eq 0 ]]; then
    for example in quick_start own_graph own_kernel; do
        "${CARGO_TARGET_DIR:-target}/debug/examples/$example"
    done
fi
# What needs a model that is not part of the project (data/fetch-text.sh) says so where it is left out.
if [[ -f data/cache/minilm/model.safetensors ]]; then
    # The whole workspace, so that nothing is built with other features.
    cargo test --workspace --locked --test embeddings -- --ignored
else
    echo "left out: the tests that need data/cache/minilm (data/fetch-text.sh minilm)" >&2
fi
# Files for onnxruntime, by onnxruntime.
if [[ $# -eq 0 ]]; then
    if python=$(tests/setup-onnxruntime.sh); then
        "$python" tools/check_onnx.py "${CARGO_TARGET_DIR:-target}/debug/distil-gpu"
    else
        echo "left out: the check of ONNX files by onnxruntime" >&2
    fi
fi
# Few drivers that run on the processor have cooperative matrices.
if runner=$(tests/setup-mesa.sh lavapipe); then
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner \
        cargo test --workspace --locked --test cooperative -- --ignored
else
    echo "left out: the test of products by cooperative matrices" >&2
fi
