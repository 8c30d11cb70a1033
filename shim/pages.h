/* Memory for listings and folder streams: anonymous maps, of which some small ones are kept for the next folder, so that a walk maps
 * none. Async-signal-safe; in a vfork child, too. */
#ifndef PRELUX_SHIM_PAGES_H
#define PRELUX_SHIM_PAGES_H

#include <stddef.h>

/* 16-byte aligned, not cleared; NULL: no memory. */
void *prelux_pages_take(size_t bytes);
void prelux_pages_free(void *room); /* NULL is allowed */

#endif
