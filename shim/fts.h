/* Own fts (fts.c), called by the hooks when the walk can meet a mapping. Each behaves as its libc namesake. */
#ifndef PRELUX_SHIM_FTS_H
#define PRELUX_SHIM_FTS_H

#include <fts.h>
#include <stdbool.h>

typedef int (*prelux_fts_cmp)(const FTSENT **, const FTSENT **);

FTS *prelux_fts_open(char *const *argv, int options, prelux_fts_cmp cmp);
bool prelux_fts_is_ours(const FTS *fts); /* made by prelux_fts_open; else libc's */
FTSENT *prelux_fts_read(FTS *fts);
FTSENT *prelux_fts_children(FTS *fts, int instr);
int prelux_fts_close(FTS *fts);

#endif
