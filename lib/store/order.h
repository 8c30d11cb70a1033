/* In which order pending changes may go to the remote: as they were done, wherever order can be seen. Two changes touch when a path of
 * one is a path of the other, or lies above or below one: those go one after another, by id; all others may go at once.
 * Pure and in memory; the caller locks. */
#ifndef PRELUX_STORE_ORDER_H
#define PRELUX_STORE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prelux_order;

int prelux_order_create(struct prelux_order **ret); /* 0 or -ENOMEM */
void prelux_order_free(struct prelux_order *o);     /* NULL is allowed */

/* A change; ids are positive and used once. It comes after all that were added before, but for those with larger ids that can still wait: they
 * were done later, and it had found no place for want of memory. `to` may be NULL. Object paths, "" is the
 * root, which touches everything. 0, -ENOMEM (nothing was added), -EEXIST. */
int prelux_order_add(struct prelux_order *o, int64_t id, const char *path, const char *to);
/* It is done or given up: what waited for it may go. False: there is no such change. */
bool prelux_order_remove(struct prelux_order *o, int64_t id);
/* The longest waiting of those that wait for nobody; it is not given twice. 0: there is none now. */
int64_t prelux_order_take(struct prelux_order *o);
/* The same of one that is known: false when it waits for others, was taken, or is not there. */
bool prelux_order_take_id(struct prelux_order *o, int64_t id);
bool prelux_order_waited(struct prelux_order *o, int64_t id); /* does any wait for it? */
/* One that was taken is to be tried again: take() gives it again, after those that can go now. */
void prelux_order_back(struct prelux_order *o, int64_t id);
/* How many changes there are, and how many of them wait for others. */
size_t prelux_order_count(const struct prelux_order *o, size_t *ret_blocked);

#endif
