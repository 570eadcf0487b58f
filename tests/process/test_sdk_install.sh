#!/bin/sh
# Installs the library into a folder of its own, compiles the example from what was installed (with
# pkg-config, shared and static), and runs it against a node.
# usage: test_sdk_install.sh <build folder> <place_order.c> <jumund>
set -eu
build=$1 example=$2 jumund=$3
root=$(mktemp -d "${TMPDIR:-/tmp}/jumun-sdk.XXXXXX")
node=
finish() {
    if [ -n "$node" ]; then kill "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; fi
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

"$jumund" --data "$root/data" --listen tcp://127.0.0.1:0 --shards 2 >"$root/ready" 2>"$root/log" &
node=$!
tries=0
until grep -q '^jumund ready' "$root/ready"; do
    tries=$((tries + 1))
    kill -0 "$node" 2>/dev/null && [ $tries -lt 300 ] || { cat "$root/log"; exit 1; }
    sleep 0.1
done
endpoint=$(sed -n 's/^jumund ready: \([^ ]*\).*/\1/p' "$root/ready")

for program in shared static; do
    LD_LIBRARY_PATH="$libs" "$root/$program" "$endpoint" >"$root/out" ||
        { echo "$program failed"; cat "$root/out"; exit 1; }
    grep -q 'is paid, version 2, total 20000 KRW' "$root/out" ||
        { echo "$program printed:"; cat "$root/out"; exit 1; }
done
echo "installed, compiled, linked both ways, ran"
