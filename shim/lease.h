/* Files made without asking the daemon for each (include/prelux/msg.h: a lease; lib/store/stage_lease.h). */
#ifndef PRELUX_SHIM_LEASE_H
#define PRELUX_SHIM_LEASE_H

#include "shim/ask.h"

/* open(2) with these flags: a descriptor for writing, without its class; -EAGAIN: ask. */
int prelux_lease_open(const struct prelux_route *r, const char *call, int flags, mode_t mode);
/* The answer to that open, which was asked for: what it grants is used from now on. */
void prelux_lease_granted(const struct prelux_route *r, int flags, mode_t mode, const struct prelux_grant_heard *g);

#endif
