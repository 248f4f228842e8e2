#!/usr/bin/env bash
# Measures a GPU and prints a section for docs/benchmarks.md, in about half an hour: tools/measure_gpu.sh > section.md
# DEVICE=gpu:1 names another than the first. PYTHON=~/torch-venv/bin/python names a Python whose PyTorch runs on the same
# GPU (CUDA_VISIBLE_DEVICES may have to say which), with transformers and, on CUDA, liger-kernel: it measures the same
# work there. `--small` is for drivers that run on
# the processor: little work, no variants that are not in use, no tuning to recipes, no meganeura.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-gpu}
small=${1:-}
seconds=2
program=target/release/distil-gpu
check=("$program" check --quiet --device "$device")
rows=1024
classes=128256
if [[ $small == --small ]]; then
    seconds=0.1
    rows=16
    classes=4096
else
    check+=(--variants)
fi

backend=
if [[ -n ${PYTHON:-} ]]; then
    backend=$("$PYTHON" -c 'import torch
cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
print("cuda" if cuda else "mps" if mps else "cpu")')
    if [[ $backend == cpu && $small != --small ]]; then
        echo "the PyTorch of $PYTHON finds no GPU" >&2
        exit 1
    fi
fi

shown() {
    printf '`%s`\n\n```\n' "$*"
    "$@" 2>/dev/null || printf 'exit code %s\n' "$?"
    printf '```\n\n'
}

data/fetch-text.sh minilm >&2
data/fetch-text.sh movie-sentiment >&2
cargo build --release --locked >&2
printf '## GPU\n\n'
shown "$program" devices
shown "${check[@]}"
printf '`cargo bench -p distil-gpu-benches --bench large`:\n\n'
DISTIL_GPU_BENCH_DEVICES=$device cargo bench -q -p distil-gpu-benches --bench large -- $small
printf '\n'
for recipe in recipes/default.toml recipes/movie-sentiment.toml; do
    if [[ $small != --small ]]; then shown "$program" tune "$recipe" --device "$device"; fi
    shown "$program" bench "$recipe" --device "$device" --seconds "$seconds"
done
if [[ -n $backend ]]; then
    loss=(tools/bench_kd_loss_pytorch.py --device "$backend" --rows "$rows" --classes "$classes")
    shown "$PYTHON" "${loss[@]}"
    if [[ $backend == cuda ]]; then shown "$PYTHON" "${loss[@]}" --liger; fi
fi
if [[ $small != --small ]]; then
    shown env DISTIL_GPU_BENCH_DEVICES="$device" \
        cargo bench -q -p distil-gpu-benches --bench encoder -- --quiet
    if [[ -n $backend ]]; then
        shown "$PYTHON" tools/bench_encoder_pytorch.py --device "$backend"
    fi
    shown cargo run -q --release --manifest-path benches/peers/Cargo.toml -- --seconds 6
fi
