#!/bin/sh
# Installs the library into a folder of its own, compiles the examples from what was installed (with
# pkg-config, shared and static), and runs them against a node and a replica.
# usage: test_sdk_install.sh <build folder> <place_order.c> <jumund> <ask_replica.c> <jumun-replica>
set -eu
build=$1 example=$2 jumund=$3 questions=$4 replica=$5
root=$(mktemp -d "${TMPDIR:-/tmp}/jumun-sdk.XXXXXX")
node= follower=
finish() {
    for pid in $follower $node; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$root"
}
trap finish EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root" --tags devel,runtime
pc=$(find "$root" -name jumun.pc)
header=$(find "$root" -name jumun.h)
[ -n "$(find "$root" -name jumun_query.h)" ] || { echo "jumun_query.h was not installed"; exit 1; }
[ -n "$pc" ] && [ -n "$header" ] || { echo "jumun.pc or jumun.h was not installed"; exit 1; }
libs=$(dirname "$(find "$root" -name libjumun.so)")
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$root"

cc -Wall -Wextra -Werror "$example" $(pkg-config --cflags --libs jumun) -o "$root/shared"
cc -Wall -Wextra -Werror "$questions" $(pkg-config --cflags --libs jumun) -o "$root/questions"
echo '#include <jumun_query.h>' | cc -Wall -Wextra -Werror $(pkg-config --cflags jumun) \
    -fsyntax-only -xc -
# The static library alone: the .so is out of the way.
mkdir "$root/archive"
cp "$libs/libjumun.a" "$root/archive/"
cc -Wall -Wextra -Werror "$example" $(pkg-config --cflags jumun) -L"$root/archive" \
    $(pkg-config --static --libs-only-l jumun) -pthread -o "$root/static"

outside=$(nm -D --defined-only "$libs/libjumun.so" | awk '$3 !~ /^jumun_/ {print $3}')
outside="$outside$(nm -g --defined-only "$libs/libjumun.a" |
    awk 'NF == 3 && $3 !~ /^jumun_/ {print $3}')"
[ -z "$outside" ] || { echo "a library exports more than jumun_*: $outside"; exit 1; }

await_ready() { # await_ready PID FILE LOG: its address goes into $address
    tries=0
    until grep -q ' ready: ' "$2"; do
        tries=$((tries + 1))
        kill -0 "$1" 2>/dev/null && [ $tries -lt 600 ] || { cat "$3"; exit 1; }
        sleep 0.1
    done
    address=$(sed -n 's/^[a-z-]* ready: \([^ ]*\).*/\1/p' "$2")
}
"$jumund" --data "$root/data" --listen tcp://127.0.0.1:0 --shards 2 >"$root/ready" 2>"$root/log" &
node=$!
await_ready "$node" "$root/ready" "$root/log"
endpoint=$address
"$replica" --nodes "$endpoint" --data "$root/views" --listen tcp://127.0.0.1:0 \
    >"$root/ready2" 2>"$root/log2" &
follower=$!
await_ready "$follower" "$root/ready2" "$root/log2"

for program in shared static; do
    LD_LIBRARY_PATH="$libs" "$root/$program" "$endpoint" >"$root/out" ||
        { echo "$program failed"; cat "$root/out"; exit 1; }
    grep -q 'is paid, version 2, total 20000 KRW' "$root/out" ||
        { echo "$program printed:"; cat "$root/out"; exit 1; }
done
for wanted in 1 2 3; do
    LD_LIBRARY_PATH="$libs" "$root/questions" "$endpoint" "$address" >"$root/out" 2>&1 ||
        { echo "ask_replica failed"; cat "$root/out"; exit 1; }
    for line in 'my order is placed, version 1' \
        "placed: $wanted orders, $((wanted * 19000)) KRW"; do
        grep -q "$line" "$root/out" || { echo "ask_replica printed:"; cat "$root/out"; exit 1; }
    done
    [ "$(grep -c '^  placed, 19000 KRW' "$root/out")" -eq $wanted ] ||
        { echo "ask_replica listed:"; cat "$root/out"; exit 1; }
done
echo "installed, compiled, linked both ways, ran"
