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

/* Notes where they are to be found; each is looked up at its first call. Safe anywhere, also before the constructor. */
void prelux_real_bind(void);

/* The code at `caller` belongs to another library behind ours from which some of prelux_real comes. */
bool prelux_real_is_behind(const void *caller);

/* True when this libc has the symbol (pass prelux_real.name); looks it up. */
bool prelux_real_has(const void *fn);

#endif
