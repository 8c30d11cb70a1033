#!/bin/bash
# make demo: a folder and a web server, read by programs that know nothing of prelux. Everything shown is compared with the
# source; any difference, or any program that fails, ends the demo with status 1. Nothing is left behind.
set -u
cd "$(dirname "$0")/../.." || exit 1
ROOT=$PWD
BUILD=${PRELUX_BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$ROOT/$BUILD ;; esac
PYTHON=$([ -x /usr/bin/python3 ] && echo /usr/bin/python3 || command -v python3)
SHOWN=8 # lines of a program's output

unset PRELUX_CONFIG PRELUX_OFF LD_PRELOAD
export LC_ALL=C.UTF-8 TZ=UTC PYTHONDONTWRITEBYTECODE=1 GIT_CONFIG_GLOBAL=/dev/null
TMP=$(mktemp -d /tmp/prelux-demo.XXXXXX) || exit 1
export PRELUX_RUNTIME_DIR=$TMP/run
SOURCE=$TMP/source
NGINX=
FAILED=0

cleanup()
{
  "$BUILD/prelux" daemon stop >/dev/null 2>&1
  if [ -n "$NGINX" ]; then
    kill "$NGINX" 2>/dev/null
    wait "$NGINX" 2>/dev/null
  fi
  rm -rf "$TMP"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail()
{
  echo "DIFFERS: $*" >&2
  FAILED=1
}

title()
{
  printf '\n== %s\n' "$*"
}

# show PREFIX COMMAND: runs COMMAND with @ replaced by the mapping PREFIX under prelux, and by the source without it; prints the
# first and compares both. What programs print about themselves (the prefix, owners, block counts) must be kept out by COMMAND.
show()
{
  local prefix=$1 command=$2
  printf '$ prelux run -- %s\n' "${command//@/$prefix}"
  "$BUILD/prelux" --config "$TMP/demo.yaml" run -- bash -c "set -o pipefail; ${command//@/$prefix}" >"$TMP/ours" 2>"$TMP/ours.err" </dev/null ||
    fail "status $? of: $command; $(head -c 500 "$TMP/ours.err")"
  bash -c "set -o pipefail; ${command//@/$SOURCE}" >"$TMP/plain" 2>/dev/null </dev/null || fail "status $? of the same program on the source"
  sed "s|$SOURCE|$prefix|g" "$TMP/plain" >"$TMP/expected"
  head -n $SHOWN "$TMP/ours" | cut -c 1-110
  [ "$(wc -l <"$TMP/ours")" -gt $SHOWN ] && echo "  ... $(wc -l <"$TMP/ours") lines"
  cmp -s "$TMP/ours" "$TMP/expected" || {
    fail "$command"
    diff "$TMP/expected" "$TMP/ours" | head -10 >&2
  }
}

title "data: names, texts, numbers, a package, a database, programs"
"$PYTHON" -m tests.trees "$SOURCE" --portable || exit 1
for i in $(seq 24); do head -c 1000000 /dev/urandom >"$SOURCE/block$i"; done
find "$SOURCE" -type f | wc -l | xargs echo files:
du -sh --apparent-size "$SOURCE" | cut -f1

title "servers: the folder itself, and nginx in front of it"
"$PYTHON" -u -m tests.servers.nginx "$SOURCE" >"$TMP/nginx.out" 2>&1 </dev/null &
NGINX=$!
for i in $(seq 200); do
  URL=$(grep -o 'http://[0-9.:]*' "$TMP/nginx.out" | head -1)
  [ -n "$URL" ] && break
  kill -0 "$NGINX" 2>/dev/null || break
  sleep 0.1
done
[ -n "${URL:-}" ] || { cat "$TMP/nginx.out" >&2; exit 1; }

cat >"$TMP/demo.yaml" <<END
version: 1
cache: {dir: $TMP/cache}
backends:
  disk: {type: file, root: $SOURCE}
  web:  {type: http, url: "$URL/"}
mappings:
  - {local: /mnt/disk, remote: "disk:/"}
  - {local: /mnt/web, remote: "web:/"}
END
cat "$TMP/demo.yaml"
"$BUILD/prelux" --config "$TMP/demo.yaml" config check || exit 1
[ -e /mnt/web ] && echo "(a real /mnt/web exists; it is hidden from the programs below)"

for prefix in /mnt/disk /mnt/web; do
  title "$prefix"
  # Links, owner and a folder's own size are prelux's business.
  show $prefix "ls -l @/sub/folder @/code | grep -v ^total | awk 'NF > 8 {print \$5, \$6, \$7, \$8, \$9}'"
  show $prefix "cat @/readme.txt"
  show $prefix "cd @ && grep -rl needle sub readme.txt | sort"
  show $prefix "cd @/sub && pwd && ls *"
  show $prefix "$PYTHON -c 'import sys; sys.path.insert(0, \"@/package\"); import lakepkg; print(lakepkg.VALUE, len(open(\"@/big.bin\", \"rb\").read()))'"
  show $prefix "$PYTHON -c 'import numpy; a = numpy.load(\"@/numbers.npy\", mmap_mode=\"r\"); print(a.shape, int(a.sum()))'"
  show $prefix "sqlite3 -readonly @/data.sqlite 'SELECT count(*), max(name) FROM t'"
  show $prefix "tar c --owner=0 --group=0 --numeric-owner --mode=0644 --mtime=1970-01-01 --sort=name -C @ . | sha256sum"
done

fills()
{
  "$BUILD/prelux" --config "$TMP/demo.yaml" status --json |
    "$PYTHON" -c 'import json, sys; print(sum(int(s["fills"]) for s in json.load(sys.stdin)["cache"]["stores"]))'
}

title "cached: every file of /mnt/web, first from the server, then from the cache, and without prelux"
"$BUILD/prelux" --config "$TMP/demo.yaml" evict /mnt/web || fail "evict"
FILES=$(find "$SOURCE" -type f | wc -l)
FIRST=
for turn in cold cached plain; do
  where=/mnt/web
  run=("$BUILD/prelux" --config "$TMP/demo.yaml" run --)
  if [ $turn = plain ]; then
    where=$SOURCE
    run=()
  fi
  before=$(fills)
  start=$(date +%s%N)
  sum=$("${run[@]}" bash -c "cd $where && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum" </dev/null)
  spent=$((($(date +%s%N) - start) / 1000000))
  fetched=$(($(fills) - before))
  printf '%-7s %5d ms   %d files opened, %d fetched, hit rate %d%%   %.16s\n' $turn $spent "$FILES" $fetched \
    $(((FILES - fetched) * 100 / FILES)) "$sum"
  [ "${FIRST:=$sum}" = "$sum" ] || fail "the bytes of the $turn run"
  [ $turn = cold ] || [ "$fetched" = 0 ] || fail "the $turn run fetched $fetched files"
done
echo
"$BUILD/prelux" --config "$TMP/demo.yaml" status || fail "status"
"$BUILD/prelux" --config "$TMP/demo.yaml" map /mnt/web/readme.txt || fail "map"

title "result"
if [ $FAILED = 0 ]; then
  echo "demo: all output equals the source"
else
  echo "demo: FAILED"
fi
exit $FAILED
