/* Making views: behind alluxio_members.c. */
#ifndef PRELUX_BACKEND_ALLUXIO_VIEW_H
#define PRELUX_BACKEND_ALLUXIO_VIEW_H

#include "lib/backend/alluxio_members.h"
#include "lib/backend/alluxio_roster.h"

/* The view of a roster, whose entries are taken from it. 0, -ENOMEM. The generation is set by the caller; one reference. */
int prelux_alluxio_view_make(const struct prelux_alluxio_options *o, struct prelux_alluxio_health *health, enum prelux_alluxio_trust trust,
                             struct prelux_alluxio_roster *roster, struct prelux_alluxio_view **ret);
struct prelux_alluxio_view *prelux_alluxio_view_hold(const struct prelux_alluxio_view *v);
/* The same workers, none of them started anew? */
bool prelux_alluxio_view_same(const struct prelux_alluxio_view *a, const struct prelux_alluxio_view *b);
/* Of those in both: who has registered anew has no past. */
void prelux_alluxio_view_reborn(const struct prelux_alluxio_view *old, const struct prelux_alluxio_view *fresh);
/* Before `fresh` is shared: whom of `old` it lacks. Workers look at etcd less often than we do, and send us on to those for a while. */
#define PRELUX_ALLUXIO_GONE_MS 120000 /* Alluxio's own refresh (PROTOCOLS 2D.1) */
void prelux_alluxio_view_inherit(struct prelux_alluxio_view *fresh, const struct prelux_alluxio_view *old,
                                 struct prelux_alluxio_health *health);
/* The i-th of them; NULL: it left too long ago. False: there is no i-th. */
bool prelux_alluxio_view_gone(const struct prelux_alluxio_view *v, size_t i, const struct prelux_alluxio_worker **ret);
/* "+a:1 -b:1" */
void prelux_alluxio_view_changes(const struct prelux_alluxio_view *old, const struct prelux_alluxio_view *fresh, char *out, size_t cap);

#endif
