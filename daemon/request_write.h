/* WRITE and CLOSED: files that programs write. */
#ifndef PRELUX_DAEMON_REQUEST_WRITE_H
#define PRELUX_DAEMON_REQUEST_WRITE_H

#include "daemon/request.h"

/* Loop thread. table: held, taken; NULL: the asker has to register it. */
void prelux_request_write(struct prelux_conn *c, struct prelux_live_table *table, const void *msg);

/* Closes that nobody has waited for are settled when it returns. Any thread but the loop's. */
void prelux_lefts_settle(struct prelux_daemon *d);

/* Sends what waits in a store, on pool threads, until nothing can go. Any thread. */
void prelux_sender_kick(struct prelux_daemon *d, struct prelux_store *store);

#endif
