/* NAME, SETATTR, READLINK, WHOSE: names, attributes and links. Loop thread. */
#ifndef PRELUX_DAEMON_REQUEST_NAME_H
#define PRELUX_DAEMON_REQUEST_NAME_H

#include "daemon/request.h"

/* Takes the table; NULL: the daemon does not have it. */
void prelux_request_name(struct prelux_conn *c, struct prelux_live_table *table, const void *msg);
/* 0: the staging file of that number has a name below the target's mapping. -ENOENT: there is none, or it has no name; -EACCES: it is of another
 * mapping. */
int prelux_target_number(const struct prelux_target *t, uint64_t ino, struct prelux_problem *why);

#endif
