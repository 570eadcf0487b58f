#!/bin/sh
# usage: make_static.sh <archive> <new archive>
# Joins the archive's objects into one whose only global names are jumun_*, so that a program that
# links it can have an order_decode() or a lane_run() of its own.
set -eu
object=$2.o
trap 'rm -f "$object"' EXIT
# gcc, where it is, makes machine code of what was compiled for link time optimization: the names of
# such objects cannot be hidden, and no other compiler could link them.
gcc -r -nostdlib -flinker-output=nolto-rel -Wl,--whole-archive "$1" -Wl,--no-whole-archive \
    -o "$object" 2>/dev/null || ld -r --whole-archive "$1" -o "$object"
objcopy --wildcard --keep-global-symbol='jumun_*' "$object"
rm -f "$2"
ar rcs "$2" "$object"
