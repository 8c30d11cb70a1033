/* Hidden names, of backends whose remote has no unfinished state of its own, and what the dead leave under them.
 *
 * `.prelux~put-OWNER` is a file being sent, `.prelux~old-OWNER` a folder with a file that is being replaced. OWNER is
 * HOST-PID-START-NUMBER, HOST a hash of the boot and the space of process numbers: whether such a process lives can be
 * told by whoever shares them, and NUMBER the time it was made. Of other hosts' what is older than a time that the caller names is
 * nobody's. */
#ifndef PRELUX_BACKEND_HIDDEN_H
#define PRELUX_BACKEND_HIDDEN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/backend/backend.h"

#define PRELUX_HIDDEN ".prelux~"
#define PRELUX_HIDDEN_IDLE_S 86400 /* unfinished work of other nodes this old is nobody's */

bool prelux_hidden(const char *path); /* a component of it is a hidden name */
/* A hidden name beside `path` that nobody else has; kind: "put", "old". Malloced, NULL: no memory. */
char *prelux_hidden_beside(const char *path, const char *kind);
char *prelux_hidden_join(const char *folder, const char *name);
/* Whoever made that path cannot remove it, or does not know whether it should: from now on it is nobody's, though the process lives. */
void prelux_hidden_leave(const char *path);
/* After a put of `path` was done: what was left in its folder goes, by the backend's `clean`, but no old file whose name is free. */
void prelux_hidden_tidy(struct prelux_backend *b, const char *path);
/* Is the owner of `name`, last changed at mtime_ns (0: unknown; then when it was made, by its maker's clock), gone? */
bool prelux_hidden_dead(const char *name, int64_t mtime_ns, uint64_t idle_s);

/* How a backend does what a sweep needs; all return 0 or -errno. */
struct prelux_hidden_ops
{
  int (*type)(void *arg, const char *path, uint8_t *ret, struct prelux_problem *why); /* enum prelux_type */
  int (*each)(void *arg, const char *path, prelux_list_fn add, void *add_arg, struct prelux_problem *why); /* hidden names, too */
  int (*move)(void *arg, const char *from, const char *to); /* a file; -EEXIST: something is at `to` */
  int (*drop)(void *arg, const char *path); /* a file or an empty folder; 0 also when it is gone */
};

/* The `clean` op. A dead `put` is removed. The file in a dead `old` goes back to its name if that is free (its owner died before
 * the new one was there), else it is removed: the new one is there. Of several for one name the one made last goes back. */
int prelux_hidden_clean(const struct prelux_hidden_ops *ops, void *arg, const char *path, uint64_t idle_s, struct prelux_problem *why);

#endif
