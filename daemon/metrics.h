/* Numbers for Prometheus: its text format (0.0.4), and who serves it. */
#ifndef PRELUX_DAEMON_METRICS_H
#define PRELUX_DAEMON_METRICS_H

#include "daemon/daemon.h"

/* All of them; malloc'd, NULL: no memory. Any thread. */
char *prelux_metrics_text(struct prelux_daemon *d);
/* What a configuration (its file, a hash of its text) has for `metrics.listen`: "HOST:PORT" on this node's loopback, served over HTTP by a thread of its
 * own until no configuration names it any more; NULL: nothing. What cannot be is a line in the log. old: an earlier text of it may be, by which a
 * program still runs. The caller holds d->compiling. (metrics_listen.c) */
void prelux_metrics_follow(struct prelux_daemon *d, const char *source, uint64_t text, const char *address, bool old);
void prelux_metrics_end(void);

#endif
