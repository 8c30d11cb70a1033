#ifndef PRELUX_SHIM_DENTS_H
#define PRELUX_SHIM_DENTS_H

/* Descriptors [first, last] are closed, or are about to be: what getdents64 keeps for them goes. Async-signal-safe; nothing happens in a
 * vfork child. */
void prelux_dents_forget(unsigned first, unsigned last);

#endif
