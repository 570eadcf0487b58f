#!/usr/bin/env bash
# What every program says of itself: help and version by their long and short names, what is not
# understood, and a manual that has each option and each exit status that the help has.
#
#   test_help.sh SOURCE-ROOT PROGRAM...
set -uo pipefail

root=$1
shift
work=$(mktemp -d "${TMPDIR:-/var/tmp}/jumun-test-help.XXXXXX")
trap 'rm -rf "$work"' EXIT
checks=0 failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$1"
}
run() { # status, command: keeps what it prints
    local wanted=$1 status=0
    shift
    checks=$((checks + 1))
    "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    [ $status -eq "$wanted" ] || fail "status $status instead of $wanted: $*"
}

for program in "$@"; do
    name=${program##*/}
    page=$(sed -e 's/\\-/-/g' -e 's/\\f[BIR]//g' "$root"/docs/man/man?/"$name".?) ||
        fail "$name has no manual"
    run 0 "$program" --help
    cp "$work/out" "$work/help"
    [ -s "$work/err" ] && fail "$name --help writes to standard error"
    awk 'length($0) > 132' "$work/help" | grep . && fail "$name --help has lines that are too long"
    run 0 "$program" -h
    cmp -s "$work/out" "$work/help" || fail "$name -h says something else than --help"
    run 0 "$program" --version
    grep -q "^$name [0-9]" "$work/out" || fail "$name --version: $(cat "$work/out")"
    cp "$work/out" "$work/version"
    run 0 "$program" -V
    cmp -s "$work/out" "$work/version" || fail "$name -V says something else than --version"
    run 2 "$program" --no-such-option
    grep -q -e '--no-such-option' "$work/err" || fail "$name does not name what it does not know"
    grep -q -e '--help' "$work/err" || fail "$name does not point to --help"
    while read -r option; do
        checks=$((checks + 1))
        grep -qF -e "$option" <<<"$page" || fail "the manual of $name lacks $option"
    done < <(grep -oE '^ +(-[A-Za-z?], )?--[a-z][a-z-]*' "$work/help" | grep -oE -- '--[a-z-]+')
    # "0 stopped on request; 1 failed", or a line for each
    exits=$(tr '\n' ' ' <"$work/help" | sed -n 's/.*[Ee]xit \(status\|codes\):\{0,1\} *//p' |
        sed 's/ \(More\|Examples\): .*//')
    [ -n "$exits" ] || fail "$name --help tells no exit status"
    manual=$(sed -n '/^\.SH "\{0,1\}EXIT STATUS/,/^\.SH [^"E]/p' <<<"$page")
    while read -r status; do
        checks=$((checks + 1))
        grep -qw "$status" <<<"$manual" || fail "the manual of $name lacks exit status $status"
    done < <(grep -oE '(^|[;,.] |  )[0-9]+ ' <<<"$exits" | grep -oE '[0-9]+')
done

printf '%d checks, %d failed\n' "$checks" "$failures"
[ "$failures" -eq 0 ]
