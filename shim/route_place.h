/* Inside of the route: what a place is (route_place.c), for the way there (route.c). */
#ifndef PRELUX_SHIM_ROUTE_PLACE_H
#define PRELUX_SHIM_ROUTE_PLACE_H

#include "shim/route.h"

/* path: absolute, normalised. */
enum prelux_match_kind prelux_place_match(const char *path, struct prelux_match *m);

/* r->path holds a mapped path and m its match. r->where. */
int prelux_place_mapped(struct prelux_route *r, const struct prelux_match *m);

/* Unmapped, but only r->path (absolute) leads there. r->where. */
int prelux_place_elsewhere(struct prelux_route *r);

/* r->path is a place that was reached by names alone (no link in it that matters): what is it? at, use: what the caller would
 * hand to libc for a place above a mapping or outside; `use` NULL: libc must get r->path. r->where. */
int prelux_place_arrive(struct prelux_route *r, int at, const char *use);

#endif
