/* Attributes of a remote object as every part of prelux passes them on. */
#ifndef PRELUX_ATTR_H
#define PRELUX_ATTR_H

#include <stdint.h>

enum prelux_type {
  PRELUX_NONE = 0, /* known not to exist */
  PRELUX_FILE = 1,
  PRELUX_DIR = 2,
  PRELUX_LINK = 3, /* a symbolic link that this node keeps for the remote; size: length of its target */
};

/* Flags of attributes. */
/* In the number of a staging file: it lies in the mapping's other staging folder (`staging: DIR`), on a file system of its own, whose inode
 * numbers may be the same as those of the cache's. Inode numbers themselves are below it. */
#define PRELUX_INO_SCRATCH ((uint64_t)1 << 62)
#define PRELUX_INO(number) ((number) & ~PRELUX_INO_SCRATCH)

#define PRELUX_ATTR_LIVE 0x1u  /* written on this node and not sent yet: the file is STAGING/<cache_ino> (struct prelux_table_mapping),
                                * its size and mtime are what fstat says of that file, not the ones here; `cached` is 0 */
#define PRELUX_ATTR_OWNED 0x2u /* `owner` says whose it is; else it is the table's uid and gid */
#define PRELUX_ATTR_GONE 0x4u  /* of an open file: no name leads to it any more; st_nlink is 0 */

/* Fixed layout (it crosses process borders): 64 bytes, native endian. */
struct prelux_attr {
  uint8_t type;       /* enum prelux_type */
  uint8_t cached;     /* 1: a complete file lies at the cache path; cache_* below are valid */
  uint16_t flags;     /* PRELUX_ATTR_* */
  uint32_t mode;      /* permission bits only (07777); 0: the remote has none */
  uint64_t size;      /* bytes; 0 for folders */
  int64_t mtime_ns;   /* since the epoch; 0: the remote has none */
  uint64_t ino;       /* st_ino that programs see; never 0 */
  uint64_t cache_ino; /* inode of the cache file or folder, 0: not there */
  uint64_t cache_dev;
  uint64_t valid_ns;  /* CLOCK_MONOTONIC instant until which this may be used without asking;
                       * 0: only for the call at hand, UINT64_MAX: for ever (immutable) */
  uint64_t owner;     /* OWNED: uid, and gid << 32; else 0 */
};
_Static_assert(sizeof(struct prelux_attr) == 64, "crosses process borders");

#endif
