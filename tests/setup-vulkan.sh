#!/usr/bin/env bash
# Makes sure that a Vulkan loader and at least one Vulkan driver are there for the tests.
#
#   tests/setup-vulkan.sh           install what is missing
#   tests/setup-vulkan.sh --check   install nothing; fail if no driver is found
#
# A machine with a GPU driver, or with VK_DRIVER_FILES set, keeps the drivers it has. Else two
# independent software drivers are used: Mesa's lavapipe, from the distribution, and SwiftShader,
# taken from Debian's chromium package into the cache. The only line on stdout is the path of a
# file to source, which points the Vulkan loader at them; what was done is told on stderr.
set -euo pipefail
shopt -s nullglob
# shellcheck source=tests/debian.sh
. "$(dirname "$0")/debian.sh"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/distil-gpu"
env_file="$cache/vulkan-env.sh"
swiftshader="$cache/swiftshader"
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

say() { echo "setup-vulkan: $*" >&2; }

fail() { say "$*"; exit 1; }

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@" >&2; else sudo --preserve-env=DEBIAN_FRONTEND "$@" >&2; fi
}

# Writes the file to source for the given driver manifests (none: the loader's own choice).
finish() {
    local drivers
    drivers=$(IFS=:; echo "$*")
    mkdir -p "$cache"
    {
        echo "# Written by tests/setup-vulkan.sh: the Vulkan drivers that the tests use."
        if [[ -n $drivers ]]; then
            printf 'export VK_DRIVER_FILES=%q\n' "$drivers"
            printf 'export VK_ICD_FILENAMES=%q # for loaders before 1.3.207\n' "$drivers"
        fi
    } >"$env_file.$$"
    mv -f "$env_file.$$" "$env_file"
    echo "$env_file"
    exit 0
}

manifests() { printf '%s\n' /etc/vulkan/icd.d/*.json /usr/share/vulkan/icd.d/*.json; }

has_loader() { [[ $(ldconfig -p) == *libvulkan.so.1* ]]; }

lavapipe() { manifests | grep -E "/lvp_icd(\.$(uname -m))?\.json$" || true; }

# A GPU's device file, and a driver that is not a software one.
has_hardware() {
    local devices=(/dev/dri/renderD* /dev/nvidia[0-9]* /dev/dxg)
    [[ -e ${devices[0]} ]] && manifests | grep -Eqv '^$|/(lvp|vk_swiftshader)_icd'
}

sees_backports() { [[ $(apt-cache policy mesa-vulkan-drivers) == *"$1-backports/"* ]]; }

add_backports() {
    local content new
    content=$(debian_source "$1" "$1-backports") || return 1
    new="/etc/apt/sources.list.d/$1-backports.$(source_kind "$content")"
    as_root tee "$new" <<<"$content"
    if as_root apt-get update -qq && sees_backports "$1"; then return 0; fi
    as_root rm -f "$new"
    as_root apt-get update -qq
    return 1
}

# Debian 12 has Mesa 22; Mesa 25, in its backports, is faster and conforms to Vulkan 1.4.
install_packages() {
    local codename mesa target=()
    say "installing $*"
    as_root apt-get update -qq
    mesa=$(apt-cache policy mesa-vulkan-drivers | sed -n 's/^ *Candidate: //p')
    if [[ $* == *mesa* ]] && dpkg --compare-versions "$mesa" lt 25 &&
        grep -qx 'ID=debian' /etc/os-release; then
        codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
        if sees_backports "$codename" || add_backports "$codename"; then
            target=(-t "$codename-backports")
        else
            say "there is no Mesa in $codename-backports: taking Mesa $mesa"
        fi
    fi
    as_root apt-get install -qqy --no-install-recommends "${target[@]}" "$@"
}

# Takes two files out of Debian's chromium-common without installing it.
fetch_swiftshader() (
    say "fetching SwiftShader"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$swiftshader" && cd "$work" &&
        apt-get download -qq -o APT::Sandbox::User=root chromium-common >&2 &&
        dpkg-deb --fsys-tarfile chromium-common_*.deb |
        tar -x --wildcards --strip-components=4 '*/chromium/*vk_swiftshader*' &&
        sed -i "s|\"[^\"]*\(libvk_swiftshader.so\)|\"$swiftshader/\1|" vk_swiftshader_icd.json &&
        mv libvk_swiftshader.so "$swiftshader/" &&
        mv vk_swiftshader_icd.json "$swiftshader/"
)

case $(uname -s) in
    Linux) ;;
    Darwin) say "macOS: the tests use Metal; nothing to install"; finish ;;
    MINGW* | MSYS* | CYGWIN*) say "Windows: the tests use DX12; nothing to install"; finish ;;
    *) fail "install a Vulkan loader and Mesa's Vulkan drivers with your package manager" ;;
esac

chosen="${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}"
software=true
if [[ -n $chosen ]] || has_hardware; then software=false; fi

if [[ ${1:-} != --check ]]; then
    missing=()
    has_loader || missing+=(libvulkan1)
    if $software && [[ -z $(lavapipe) ]]; then missing+=(mesa-vulkan-drivers); fi
    if [[ ${#missing[@]} -gt 0 ]]; then
        command -v apt-get >/dev/null || fail "install the Vulkan loader and Mesa's Vulkan drivers" \
            "(Fedora: vulkan-loader mesa-vulkan-drivers; Arch: vulkan-icd-loader vulkan-swrast;" \
            "Alpine: vulkan-loader mesa-vulkan-swrast)"
        install_packages "${missing[@]}" || say "warning: could not install ${missing[*]}"
    fi
    if $software && [[ ! -e $swiftshader/vk_swiftshader_icd.json ]]; then
        fetch_swiftshader || say "warning: SwiftShader cannot be had; going on without it"
    fi
fi

has_loader || fail "no Vulkan loader (libvulkan.so.1) found"
if [[ -n $chosen ]]; then
    say "using the drivers named in the environment: $chosen"
    finish "$chosen"
elif ! $software; then
    say "using this machine's GPU driver"
    finish
fi

drivers=()
for driver in "$(lavapipe)" "$swiftshader/vk_swiftshader_icd.json"; do
    if [[ -e $driver ]]; then drivers+=("$driver"); fi
done
[[ ${#drivers[@]} -gt 0 ]] || fail "no Vulkan driver found"
say "using software drivers: ${drivers[*]}"
finish "${drivers[@]}"
