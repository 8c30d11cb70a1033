#!/bin/sh
# Prints the version script of libprelux.so: exactly the calls of shim/calls.h are visible.
set -e
echo "{"
echo "  global:"
printf '#define CALL(family, name, ...) @export name;\n#include "shim/calls.h"\n' |
  ${CC:-cc} -E -P -I. -xc - | tr ';' '\n' | sed -n 's/.*@export *\([A-Za-z0-9_]*\).*/    \1;/p' | sort -u
echo "  local: *;"
echo "};"
