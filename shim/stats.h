/* Attributes as struct stat; which file systems hold cache trees. */
#ifndef PRELUX_SHIM_STATS_H
#define PRELUX_SHIM_STATS_H

#include "shim/ask.h"

/* A file of a cache tree was seen on this device: fstat on it looks closer (prelux_patch_stat). */
void prelux_tree_dev(uint64_t dev);
bool prelux_is_tree_dev(uint64_t dev);

/* A mapping that shows `dev` as st_dev: prefers number `hint`. NULL: none. */
const struct prelux_table_mapping *prelux_mapping_of_dev(uint64_t dev, uint32_t hint);

/* Index look-ups without the daemon: true and *ret. */
bool prelux_index_look(const struct prelux_route *r, struct prelux_attr *ret);
bool prelux_index_look_inode(uint64_t dev, uint64_t ino, struct prelux_attr *ret);
/* This node keeps symbolic links for some tree. One load. */
bool prelux_links_kept(void);

#endif
