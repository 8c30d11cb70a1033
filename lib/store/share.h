/* Cache folders that other users may read (daemon/node.h): each tree has one gate, CACHE/trees/ID, which lets those pass who may read all of its mappings;
 * what lies below it (data/) they can look at then as they can at any folder. A tree whose mappings have different readers lets nobody pass, and its
 * folders stay closed one by one: a descriptor of a folder within it leads nowhere. CACHE/.prelux is closed to all, always. */
#ifndef PRELUX_STORE_SHARE_H
#define PRELUX_STORE_SHARE_H

#include "lib/base/acl.h"
#include "lib/store/store.h"

/* All gates of a store are shut; before anybody may pass, and for good when no daemon of a node opens it. */
void prelux_share_shut(int dir_fd);
/* NULL: nobody passes. 0, or -errno: nobody passes then, either; -ENOTSUP: the tree is a mapping's own folder, whose mode is its owner's affair. */
int prelux_share_tree(struct prelux_tree *t, const struct prelux_allowed *readers);

#endif
