/* Symbolic links kept by this node (links.c says how). */
#ifndef PRELUX_STORE_LINKS_H
#define PRELUX_STORE_LINKS_H

#include "include/prelux/listing.h"
#include "lib/store/private.h"

/* Without store.lock, or with it. */

/* Is there one at this path? ret may be NULL. */
bool prelux_links_known(const struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret);
/* Is a name above the path one? */
bool prelux_links_above(const struct prelux_tree *t, const char *object, size_t len);
/* Is there one below the folder? */
bool prelux_links_below(const struct prelux_tree *t, const char *folder);
/* Puts its slot into the index, when there is one (store.lock held). */
bool prelux_links_publish(const struct prelux_view *v, const char *object, size_t len);
/* The folder's listing with its links: malloc'd; NULL with 0: there are none. */
int prelux_links_list(const struct prelux_tree *t, const char *folder, const struct prelux_listing *l, struct prelux_listing **ret);
/* malloc'd target, or NULL. */
char *prelux_links_target(const struct prelux_tree *t, const char *object);

/* Without store.lock: these wait for the disk. */

int prelux_links_load(struct prelux_tree *t);
void prelux_links_count(struct prelux_tree *t); /* t is in use from now on: its links count in the index */
void prelux_links_begin(const struct prelux_view *v); /* a view is used for the first time */
void prelux_links_release(struct prelux_tree *t);
int prelux_links_make(struct prelux_tree *t, const char *object, const char *target); /* -ENOSPC above PRELUX_LINKS_MAX */
int prelux_links_remove(struct prelux_tree *t, const char *object);                   /* -ENOENT */
int prelux_links_rename(struct prelux_tree *t, const char *from, const char *to);     /* replaces one at `to` */
int prelux_links_move_below(struct prelux_tree *t, const char *from, const char *to);
int prelux_links_set_mtime(struct prelux_tree *t, const char *object, int64_t mtime_ns);

#endif
