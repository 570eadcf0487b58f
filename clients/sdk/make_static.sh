#!/bin/sh
# usage: make_static.sh <archive> <new archive>
# Joins the archive's objects into one whose only global names are jumun_*, so that a program that
# links it can have an order_decode() or a lane_run() of its own.
set -eu
object=$2.o
trap 'rm -f "$object"' EXIT
ld -r --whole-archive "$1" -o "$object"
objcopy --wildcard --keep-global-symbol='jumun_*' "$object"
rm -f "$2"
ar rcs "$2" "$object"
