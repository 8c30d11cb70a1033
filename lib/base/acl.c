#include "lib/base/acl.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "lib/base/os.h"

#define NAME "system.posix_acl_access"
#define VERSION 2u
#define NO_ID UINT32_MAX

enum { USER_OBJ = 0x01, USER = 0x02, GROUP_OBJ = 0x04, GROUP = 0x08, MASK = 0x10, OTHER = 0x20 };

struct entry {
  uint16_t tag, perm;
  uint32_t id;
};

struct acl {
  uint32_t version;
  struct entry entries[];
};

static struct entry entry(unsigned tag, unsigned perm, uint32_t id)
{
  return (struct entry){htole16((uint16_t)tag), htole16((uint16_t)perm), htole32(id)};
}

/* In the order that the kernel wants. */
static unsigned fill(struct acl *a, unsigned mode, const struct prelux_allowed *who, unsigned bits)
{
  unsigned n = 0;
  a->version = htole32(VERSION);
  a->entries[n++] = entry(USER_OBJ, mode >> 6 & 7, NO_ID);
  for (unsigned i = 0; i < who->n_uids; i++)
    a->entries[n++] = entry(USER, bits, who->uids[i]);
  a->entries[n++] = entry(GROUP_OBJ, 0, NO_ID);
  for (unsigned i = 0; i < who->n_gids; i++)
    a->entries[n++] = entry(GROUP, bits, who->gids[i]);
  a->entries[n++] = entry(MASK, bits, NO_ID);
  a->entries[n++] = entry(OTHER, 0, NO_ID);
  return n;
}

int prelux_acl_set(int fd, unsigned mode, const struct prelux_allowed *who, unsigned bits)
{
  bool all = who && who->all;
  if (prelux_os.fchmod(fd, mode) < 0) /* whoever an older list names has nothing from here on: its mask is empty */
    return -errno;
  if (fremovexattr(fd, NAME) < 0 && errno != ENODATA && errno != EOPNOTSUPP)
    return -errno;
  if (all)
    return prelux_os.fchmod(fd, mode | bits | bits << 3) < 0 ? -errno : 0;
  if (!who || who->n_uids + who->n_gids == 0)
    return 0;
  size_t room = sizeof(struct acl) + (4 + (size_t)who->n_uids + who->n_gids) * sizeof(struct entry);
  struct acl *a = calloc(1, room);
  if (!a)
    return -ENOMEM;
  int ret = fill(a, mode, who, bits) && fsetxattr(fd, NAME, a, room, 0) < 0 ? -errno : 0;
  free(a);
  return ret;
}
