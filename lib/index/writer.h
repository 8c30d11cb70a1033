/* Writing the index: the daemon only, one instance a process. Calls are serialised inside by a mutex. */
#ifndef PRELUX_INDEX_WRITER_H
#define PRELUX_INDEX_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/attr.h"
#include "include/prelux/index.h"
#include "lib/base/acl.h"
#include "lib/index/names_write.h"

struct prelux_index_writer;

/* Makes RUNTIME/index anew (an older one is marked retired). slots: a power of two; max_slots bounds growth.
 * 0 or -errno. Caller frees. */
int prelux_index_writer_create(const char *runtime, uint32_t slots, uint32_t max_slots, struct prelux_index_writer **ret);
/* Other users who may read index and names, which have what is known of all trees; NULL: nobody. They are remembered: the index grows by another
 * file. 0; or -errno, and nobody may. */
int prelux_index_allow(struct prelux_index_writer *w, const struct prelux_allowed *who);
/* Marks it retired and unmaps. NULL is allowed. */
void prelux_index_writer_free(struct prelux_index_writer *w);

/* Publishes what is known of an object; type PRELUX_NONE publishes "no such file" until valid_ns.
 * attr->cached with cache_ino/cache_dev != 0 publishes the inode key too (st_dev = dev_seen). A full index drops
 * expired entries, then grows up to max_slots, then drops all but links: never fails. */
void prelux_index_put(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len,
                      const struct prelux_attr *attr, uint64_t dev_seen);
/* Publishes the inode key alone, of an object whose name may not be looked up here. */
void prelux_index_put_inode(struct prelux_index_writer *w, const struct prelux_attr *attr, uint64_t dev_seen);
/* The listing of a folder lies there, valid until valid_ns. / It does not any more. */
void prelux_index_put_names(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len,
                            const struct prelux_names_at *at, uint64_t valid_ns);
void prelux_index_drop_names(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len);
/* RUNTIME/names, made with the index; NULL when there is no room for it. */
struct prelux_names_writer *prelux_index_names(struct prelux_index_writer *w);
/* What lies before that position in it is lost: known to readers when this returns (names_write.c alone calls it). */
void prelux_index_names_tail(struct prelux_index_writer *w, uint64_t position);
/* A folder of a cache tree is about to be renamed, or was: both times. */
void prelux_index_move(struct prelux_index_writer *w);
/* Forgets an object: the next look-up asks. */
void prelux_index_drop(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len);
/* So many links more, or less, are kept by this node (struct prelux_index.links): counted before their slots come, out after those went. */
void prelux_index_count_links(struct prelux_index_writer *w, int64_t n);
/* No name leads to the inode any more, or one does: until it is published anew. */
void prelux_index_gone(struct prelux_index_writer *w, uint64_t dev, uint64_t ino, bool gone);
/* Forgets an inode (before its file is unlinked: the number may be used again). */
void prelux_index_drop_inode(struct prelux_index_writer *w, uint64_t dev, uint64_t ino);

#endif
