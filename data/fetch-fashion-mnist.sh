#!/usr/bin/env bash
# Fetches the whole of Fashion-MNIST (60,000 + 10,000 images) into data/cache/fashion-mnist/ as four
# raw IDX files, from Debian's package dataset-fashion-mnist, which is unpacked, not installed.
# Needs Debian or Ubuntu, not root. Does nothing if they are already there.
set -euo pipefail

cache="$(cd "$(dirname "$0")" && pwd)/cache"
mkdir -p "$cache"

verify() {
    (cd "$1" && sha256sum -c) >/dev/null 2>&1 <<'SUMS'
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  t10k-labels-idx1-ubyte
SUMS
}

if verify "$cache/fashion-mnist"; then
    echo "Fashion-MNIST is already in data/cache/fashion-mnist"
    exit 0
fi

work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/idx"
(
    cd "$work"
    apt-get download -qq -o APT::Sandbox::User=root dataset-fashion-mnist
    dpkg-deb --fsys-tarfile dataset-fashion-mnist_*.deb |
        tar -x --directory idx --wildcards --strip-components=5 '*/fashion-mnist/*-ubyte.gz'
    gzip -d idx/*.gz
)
verify "$work/idx" || { echo "Fashion-MNIST: a file is not the expected one" >&2; exit 1; }
rm -rf "$cache/fashion-mnist"
mv "$work/idx" "$cache/fashion-mnist"
echo "Fashion-MNIST is in data/cache/fashion-mnist"
