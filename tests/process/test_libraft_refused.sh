#!/usr/bin/env bash
# Configuring stops at a libraft that the consensus seam was not proven with, and says why: 0.15
# loses acknowledged entries, and of a later series nothing is known.
#
#   test_libraft_refused.sh SOURCE
set -u
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

refused() { # version, what is said, in one or more pieces
    local code=0
    mkdir -p "$work/pc"
    printf 'Name: raft\nDescription: of another version\nVersion: %s\nLibs: -lraft\nCflags:\n' \
        "$1" >"$work/pc/raft.pc"
    PKG_CONFIG_PATH=$work/pc meson setup "$work/build" "$root" >"$work/out" 2>&1 </dev/null ||
        code=$?
    for words in "${@:2}"; do
        if [ $code -eq 0 ] || ! grep -qF -- "$words" "$work/out"; then
            printf 'FAILED: libraft %s: exit %s, not "%s" but:\n' "$1" $code "$words"
            tail -n 5 "$work/out"
            failures=$((failures + 1))
        fi
    done
    rm -rf "$work/build"
}

refused 0.15.0 'libraft >= 0.22 is needed, found: 0.15.0. Version 0.15 of Debian 12 loses' \
    'Run scripts/setup'
refused 0.23.0 'libraft 0.23.0 is newer than the one the consensus seam was proven with'

printf '2 versions, %s failures\n' $failures
[ $failures -eq 0 ]
