/* What this node owes the remote, as commands show it (ctl_pending.c). None of this on the loop thread but where it is said. */
#ifndef PRELUX_DAEMON_PENDING_H
#define PRELUX_DAEMON_PENDING_H

#include <cjson/cJSON.h>

#include "daemon/daemon.h"

/* `pending` of the status. */
cJSON *prelux_pending_report(struct prelux_daemon *d);
/* How many files are not on the remote; *ret_going (may be NULL): some of them are written to, or wait to be sent. Loop thread. */
uint64_t prelux_pending_uploads(struct prelux_daemon *d, bool *ret_going);
/* What a program calls the object: by `prefer` (may be NULL), else by any table in use; the object's own path when none shows it. malloc'd. */
char *prelux_pending_path(struct prelux_daemon *d, const struct prelux_live_table *prefer, const struct prelux_tree *tree, const char *object);
/* The longest `grace` of the tables in use. Any thread. */
uint64_t prelux_pending_grace_ms(struct prelux_daemon *d);
/* A prelux_refused_fn; arg: the daemon. */
void prelux_pending_refused(void *arg, const struct prelux_tree *t, uint32_t intent, const char *object, int err, const struct prelux_problem *why);

#endif
