#include "daemon/gate.h"

#include <errno.h>

#include "daemon/server.h"
#include "lib/store/store.h"

static _Atomic uint64_t requests;

static void stop(struct prelux_store *store, void *arg)
{
  if (!prelux_store_lease_stop(store))
    *(bool *)arg = false;
}

bool prelux_gate_closed(void)
{
  return prelux_leases_active();
}

bool prelux_gate_stop(struct prelux_daemon *d)
{
  bool stopped = true;
  if (prelux_leases_active())
    prelux_stores_each(d->stores, stop, &stopped);
  return stopped;
}

int prelux_gate_enter(struct prelux_flight *f, struct prelux_problem *why)
{
  if (!f->asked)
    return 0;
  f->number = atomic_fetch_add(&requests, 1) + 1;
  if (!f->looks)
    prelux_lease_request(true);
  if (f->keeps || prelux_gate_stop(prelux_server_daemon(f->home)) || !f->object)
    return 0;
  return prelux_problem(why, ENOSPC, "what was made before cannot be noted in the journal");
}

void prelux_gate_leave(struct prelux_flight *f)
{
  if (f->asked && !f->looks)
    prelux_lease_request(false);
}
