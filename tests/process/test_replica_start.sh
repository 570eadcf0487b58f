#!/usr/bin/env bash
# How jumun-replica begins with --from: what it says and does when the other replica cannot be
# reached, is of another cluster, or is no replica, and that a signal ends it meanwhile. And which
# directories it refuses.
#
#   test_replica_start.sh JUMUND JUMUN-REPLICA JUMUN
set -uo pipefail

jumund=$1 replica=$2 jumun=$3
work=$(mktemp -d "${TMPDIR:-/var/tmp}/jumun-test-replica-start.XXXXXX")
pids=() checks=0 failures=0

clean_up() {
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    failures=$((failures + 1))
    printf 'FAILED (line %s): %s\n' "${BASH_LINENO[1]}" "$1"
    tail -n 20 "$work"/*.log
}
says() { # says LOG TEXT: also when it comes a little later
    checks=$((checks + 1))
    for _ in $(seq 600); do
        grep -qF -- "$2" "$work/$1.log" && return 0
        sleep 0.1
    done
    fail "$1.log lacks: $2"
}
ends() { # ends STATUS: the newest process
    checks=$((checks + 1))
    wait "${pids[-1]}"
    local status=$?
    [ $status -eq "$1" ] || fail "status $status instead of $1"
}
begin() { # begin NAME COMMAND...
    local name=$1
    shift
    "$@" >"$work/$name.ready" 2>"$work/$name.log" </dev/null &
    pids+=($!)
}
start() { # the same; waits for the ready line and leaves the address in $address
    begin "$@"
    for _ in $(seq 600); do
        address=$(sed -n 's/^[a-z-]* ready: \([^ ]*\).*/\1/p' "$work/$1.ready")
        [ -z "$address" ] || return 0
        sleep 0.1
    done
    fail "$1 was not ready in time"
    exit 1
}
new() { begin "$1" "$replica" --data "$work/$1" --listen "ipc://$work/$1.ipc" "${@:2}"; }

start node "$jumund" --data "$work/node" --listen tcp://127.0.0.1:0 --shards 2 --no-pin
node=$address
start other "$jumund" --data "$work/other" --listen tcp://127.0.0.1:0 --shards 2 --no-pin
other=$address
start source "$replica" --nodes "$node" --data "$work/source" --listen tcp://127.0.0.1:0
source=$address
key=$("$jumun" --timeout 1m --endpoint "$node" -q place --store s1 --currency KRW \
    --line rice:2:9500)

for bad in bogus tcp://127.0.0.1 tcp://127.0.0.1:99999 "$node,"; do
    for option in --nodes --from; do
        new "bad$option" "$option" "$bad"
        ends 2
        says "bad$option" "an address is tcp://HOST:PORT"
    done
done
says bad--from "--from: \"\" is empty"
for option in --listen --notify-listen; do
    begin bad timeout 60 "$replica" --nodes "$node" --data "$work/bad" $option 127.0.0.1:7500
    ends 2
    says bad "$option: \"127.0.0.1:7500\" does not begin with tcp://"
done
checks=$((checks + 1))
[ ! -e "$work/bad--nodes" ] || fail "a replica without an address to follow made its directory"

# One that is refused a directory has touched nothing of the one that runs there.
begin again "$replica" --nodes "$node" --data "$work/source" --listen tcp://127.0.0.1:0
ends 1
says again "another replica uses this directory"
checks=$((checks + 1))
"$jumun" --timeout 1m import --full --replica "$source" --output "$work/all" 2>"$work/import.log" ||
    fail "the replica that runs cannot be exported any more"
checks=$((checks + 1))
grep -qF "$key" "$work/all" || fail "the export lacks the order"

# A node's directory is no replica's, whether the node runs or waits, and the other way round.
begin waiting "$jumund" --data "$work/waiting" --listen tcp://127.0.0.1:0 \
    --peer-listen tcp://127.0.0.1:0 --cluster-wait --no-pin
says waiting "waiting for a cluster"
for place in node waiting; do
    for from in "" "$source"; do
        begin taken timeout 60 "$replica" --nodes "$node" --data "$work/$place" \
            --listen tcp://127.0.0.1:0 ${from:+--from "$from"}
        ends 1
        says taken "$work/$place is the data directory of a node (jumund)"
        checks=$((checks + 1))
        [ ! -e "$work/$place/views" ] || fail "a replica made its views in a node's directory"
    done
done
for waits in "" --cluster-wait; do
    begin taken timeout 60 "$jumund" --data "$work/source" --listen tcp://127.0.0.1:0 $waits
    ends 3
    says taken "$work/source is the directory of a replica (jumun-replica)"
    checks=$((checks + 1))
    [ ! -e "$work/source/lock" ] && [ ! -e "$work/source/node.json" ] ||
        fail "a node left something in a replica's directory"
done
for program in "3 $jumund --no-pin" "1 $replica --nodes $node"; do
    begin taken timeout 60 ${program#* } --data "$work/node.ready" --listen tcp://127.0.0.1:0
    ends "${program%% *}"
    says taken "$work/node.ready is not a directory"
done

new mistaken --nodes "$source"
says mistaken "$source: a replica answers there, not a node"
kill -TERM "${pids[-1]}"
ends 0
feed=$("$jumun" --timeout 1m --endpoint "$node" --json status |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["feed"]["endpoint"])')
new feed --nodes "$feed"
says feed "$feed: the feed of a node answers there: name the general endpoint"
kill -TERM "${pids[-1]}"
ends 0
new direct --nodes "feed:tcp://127.0.0.1:1"
says direct "answering at"
kill -TERM "${pids[-1]}"
ends 0

new away --nodes "$node" --from tcp://127.0.0.1:1
says away "--from: cannot reach tcp://127.0.0.1:1"
begin second-away timeout 60 "$replica" --data "$work/away" --listen "ipc://$work/second-away.ipc" \
    --nodes "$node" --from "$source"
ends 1
says second-away "$work/away/views: another replica uses this directory"
checks=$((checks + 1))
! grep -q fetching "$work/second-away.log" || fail "it fetched into the directory of another one"
kill -TERM "${pids[-2]}"
unset "pids[-1]"
ends 0
checks=$((checks + 1))
[ ! -e "$work/away/views" ] || fail "it ended and left views"
new nodeless --nodes tcp://127.0.0.1:1 --from "$source"
says nodeless "cannot reach a node"
kill -INT "${pids[-1]}"
ends 0

new stranger --nodes "$other" --from "$source"
ends 1
says stranger "--from $source follows cluster" && says stranger "nothing was copied"
checks=$((checks + 1))
[ ! -e "$work/stranger/views" ] || fail "views of another cluster were copied"
new wrong --nodes "$node" --from "$node"
ends 1
says wrong "it is no replica"

# One of two is away: the other one gives its views. None of them: the logs do.
new second --nodes "$node" --from "tcp://127.0.0.1:1,$source"
says second "took over the views of $source" && says second "caught up"
new logs --nodes "$node" --from tcp://127.0.0.1:1
says logs "made from the logs" && says logs "caught up"
for name in second logs; do
    checks=$((checks + 1))
    "$jumun" --timeout 1m orders --replica "ipc://$work/$name.ipc" --key "$key" \
        >"$work/$name.rows" 2>>"$work/$name.log" || fail "$name does not answer"
    grep -qF "$key" "$work/$name.rows" || fail "$name has not got the order"
done

printf '%d checks, %d failures\n' $checks $failures
[ $failures -eq 0 ]
