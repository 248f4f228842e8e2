#!/usr/bin/env bash
# Makes sure that a Chromium is there for the test of the report page; installs Debian's where none is.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
[[ $(uname -s) == Linux ]] || exit 0
say() { echo "setup-chromium: $*" >&2; }
command -v apt-get >/dev/null || { say "install Chromium with your package manager"; exit 1; }
say "installing chromium"
as_root=()
if [[ $EUID -ne 0 ]]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" apt-get install -qqy --no-install-recommends chromium >&2
