/* Index: attributes and cache state of objects in shared memory, RUNTIME/index. One writer (the
 * daemon), any number of readers, no locks.
 *
 * A reader takes a slot like a textbook seqlock: seq (acquire) even -> copy the words (relaxed) ->
 * fence (acquire) -> seq again equal. An odd or changed seq is retried at most 100 times, then the
 * reader asks the daemon: a daemon killed in the middle of a write leaves its slot odd for ever.
 * A daemon starts with a new file (renamed into place) and sets `retired` in the old one; it grows
 * the same way. Readers check `retired` at each look-up and map the new file; old maps are never
 * unmapped while threads may read them. The file is fallocated before it is shared, and nobody may open it for writing (its mode is
 * 0400; the writer has it open since it made it), so nobody but root, or who changes the mode first, can truncate it: no SIGBUS.
 * `boot` is compared when the file is mapped: times of another boot (valid_ns) mean nothing, and its writer cannot be alive.
 *
 * Three kinds of key share the table:
 *   object: XXH3-128 of the object path with a seed of `seed` and tree_id
 *   names:  the same with another seed: where the listing of a folder lies (names.h)
 *   inode:  XXH3-128 of (cache_dev, cache_ino) with `seed` + 1: answers fstat on an open cache file */
#ifndef PRELUX_INDEX_H
#define PRELUX_INDEX_H

#include <stdatomic.h>
#include <stdint.h>

#define PRELUX_INDEX_MAGIC 0x58444e4958554c50ull
#define PRELUX_BOOT_ID 40u       /* bytes for a boot's id, with NUL */
#define PRELUX_INDEX_PROBES 32u /* a key lies within so many slots of its home, or it is not there */

struct prelux_index_slot {
  _Atomic uint32_t seq;
  _Atomic uint32_t kind_mode;   /* type (bits 0-3: enum prelux_type), flags (4-7), permission bits (8-23) */
  _Atomic uint64_t key_lo;      /* both 0: empty, ends a probe; lo 0, hi 1: deleted */
  _Atomic uint64_t key_hi;
  _Atomic uint64_t size;
  _Atomic uint64_t mtime_ns;
  _Atomic uint64_t ino;         /* st_ino that programs see */
  _Atomic uint64_t cache_ino;   /* object key: inode at the cache path, 0: not cached.
                                 * inode key: st_dev that programs see */
  _Atomic uint64_t valid_ns;    /* as prelux_attr.valid_ns */
};
_Static_assert(sizeof(struct prelux_index_slot) == 64, "one cache line");

#define PRELUX_SLOT_LIVE 0x10u  /* flags of kind_mode: as PRELUX_ATTR_LIVE; in an inode key, too */
#define PRELUX_SLOT_OWNED 0x20u /* as PRELUX_ATTR_OWNED: there is no room for `owner`, STAT tells */
#define PRELUX_SLOT_GONE 0x40u  /* as PRELUX_ATTR_GONE; of an inode key only */
#define PRELUX_SLOT_TYPE(km) ((km) & 0xfu)
#define PRELUX_SLOT_MODE(km) (((km) >> 8) & 07777u)
#define PRELUX_SLOT_KM(type, mode) ((uint32_t)(type) | ((uint32_t)(mode) << 8))

struct prelux_index {
  uint64_t magic;
  uint32_t major;
  uint32_t mask;              /* slots - 1; believed when the file is mapped, not later: its owner may write over it */
  uint64_t bytes;
  uint64_t seed;
  uint64_t generation;
  _Atomic uint32_t retired;   /* 1: map RUNTIME/index again */
  _Atomic uint32_t writer_pid;
  _Atomic uint64_t links;     /* how many symbolic links this node keeps, in all trees. Each has a slot (of type LINK) that is never
                               * stale, so with 0 here, or without such a slot, no name on a path is a link */
  _Atomic uint64_t names_tail; /* names.h */
  uint64_t names;              /* generation of RUNTIME/names; 0: there is none */
  char boot[PRELUX_BOOT_ID];   /* /proc/sys/kernel/random/boot_id without its newline; "": could not be read */
  _Atomic uint64_t moved;      /* changes before and after a folder of a cache tree is renamed; never 0, of each daemon another */
  uint64_t reserved;
  struct prelux_index_slot slots[];
};
_Static_assert(sizeof(struct prelux_index) == 128, "slots start on a cache line");

#endif
