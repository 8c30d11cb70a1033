/* What the tree walkers (ftw.c, fts.c, scandir.c) share: one folder read whole, over the exported (hooked) calls. */
#ifndef PRELUX_SHIM_WALK_H
#define PRELUX_SHIM_WALK_H

#include <dirent.h>
#include <glob.h>
#include <stdbool.h>
#include <stddef.h>

/* Opens the folder, calls each() for every entry ("." and ".." too) until it returns non-zero, closes the folder.
 * The folder is closed and its names are known before anything else happens, so a walk holds one fd however deep it is.
 * 0, what each() returned, or -errno. */
int prelux_walk_folder(int at, const char *path, int (*each)(const struct dirent *entry, void *arg), void *arg);

/* True when a walk that begins at `path` can meet a mapping: it leads into one or above one, or the walk follows links.
 * False: libc's own walker sees the same as ours would. */
bool prelux_walk_can_reach(int at, const char *path, bool follow);

static inline bool prelux_walk_is_dot(const char *name)
{
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

/* glob of a libc that cannot be given functions (shim/glob_musl.c). */
int prelux_glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g);

#endif
