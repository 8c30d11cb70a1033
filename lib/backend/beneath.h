/* Opening a path below a root folder so that no symlink leads out of it. */
#ifndef PRELUX_BACKEND_BENEATH_H
#define PRELUX_BACKEND_BENEATH_H

#include <limits.h>
#include <stdbool.h>

#include "lib/base/problem.h"

/* Opens `path` (relative, "" for the root, no "." or "..") below the folder fd `root`, whose absolute path is `root_path`,
 * with O_PATH | O_CLOEXEC. Symlinks that stay below the root are followed, relative or absolute.
 * The fd, or -ENOENT, -ENOTDIR, -ENAMETOOLONG, ...; -EACCES with a text when a link leaves the root or leads back to a folder
 * that `path` already went through (else walking the tree would never end). */
int prelux_beneath_open(int root, const char *root_path, const char *path, struct prelux_problem *why);

/* The folder in which `path` (not "") has its last name, opened as above, with that name. follow: where the name is a link
 * to something that is there, folder and name are those of what it leads to in the end; else the link's own. The name
 * need not exist. What is done with it afterwards must not follow links: they may have changed. */
int prelux_beneath_parent(int root, const char *root_path, const char *path, bool follow, char name[NAME_MAX + 1],
                          struct prelux_problem *why);

/* From now on, for the whole process: it serves others than its own user, who may have made links in the remote by themselves. One that is
 * neither root's nor ours is followed only to what is its owner's, else -EACCES, whether or not something is there. */
void prelux_beneath_distrust(void);
bool prelux_beneath_distrusts(void);

#endif
