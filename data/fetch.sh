# What the scripts that fetch several things have in common, which define for each NAME: `sums NAME`, the checksums of its files,
# and `fetch_NAME`, which makes the folder NAME in the working directory. To be sourced.

cache="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/cache"
mkdir -p "$cache"

verify() {
    sums "$1" |
        (cd "$2" && if command -v sha256sum; then sha256sum -c; else shasum -a 256 -c; fi) >/dev/null 2>&1
}

# fetch_all KNOWN NAME…: fetches what is not there already and whole; KNOWN lists all names, for messages.
fetch_all() {
    local known=$1 name
    shift
    for name in "$@"; do
        sums "$name" >/dev/null || { echo "$name is none of $known" >&2; exit 1; }
        if verify "$name" "$cache/$name"; then
            echo "data/cache/$name is already there"
            continue
        fi
        work=$(mktemp -d "$cache/fetch.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        (cd "$work" && "fetch_$name")
        verify "$name" "$work/$name" || { echo "$name: a file is not the expected one" >&2; exit 1; }
        rm -rf "${cache:?}/$name"
        mv "$work/$name" "$cache/$name"
        rm -rf "$work"
        echo "data/cache/$name is fetched"
    done
}
