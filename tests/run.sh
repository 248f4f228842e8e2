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
