#ifndef PRELUX_SHIM_DENTS_H
#define PRELUX_SHIM_DENTS_H

#include <stddef.h>

/* Descriptors [first, last] are closed, or are about to be: what getdents64 keeps for them goes. Async-signal-safe; nothing happens in a
 * vfork child. */
void prelux_dents_forget(unsigned first, unsigned last);
/* getdents by its old number, which emulators use: the same records with the type behind the name. */
long prelux_getdents_old(int fd, void *buf, size_t size);

#endif
