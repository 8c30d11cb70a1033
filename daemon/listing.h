/* Reading a listing (include/prelux/listing.h) that a store made. */
#ifndef PRELUX_DAEMON_LISTING_H
#define PRELUX_DAEMON_LISTING_H

#include <stddef.h>

#include "include/prelux/listing.h"

struct prelux_list {
  const struct prelux_listing *head;
  size_t bytes; /* mapped */
};

/* Maps it; takes fd in any case. 0 or -errno (-EPROTO: not a listing). */
int prelux_list_open(struct prelux_list *l, int fd);
void prelux_list_close(struct prelux_list *l);
static inline const char *prelux_list_name(const struct prelux_list *l, uint32_t i)
{
  return (const char *)l->head + l->head->entries[i].name_off;
}

#endif
