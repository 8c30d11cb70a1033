/* Pins: files that eviction leaves alone, by path: a file, or a folder with all that is or comes below it. They are rows of the catalogue,
 * and a sorted list in memory. A pin is a promise to keep, not to fetch. */
#ifndef PRELUX_STORE_PIN_H
#define PRELUX_STORE_PIN_H

#include "lib/store/private.h"

/* When the store is opened. 0 or -errno. */
int prelux_pins_load(struct prelux_store *s);
void prelux_pins_free(struct prelux_store *s);
/* Is the path, or a folder above it, pinned? store.lock not held. */
bool prelux_pinned(struct prelux_store *s, int64_t tree, const char *object);
/* The row is out of all segments of victims.c until a pin of its tree goes. */
void prelux_pin_mark(struct prelux_store *s, int64_t tree, const char *object);
bool prelux_pins_any(struct prelux_store *s);

#endif
