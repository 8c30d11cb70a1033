/* Which cached file goes first (victims.c). */
#ifndef PRELUX_STORE_VICTIMS_H
#define PRELUX_STORE_VICTIMS_H

#include "lib/store/private.h"

/* Where a pass over the rows stands. */
struct prelux_order {
  int64_t once_after, again_after, before; /* used_ns of the last row seen */
  bool keeps; /* the newest first */
  int64_t round_ns;
};

/* store.lock not held. */
void prelux_order_begin(struct prelux_store *s, struct prelux_order *o);
/* The next rows, at most `n`: their number, 0: there are no more, -errno. Caller frees their paths. */
int prelux_order_next(struct prelux_store *s, struct prelux_order *o, struct prelux_victim *ret, int n);
/* A file was fetched. / One went to make room. */
void prelux_victims_filled(const struct prelux_tree *t, const char *object, uint64_t bytes);
void prelux_victims_evicted(const struct prelux_tree *t, const char *object, int64_t used_ns);

#endif
