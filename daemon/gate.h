/* Before a request is worked on all that was made without asking is known to the stores (lib/store/stage_lease.h). Pool threads. */
#ifndef PRELUX_DAEMON_GATE_H
#define PRELUX_DAEMON_GATE_H

#include "daemon/daemon.h"
#include "daemon/flight.h"

/* 0; -ENOSPC with why: it is not, and the request is not to be worked on. */
int prelux_gate_enter(struct prelux_flight *f, struct prelux_problem *why);
void prelux_gate_leave(struct prelux_flight *f);
/* The same for what is answered on the loop. True: somebody may have made names without asking; false: nobody has. */
bool prelux_gate_closed(void);
bool prelux_gate_stop(struct prelux_daemon *d); /* false: it could not be made known */

#endif
