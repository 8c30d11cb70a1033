/* Attributes kept by this node (attrs.c says how). */
#ifndef PRELUX_STORE_ATTRS_H
#define PRELUX_STORE_ATTRS_H

#include "include/prelux/msg.h"
#include "lib/store/private.h"

/* What this node shows of an object other than the remote says. No lock needed, any may be held but the catalogue's. */
void prelux_attrs_show(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *k);

/* The rest waits for the disk: without store.lock. */

int prelux_attrs_load(struct prelux_tree *t);
void prelux_attrs_release(struct prelux_tree *t);
/* Lays `set` over version obj, beside what lies there already; NULL: over the file being written there (owners only). */
int prelux_attrs_set(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const struct prelux_setattr *set);
/* Of version obj, as the remote tells it, readers see this: mode (0: the remote's), mtime_ns (0: the remote's), owner (or NULL). */
void prelux_attrs_keep(struct prelux_tree *t, const char *object, const struct prelux_object *obj, uint32_t mode, int64_t mtime_ns,
                       const struct prelux_setattr *owner);
/* For prelux_attrs_keep(): the time of what is shown as obj, unless the remote or folder_time.c tell it. */
int64_t prelux_attrs_mtime(struct prelux_tree *t, const char *object, const struct prelux_object *obj);
struct prelux_setattr prelux_attrs_owner(struct prelux_tree *t, const char *object); /* which: 0 when none was set */
void prelux_attrs_drop(struct prelux_tree *t, const char *object);
/* These (enum prelux_setattr_bits) are the remote's again: of the object, or also of all below. */
void prelux_attrs_clear(struct prelux_tree *t, const char *object, uint32_t which, bool below);
/* All below a folder; to NULL: it was removed. */
void prelux_attrs_move_below(struct prelux_tree *t, const char *from, const char *to);

#endif
