#!/usr/bin/env bash
# Every command of jumun against a real node: what it prints, whether its JSON parses, and its exit
# status; then the demo on a part of the year.
#
#   test_cli.sh JUMUND JUMUN JUMUN-DEMO SOURCE-ROOT
set -uo pipefail

jumund=$1 jumun=$2 demo=$3 root=$4
work=$(mktemp -d "${TMPDIR:-/var/tmp}/jumun-test-cli.XXXXXX")
node=0 checks=0 failures=0

clean_up() {
    [ "$node" -eq 0 ] || { kill -CONT "$node"; kill -KILL "$node"; wait "$node"; } 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    failures=$((failures + 1))
    printf 'FAILED (line %s): %s\n' "${BASH_LINENO[1]}" "$1"
    sed 's/^/    out: /' "$work/out" | head -n 20
    sed 's/^/    err: /' "$work/err" | head -n 20
}

# run STATUS COMMAND...: runs it, keeps what it prints, compares the status.
run() {
    local wanted=$1 status=0
    shift
    checks=$((checks + 1))
    "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    [ $status -eq "$wanted" ] || fail "status $status instead of $wanted: $*"
}
# What somebody answers may take its time on a busy machine.
j() {
    local wanted=$1 patience=(--timeout 1m)
    shift
    [ "$wanted" -ne 3 ] || patience=()
    run "$wanted" "$jumun" "${patience[@]}" "$@"
}
says() { checks=$((checks + 1)); grep -qF -- "$1" "$work/out" || fail "stdout lacks: $1"; }
complains() { checks=$((checks + 1)); grep -qF -- "$1" "$work/err" || fail "stderr lacks: $1"; }
omits() { checks=$((checks + 1)); ! grep -qF -- "$1" "$work/out" || fail "stdout has: $1"; }
silent() { checks=$((checks + 1)); [ ! -s "$work/$1" ] || fail "std$1 is not empty"; }
# json EXPRESSION: the output is one JSON document `d` for which the Python expression holds.
json() {
    checks=$((checks + 1))
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(not eval(sys.argv[2]))' "$work/out" "$1" 2>>"$work/err" || fail "not so in the JSON: $1"
}

start_node() {
    "$jumund" --data "$work/data" --listen tcp://127.0.0.1:0 --shards 2 --no-pin \
        >"$work/ready" 2>"$work/log" </dev/null &
    node=$!
    for _ in $(seq 600); do
        JUMUN_ENDPOINT=$(sed -n 's/^jumund ready: \([^ ]*\).*/\1/p' "$work/ready")
        [ -z "$JUMUN_ENDPOINT" ] || { export JUMUN_ENDPOINT; return; }
        sleep 0.1
    done
    cat "$work/log"
    exit 1
}

place() { # prints the key of a new order; options are added
    "$jumun" --timeout 1m -q place --store s1 --currency KRW --line rice:2:9500:Rice \
        --line cola:1:1500 "$@"
}

test_a_delivery() {
    local key
    key=$(place --fulfilment platform_delivery --fees 3000 --discounts 500 --customer c1 \
        --external-ref R-1 --attributes '{"door": "blue", "floor": 3}')
    j 0 pay "$key" 23000 --reference pg-1 --state authorised; says 'version 2'
    j 0 pay "$key" 23000 --reference pg-1; says 'version 3'
    j 0 accept "$key" --minutes 20
    j 0 get "$key"; says 'ready'
    j 0 assign-rider "$key" r7
    j 0 unassign-rider "$key"
    j 1 pick-up "$key"; complains 'refused [123 rider_required]'
    j 0 assign-rider "$key" r8
    j 0 ready "$key"
    j 0 pick-up "$key"
    j 0 deliver "$key"
    j 0 annotate "$key" 'left at the door'
    j 1 refund "$key" -17; complains 'amount_not_positive'
    j 1 refund "$key" -- -17; complains 'amount_not_positive'
    j 0 refund "$key" 3000 --reason 'cold soup'
    j 0 complete "$key"
    j 0 get "$key"
    says "$key"; says completed; says '23,000 KRW'; says '3,000 KRW'; says 'leaves the engine'
    says 'Rice'; says 'pg-1'; omits 'ready'
    j 0 get "$key" --json
    json 'd["state"] == "completed" and d["lines"][0]["quantity"] == 2'
    json 'd["attributes"] == {"door": "blue", "floor": 3}'
    json 'd["fulfilment"] == "platform_delivery" and d["ended_by"] is None'
    json 'd["payments"][0] == {"method": "card", "reference": "pg-1", "amount": 23000,
                               "state": "captured"}'
    j 0 history "$key"; says order_placed; says order_completed; says 'cold soup'
    j 0 --json history "$key"; json 'len(d) == d[-1]["version"] == 13'
    j 0 history "$key" --limit 2 --json; json 'len(d) == 2 and d[1]["action"] == "order_completed"'
    j 1 deliver "$key"; complains '[104 order_has_ended]'
    j 1 --json deliver "$key"; json 'd["code"] == 104 and d["name"] == "order_has_ended"'
}

test_cancels() {
    local key
    key=$(place)
    j 0 pay "$key" 20500 --reference pg-1
    j 0 amend "$key" --line rice:3:9500 --line cola:2:1500
    j 0 cancel "$key" --by store --reason 'sold out' --line 0:1 --line 1:2
    j 0 get "$key" --json; json '[l["cancelled"] for l in d["lines"]] == [1, 2]'
    j 1 cancel "$key" --line 0:9; complains 'line_quantity_exceeded'
    j 0 cancel "$key" --by customer
    j 0 get "$key" --json; json 'd["state"] == "cancelled" and d["ended_by"] == "customer"'
    j 0 refund "$key"
    j 1 refund "$key" all; complains 'nothing_to_refund'
    j 1 refund "$key"; complains 'nothing_to_refund'
    key=$(place)
    j 0 pay "$key" 20500 --reference pg-1; says 'now: total 20,500 KRW, captured 20,500 KRW'
    j 0 accept "$key"
    j 1 refund "$key"; complains 'captured 20,500 KRW, refunded 0 KRW, total 20,500 KRW'
    complains 'Nothing is owed.'
    j 1 refund "$key" --json; json 'd["name"] == "nothing_to_refund" and d["key"] == "'"$key"'"'
    j 0 cancel "$key" --line 1:1
    says 'now: total 19,000 KRW, captured 20,500 KRW, owed back 1,500 KRW'
    j 2 refund "$key" --id "$("$jumun" key new)"; complains 'with --id'
    j 2 encode refund "$key"; complains 'with encode'
    j 0 refund "$key"; says 'now: total 19,000 KRW, captured 20,500 KRW, refunded 1,500 KRW'
    j 0 refund "$key" all --json
    json 'd["refunded"] == d["captured"] == 20500 and d["total"] == 19000'
    key=$(place)
    j 0 pay "$key" 20500 --reference pg-1
    j 0 reject "$key" --reason 'closed'
    j 0 get "$key"; says rejected; says closed
    key=$("$jumun" key new)
    j 0 cancel "$key"; says 'held until its order is placed'
    j 0 get "$key"; says awaited; says '1 waiting for the place'; omits '0.00'
}

test_once_only() {
    local key id
    key=$(place)
    id=$("$jumun" key new)
    j 0 annotate "$key" hello --id "$id" --json; json 'd["repeated"] is False and d["version"] == 2'
    j 0 annotate "$key" hello --id "$id" --json; json 'd["repeated"] is True and d["version"] == 2'
    j 1 annotate "$key" again --expected-version 1; complains version_conflict; complains 'is 2.'
    j 0 annotate "$key" again --expected-version 2 --trace "$("$jumun" key new)"
    j 1 place --key "$key" --store s1 --currency KRW --line a:1:1; complains '[102 order_exists]'
}

test_stores() {
    local key
    key=$(place --store s9)
    j 0 store pause s9 --reason 'oven broke'
    j 0 store get s9; says paused; says 'oven broke'
    j 1 store pause s9; complains store_already_paused
    # The news of a pause travels to the other shard: until then an order may still be taken.
    for _ in $(seq 1000); do
        place --store s9 >"$work/out" 2>"$work/err" || break
        sleep 0.05
    done
    complains '[110 store_paused]'; complains 'The store is paused: oven broke'
    j 1 place --store s9 --currency KRW --line a:1:1 --json
    json 'd["pause_reason"] == "oven broke"'
    j 0 pay "$key" 20500 --reference pg-1
    j 0 accept "$key"
    j 0 store resume s9 --json; json 'd["code"] == 0'
    j 0 store get s9 --json; json 'd["paused"] is False and d["id"] == "s9"'
    j 1 store get nowhere; complains '[300 store_not_found]'
}

test_files() {
    local i
    {
        echo store,currency,lines,external_ref,total
        for i in $(seq 500); do echo "s2,KRW,a:1:100;b:$i:10,\"r, $i\","; done
        echo 's2,KRW,a:1:100,wrong total,7'
        echo 's2,KRW,a:one:100,bad row,'
        echo 's2,KRW,a:0:100,no quantity,'
    } >"$work/orders.csv"
    j 4 place --csv "$work/orders.csv" --dry-run; says '502 orders would be placed, 1 bad row'
    j 4 place --csv "$work/orders.csv"
    says '500 orders placed'
    complains 'line 503: lines[0].quantity: "one" is not a whole number'
    complains 'orders.csv: line 502: [116 total_mismatch] lines plus fees minus discounts is not'
    complains 'orders.csv: line 504: [112 quantity_not_positive] '
    complains 'placing  '; complains '503 rows'; complains ' 500 placed, 2 refused, 1 unreadable'
    sed -i 503d "$work/orders.csv"
    gzip -k "$work/orders.csv"
    j 1 --json place --csv "$work/orders.csv.gz"
    json 'd["placed"] == 500 and d["bad_rows"] == 0 and d["results"]["total_mismatch"] == 1'
    json 'd["rows"] == 502 and [(r["line"], r["code"]) for r in d["refusals"]] == [
        (502, 116), (503, 112)]'
    {
        echo store,currency,lines
        for i in $(seq 30); do echo 's2,KRW,a:0:100'; done
    } >"$work/refused.csv"
    j 1 place --csv "$work/refused.csv"; complains 'line 21: '; complains 'are only counted'
    [ "$(grep -c 'refused.csv: line' "$work/err")" = 20 ] || fail 'not 20 refusals are named'

    echo '{"store":"s2","currency":"GBP","lines":[{"sku":"a","quantity":1,"unit_price":1}]}' \
        >"$work/order.json"
    j 0 place --from-json "$work/order.json"; says done
    j 0 place --from-json "$work/order.json" --json; json 'd["code"] == 0 and len(d["key"]) == 26'
    j 2 place --json order.json; complains 'one word too many'
    j 0 place --from-json "$work/order.json" --dry-run; says 'at s2 for 0.01 GBP'
    j 0 place --from-json "$work/order.json" --dry-run --json
    json 'd == {"would_place": 1, "lines": 1, "store": "s2", "currency": "GBP", "total": 1}'
    "$jumun" --timeout 1m -j place --from-json - <"$work/order.json" >"$work/out" 2>"$work/err"
    json 'd["code"] == 0'
    cat "$work/order.json" "$work/order.json" >"$work/orders.jsonl"
    j 0 place --jsonl "$work/orders.jsonl"; says '2 orders placed'
    j 0 -q place --jsonl "$work/orders.jsonl"; silent err
    [ "$(wc -l <"$work/out")" = 2 ] || fail 'not one key for each order'
    j 0 get "$(tail -n 1 "$work/out")"; says placed
    echo '{"store": }' >>"$work/orders.jsonl"
    j 4 place --jsonl "$work/orders.jsonl"; complains 'orders.jsonl: line 3, column 11: '
    echo '{"column 4": 1}' >"$work/field.jsonl"
    j 4 place --jsonl "$work/field.jsonl"; complains 'line 1: column 4: there is no such field'
    j 4 place --from-json "$work/nowhere.json"; complains 'No such file'
    echo 'store,currency,price' >"$work/heading.csv"
    j 4 place --csv "$work/heading.csv"
    complains 'line 1, column 3: "price" is not a field of an order'
}

test_looking() {
    j 0 ping; says 'answers in'
    j 0 ping -j; json 'd["answer"] == "pong" and len(str(d["milliseconds"])) < 10'
    j 0 ping -q; silent out; silent err
    j 0 status --interval 200ms
    says ready; says 'orders: '; says 'refused since the start'; says total_mismatch
    j 0 status --json; json 'd["ready"] is True and len(d["shards"]) == 2'
    j 0 top --count 2 --interval 100ms; says commands/s
    omits 'answers first'
    j 0 top --endpoint "$JUMUN_ENDPOINT,tcp://127.0.0.1:1" --count 1 --interval 100ms
    says "node 1, $JUMUN_ENDPOINT, answers first"
    j 0 top --count 1 --interval 100ms --json; json 'd["shards_count"] == 2'
    j 0 status --color always --interval 0; says $'\e[1;32mready'
    j 0 status --interval 0; checks=$((checks + 1))
    ! grep -q $'\e' "$work/out" || fail 'colours on what is no terminal'
}

test_messages() {
    j 0 encode --output "$work/ping.bin" ping
    j 0 decode "$work/ping.bin"; json 'd[0] == 1 and d[2][0][0] == 100'
    j 0 encode -o "$work/place.bin" place --store s3 --currency KRW --line a:2:50
    j 0 decode "$work/place.bin"; json 'd[2][0][4][4] == [["a", 2, 50]]'
    if command -v nngcat >/dev/null; then
        nngcat --req --dial "$JUMUN_ENDPOINT" --file "$work/place.bin" --raw >"$work/answer.bin"
        j 0 decode "$work/answer.bin"; json 'd[1] == 0 and d[2][0][0] == 0'
    fi
    j 2 encode top; complains 'not a command that can be encoded'
    head -c 3 "$work/place.bin" >"$work/cut.bin"
    j 4 decode "$work/cut.bin"; complains 'not whole msgpack'
    j 0 key parse "$("$jumun" key new)"; says born
    j 0 key new --count 3 --json; json 'len(set(d)) == 3'
    j 0 version; says 'jumun 0.'
}

test_mistakes() {
    j 2; complains 'jumun'
    j 2 frobnicate; complains '"frobnicate" is not a command'
    j 2 cluster; complains 'half a command: see jumun help cluster'
    j 2 cluster frob; complains '"cluster frob" is not a command: there are status, form, join,'
    j 2 store frob x; complains '"store frob" is not a command: there are pause, resume, get'
    j 2 replica frob; complains '"replica frob" is not a command: there are status, views, rebuild'
    j 2 help cluster frob; complains '"cluster frob" is not a command'
    j 2 cluster join 10.0.0.4:7400; complains '"10.0.0.4:7400" does not begin with tcp://'
    j 2 cluster add localhost; complains 'an address is tcp://HOST:PORT'
    j 2 cluster replace 2 tcp://localhost; complains '"tcp://localhost" has no port'
    j 2 cluster form --node tcp://127.0.0.1:1 --node nonsense; complains '"nonsense" does not begin'
    j 2 cluster readdress 2 tcp://a:1 b:2; complains '"b:2" does not begin with tcp://'
    j 0 cluster --help; says 'cluster retire SHARD'
    j 0 help store; says 'store pause STORE'
    j 2 get; complains 'get needs KEY'
    j 2 get short; complains 'is not a key'
    j 2 get "$("$jumun" key new)" again; complains 'one word too many'
    j 2 place --stroe s1; complains '--stroe is not an option here'
    j 2 place --store s1 --currency KRW; complains 'lines: an order needs at least one'
    j 2 place --store s1 --currency KRW --line a; complains 'lines[0]'
    j 2 pay "$("$jumun" key new)" 95.00 --reference r; complains 'minor units'
    j 2 cancel "$("$jumun" key new)" --by aliens; complains 'customer|store|rider'
    j 2 --color sometimes ping; complains 'auto, always or never'
    j 2 -t soon ping; complains 'is not a duration'
    j 1 get "$("$jumun" key new)"; complains '[100 order_not_found]'
    j 1 place --store s1 --currency krw --line a:1:1; complains '[117 currency_invalid]'
    j 2 -e nonsense ping; complains '"nonsense" does not begin with tcp://'
    checks=$((checks + 1))
    "$jumun" version >/dev/full 2>"$work/err"
    [ $? -eq 4 ] || fail "a full disk is not told"; complains "No space left"
    j 3 -e tcp://127.0.0.1:1 -t 300ms ping
    j 3 -e tcp://127.0.0.1:1 -t 300ms get "$("$jumun" key new)"
}

# A node that hangs: the outcome is unknown, and the id that the message names makes a repeat safe.
test_unknown_outcome() {
    local key id
    key=$(place)
    "$jumun" --timeout 1m annotate "$key" warm-up >/dev/null
    kill -STOP "$node"
    j 3 -t 700ms annotate "$key" again
    kill -CONT "$node"
    id=$(sed -n 's/.*--id \([0-9A-Z]\{26\}\).*/\1/p' "$work/err")
    if [ -n "$id" ]; then
        j 0 annotate "$key" again --id "$id"
        j 0 get "$key" --json; json 'd["version"] == 3'
    else
        complains 'not_sent'
    fi
}

# is_told TEXT CALL...: the call fails and says so; a busy machine may be too late for an answer.
is_told() {
    local text=$1
    shift
    for _ in 1 2 3 4 5; do
        j 3 "$@"
        grep -qF -- "$text" "$work/err" && break
    done
    complains "$text"
}

# Ports of the node that are not for clients, and an address that no machine has (RFC 5737).
test_other_ports() {
    local feed notify words key=01KDVDNA00041061050R3GG28A
    run 1 "$jumund" --data "$work/nowhere" --listen tcp://192.0.2.1:7400
    complains 'this machine has no such address'
    j 0 status --json
    read -r feed notify < <(python3 -c 'import json, sys
feed = json.load(sys.stdin)["feed"]
print(feed["endpoint"], feed["notify"])' <"$work/out")
    for words in status ping "get $key" "complete $key" "cluster status"; do
        # shellcheck disable=SC2086
        j 2 -e "$feed" -t 2m $words
        complains "a node's feed answers there (--feed-listen), which replicas"
    done
    is_told 'a port for notifications (--notify-listen)' -e "$notify" -t 500ms status
    j 2 cluster form --node "$feed"; complains "a node's feed answers there (--feed-listen)"
    is_told 'a port for notifications (--notify-listen)' cluster form --node "$notify"
}

test_help() {
    local command option
    j 0 --help; says Commands; says 'Exit status'
    "$jumun" --color never --help | sed -n '/^Commands/,/^$/s/^  \([a-z -]*[a-z]\)  .*/\1/p' |
        sed 's/ \(COMMAND\|KEY\).*//' >"$work/names"
    man_page=$(sed 's/\\-/-/g' "$root/docs/man/man1/jumun.1")
    checks=$((checks + 1))
    for command in place pay accept reject ready assign-rider unassign-rider pick-up deliver \
        complete cancel refund amend annotate get history 'store pause' 'store resume' \
        'store get' 'cluster status' 'cluster form' 'cluster join' 'cluster add' 'cluster remove' \
        'cluster replace' 'cluster readdress' 'cluster move' 'cluster transfer' \
        'cluster balance' 'cluster drain' 'cluster undrain' 'cluster grow' 'cluster cancel-grow' \
        'cluster raise-level' 'cluster retire' 'cluster recover' status top ping \
        orders stats lag 'replica status' 'replica views' 'replica rebuild' watch import \
        'key new' 'key parse' encode decode completion version help; do
        # shellcheck disable=SC2086
        j 0 $command --help; says "jumun $command"; says 'Global options'
        grep -qF ".SS \"$command" <<<"$man_page" || fail "the manual lacks the command $command"
        for option in $(sed -n 's/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p' "$work/out"); do
            grep -qF -- "$option" <<<"$man_page" || fail "the manual lacks $option of $command"
        done
    done
}

complete_line() { # what bash would offer for the words given
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _jumun
        printf "%s\n" "${COMPREPLY[@]}"' - "$work/completion.bash" "$@" >"$work/out" 2>"$work/err"
}

test_completion() {
    j 0 completion bash
    cp "$work/out" "$work/completion.bash"
    complete_line jumun sto; says store
    complete_line jumun store pa; says pause
    complete_line jumun replica st; says status
    complete_line jumun replica status --int; says --interval
    complete_line jumun place --ful; says --fulfilment
    complete_line jumun place --fulfilment par; says parcel
    complete_line jumun -e tcp://x cancel --by ''; says customer
    complete_line jumun place --store ''; omits -- # whatever comes there, it is no option
    complete_line jumun -e ''; omits place
    # As bash parts them.
    complete_line jumun --endpoint tcp : //h : 7400 pl; says place
    complete_line jumun -e tcp : //h : 7400 cluster dr; says drain
    complete_line jumun --endpoint = tcp : //h : 7400 cluster form --rep; says --replicas
    complete_line jumun orders --state = pa; says paid; omits placed
    complete_line jumun orders --state =; says paid
    complete_line jumun replica rebuild bo; says board
    complete_line jumun backup "${work%?}"; says "$work"
    complete_line jumun --tls-ca "${work%?}"; says "$work"
    j 0 completion zsh; says '#compdef jumun'
    says '[[ $funcstack[1] != _jumun ]] || _bash_complete -o filenames -F _jumun'
    j 0 completion fish; says '__fish_seen_subcommand_from place'
    j 2 completion tcsh
}

test_demo() {
    local data=$root/data/online_retail_orders.csv.gz
    run 0 "$demo" --data "$data" --plan; says sale
    run 0 "$demo" --data "$data" --limit 600 --json
    complains 'playing'
    json 'd["commands"] > 1000 and d["refused"] > 0 and d["held"] > 0'
    json 'sum(a["count"] for a in d["answers"]) == d["commands"]'
    local key
    key=$(sed -n 's/.*"sample_key": "\([0-9A-Z]*\)".*/\1/p' "$work/out")
    j 0 history "$key"; says order_delivered; says 'method invoice'
    run 0 "$demo" --data "$data" --limit 50 --quiet; says 'Orders by state'; silent err
    run 4 "$demo" --data "$work/nowhere"; complains 'No such file'
    run 2 "$demo" --limit zero
    run 3 "$demo" --data "$data" --limit 5 --endpoint tcp://127.0.0.1:1 --wait 300ms
}

: >"$work/out"
: >"$work/err"
start_node
for name in a_delivery cancels once_only stores files looking messages mistakes unknown_outcome \
    other_ports help completion demo; do
    test_$name
done
kill -TERM "$node"
wait "$node" || fail "the node ended with status $?"
node=0
printf '%s checks, %s failures\n' $checks $failures
[ $failures -eq 0 ]
