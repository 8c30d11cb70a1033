/* Listing: a folder's names and attributes at one instant, an immutable packed file (a sealed
 * memfd passed by the daemon). Readers mmap it read-only; entries are sorted by name (memcmp),
 * without "." and "..", unique, no name is empty, holds '/' or NUL, or is longer than 255 bytes. */
#ifndef PRELUX_LISTING_H
#define PRELUX_LISTING_H

#include <stdint.h>

#define PRELUX_LISTING_MAGIC 0x54534c58554c4550ull /* "PELUXLST" */

struct prelux_listing_entry {
  uint64_t size;     /* UINT64_MAX: not known from the listing (an HTML index): only name, type and ino may be used, ask STAT */
  int64_t mtime_ns;  /* 0: not known from the listing */
  uint64_t ino;
  uint32_t mode;     /* permission bits, 0: none known */
  uint32_t name_off; /* from the start of the file; the name is NUL-terminated there */
  uint16_t name_len;
  uint8_t type;      /* enum prelux_type */
  uint8_t pad[5];
};
_Static_assert(sizeof(struct prelux_listing_entry) == 40, "file format");

struct prelux_listing {
  uint64_t magic;
  uint32_t major;
  uint32_t count;
  uint64_t bytes;    /* of the whole file */
  uint64_t dir_ino;  /* st_ino of the folder itself */
  struct prelux_listing_entry entries[];
};
_Static_assert(sizeof(struct prelux_listing) == 32, "file format");

#endif
