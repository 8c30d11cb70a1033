/* Reading ahead of files that nobody has asked for yet (`prefetch` of a mapping). */
#ifndef PRELUX_DAEMON_AHEAD_H
#define PRELUX_DAEMON_AHEAD_H

#include "daemon/daemon.h"

enum prelux_ahead_way { PRELUX_AHEAD_OFF, PRELUX_AHEAD_SIBLINGS, PRELUX_AHEAD_DIRECTORY };

struct prelux_target;

int prelux_ahead_create(struct prelux_ahead **ret);
/* A program opens a file that may have to be fetched. Pool thread; returns at once. */
void prelux_ahead_opened(struct prelux_daemon *d, const struct prelux_target *t);
/* No file more is begun. NULL is allowed here and below, and in prelux_daemon. */
void prelux_ahead_stop(struct prelux_ahead *a);
bool prelux_ahead_stopped(struct prelux_ahead *a); /* the daemon ends */
bool prelux_ahead_busy(struct prelux_ahead *a);
void prelux_ahead_free(struct prelux_ahead *a); /* after the pool */

#endif
