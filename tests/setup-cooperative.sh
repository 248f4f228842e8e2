#!/usr/bin/env bash
# Finds a software driver that has cooperative matrices, as Mesa has from release 26 on. Where the installed one is older,
# one is fetched into the cache from the backports of Debian 13, with the libraries that it needs: nothing is installed.
# The only line on stdout is a command to put before a program that is to run with it. Fails where there is none to be had:
# anywhere but on Debian 12, x86-64.
set -euo pipefail
# shellcheck source=tests/debian.sh
. "$(dirname "$0")/debian.sh"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/distil-gpu/cooperative"
run="$cache/run"

say() { echo "setup-cooperative: $*" >&2; }

fetch() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{etc/{sources.list.d,preferences.d},lists/partial,archives/partial,root}
    touch "$work/status"
    for suite in trixie trixie-backports; do
        content=$(debian_source bookworm "$suite")
        echo "$content" >"$work/etc/sources.list.d/$suite.$(source_kind "$content")"
    done
    apt=(apt-get -qq -o APT::Sandbox::User=root -o APT::Architecture=amd64 -o "Dir::Etc=$work/etc"
        -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status"
        -o "Dir::Cache::Archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    "${apt[@]}" update >&2
    "${apt[@]}" install -y --download-only --no-install-recommends -t trixie-backports \
        libvulkan1 mesa-vulkan-drivers >&2
    for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
    rm -rf "$cache"
    mkdir -p "$cache"
    mv "$work/root/usr/lib/x86_64-linux-gnu" "$cache/lib"
    sed "s|\"library_path\": \"[^\"]*\"|\"library_path\": \"$cache/lib/libvulkan_lvp.so\"|" \
        "$work/root/usr/share/vulkan/icd.d/lvp_icd.json" >"$cache/driver.json"
    {
        echo '#!/bin/sh'
        printf 'export VK_DRIVER_FILES=%q VK_ICD_FILENAMES=%q\n' "$cache/driver.json" "$cache/driver.json"
        printf 'exec %q --library-path %q "$@"\n' "$cache/lib/ld-linux-x86-64.so.2" "$cache/lib"
    } >"$run.part"
    chmod +x "$run.part"
    mv "$run.part" "$run"
)

if [[ ! -x $run ]]; then
    mesa=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || true)
    if [[ -n $mesa ]] && dpkg --compare-versions "$mesa" ge 26; then
        echo env
        exit
    fi
    if [[ $(uname -sm) != "Linux x86_64" ]] || ! grep -qx 'VERSION_CODENAME=bookworm' /etc/os-release; then
        say "this is not Debian 12 on x86-64, and Mesa is older than 26"
        exit 1
    fi
    say "fetching Mesa of Debian 13's backports"
    fetch
fi
echo "$run"
