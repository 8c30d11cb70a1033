/* Reading a listing (include/prelux/listing.h) that may be damaged: no number in it is believed before it is looked at. Shim-safe. */
#ifndef PRELUX_INDEX_LISTING_H
#define PRELUX_INDEX_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/listing.h"
#include "include/prelux/version.h"

/* `bytes` at l (at least a head) are a listing of our major, all entries within it. Their names are looked at one by one. */
static inline bool prelux_listing_ok(const struct prelux_listing *l, uint64_t bytes)
{
  return l->magic == PRELUX_LISTING_MAGIC && l->major == PRELUX_LISTING_MAJOR && l->bytes == bytes &&
         l->count <= (l->bytes - sizeof(*l)) / sizeof(l->entries[0]);
}

/* The name of an entry, of e->name_len bytes; NULL: it does not lie in the listing. */
static inline const char *prelux_listing_name(const struct prelux_listing *l, const struct prelux_listing_entry *e)
{
  return (uint64_t)e->name_off + e->name_len < l->bytes ? (const char *)l + e->name_off : NULL;
}

#endif
