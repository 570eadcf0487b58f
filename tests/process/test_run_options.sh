#!/usr/bin/env bash
# ./run tells of options that make no sense before it builds anything, and what it tells people to
# try is there.
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
