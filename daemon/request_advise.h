/* ADVISE: what programs say of their use of files. */
#ifndef PRELUX_DAEMON_REQUEST_ADVISE_H
#define PRELUX_DAEMON_REQUEST_ADVISE_H

#include "daemon/conn.h"

/* Takes table (may be NULL). Loop thread. */
void prelux_request_advise(struct prelux_conn *c, struct prelux_live_table *table, const void *msg);
/* Some advice is being followed: when the daemon is told to end (prelux_ahead_stop) no file more is begun. */
bool prelux_advice_busy(void);

#endif
