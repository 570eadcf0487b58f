#!/usr/bin/env bash
# ./run tells of options that make no sense before it builds anything, and so do ./run and ./test of
# rights that are missing; what ./run tells people to try is there.
#
#   test_run_options.sh SOURCE
set -u
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0 failures=0

fail() {
    printf 'FAILED: %s\n' "$*"
    failures=$((failures + 1))
}

wrong() { # words that are told, then options
    local words=$1 code=0
    shift
    checks=$((checks + 1))
    "$root/run" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ $code -eq 2 ] || fail "./run $*: exit $code: $(cat "$work/err")"
    grep -qF -- "$words" "$work/err" || fail "./run $*: not \"$words\" but: $(cat "$work/err")"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "./run $*: more than a sentence: $(cat "$work/err")"
    [ ! -s "$work/out" ] || fail "./run $*: it began: $(cat "$work/out")"
}

mkdir "$work/made" "$work/backup" "$work/cluster" "$work/cluster/node-1"
echo '{"format": 1, "cluster_id": "x", "node_id": 1, "shards": 2, "created_ms": 1}' \
    >"$work/made/node.json"
echo '{}' >"$work/backup/backup.json"
: >"$work/file"

wrong 'unknown option: --bogus' --bogus
wrong 'unknown option: year' --once year
wrong '--port needs a value' --port
wrong '--data needs a value' --data ''
wrong '"x" is not a port' --port x
wrong '"65436" is not a port' --port 65436
wrong '"-1" is not a port' --port=-1
wrong '"0" is not a number from 1 to 256' --shards 0
wrong '"257" is not a number from 1 to 256' --once --shards=257
wrong 'file is not a directory' --data "$work/file"
wrong 'is a backup' --once --data "$work/backup"
wrong 'are spread over 2' --once --data "$work/made" --shards 3
wrong '"x" is not a number' --cluster --port x
wrong '"0" is not a number' --once --cluster --shards 0
wrong 'unrecognized arguments: --bogus' --cluster --bogus
wrong 'holds the nodes of another run' --cluster --data "$work/cluster"

checks=$((checks + 1))
"$root/run" --help | grep -q -- '--shards N' || fail "./run --help"
"$root/run" --once --cluster --help | grep -q 'Three nodes' || fail "./run --cluster --help"

# -- without the rights: one who may neither install packages nor write to the checkout
stranger=()
if [ "$(id -u)" -eq 0 ]; then stranger=(setpriv --reuid 65534 --regid 65534 --clear-groups); fi
mkdir -p "$work/theirs/scripts" "$work/shims"
cp "$root/run" "$root/test" "$work/theirs/"
cp "$root/scripts/setup" "$root/scripts/run_tests.py" "$work/theirs/scripts/"
printf '#!/bin/sh\n/usr/bin/dpkg-query "$@" | grep -v " libnng-dev$"\n' >"$work/shims/dpkg-query"
printf '#!/bin/sh\nexit 1\n' >"$work/shims/sudo"
chmod 755 "$work/shims"/*
chmod 755 "$work" "$work/theirs" "$work/theirs/scripts" && chmod a-w "$work/theirs"

may_not() { # program, words that are told; PATH as it is
    local code=0
    checks=$((checks + 1))
    "${stranger[@]}" "$work/theirs/$1" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ $code -eq 1 ] || fail "$1 without the rights: exit $code: $(cat "$work/err")"
    grep -qF -- "$2" "$work/err" || fail "$1: not \"$2\" but: $(cat "$work/err")"
    [ "$(wc -l <"$work/err")" -le 6 ] || fail "$1: more than a few sentences: $(cat "$work/err")"
}
if "${stranger[@]}" test -x "$work/theirs/run" 2>"$work/err" && command -v apt-get >/dev/null; then
    may_not run "may not write to $work/theirs, and ./run builds there: run it as $(id -un)"
    may_not test "may not write to $work/theirs, and ./test builds there: run it as $(id -un)"
    PATH=$work/shims:$PATH may_not run 'this user may not install them'
    PATH=$work/shims:$PATH may_not test 'apt-get install --no-install-recommends libnng-dev'
else
    printf 'not tried: %s\n' "no other user can be taken on here: $(cat "$work/err")"
fi

# The directory that MANPATH is told to be has a page of each program, where man looks for it.
for page in man1/jumun.1 man1/jumun-replay.1 man1/jumun-bench.1 man8/jumund.8 man8/jumun-replica.8
do
    checks=$((checks + 1))
    grep -q '^\.TH ' "$root/docs/man/$page" || fail "docs/man/$page"
done
for place in "$root/run" "$root/scripts/run_cluster.py" "$root/README.md" "$root/docs/replay.md"; do
    checks=$((checks + 1))
    grep -q 'MANPATH=.*docs/man' "$place" || fail "$place does not tell where the manuals are"
    grep -q 'PATH=.*/bin:' "$place" || fail "$place does not tell where the programs are"
done

printf '%s checks, %s failures\n' $checks $failures
[ $failures -eq 0 ]
