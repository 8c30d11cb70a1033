/* OPEN with PRELUX_F_STREAM: a large file is handed out while it comes in; and PARTS of it. */
#ifndef PRELUX_DAEMON_REQUEST_STREAM_H
#define PRELUX_DAEMON_REQUEST_STREAM_H

#include "daemon/request.h"

/* Answers c, at once or when a pool thread knows. Takes what t holds. Loop thread. */
void prelux_request_stream(struct prelux_conn *c, struct prelux_target *t, const void *msg);
/* Takes the table; NULL: the daemon does not have it. Loop thread. */
void prelux_request_parts(struct prelux_conn *c, struct prelux_live_table *table, const void *msg);

#endif
