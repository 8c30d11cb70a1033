/* Listings of folders that a walk is about to come to (`prefetch` of a mapping, as files: ahead.h). */
#ifndef PRELUX_DAEMON_WALKS_H
#define PRELUX_DAEMON_WALKS_H

#include "daemon/daemon.h"

struct prelux_target;

/* A program lists a folder, and has to ask. Pool thread; returns at once. */
void prelux_walks_listed(struct prelux_daemon *d, const struct prelux_target *t);
/* Some listings are under way that nobody has asked for: none is begun when the daemon ends (prelux_ahead_stop). */
bool prelux_walks_busy(void);

#endif
