/* What other families need of open.c. */
#ifndef PRELUX_SHIM_OPEN_H
#define PRELUX_SHIM_OPEN_H

#include "shim/route.h"

/* /proc/self/fd/N, /dev/stdin and the like on something in a cache tree: opening that for writing would change the
 * cache. */
bool prelux_is_magic_to_ours(const char *path);

/* shim/hit.c: an open that only reads (no O_PATH, no O_DIRECTORY) of a path that is not far. fd; -EAGAIN: it is no such case, go the whole
 * way; or the -errno that the program gets. */
int prelux_open_hit(const char *path, const char *call, int flags);
/* The same when the slot did not hold (tried; other: an fd of what lay there instead, or -1), or there is none: the daemon is asked. fd, whose
 * class is not set, or -errno. */
int prelux_open_asked(const struct prelux_route *r, const char *call, int flags, bool tried, int other);
/* The whole way led to r: paths of that mapping may be looked at by prelux_open_hit(). */
void prelux_hit_note(const struct prelux_route *r);

#endif
