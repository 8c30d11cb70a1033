/* Opening a path below a root folder so that no symlink leads out of it. */
#ifndef PRELUX_BACKEND_BENEATH_H
#define PRELUX_BACKEND_BENEATH_H

#include "lib/base/problem.h"

/* Opens `path` (relative, "" for the root, no "." or "..") below the folder fd `root`, whose absolute path is `root_path`,
 * with O_PATH | O_CLOEXEC. Symlinks that stay below the root are followed, relative or absolute.
 * The fd, or -ENOENT, -ENOTDIR, -ENAMETOOLONG, ...; -EACCES with a text when a link leaves the root or leads back to a folder
 * that `path` already went through (else walking the tree would never end). */
int prelux_beneath_open(int root, const char *root_path, const char *path, struct prelux_problem *why);

#endif
