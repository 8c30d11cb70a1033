/* Where this program is. */
#ifndef PRELUX_BASE_OWN_H
#define PRELUX_BASE_OWN_H

#include <stdbool.h>
#include <stddef.h>

/* Path of the running program `name`. The packages that bring a libc of their own have it in PREFIX/lib/prelux/rt, where the kernel sees the
 * loader run: then it is PREFIX/bin/NAME, which starts that. Length or -errno. */
long prelux_own_path(char *out, size_t cap, const char *name);
/* exe (what /proc/self/exe says, changed) becomes that path where it is such a loader. True: it was. */
bool prelux_own_bundled(char *exe, size_t cap, const char *name);

#endif
