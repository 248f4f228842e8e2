#!/usr/bin/env bash
# Fuzzes the readers of files by coverage, one after the other, and prints figures; docs/reliability.md has some.
#   tests/fuzz.sh [--seconds N] [READER…]
# --seconds N  time for each reader; 60 unless given
# READER       names of targets in fuzz/Cargo.toml; all unless given
# It needs cargo-fuzz (cargo install cargo-fuzz --locked). What makes a reader panic, take more than 2 GB or more than 20 s
# is kept in fuzz/artifacts/READER, and ends this with exit code 1; logs lie there too.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
readers=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
        -*) echo "fuzz.sh: what is $1? There is --seconds N" >&2; exit 2 ;;
        *) readers+=("$1"); shift ;;
    esac
done
if [[ ${#readers[@]} -eq 0 ]]; then
    mapfile -t readers < <(sed -n 's|^path = "targets/\(.*\)\.rs"$|\1|p' fuzz/Cargo.toml)
fi

# Coverage is counted by an unstable option of the compiler. Memory is safe Rust's affair: no sanitizer.
RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir fuzz --sanitizer none >&2
programs=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

faults=0
printf '%-18s %10s %10s %7s\n' reader executions edges faults
for reader in "${readers[@]}"; do
    kept=fuzz/artifacts/$reader
    mkdir -p "$kept" "fuzz/corpus/$reader"
    "$programs/$reader" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$kept/" "fuzz/corpus/$reader" "fuzz/seeds/$reader" >"$kept/log" 2>&1 ||
        faults=$((faults + 1))
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$kept/log" | tail -1)
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$kept/log")
    found=$(find "$kept" -type f ! -name log | wc -l)
    printf '%-18s %10s %10s %7s\n' "$reader" "${executions:--}" "${edges:--}" "$found"
done
[[ $faults -eq 0 ]]
