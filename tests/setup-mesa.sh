#!/usr/bin/env bash
# Finds drivers of a recent Mesa: tests/setup-mesa.sh lavapipe|amd|nvidia|apple|spirv-val
#
#   lavapipe  runs on the processor; has cooperative matrices
#   amd       RADV, for the GPU that AMDGPU_GPU_ID names (navi31, vega10, …)
#   nvidia    NVK, for the GPU that NOUVEAU_CHIPSET names (0x172, …)
#   apple     Honeykrisp, for an M1
#
# and, with spirv-val, Khronos' validator of shaders. The GPUs' drivers need no GPU: a pretend kernel driver takes what they
# send it and does nothing.
#
# The only line on stdout is a command to put before a program that is to run with the driver, or the validator. A lavapipe of
# Mesa 26 or later is taken where it is installed; all else is fetched into the cache from the backports of Debian 13, with
# the libraries that it needs: nothing is installed. Fails where that cannot be: anywhere but on Debian 12, x86-64.
set -euo pipefail
# shellcheck source=tests/debian.sh
. "$(dirname "$0")/debian.sh"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/distil-gpu/mesa"
driver=${1:-}

say() { echo "setup-mesa: $*" >&2; }

# A command that runs a program with the driver LIBRARY whose manifest is MANIFEST.
write_command() { # NAME MANIFEST LIBRARY [PRELOADED]
    sed "s|\"library_path\": \"[^\"]*\"|\"library_path\": \"$cache/lib/$3\"|" "$2" >"$work/mesa/$1.json"
    {
        echo '#!/bin/sh'
        printf 'export VK_DRIVER_FILES=%q VK_ICD_FILENAMES=%q\n' "$cache/$1.json" "$cache/$1.json"
        printf 'exec %q --library-path %q ' "$cache/lib/ld-linux-x86-64.so.2" "$cache/lib"
        if [[ -n ${4:-} ]]; then printf -- '--preload %q ' "$cache/lib/$4"; fi
        # shellcheck disable=SC2016
        echo '"$@"'
    } >"$work/mesa/$1"
    chmod +x "$work/mesa/$1"
}

fetch() (
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work"/{etc/{sources.list.d,preferences.d},lists/partial,archives/partial,root,mesa}
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
        libvulkan1 mesa-vulkan-drivers mesa-drm-shim spirv-tools >&2
    for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
    mv "$work/root/usr/lib/x86_64-linux-gnu" "$work/mesa/lib"
    mv "$work/root/usr/bin/spirv-val" "$work/mesa/lib/"
    {
        echo '#!/bin/sh'
        printf 'exec %q --library-path %q %q "$@"\n' \
            "$cache/lib/ld-linux-x86-64.so.2" "$cache/lib" "$cache/lib/spirv-val"
    } >"$work/mesa/spirv-val"
    chmod +x "$work/mesa/spirv-val"
    manifests="$work/root/usr/share/vulkan/icd.d"
    write_command lavapipe "$manifests/lvp_icd.json" libvulkan_lvp.so
    write_command amd "$manifests/radeon_icd.json" libvulkan_radeon.so libamdgpu_noop_drm_shim.so
    write_command nvidia "$manifests/nouveau_icd.json" libvulkan_nouveau.so libnouveau_noop_drm_shim.so
    write_command apple "$manifests/asahi_icd.json" libvulkan_asahi.so libasahi_noop_drm_shim.so
    rm -rf "$cache"
    mkdir -p "$(dirname "$cache")"
    mv "$work/mesa" "$cache"
)

case $driver in
    lavapipe | amd | nvidia | apple | spirv-val) ;;
    *) say "name a driver: lavapipe, amd, nvidia or apple; or spirv-val"; exit 2 ;;
esac
if [[ ! -x $cache/$driver ]]; then
    mesa=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || true)
    if [[ $driver == lavapipe && -n $mesa ]] && dpkg --compare-versions "$mesa" ge 26; then
        echo env
        exit
    fi
    if [[ $(uname -sm) != "Linux x86_64" ]] || ! grep -qx 'VERSION_CODENAME=bookworm' /etc/os-release; then
        say "this is not Debian 12 on x86-64, the only system that $driver is fetched for"
        exit 1
    fi
    say "fetching Mesa of Debian 13's backports"
    fetch
fi
echo "$cache/$driver"
