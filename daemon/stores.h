/* Stores and trees of all configurations: one store a cache folder, one tree for each set of data in it. They stay open
 * until the daemon ends. */
#ifndef PRELUX_DAEMON_STORES_H
#define PRELUX_DAEMON_STORES_H

#include "daemon/origin.h"
#include "lib/conf/conf.h"
#include "lib/store/store.h"

struct prelux_stores;

int prelux_stores_create(struct prelux_index_writer *index, struct prelux_stores **ret);
/* Closes all stores. NULL is allowed. */
void prelux_stores_free(struct prelux_stores *s);

/* The tree that serves `m`, fed by `i`: in the mapping's own cache folder (then the tree mirrors the mapping's root and
 * *ret_object is ""), else in the configuration's cache (the tree mirrors the whole backend). 0, or -errno with why. */
int prelux_stores_tree(struct prelux_stores *s, const struct prelux_conf *conf, const struct prelux_conf_mapping *m,
                       const char *home, struct prelux_instance *i, struct prelux_tree **ret, const char **ret_object,
                       struct prelux_problem *why);

/* Calls fn for each store, without a lock. */
void prelux_stores_each(struct prelux_stores *s, void (*fn)(struct prelux_store *store, void *arg), void *arg);
/* The same, unless a store is being opened just now: false, fn was not called. For the loop thread. */
bool prelux_stores_try_each(struct prelux_stores *s, void (*fn)(struct prelux_store *store, void *arg), void *arg);
/* Housekeeping of all. False: a cache folder was removed under us. */
bool prelux_stores_tick(struct prelux_stores *s);

#endif
