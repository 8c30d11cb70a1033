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
/* Rows (at most PRELUX_PINS_AT_ONCE) that eviction met and left: out of all segments of victims.c until a pin of their tree goes. Those that are
 * pinned no more stay in. In one transaction: a cache may be full of pins, and who waits for room waits for each. Takes the paths. 0. */
#define PRELUX_PINS_AT_ONCE 64
int prelux_pin_mark(struct prelux_store *s, struct prelux_victim *rows, int n);
bool prelux_pins_any(struct prelux_store *s);

#endif
