#!/bin/sh
# Installs everything into a folder of its own, compiles the examples, and the program of
# docs/sdk.md as the page says, from what was installed (with pkg-config, shared and static), and
# runs them against a node and a replica.
# usage: test_sdk_install.sh <build folder> <place_order.c> <jumund> <ask_replica.c> <jumun-replica>
#        <docs/sdk.md>
set -eu
build=$1 example=$2 jumund=$3 questions=$4 replica=$5 page=$6
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

meson install -C "$build" --no-rebuild --quiet --destdir "$root"
prefix=$(find "$root" -path '*/bin/jumund')
prefix=${prefix%/bin/jumund}
for program in jumun jumund jumun-replica jumun-replay jumun-bench jumun-demo; do
    "$prefix/bin/$program" --help >"$root/help" ||
        { echo "bin/$program does not run"; exit 1; }
done
for file in man/man1/jumun.1 man/man1/jumun-bench.1 \
    man/man1/jumun-demo.1 man/man1/jumun-replay.1 man/man8/jumund.8 \
    man/man8/jumun-replica.8 bash-completion/completions/jumun.bash \
    bash-completion/completions/jumun-replay.bash zsh/vendor-completions/_jumun \
    zsh/vendor-completions/_jumun-replay fish/vendor_completions.d/jumun.fish \
    fish/vendor_completions.d/jumun-replay.fish doc/jumun/examples/place_order.c \
    doc/jumun/examples/ask_replica.c; do
    [ -s "$prefix/share/$file" ] || { echo "share/$file was not installed"; exit 1; }
done
for program in jumun jumun-replay; do
    bash -c '. "$1" && complete -p "$2"' bash \
        "$prefix/share/bash-completion/completions/$program.bash" "$program" >"$root/completion" ||
        { echo "the completion of $program does not load"; exit 1; }
done
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

# The page's own program and commands, for one who has installed to a prefix.
mkdir "$root/page" "$root/pkgconfig"
sed "s|^prefix=.*|prefix=$prefix|" "$pc" >"$root/pkgconfig/jumun.pc"
sed -n '/^```c$/,/^```$/{/^```/d;p}' "$page" >"$root/page/template.c"
grep -c '"tcp://127.0.0.1:7400"' "$root/page/template.c" >"$root/page/addresses" ||
    { echo "no program with an address is on $page"; exit 1; }
sed 's|"tcp://127.0.0.1:7400"|argv[1]|; s|main(void)|main(int argc, char **argv)|' \
    "$root/page/template.c" >"$root/page/place.c"
grep '^cc place.c ' "$page" >"$root/page/commands"
[ "$(wc -l <"$root/page/commands")" -eq 2 ] || { echo "not two ways to build on $page"; exit 1; }
(cd "$root/page" && unset PKG_CONFIG_SYSROOT_DIR &&
    PKG_CONFIG_PATH="$root/pkgconfig" sh -eu commands)

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

for program in place place-static; do
    LD_LIBRARY_PATH="$libs" "$root/page/$program" "$endpoint" >"$root/out" ||
        { echo "$program of the page failed"; cat "$root/out"; exit 1; }
    grep -qx 'on disk' "$root/out" || { echo "$program printed:"; cat "$root/out"; exit 1; }
done
if ldd "$root/page/place-static" | grep -q libjumun; then echo "it is not static"; exit 1; fi
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
