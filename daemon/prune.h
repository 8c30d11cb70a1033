/* RUNTIME/tables does not grow for ever. */
#ifndef PRELUX_DAEMON_PRUNE_H
#define PRELUX_DAEMON_PRUNE_H

#include <stddef.h>

#define PRELUX_TABLE_FILES_MAX 4096u

/* At start, under daemon.lock: removes what a killed daemon was writing, and of the tables above `max` those that no daemon
 * has registered for longest, but none of the last 24 hours: a program may still be running under it. */
void prelux_prune_tables(const char *dir, size_t max);

#endif
