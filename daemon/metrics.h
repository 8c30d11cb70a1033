/* Numbers for Prometheus: its text format (0.0.4), and who serves it. */
#ifndef PRELUX_DAEMON_METRICS_H
#define PRELUX_DAEMON_METRICS_H

#include "daemon/daemon.h"

/* All of them; malloc'd, NULL: no memory. Any thread. */
char *prelux_metrics_text(struct prelux_daemon *d);
/* `metrics.listen` of a configuration: "HOST:PORT" on this node's loopback, over HTTP by a thread of its own, until the daemon ends. What cannot be is
 * a line in the log; the same address again is nothing, and one that no configuration names any more is served on. (metrics_listen.c) */
void prelux_metrics_listen(struct prelux_daemon *d, const char *address);
void prelux_metrics_end(void);

#endif
