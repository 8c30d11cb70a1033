/* Letting some users to a file or folder of ours beside its mode: POSIX ACLs, as extended attributes (acl(5)). */
#ifndef PRELUX_BASE_ACL_H
#define PRELUX_BASE_ACL_H

#include <stdbool.h>
#include <stdint.h>

struct prelux_allowed {
  bool all;
  const uint32_t *uids, *gids; /* in order, each once */
  unsigned n_uids, n_gids;
};

/* fd: opened, not O_PATH. The owner has `mode` (0700, ...), those who are allowed `bits` (1: pass, 4: read), nobody else has anything. NULL: nobody is.
 * 0; or -errno (-EOPNOTSUPP: no ACLs there), and nobody but the owner has anything. */
int prelux_acl_set(int fd, unsigned mode, const struct prelux_allowed *who, unsigned bits);

#endif
