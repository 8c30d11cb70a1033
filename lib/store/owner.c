#include "lib/store/owner.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER 4096
#define BUFFER_MAX (4u << 20) /* a group's members are in it, too */

/* 0; -ENOENT: no name, or one that is too long. */
static int name_of(bool group, uint32_t id, char *buf, size_t len, char out[PRELUX_OWNER_MAX])
{
  struct passwd pw, *user = NULL;
  struct group gr, *team = NULL;
  int err = group ? getgrgid_r(id, &gr, buf, len, &team) : getpwuid_r(id, &pw, buf, len, &user);
  const char *name = team ? team->gr_name : user ? user->pw_name : "";
  if (err == ERANGE)
    return -ERANGE;
  int n = snprintf(out, PRELUX_OWNER_MAX, "%s", name);
  return err || n <= 0 || n >= PRELUX_OWNER_MAX ? -ENOENT : 0;
}

static int look_up(bool group, uint32_t id, char out[PRELUX_OWNER_MAX])
{
  int rc = -ERANGE;
  for (size_t len = BUFFER; rc == -ERANGE && len <= BUFFER_MAX; len *= 4)
  {
    char *buf = malloc(len);
    rc = buf ? name_of(group, id, buf, len, out) : -ENOMEM;
    free(buf);
  }
  return rc;
}

int prelux_owner_name(const struct prelux_setattr *own, struct prelux_owner_names *names, struct prelux_set *set, struct prelux_problem *why)
{
  int rc = 0;
  if (own->which & PRELUX_SETATTR_UID)
  {
    if (look_up(false, own->uid, names->owner) == 0)
      set->which |= PRELUX_SET_OWNER;
    else
      rc = prelux_problem(why, EINVAL, "user %u has no name on this node, and the remote knows owners by name", own->uid);
    set->owner = names->owner;
  }
  if (own->which & PRELUX_SETATTR_GID)
  {
    if (look_up(true, own->gid, names->group) == 0)
      set->which |= PRELUX_SET_GROUP;
    else
      rc = prelux_problem(why, EINVAL, "group %u has no name on this node, and the remote knows groups by name", own->gid);
    set->group = names->group;
  }
  return rc;
}
