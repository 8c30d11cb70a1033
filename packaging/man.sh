#!/bin/sh
# man.sh BUILD OUT: the man pages, from packaging/man/*.in, what the built programs say of themselves (--help, `config keys`) and docs/SEMANTICS.md,
# so that none of them can go stale. A line @WORD@ in a page stands for what is made here.
set -eu
build=$1 out=$2
top=$(cd "$(dirname "$0")/.." && pwd)
lib=$top/packaging/man/lib.awk
version=$(sed -n 's/^#define PRELUX_VERSION "\(.*\)"/\1/p' "$top/include/prelux/version.h")
day=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y "$top/include/prelux/version.h")}" +%Y-%m-%d)
unset PRELUX_CONFIG
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$build/prelux" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p' > "$work/names"
while read -r name; do
  "$build/prelux" "$name" --help </dev/null | awk -f "$lib" -f "$top/packaging/man/help.awk"
done < "$work/names" > "$work/COMMANDS"
"$build/preluxd" --help | awk -f "$lib" -f "$top/packaging/man/help.awk" > "$work/OPTIONS"
"$build/prelux" config keys | sed '/^<!--/d' | awk -v sub_only=1 -f "$lib" -f "$top/packaging/man/markdown.awk" > "$work/KEYS"
"$build/prelux" config init > "$work/init"
awk -f "$lib" -f "$top/packaging/man/literal.awk" "$work/init" > "$work/EXAMPLE"
sed 1d "$top/docs/SEMANTICS.md" | awk -f "$lib" -f "$top/packaging/man/markdown.awk" > "$work/SEMANTICS"

for page in "$top"/packaging/man/*.in; do
  name=$(basename "$page" .in)
  awk -v work="$work" '/^@[A-Z]+@$/ { file = work "/" substr($0, 2, length($0) - 2); while ((getline line < file) > 0) print line; next } { print }' "$page" |
    sed "s/@version@/$version/g; s/@day@/$day/g" > "$out/$name.tmp"
  mv "$out/$name.tmp" "$out/$name"
done
