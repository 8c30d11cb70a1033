/* One listing of the remote while it comes, until it is a folder (list.c). */
#ifndef PRELUX_STORE_COLLECT_H
#define PRELUX_STORE_COLLECT_H

#include "lib/store/private.h"

struct prelux_collect_item;

struct prelux_collect {
  const struct prelux_view *v;
  const char *object;
  bool exact;
  struct prelux_collect_item *items;
  size_t n, cap;
  char *pool;
  size_t pool_len, pool_cap;
  size_t names; /* bytes of names with their NUL */
  unsigned dropped;
  char example[64];
};

int prelux_collect_add(void *collect, const char *name, size_t len, const struct prelux_object *obj); /* prelux_list_fn */
/* By name, each once. */
void prelux_collect_sort(struct prelux_collect *c);
/* Learn lock held. A folder with one reference, which takes the pool over; NULL: no memory. */
struct prelux_folder *prelux_collect_pack(struct prelux_collect *c, uint64_t learned_ns);
void prelux_collect_release(struct prelux_collect *c);

#endif
