#!/bin/sh
# clang-tidy (bug finders only) and cppcheck over the files given; any finding fails.
set -eu
flags="-std=gnu11 -D_GNU_SOURCE -I. ${PKG_CFLAGS:-}"
checks='-*,clang-analyzer-*,bugprone-*'
# Off: the analyzer's core and leaks, as it knows neither what raw system calls write nor what cJSON_Is*() proves, and loses
# pointers stored through indices; what is taste; what is wrong about C.
for off in 'clang-analyzer-core.*' clang-analyzer-unix.Malloc clang-analyzer-deadcode.DeadStores \
  bugprone-easily-swappable-parameters bugprone-reserved-identifier bugprone-assignment-in-if-condition \
  bugprone-narrowing-conversions bugprone-implicit-widening-of-multiplication-result bugprone-macro-parentheses \
  bugprone-branch-clone bugprone-suspicious-include bugprone-signal-handler bugprone-not-null-terminated-result \
  bugprone-suspicious-string-compare clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling \
  clang-analyzer-security.insecureAPI.strcpy clang-analyzer-valist.Uninitialized bugprone-sizeof-expression; do
  checks="$checks,-$off"
done
for tool in clang-tidy cppcheck; do
  command -v $tool >/dev/null || { echo "lint: $tool is not installed (DEVELOPER=1 make deps)" >&2; exit 1; }
done
status=0
printf '%s\n' "$@" | CHECKS=$checks FLAGS=$flags xargs -P "$(nproc)" -n 6 \
  sh -c 'clang-tidy --quiet --warnings-as-errors="*" --checks="$CHECKS" "$@" -- $FLAGS 2>/dev/null' sh ||
  { echo "lint: clang-tidy found something" >&2; status=1; }
off=
for name in missingIncludeSystem unknownMacro normalCheckLevelMaxBranches nullPointerRedundantCheck returnDanglingLifetime \
  nullPointerArithmeticRedundantCheck arrayIndexOutOfBoundsCond; do
  off="$off --suppress=$name"
done
cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -D_GNU_SOURCE -D__x86_64__ -I. -j "$(nproc)" \
  --enable=warning,portability $off "$@" || { echo "lint: cppcheck found something" >&2; status=1; }
exit $status
