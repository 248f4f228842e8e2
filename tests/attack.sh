#!/usr/bin/env bash
# Attacks the program and prints figures; docs/reliability.md has those of long attacks.
#   tests/attack.sh [--kills N] [--inputs N] [--seed N]
# --kills N   kills runs and sweeps, resumed ones too, N times at random moments, two or three in a row, and compares
#             what they leave in the end with undisturbed runs, byte by byte; 100 unless given
# --inputs N  gives each reader of files N damaged ones; 400 unless given, which is more than 10,000 in all
# --seed N    another attack; 1 unless given
set -euo pipefail
cd "$(dirname "$0")/.."

kills=100
inputs=400
seed=1
while [[ $# -gt 0 ]]; do
    case $1 in
        --kills) kills=${2:?--kills needs a number}; shift 2 ;;
        --inputs) inputs=${2:?--inputs needs a number}; shift 2 ;;
        --seed) seed=${2:?--seed needs a number}; shift 2 ;;
        *) echo "attack.sh: what is $1? There are --kills N, --inputs N and --seed N" >&2; exit 2 ;;
    esac
done

if [[ $inputs -gt 0 ]]; then
    echo "Damaged files: $inputs for each reader"
    DISTIL_GPU_MUTATIONS=$inputs DISTIL_GPU_ATTACK_SEED=$seed \
        cargo test --workspace --locked --test mutations -- --nocapture
fi
if [[ $kills -gt 0 ]]; then
    echo "Kills: $kills"
    DISTIL_GPU_KILLS=$kills DISTIL_GPU_ATTACK_SEED=$seed \
        cargo test --workspace --locked --test program attack:: -- --nocapture
fi
