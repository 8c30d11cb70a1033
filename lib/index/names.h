/* Reading RUNTIME/names (include/prelux/names.h). Shim-safe: raw system calls, no allocation, no lock. */
#ifndef PRELUX_INDEX_NAMES_H
#define PRELUX_INDEX_NAMES_H

#include <stddef.h>

#include "include/prelux/names.h"
#include "lib/index/reader.h"

struct prelux_names_reader {
  _Atomic uintptr_t map;     /* 0: not mapped yet */
  _Atomic uint64_t retry_ns; /* after a failure do not try to map before this */
};

/* Copies the listing to `to` (at->bytes of it): 1, or 0 when it is not there any more. What is copied is the file's word: the caller
 * checks it as he checks a listing that the daemon passes. */
int prelux_names_copy(struct prelux_names_reader *r, const char *runtime, const struct prelux_names_at *at, void *to);

#endif
