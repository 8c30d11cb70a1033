/* Own ftw and nftw (ftw.c), called by the hooks when the walk can meet a mapping. */
#ifndef PRELUX_SHIM_FTW_H
#define PRELUX_SHIM_FTW_H

#include <ftw.h>
#include <sys/stat.h>

typedef int (*prelux_nftw_fn)(const char *path, const struct stat *st, int type, struct FTW *pos);
typedef int (*prelux_ftw_fn)(const char *path, const struct stat *st, int type);

/* Exactly one of the two functions is given. flags: FTW_*, 0 for ftw(). As nftw(3): the callback's first non-zero
 * result, 0 at the end, -1 and errno. */
int prelux_ftw_walk(const char *root, prelux_nftw_fn nftw_fn, prelux_ftw_fn ftw_fn, int flags);

#endif
