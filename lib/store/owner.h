/* Owners as remotes keep them: by name. */
#ifndef PRELUX_STORE_OWNER_H
#define PRELUX_STORE_OWNER_H

#include "include/prelux/msg.h"
#include "lib/backend/backend.h"

#define PRELUX_OWNER_MAX 256

struct prelux_owner_names {
  char owner[PRELUX_OWNER_MAX], group[PRELUX_OWNER_MAX];
};

/* The names of the numbers in `own` (PRELUX_SETATTR_UID, _GID), as this node knows them: added to *set, which borrows them. -EINVAL: one has
 * no name here; the other is added all the same. May wait for a name service. */
int prelux_owner_name(const struct prelux_setattr *own, struct prelux_owner_names *names, struct prelux_set *set, struct prelux_problem *why);

#endif
