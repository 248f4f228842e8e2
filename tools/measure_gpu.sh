#!/usr/bin/env bash
# Measures a GPU and prints a section for docs/benchmarks.md, in about half an hour: tools/measure_gpu.sh > section.md
# DEVICE=gpu:1 names another than the first. `--small` is for drivers that run on the processor: little work, no
# variants that are not in use, no tuning to recipes, no peer.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-gpu}
small=${1:-}
seconds=2
program=target/release/distil-gpu
check=("$program" check --quiet --device "$device")
if [[ $small == --small ]]; then seconds=0.1; else check+=(--variants); fi

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
if [[ $small != --small ]]; then
    shown cargo run -q --release --manifest-path benches/peers/Cargo.toml -- --seconds 6
fi
