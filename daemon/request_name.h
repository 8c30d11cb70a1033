/* NAME, SETATTR, READLINK, WHOSE: names, attributes and links. Loop thread. */
#ifndef PRELUX_DAEMON_REQUEST_NAME_H
#define PRELUX_DAEMON_REQUEST_NAME_H

#include "daemon/request.h"

/* Takes the table; NULL: the daemon does not have it. */
void prelux_request_name(struct prelux_conn *c, struct prelux_live_table *table, const void *msg);

#endif
