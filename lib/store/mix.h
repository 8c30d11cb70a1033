/* Listings with names of this node's own: those of the remote, sorted, and ours, merged; ours win. */
#ifndef PRELUX_STORE_MIX_H
#define PRELUX_STORE_MIX_H

#include "include/prelux/listing.h"
#include "lib/store/private.h"

struct prelux_mix_name {
  char *name; /* malloc'd */
  size_t len;
  struct prelux_known known;
  bool gone; /* there is no such name, whatever the remote lists */
};
struct prelux_mix {
  struct prelux_mix_name *list;
  size_t n, cap;
};

int prelux_mix_add(struct prelux_mix *m, const char *name, const struct prelux_known *k); /* 0 or -ENOMEM */
void prelux_mix_release(struct prelux_mix *m);
/* malloc'd; *ret NULL with 0: there is nothing to add. */
int prelux_mix_merge(struct prelux_mix *m, const struct prelux_listing *theirs, struct prelux_listing **ret);

#endif
