#!/bin/sh
# completions.sh BUILD OUT: bash, zsh and fish complete what the built command says in its --help, so that they cannot go stale.
# The table that completions/SHELL.awk are given has a line for each command (C, name, its words, what it does) and for each of its
# options (O, command, letter, name, its value, what it does), with tabs between.
set -eu
build=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
unset PRELUX_CONFIG
mkdir -p "$out"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
"$build/prelux" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p' | while read -r name; do
  "$build/prelux" "$name" --help </dev/null | awk -v name="$name" -f "$here/completions/table.awk"
done > "$table"
for shell in bash zsh fish; do
  awk -F '\t' -f "$here/completions/$shell.awk" "$table" > "$out/$shell.tmp"
  mv "$out/$shell.tmp" "$out/prelux.$shell"
done
