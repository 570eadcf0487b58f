#!/usr/bin/env bash
# ./run tells of options that make no sense before it builds anything, and so do ./run and ./test of
# rights that are missing; what ./run tells people to try is there; a replica that dies is started
# anew.
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

# A port that is taken is told before anything is built or made.
mkdir "$work/taken"
python3 - "$root/tests/lib" >"$work/taken/ports" <<'END' &
import socket, sys, time
sys.path.insert(0, sys.argv[1])
import ports
first = ports.pick(232) + 30
listeners = [socket.create_server(('127.0.0.1', first + shift)) for shift in (0, 201)]
print(first, first + 101, flush=True)
time.sleep(600)
END
listener=$! tries=0
trap 'kill $listener 2>/dev/null; rm -rf "$work"' EXIT
until [ -s "$work/taken/ports" ] || [ $tries -ge 600 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
read -r nodes replicas <"$work/taken/ports"
taken() { # words that are told, port
    local code=0
    checks=$((checks + 1))
    "$root/run" --once --data "$work/fresh" --port "$2" >"$work/out" 2>"$work/err" </dev/null ||
        code=$?
    [ $code -eq 1 ] && grep -qF -- "$1" "$work/err" ||
        fail "taken port $2: exit $code: $(cat "$work/err")"
    [ "$(wc -l <"$work/err")" -eq 1 ] && [ ! -s "$work/out" ] || fail "taken port $2: it began"
    [ ! -e "$work/fresh" ] || fail "taken port $2: $work/fresh was made"
}
taken "port $nodes, for the node (--port), is taken" "$nodes"
taken "port $((replicas + 100)), for the replica" "$replicas"
"$root/run" --cluster --once --data "$work/fresh" --port "$((nodes - 20))" >"$work/out" \
    2>"$work/err" </dev/null && fail 'a cluster on a taken port'
grep -qF "port $nodes, one of those from --port $((nodes - 20)) on, is taken" "$work/err" ||
    fail "a cluster on a taken port: $(cat "$work/err")"
[ ! -e "$work/fresh" ] || fail "a cluster on a taken port: $work/fresh was made"
kill $listener

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
    local code=0 options=()
    if [ "$1" = run ]; then options=(--port 0); fi
    checks=$((checks + 1))
    "${stranger[@]}" "$work/theirs/$1" "${options[@]}" >"$work/out" 2>"$work/err" </dev/null ||
        code=$?
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
for page in man1/jumun.1 man1/jumun-replay.1 man1/jumun-bench.1 man1/jumun-demo.1 man8/jumund.8 \
    man8/jumun-replica.8; do
    checks=$((checks + 1))
    grep -q '^\.TH ' "$root/docs/man/$page" || fail "docs/man/$page"
done
# A node of a cluster whose disk is not mounted must not start as a fresh one, alone.
checks=$((checks + 1))
unit=$(sed -n '/^\[Unit\]/,/^```/p' "$root/docs/operations.md")
for part in '^ExecStart=.*/jumund --cluster-wait --data /var/lib/jumun ' \
            '^RequiresMountsFor=/var/lib/jumun$'; do
    grep -q -e "$part" <<<"$unit" || fail "the unit of docs/operations.md lacks $part"
done
for place in "$root/run" "$root/scripts/run_cluster.py" "$root/README.md" "$root/docs/replay.md"; do
    checks=$((checks + 1))
    grep -q 'MANPATH=.*docs/man' "$place" || fail "$place does not tell where the manuals are"
    grep -q 'PATH=.*/bin:' "$place" || fail "$place does not tell where the programs are"
done

# -- a replica that ends is started anew, unless it ends again and again; a node and a replica that
# only stand there
mkdir -p "$work/tree/scripts" "$work/shims-2" "$work"/tree/build-release/engine/{node,replica}
cp "$root/run" "$work/tree/"
touch "$work/tree/build-release/build.ninja"
printf '#!/bin/sh\nexit 0\n' | tee "$work/tree/scripts/setup" >"$work/shims-2/ninja"
cat >"$work/tree/build-release/engine/node/jumund" <<'END'
#!/bin/sh
echo 'jumund ready: tcp://127.0.0.1:7400 shards=1'
trap 'exit 0' TERM
while :; do sleep 0.1; done
END
cat >"$work/tree/build-release/engine/replica/jumun-replica" <<END
#!/bin/sh
echo "\$0 \$*" >>'$work/starts'
echo 'jumun-replica ready: tcp://127.0.0.1:7500'
while [ ! -e '$work/end' ]; do sleep 0.1; done
echo 'it has had enough' >&2
exit 7
END
chmod 755 "$work/tree/scripts/setup" "$work/shims-2/ninja" "$work"/tree/build-release/*/*/*

await() { # words in a file
    local file=$1 tries=0
    shift
    checks=$((checks + 1))
    until grep -qF -- "$*" "$file"; do
        if [ $tries -ge 1200 ]; then fail "not told: $*: $(cat "$work/out" "$work/err")"; return; fi
        sleep 0.1
        tries=$((tries + 1))
    done
}
: >"$work/out" && : >"$work/err"
PATH=$work/shims-2:$PATH "$work/tree/run" --serve --port 0 >"$work/out" 2>"$work/err" </dev/null &
served=$!
await "$work/out" 'The node serves at tcp://127.0.0.1:7400'
touch "$work/end"
await "$work/err" '(exit code 7): started anew at tcp://127.0.0.1:7500'
await "$work/err" '(exit code 7) again; the node goes on without one. Its last lines:'
await "$work/err" 'it has had enough'
kill -TERM $served
code=0 checks=$((checks + 1))
wait $served || code=$?
[ $code -eq 0 ] && grep -q 'stopping the node' "$work/out" || fail "./run --serve ends with $code"
[ "$(wc -l <"$work/starts")" -eq 4 ] || fail "starts: $(cat "$work/starts")"
[ "$(grep -c 'started anew' "$work/err")" -eq 3 ] || fail "other words: $(cat "$work/err")"

printf '%s checks, %s failures\n' $checks $failures
[ $failures -eq 0 ]
