# For the scripts beside it: apt's own entry for Debian, with another suite.

# debian_source CODENAME SUITE: the entry of CODENAME with SUITE in its place, to go into a file that ends in what
# source_kind tells of it.
debian_source() {
    local entry file
    entry=$(apt-get indextargets --format "\$(SOURCESENTRY)" \
        'Created-By: Packages' 'Origin: Debian' "Codename: $1" | head -n1)
    file=${entry%:*}
    case $file in
        *.sources) # the entry is the n-th stanza
            awk -v RS= -v n="${entry##*:}" '/(^|\n)Types:/ && ++i == n' "$file" |
                sed -E "/^#/d; s/^Suites:.*/Suites: $2/" ;;
        *.list) # the entry is the n-th line
            sed -n "${entry##*:}p" "$file" | sed "s/ $1 / $2 /" ;;
        *) return 1 ;;
    esac
}

source_kind() { if [[ $1 == *Types:* ]]; then echo sources; else echo list; fi; }
