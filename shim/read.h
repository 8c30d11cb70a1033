/* The body of a hook that reads what one path names. `r` is the route; mapped: the answer below a prefix, a result or
 * -errno; real: libc's call with r.at and r.use. */
#ifndef PRELUX_SHIM_READ_H
#define PRELUX_SHIM_READ_H

#include "shim/decls.h"
#include "shim/ask.h"
#include "shim/route.h"

#define PRELUX_READ_BODY(type, dirfd, path, how, mapped, real)                        \
  struct prelux_route r;                                                              \
  bool idle = prelux_idle();                                                          \
  prelux_route_plain(dirfd, path, &r);                                                \
  int where = idle ? PRELUX_UNMAPPED : prelux_route(dirfd, path, how, &r);            \
  for (;; where = r.where) {                                                          \
    if (where < 0) return (type)prelux_ret(where);                                    \
    if (where == PRELUX_MAPPED) return (type)prelux_ret(mapped);                      \
    type rc = (real);                                                                 \
    if (rc != (type)-1 || idle || !prelux_route_again(dirfd, path, how, &r)) return rc; \
  }

#endif
