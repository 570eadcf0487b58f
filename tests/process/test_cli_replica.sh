#!/usr/bin/env bash
# The commands of jumun that ask replicas, against a real node and two real replicas: what they
# print, their JSON, their exit status; a watch and a copy that are stopped and go on; and what the
# README tells to try first.
#
#   test_cli_replica.sh JUMUND JUMUN-REPLICA JUMUN JUMUN-REPLAY README
set -uo pipefail

jumund=$1 replica=$2 jumun=$3 jumun_replay=$4 readme=$5
work=$(mktemp -d "${TMPDIR:-/var/tmp}/jumun-test-cli-replica.XXXXXX")
pids=() checks=0 failures=0
export TZ=UTC

clean_up() {
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    failures=$((failures + 1))
    printf 'FAILED (line %s): %s\n' "${BASH_LINENO[1]}" "$1"
    sed 's/^/    out: /' "$work/out" | head -n 20
    sed 's/^/    err: /' "$work/err" | head -n 20
}
# j STATUS ARGUMENTS...: one call. What somebody answers may take its time on a busy machine.
j() {
    local wanted=$1 status=0 patience=(--timeout 1m)
    shift
    [ "$wanted" -ne 3 ] || patience=()
    checks=$((checks + 1))
    "$jumun" "${patience[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    [ $status -eq "$wanted" ] || fail "status $status instead of $wanted: $*"
}
# ahead NAME ARGUMENTS...: begins a call that mostly waits, for `ahead_of STATUS NAME` to judge.
declare -A begun
ahead() {
    local name=$1
    shift
    "$jumun" "$@" >"$work/$name.ahead-out" 2>"$work/$name.ahead-err" </dev/null &
    begun[$name]=$!
}
ahead_of() {
    local wanted=$1 name=$2 status=0
    checks=$((checks + 1))
    wait "${begun[$name]}" || status=$?
    mv "$work/$name.ahead-out" "$work/out"
    mv "$work/$name.ahead-err" "$work/err"
    [ $status -eq "$wanted" ] || fail "status $status instead of $wanted: $name"
}
says() { checks=$((checks + 1)); grep -qF -- "$1" "$work/out" || fail "stdout lacks: $1"; }
omits() { checks=$((checks + 1)); ! grep -qF -- "$1" "$work/out" || fail "stdout has: $1"; }
complains() { checks=$((checks + 1)); grep -qF -- "$1" "$work/err" || fail "stderr lacks: $1"; }
lines() { checks=$((checks + 1)); [ "$(wc -l <"$1")" -eq "$2" ] || fail "$1 has not $2 lines"; }
json() {
    checks=$((checks + 1))
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(not eval(sys.argv[2]))' "$work/out" "$1" 2>>"$work/err" || fail "not so in the JSON: $1"
}

# start NAME COMMAND...: runs it, waits for its ready line, leaves its address in $address.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.ready" 2>"$work/$name.log" </dev/null &
    pids+=($!)
    for _ in $(seq 600); do
        address=$(sed -n 's/^[a-z-]* ready: \([^ ]*\).*/\1/p' "$work/$name.ready")
        [ -z "$address" ] || return 0
        sleep 0.1
    done
    cat "$work/$name.log"
    exit 1
}
place() { "$jumun" --timeout 1m -q place --store s1 --currency KRW --line rice:2:9500:Rice "$@"; }
# caught_up: both replicas have all that the node has committed, whichever of them is asked next.
caught_up() {
    local all each
    j 0 --json status
    all=$(python3 -c 'import json, sys
shards = json.load(sys.stdin)["shards"]
print(",".join("%d:%d" % (s["shard"], s["commit_index"]) for s in shards))' <"$work/out")
    for each in "$one" "$two"; do
        for _ in $(seq 300); do # one call waits for some seconds at most
            "$jumun" --timeout 1m orders --store s1 --limit 1 --at-least "$all" --strict \
                --replica "$each" >"$work/out" 2>"$work/err" && break
        done
        j 0 orders --store s1 --limit 1 --at-least "$all" --strict --replica "$each"
    done
}

start node "$jumund" --data "$work/data" --listen tcp://127.0.0.1:0 --shards 2 --no-pin
export JUMUN_ENDPOINT=$address
start a "$replica" --nodes "$JUMUN_ENDPOINT" --data "$work/a" --listen tcp://127.0.0.1:0
one=$address
start b "$replica" --nodes "$JUMUN_ENDPOINT" --data "$work/b" --listen tcp://127.0.0.1:0
two=$address
export JUMUN_REPLICA=$one,$two

# -- a replica that has reached no node: nothing of it looks like a whole answer
"$replica" --nodes tcp://127.0.0.1:1 --data "$work/c" --listen ipc://"$work/c.ipc" \
    --notify-listen none >"$work/c.ready" 2>"$work/c.log" </dev/null &
lonely=$! pids+=($!)
for _ in $(seq 300); do [ -S "$work/c.ipc" ] && break; sleep 0.1; done
ahead orders --timeout 10s orders --replica "ipc://$work/c.ipc" --store s1
ahead watch --timeout 10s watch store/s1 --replica "ipc://$work/c.ipc"
j 1 --timeout 1m lag --replica "ipc://$work/c.ipc" && says "no node yet"
complains "has reached no node yet"
j 1 --timeout 1m --json lag --replica "ipc://$work/c.ipc" --max-age 1h
json 'd[0]["name"] == "not_ready" and d[0]["replica"].startswith("ipc:")'
j 0 --timeout 1m orders --replica "ipc://$work/c.ipc,$one" --store s1
j 1 --timeout 1m replica status --interval 0 --replica "ipc://$work/c.ipc"
says "empty, no node yet" && omits ready && says "not reached"
complains "has reached no node yet"
j 1 --timeout 1m replica rebuild board --replica "ipc://$work/c.ipc"
complains "not_ready" && complains "reached no node"

key=$(place --customer c1 --external-ref r-77)
for n in 2 3 4 5 6; do place --customer "c$n" >/dev/null; done
"$jumun" --timeout 1m -q pay "$key" 19000 --reference pg1
token=$("$jumun" --timeout 1m -j accept "$key" --minutes 5 | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(str(d["shard"]) + ":" + str(d["index"]))')

# Where nobody answers; judged further down.
away=tcp://127.0.0.1:1
ahead orders-away orders --store s1 --replica $away --timeout 3s
ahead stats stats --replica $away --timeout 3s
ahead lag lag --replica $away --timeout 3s
ahead quiet -q stats --replica $away --timeout 3s
ahead three lag --replica "$away,$one,tcp://127.0.0.1:2" --timeout 10s
ahead three-json --json lag --replica "$away,tcp://127.0.0.1:2,$one" --timeout 10s
ahead three-status --json replica status --replica "$away,$one,tcp://127.0.0.1:2" --timeout 10s
ahead status --timeout 10s replica status --replica "$one,$away"
ahead status-json --timeout 1s --json replica status --replica $away
ahead watch-away --timeout 1s watch store/s1 --replica $away
ahead rebuild --timeout 1s replica rebuild board --replica $away

# -- orders: own writes by their token, lists, pages, fields
j 0 --json orders --key "$key" --at-least "$token" --strict
json 'd["orders"][0]["state"] == "accepted" and not d["lagging"] and len(d["tokens"]) == 2'
caught_up
j 0 orders --store s1 && says accepted && says "19,000 KRW"
j 0 --json orders --store s1 --limit 4
json 'len(d["orders"]) == 4 and d["more"]'
cursor=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["cursor"])' "$work/out")
first=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["orders"][0]["key"])' \
    "$work/out")
j 0 --json orders --store s1 --limit 4 --cursor "$cursor"
json 'len(d["orders"]) == 2 and not d["more"] and d["cursor"] is None'
omits "$first"
j 0 orders --store s1 --limit 4 && complains "go on with --cursor $cursor"
j 2 orders --store s1 --cursor xyz && complains "--cursor"
j 2 orders --key "$key" --cursor "$cursor" && complains "no pages"
j 1 orders --customer c1 --cursor "$cursor" && complains cursor_invalid
nobody=$("$jumun" key new)
j 1 --json orders --key "$key" --key "$nobody"
json 'len(d["orders"]) == 1 and d["not_found"] == ["'"$nobody"'"]'
complains "no order has the key $nobody"
complains "--at-least SHARD:INDEX (place --json tells both) waits until it is there"
j 0 --json orders --store s1 --limit 0
json 'len(d["orders"]) == 6 and not d["more"]'
j 0 --json orders --store s1 --state placed --fields key,total
json 'len(d["orders"]) == 5 and d["orders"][0] == {"key": d["orders"][0]["key"], "total": 19000}'
j 0 --json orders --key "$key"
json 'open(sys.argv[1] + ".whole", "w").write(json.dumps(d["orders"][0]))'
j 0 --json orders --key "$key" \
    --fields fulfilment,payment_timing,ended_by,state,attributes,lines,payments
json 'all(json.load(open(sys.argv[1] + ".whole"))[k] == v for k, v in d["orders"][0].items())'
json 'd["orders"][0]["fulfilment"] == "pickup" and d["orders"][0]["payment_timing"] == "prepaid"'
j 0 orders --key "$key" --fields fulfilment,state && says pickup
j 0 --json orders --customer c1 && json 'len(d["orders"]) == 1'
j 0 --json orders --ref r-77 && json 'd["orders"][0]["key"] == "'"$key"'"'
j 0 --json orders --state accepted --from 1h && json 'len(d["orders"]) == 1'
j 0 --json orders --state accepted --to 1h && json 'd["orders"] == []'
j 0 --json orders --customer nobody && json 'd["orders"] == []'
j 0 --json orders --store s1 --at-least 1:999999
json 'd["lagging"] and d["partial"]'
complains "does not reflect all"
j 1 orders --store s1 --at-least 1:999999 --strict && complains token_not_reached
for with in "orders --store s1" "orders --key $nobody" "orders --store s1 --strict" stats; do
    j 1 $with --at-least 0:1,7:1 --timeout 4s && complains "shard 7 is not known there"
done
j 2 orders --store s1 --at-least 700:1 && complains "no shard has a number over 255"
j 2 orders && complains "one of --store"
for with in "--store s1" "--customer c1" "--key $key" "--ref r-77" "--store s1 --state placed"; do
    j 2 orders $with --from 1h && complains "--from and --to go with --state alone"
    j 2 orders $with --to 1h && complains "--from and --to go with --state alone"
done
j 2 orders --state accepted --from now --to 1h && complains "--from is later than --to"
j 2 orders --store s1 --state placed --state completed && complains "--state completed alone"
j 0 orders --store s1 --fields key,total && says "19,000 KRW" && omits currency
j 0 orders --store s1 --fields total,currency && says "19,000 KRW" && says currency
# What the replica that has reached no node said.
ahead_of 1 orders && complains "not_ready" && complains "reached no node"
ahead_of 1 watch && complains "reached no node"
kill -TERM "$lonely"; wait "$lonely"

ahead_of 3 orders-away && complains "waiting for $away to answer"
ahead_of 3 stats && complains "waiting for $away"
ahead_of 3 lag && complains "waiting for $away"
ahead_of 3 quiet
checks=$((checks + 1)); ! grep -q "waiting for" "$work/err" || fail "told in spite of --quiet"
# -- addresses without a scheme: told before anything is printed or asked
for with in "orders --store s1" stats lag "watch store/s1" "import --full" "import --since 1h" \
    "replica status" "replica views" "replica rebuild board"; do
    j 2 $with --replica "$one,localhost:7500"
    complains '--replica: "localhost:7500" does not begin with tcp://'
    [ ! -s "$work/out" ] || fail "it began to print"
done
for with in "get $key" "import --since 1h" "cluster status"; do
    j 2 $with --endpoint localhost && complains '--endpoint: "localhost" does not begin with tcp://'
done
JUMUN_REPLICA=localhost j 2 lag && complains 'JUMUN_REPLICA: "localhost" does not begin'
complains "an address is tcp://HOST:PORT"
JUMUN_ENDPOINT=localhost j 2 get "$key" && complains 'JUMUN_ENDPOINT: "localhost" does not begin'
JUMUN_ENDPOINT=$one j 2 -e elsewhere get "$key" && complains '--endpoint: "elsewhere" does not'
# ... but where none is asked
JUMUN_ENDPOINT=localhost j 3 cluster recover --program "$work/none" --data "$work/none"
complains "cannot run $work/none"
for with in "add localhost" "form --node localhost --node tcp://127.0.0.1:1 --node x"; do
    j 2 cluster $with && complains '"localhost" does not begin with tcp://'
done

# -- several that are away: asked at once, told of in the order given
ahead_of 3 three
python3 - "$work/out" "$one" >>"$work/err" <<'END' || fail "not in the order given"
import sys
told = [line.split()[0] for line in open(sys.argv[1])][1:]
sys.exit(told != ['tcp://127.0.0.1:1', sys.argv[2], sys.argv[2], 'tcp://127.0.0.1:2'])
END
ahead_of 3 three-json
json '[r["replica"] for r in d][:2] == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]'
json 'len(d) == 4 and d[2]["replica"] == "'"$one"'"'
ahead_of 3 three-status
json 'len(d) == 3 and d[0]["name"] == d[2]["name"] == "not_sent" and d[1]["status"]["replica"]'
j 3 import --full --replica tcp://127.0.0.1:1,tcp://127.0.0.1:2
complains "tcp://127.0.0.1:1: no snapshot" && complains "tcp://127.0.0.1:2: no snapshot"
# A node that refuses is no replica that does.
j 3 import --full --replica "tcp://127.0.0.1:1,$JUMUN_ENDPOINT" && complains "a node answers there"
j 2 import --full --replica "$JUMUN_ENDPOINT" && complains "a node answers there"

# -- a store that nobody has heard of
j 0 store pause unheard --reason test && says done
complains "no order has named the store unheard"
j 0 -q store resume unheard
j 0 store pause unheard
checks=$((checks + 1)); ! grep -q "no order" "$work/err" || fail "it has been heard of by now"

j 2 orders --store s1 --state cooked && complains "not a state"
for with in "orders" "orders --store s1" "stats"; do
    j 2 $with --state awaited && complains "was not placed yet"
done
j 2 orders --store s1 --at-least 1-2
j 1 orders --store s1 --fields key,colour && complains field_unknown

# -- stats, lag
j 0 --json stats && json 'sum(c["orders"] for c in d["counters"] if c["state"] == "placed") == 6'
j 0 --json stats --by day --store s1 --state accepted
json 'd["counters"][0]["total"] == 19000'
j 0 stats && says accepted
TZ=Asia/Seoul j 0 stats --by day && says "day of UTC" && omits "09:00"
j 2 stats --by hour
caught_up
j 0 --json lag && json 'len(d) == 4 and all(s["behind"] == 0 for s in d)'
ahead lag-json --json lag --replica "$one,$away" --timeout 10s
j 0 lag --max-age 1m && says "$one" && says "$two"
j 3 lag --replica tcp://127.0.0.1:1 --timeout 300ms
says "no answer" && complains "tcp://127.0.0.1:1: no replica answers there"

# -- how the replicas are
# Where freed memory does not keep what was in it.
GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MALLOC_PERTURB_=85 \
    j 0 --timeout 1m replica status --interval 200ms
says "jumun-replica" && says "$one" && says "$two" && says "$JUMUN_ENDPOINT" && says "ready"
says "by_customer" && says "waiting for a change" && says "none under way" && says "whole"
j 0 --json replica status
json '[r["replica"] for r in d] == "'"$JUMUN_REPLICA"'".split(",")'
json 'all(r["status"]["follower"]["failures"] == 0 for r in d)'
json 'all(s["node"] == "'"$JUMUN_ENDPOINT"'" and not s["importing"] and s["index"] == s["commit"]
    for r in d for s in r["status"]["shards"])'
json 'all(r["status"]["sources"][0]["reached"] and r["status"]["disk_free_bytes"] for r in d)'
ahead_of 3 status
says "$one" && complains "tcp://127.0.0.1:1: no replica answers there within 10 s"
ahead_of 3 status-json
json 'd[0]["name"] == "not_sent"'
j 2 replica status --interval soon
ahead_of 3 watch-away
complains "no replica answers at tcp://127.0.0.1:1 within 1 s"

# -- a view is built anew beside the one that answers
for _ in $(seq 120); do # rows are written some seconds after they can be asked for
    j 0 --json replica views --replica "$one"
    grep -qF '"orders":6' "$work/out" && break
    sleep 0.5
done
json 'd["building"] == {} and d["views"]["orders"] == 6'
json 'open(sys.argv[1] + ".views", "w").write(json.dumps(d))'
j 0 --timeout 1m replica rebuild board --replica "$one"
says "is rebuilt of the replica's 6 orders and answers"
j 0 --json replica views --replica "$one"
json '(d["generations"]["board"] ==
    1 + json.load(open(sys.argv[1] + ".views"))["generations"]["board"])'
json 'd["views"]["board"] == 6 and d["building"] == {}'
j 0 replica views --replica "$one" && says by_customer
j 0 --json orders --store s1 --replica "$one" --limit 0 && json 'len(d["orders"]) == 6'
j 0 --json replica rebuild changes --no-wait --replica "$one"
json 'not d["done"] and "orders" not in d'
j 0 --timeout 1m --json replica rebuild by_ref --replica "$one"
json 'd["done"] and d["orders"] == 6 and not d["under_way"]'
j 1 replica rebuild counters --replica "$one" && complains "not made from orders"
j 1 replica rebuild colours --replica "$one" && complains "no such view"
j 2 replica rebuild board && complains "one at a time"
ahead_of 3 rebuild
ahead_of 3 lag-json
json 'len(d) == 3 and d[2]["name"] == "not_sent" and d[0]["behind"] == 0'

# -- what only a node answers, asked of a replica
for words in status ping top "get $key" "history $key" "store get s1" "cancel $key" \
    "place --store s1 --currency KRW --line rice:1:100"; do
    # shellcheck disable=SC2086
    j 2 --endpoint "$one" $words
    complains "--endpoint $one: a replica answers there, not a node; nodes are named with"
done
j 2 --json --endpoint "$one" get "$key" && json 'd["code"] == 23 and d["name"] == "read_only"'
j 2 --endpoint "$one" --timeout 10s cluster status
complains "a replica answers there, not a node"

# -- and what only a replica answers, asked of a node and of its feed: at once, with time left
j 0 --json status
feed=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["feed"]["endpoint"])' <"$work/out")
# at_once TEXT CALL...: one that waits does so for a minute
at_once() {
    local text=$1 asked_at=$SECONDS
    shift
    j 2 --timeout 2m "$@"
    complains "$text"
    checks=$((checks + 1))
    [ $((SECONDS - asked_at)) -lt 50 ] || fail "not at once: $((SECONDS - asked_at)) s"
}
for words in "orders --store s1" "orders --key $key --at-least 0:1" stats lag "watch store/s1" \
    "import --full" "import --since 10m" "replica status" "replica views" \
    "replica rebuild board"; do
    # shellcheck disable=SC2086
    at_once "--replica $JUMUN_ENDPOINT: a node answers there, not a replica; nodes are named with" \
        $words --replica "$JUMUN_ENDPOINT"
    # shellcheck disable=SC2086
    at_once "--replica $feed: a node's feed answers there (--feed-listen), which replicas" \
        $words --replica "$feed"
done
j 3 --timeout 2s import --full --replica tcp://127.0.0.1:1
complains "no snapshot: nothing listens there (connection refused): does it run?"
j 2 --json orders --store s1 --replica "$JUMUN_ENDPOINT"
json 'd["code"] == 1008 and d["name"] == "not_a_replica"'
j 2 --json lag --replica "$JUMUN_ENDPOINT,$one"
json 'd[0]["name"] == "not_a_replica" and d[1]["behind"] == 0'
j 0 orders --store s1 --replica "$JUMUN_ENDPOINT,$one"
j 2 --timeout 2m --endpoint "$one,$two" get "$key"
complains "a replica answers there, not a node"
j 0 --json --endpoint "$one,$JUMUN_ENDPOINT" get "$key" && json 'd["state"] == "accepted"'

# -- watch: stopped, and nothing missed
"$jumun" --timeout 1m --json watch store/s1 --tokens "$work/w.tokens" --count 1 >"$work/w1" 2>&1 &
watch=$!
for _ in $(seq 1000); do
    "$jumun" --timeout 1m -q annotate "$key" here
    kill -0 "$watch" 2>/dev/null || break
    sleep 0.05
done
wait "$watch" || fail "the watch ended badly"
lines "$work/w1" 1
# two on one file of tokens: the second one is refused, and takes nothing from the first
"$jumun" --timeout 1m --json watch store/s1 --tokens "$work/w.tokens" >/dev/null 2>"$work/w.err" &
watch=$!
for _ in $(seq 300); do [ -e "$work/w.tokens.lock" ] && break; sleep 0.1; done
j 4 watch store/s1 --tokens "$work/w.tokens" --count 1 && complains "another command keeps"
j 4 import --since 1m --tokens "$work/w.tokens" && complains "another command keeps"
kill -TERM "$watch"; wait "$watch" || fail "the watch ended badly"
checks=$((checks + 1))
[ ! -e "$work/w.tokens.lock" ] || fail "the lock stayed behind"

# watches FILE STORE: begins to, is seen watching, and is ended before anything happens
watches() {
    timeout 100 "$jumun" --timeout 1m watch "store/$2" --tokens "$1" \
        >/dev/null 2>"$work/err" </dev/null &
    watch=$!
    for _ in $(seq 300); do grep -q "^watching" "$work/err" && break; sleep 0.1; done
    checks=$((checks + 1))
    kill -TERM "$watch" && wait "$watch" || fail "the watch ended badly"
}
# told FILE WHAT: each of w1, w2, w3 came, and nothing came twice
told() {
    checks=$((checks + 1))
    [ "$(grep -o '"customer":"w[0-9]"' "$1" | sort | tr -d '\n')" = \
        '"customer":"w1""customer":"w2""customer":"w3"' ] || fail "$2: not w1, w2, w3"
}
placed() { for n in 1 2 3; do place --store "$1" --customer "w$n" >/dev/null; done; }

# what happens between two watches is told by the second one, though the first one told nothing
watches "$work/w3.tokens" s3
placed s3
j 0 --timeout 1m --json watch store/s3 --tokens "$work/w3.tokens" --count 3
lines "$work/out" 3 && told "$work/out" "after a watch that told nothing"
j 2 watch rider/1

# -- orders are not played into a replica
replay=("$jumun_replay" play "$work/data" --into "$one")
checks=$((checks + 1))
"${replay[@]}" >"$work/out" 2>"$work/err" </dev/null
[ $? -eq 3 ] || fail "${replay[*]} does not end with 3"
complains "a replica answers there, not a node"

# -- import: whole, since tokens, and one that was stopped
j 2 import --full --since 10m && complains "only one of --full and --since may be given"
j 2 import && complains "one of --full and --since is needed"
caught_up
j 0 import --full --output "$work/all.jsonl" --tokens "$work/all.tokens"
lines "$work/all.jsonl" 9
"$jumun" --timeout 1m -q ready "$key"
new=$(place --customer late)
j 0 import --since "@$work/all.tokens" --tokens "$work/all.tokens"
lines "$work/out" 2
says "$new" && says "$key"
j 0 import --since "@$work/all.tokens" && lines "$work/out" 0
j 0 import --since 10m --format csv --fields key,state && lines "$work/out" 11
says "$key,ready"
j 0 import --since 10m --format csv --fields key,fulfilment,payment_timing
says "$key,pickup,prepaid"
caught_up
j 0 -q import --full --format csv && lines "$work/out" 11
{ echo store,currency,lines; for n in $(seq 1700); do echo s2,KRW,a:1:100; done; } \
    >"$work/more.csv"
"$jumun" --timeout 1m -q place --csv "$work/more.csv" >"$work/more.keys"
caught_up
# So slow that it is met in the midst, however late its first page is seen.
"$jumun" --timeout 1m import --full --output "$work/two.jsonl" --tokens "$work/two.tokens" \
    --rate 200 >/dev/null 2>&1 &
copy=$!
for _ in $(seq 1200); do
    grep -q '"rows":[1-9]' "$work/two.tokens" 2>/dev/null && break
    sleep 0.05
done
kill -KILL "$copy"; wait "$copy" 2>/dev/null
j 1 import --since 0:99999,1:99999 && complains "has come to"
# what it has not copied yet is not "changed since"
j 4 import --since "@$work/two.tokens" --tokens "$work/two.tokens" && complains "was stopped"
j 4 watch store/s1 --tokens "$work/two.tokens" --count 1
complains "keeps the place of jumun import --full"
printf 'torn' >>"$work/two.jsonl"
j 0 import --full --output "$work/two.jsonl" --tokens "$work/two.tokens" && complains "going on"
complains "00 orders" # it had written some
lines "$work/two.jsonl" 1710
checks=$((checks + 1))
python3 -c 'import json, sys
keys = [json.loads(line)["key"] for line in open(sys.argv[1])]
sys.exit(len(keys) != len(set(keys)))' "$work/two.jsonl" || fail "an order was copied twice"
j 2 import && j 2 import --full --since 1m && j 4 import --since @nowhere

# -- watch --count: never at the same place for ever
# one at a time, although all of them wait
watches "$work/w4.tokens" s4
placed s4
for _ in 1 2 3; do
    j 0 --timeout 1m --json watch store/s4 --tokens "$work/w4.tokens" --count 1
    cat "$work/out" >>"$work/w4"
done
lines "$work/w4" 3 && told "$work/w4" "one at a time"
# the tokens cannot tell orders of one entry apart: they are told together
watches "$work/w5.tokens" s5
{ echo store,currency,lines; for n in $(seq 40); do echo s5,KRW,a:1:100; done; } >"$work/s5.csv"
"$jumun" --timeout 1m -q place --csv "$work/s5.csv" >/dev/null
: >"$work/w5"
for _ in $(seq 40); do
    [ "$(wc -l <"$work/w5")" -ge 40 ] && break
    j 0 --timeout 1m --json watch store/s5 --tokens "$work/w5.tokens" --count 1
    cat "$work/out" >>"$work/w5"
done
lines "$work/w5" 40
checks=$((checks + 1))
[ "$(grep -o '"key":"[^"]*"' "$work/w5" | sort -u | wc -l)" -eq 40 ] || fail "a change came twice"

# -- the README's first five minutes, word for word but for the live view
mkdir "$work/bin" && ln -s "$(realpath "$jumun")" "$work/bin/jumun"
sed -n '/^## The first five minutes/,/^## The\|^## Doc/p' "$readme" |
    sed -n '/^export PATH/,/^```/{/^export\|^```\|^jumun top/d;s/ && /\n/;p}' >"$work/minutes"
lines "$work/minutes" 10
PATH=$work/bin:$PATH bash -eux -o pipefail "$work/minutes" >"$work/out" 2>"$work/err" </dev/null ||
    fail "the README's first five minutes do not work"
says order_accepted

# -- an answer that is old says so: the replicas hear nothing of their node
kill -STOP "${pids[0]}"
for _ in $(seq 60); do
    j 0 --timeout 1m orders --store s1
    grep -qF " old: tcp://" "$work/err" && break
    sleep 1
done
complains " old: tcp://"
j 0 --timeout 1m orders --store s1 --max-age 1h
checks=$((checks + 1))
! grep -qF " old: " "$work/err" || fail "an age that was asked for is remarked on"
j 3 --timeout 3s import --since 10m && complains "waiting for a node at"
kill -CONT "${pids[0]}"

# -- one that has nothing to pay is placed and paid at once, and counts as both
free=$("$jumun" --timeout 1m --json place --store gratis --currency KRW --line rice:1:0 |
    python3 -c 'import json, sys
d = json.load(sys.stdin)
print(str(d["shard"]) + ":" + str(d["index"]))')
j 0 --json stats --by day --store gratis --at-least "$free" --strict
json 'sorted((c["state"], c["orders"]) for c in d["counters"]) == [("paid", 1), ("placed", 1)]'

# -- the node is gone: what the replicas have answers, and a view is made of it
kill -KILL "${pids[0]}"; wait "${pids[0]}" 2>/dev/null
for _ in $(seq 300); do
    j 0 --json replica status --replica "$one"
    grep -qF '"reached":false' "$work/out" && break
    sleep 0.1
done
json 'd[0]["status"]["follower"]["failures"] > 0 and d[0]["status"]["sources"][0]["why"]'
for _ in $(seq 300); do # it was heard of just now
    "$jumun" --timeout 1m lag --max-age 1s --replica "$one" >"$work/out" 2>"$work/err" || break
    sleep 0.1
done
j 1 lag --max-age 1s --replica "$one"
j 0 replica status --interval 0 --replica "$one" && says "no node answers" && says ": no answer"
j 0 --timeout 1m replica rebuild board --replica "$one"
says "is rebuilt of the replica's" && complains "hears nothing of its nodes"

# -- one replica dies, then the other one
kill -KILL "${pids[2]}"; wait "${pids[2]}" 2>/dev/null
for _ in 1 2 3; do j 0 orders --store s1; done
kill -KILL "${pids[1]}"; wait "${pids[1]}" 2>/dev/null
j 3 orders --store s1 --timeout 400ms && complains "no replica"

for command in orders stats lag watch import 'replica status' 'replica views' 'replica rebuild'; do
    # shellcheck disable=SC2086
    j 0 $command --help && says "--replica"
done
j 0 completion bash && says import && says "'orders --state') COMPREPLY="

printf '%d checks, %d failures\n' $checks $failures
[ $failures -eq 0 ]
