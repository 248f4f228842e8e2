#!/usr/bin/env bash
# Passes on what `cargo test` prints, and adds which ten programs of tests took longest.
#   cargo test 2>&1 | tests/slowest.sh
set -euo pipefail
times=$(mktemp)
trap 'rm -f "$times"' EXIT
awk -v times="$times" '
    { print; fflush() }
    $1 == "Running" { name = $2 == "unittests" ? $NF : $2; sub(/^.*\/deps\//, "", name); sub(/-[0-9a-f]*\)$/, "", name) }
    $1 == "Doc-tests" { name = "examples in the documentation of " $2 }
    /^test result: / && / finished in / { seconds = $NF; sub(/s$/, "", seconds); print seconds, name > times }
'
echo "The slowest programs of tests, in seconds:"
sort -rn "$times" | head -10
