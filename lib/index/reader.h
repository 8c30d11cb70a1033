/* Reading the index. Shim-safe: raw system calls, no allocation, no lock. */
#ifndef PRELUX_INDEX_READER_H
#define PRELUX_INDEX_READER_H

#include <stddef.h>

#include "include/prelux/attr.h"
#include "include/prelux/index.h"

struct prelux_index_reader {
  _Atomic uintptr_t map;                    /* address | log2 of the number of slots as it was then; 0: not mapped yet */
  _Atomic uint64_t retry_ns;                /* after a failure do not try to map before this */
};

/* Looks up an object. Returns 1 and fills *ret when a slot is there and still valid at this instant,
 * 0 when the daemon must be asked (absent, expired, torn, no index). runtime: where the index lies. */
int prelux_index_get(struct prelux_index_reader *r, const char *runtime, uint64_t tree_id, const char *object,
                     size_t object_len, struct prelux_attr *ret);

/* Looks up an open cache file or folder by its inode: 1 and ret (->ino, ->mode, ->mtime_ns, ->type; cache_dev
 * holds the st_dev programs see), or 0. Not subject to expiry: it describes that inode. */
int prelux_index_get_inode(struct prelux_index_reader *r, const char *runtime, uint64_t dev, uint64_t ino,
                           struct prelux_attr *ret);

/* Where a listing lies in RUNTIME/names (lib/index/names.h reads it). */
struct prelux_names_at {
  uint64_t generation, position, bytes;
};

/* Where the listing of a folder is to be found: 1, while it is valid, or 0. */
int prelux_index_get_names(struct prelux_index_reader *r, const char *runtime, uint64_t tree_id, const char *object, size_t len,
                           struct prelux_names_at *ret);

/* What was copied from there is whole: the index that said so is the live one still, and the log has not come round to it. One load
 * more than a fence. */
int prelux_index_has_names(const struct prelux_index_reader *r, const struct prelux_names_at *at);

/* How many symbolic links this node keeps (struct prelux_index, `links`); 0 without an index. One load. */
uint64_t prelux_index_links(struct prelux_index_reader *r, const char *runtime);

/* /proc/sys/kernel/random/boot_id without its newline: 1, or 0 when it cannot be read. */
int prelux_boot_id(char ret[PRELUX_BOOT_ID]);

/* Another number whenever a folder of a cache tree was renamed, or will be at once; 0 without an index. One load. */
uint64_t prelux_index_moved(struct prelux_index_reader *r, const char *runtime);

/* 0 or -errno; CLOCK_MONOTONIC_COARSE. Weak: who may not make the kernel's calls (behind a program's filter) has some that he may make. */
struct stat;
struct timespec;
long prelux_index_fstat(int fd, struct stat *st);
void prelux_index_clock(struct timespec *ret);

/* The two 64-bit words of a key (shared with the writer): of an object, of its listing, of an inode. */
void prelux_index_key(uint64_t seed, uint64_t tree_id, const char *object, size_t len, uint64_t ret[2]);
void prelux_index_names_key(uint64_t seed, uint64_t tree_id, const char *object, size_t len, uint64_t ret[2]);
void prelux_index_inode_key(uint64_t seed, uint64_t dev, uint64_t ino, uint64_t ret[2]);

#endif
