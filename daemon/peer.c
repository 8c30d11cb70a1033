#include "daemon/peer.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#define GROUPS 64u      /* more are asked for again */
#define NAMES (1u << 20) /* bytes of an entry of passwd or group, at most */

int prelux_peer_of(int fd, struct prelux_peer **ret)
{
  struct ucred cred;
  socklen_t len = sizeof cred, size = GROUPS * sizeof(gid_t);
  struct prelux_peer *p = NULL;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
    return -errno;
  for (int err = ERANGE; err == ERANGE;)
  {
    struct prelux_peer *more = realloc(p, sizeof *p + sizeof(gid_t) + size);
    if (!more)
    {
      free(p);
      return -ENOMEM;
    }
    p = more;
    err = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->groups + 1, &size) < 0 ? errno : 0;
    if (err == ERANGE)
      continue;
    p->n_groups = 1u + (err ? 0 : size / (unsigned)sizeof(gid_t)); /* before Linux 4.13 nobody tells: his own group counts */
  }
  p->uid = cred.uid;
  p->groups[0] = cred.gid;
  *ret = p;
  return 0;
}

/* A number, or by name. 0 or -errno. */
static int look_up(const char *text, bool group, unsigned *ret)
{
  char *end;
  unsigned long n = strtoul(text, &end, 10);
  if (*text >= '0' && *text <= '9' && *end == 0)
  {
    *ret = (unsigned)n;
    return n < UINT32_MAX && !prelux_peer_is_unknown((unsigned)n) ? 0 : -EINVAL;
  }
  struct passwd pw, *user = NULL;
  struct group gr, *found = NULL;
  int err = ERANGE;
  for (size_t cap = 4096; err == ERANGE && cap <= NAMES; cap *= 4)
  {
    char *buf = malloc(cap);
    if (!buf)
      return -ENOMEM;
    err = group ? getgrnam_r(text, &gr, buf, cap, &found) : getpwnam_r(text, &pw, buf, cap, &user);
    if (err == 0 && (found || user))
      *ret = found ? gr.gr_gid : pw.pw_uid;
    free(buf);
  }
  if (err == 0 && !found && !user)
    err = ENOENT;
  return err == 0 && prelux_peer_is_unknown(*ret) ? -EINVAL : -err;
}

int prelux_who_add(struct prelux_who *w, const char *text, struct prelux_problem *why)
{
  bool group = text[0] == '@';
  unsigned n = 0;
  if (strcmp(text, "*") == 0)
  {
    w->all = true;
    return 0;
  }
  int err = look_up(text + group, group, &n);
  if (err < 0)
    return prelux_problem(why, -err, "%s %.200s: %s", group ? "group" : "user", text + group,
                          err == -ENOENT ? "not known on this machine" : err == -EINVAL ? "cannot be named in a rule" : strerror(-err));
  unsigned **list = group ? &w->gids : &w->uids, *count = group ? &w->n_gids : &w->n_uids;
  unsigned *more = realloc(*list, (*count + 1) * sizeof **list);
  if (!more)
    return prelux_problem(why, ENOMEM, "no memory");
  *list = more;
  more[(*count)++] = n;
  return 0;
}

bool prelux_who_has(const struct prelux_who *w, const struct prelux_peer *p)
{
  if (w->all)
    return true;
  for (unsigned i = 0; i < w->n_uids; i++)
    if (w->uids[i] == p->uid)
      return true;
  for (unsigned i = 0; i < w->n_gids; i++)
    for (unsigned k = 0; k < p->n_groups; k++)
      if (w->gids[i] == p->groups[k])
        return true;
  return false;
}

static int compare(const void *a, const void *b)
{
  const unsigned *x = a, *y = b;
  return *x < *y ? -1 : *x > *y;
}

static unsigned sort(unsigned *list, unsigned n)
{
  unsigned kept = 0;
  if (n > 0)
    qsort(list, n, sizeof *list, compare);
  for (unsigned i = 0; i < n; i++)
    if (kept == 0 || list[kept - 1] != list[i])
      list[kept++] = list[i];
  return kept;
}

void prelux_who_sort(struct prelux_who *w)
{
  w->n_uids = sort(w->uids, w->n_uids);
  w->n_gids = sort(w->gids, w->n_gids);
}

bool prelux_who_equal(const struct prelux_who *a, const struct prelux_who *b)
{
  if (a->all || b->all)
    return a->all && b->all;
  return a->n_uids == b->n_uids && a->n_gids == b->n_gids && (a->n_uids == 0 || memcmp(a->uids, b->uids, a->n_uids * sizeof *a->uids) == 0) &&
         (a->n_gids == 0 || memcmp(a->gids, b->gids, a->n_gids * sizeof *a->gids) == 0);
}

void prelux_who_release(struct prelux_who *w)
{
  free(w->uids);
  free(w->gids);
  *w = (struct prelux_who){0};
}
