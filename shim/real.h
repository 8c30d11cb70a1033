/* libc's own functions behind the calls of calls.h: prelux_real.open(...) is libc's open. Code of shim/ never calls
 * an intercepted function by its plain name. A symbol that this libc lacks is answered with ENOSYS. */
#ifndef PRELUX_SHIM_REAL_H
#define PRELUX_SHIM_REAL_H

#include "shim/decls.h"

struct prelux_real {
#define CALL(family, name, flags, pending, why) __typeof__(name) *name;
#include "shim/calls.h"
#undef CALL
};
extern struct prelux_real prelux_real;

/* Looks all of them up, once; safe to call again and from inside itself (an allocator that opens files while dlsym
 * runs then meets raw system calls). errno untouched. */
void prelux_real_bind(void);

/* True when this libc has the symbol (pass prelux_real.name). */
bool prelux_real_has(const void *fn);

#endif
