/* Reading RUNTIME/names (include/prelux/names.h). Shim-safe: raw system calls, no allocation, no lock. */
#ifndef PRELUX_INDEX_NAMES_H
#define PRELUX_INDEX_NAMES_H

#include <stddef.h>

#include "include/prelux/names.h"
#include "lib/index/reader.h"

/* Copies the listing to `to` (at->bytes of it): 1, or 0 when it is not there any more, or the file cannot be read (no descriptor is
 * free). Opens and closes a descriptor. r: where `at` is from. What is copied is the file's word: the caller checks it as he checks a
 * listing that the daemon passes. */
int prelux_names_copy(const struct prelux_index_reader *r, const char *runtime, const struct prelux_names_at *at, void *to);

#endif
