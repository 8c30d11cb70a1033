/* What other families need of open.c. */
#ifndef PRELUX_SHIM_OPEN_H
#define PRELUX_SHIM_OPEN_H

#include <stdbool.h>

/* /proc/self/fd/N, /dev/stdin and the like on something in a cache tree: opening that for writing would change the
 * cache. */
bool prelux_is_magic_to_ours(const char *path);

#endif
