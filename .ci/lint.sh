#!/bin/sh
# clang-tidy (bug finders only) and cppcheck over the files given; any finding fails.
set -eu
flags="-std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. ${PKG_CFLAGS:-}"
for tool in clang-tidy cppcheck; do
  command -v $tool >/dev/null || { echo "lint: $tool is not installed (DEVELOPER=1 make deps)" >&2; exit 1; }
done
checks='-*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier'
checks="$checks,-bugprone-assignment-in-if-condition,-bugprone-narrowing-conversions,-bugprone-implicit-widening-of-multiplication-result"
checks="$checks,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,-bugprone-macro-parentheses,-bugprone-branch-clone"
checks="$checks,-bugprone-multi-level-implicit-pointer-conversion,-bugprone-unused-return-value,-bugprone-signal-handler"
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 8 clang-tidy --quiet --warnings-as-errors='*' -checks="$checks" \
  2>/dev/null -- || { echo "lint: clang-tidy found something" >&2; exit 1; }
cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -D_GNU_SOURCE -D__x86_64__ -I. -j "$(nproc)" \
  --enable=warning,portability --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=normalCheckLevelMaxBranches "$@" ||
  { echo "lint: cppcheck found something" >&2; exit 1; }
