#ifndef PRELUX_SHIM_DENTS_H
#define PRELUX_SHIM_DENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors [first, last] are closed, or are about to be: what getdents64 keeps for them goes. Async-signal-safe; nothing happens in a
 * vfork child. */
void prelux_dents_forget(unsigned first, unsigned last);
extern uint32_t prelux_dents_kept; /* atomic: how many descriptors something is kept for */
static inline bool prelux_dents_any(void)
{
  return __builtin_expect(__atomic_load_n(&prelux_dents_kept, __ATOMIC_RELAXED) != 0, 0);
}
/* getdents by its old number, which emulators use: the same records with the type behind the name. */
long prelux_getdents_old(int fd, void *buf, size_t size);

#endif
