/* on_conflict: keep. The remote has changed since the writer began: what he wrote goes beside it, as NAME.conflict-NODE-TIME, where NODE is this
 * machine's name and TIME the UTC second of the attempt. The path itself stays the other's, and close() still says ESTALE. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/store/stage.h"

#define NAMES 100 /* tried, one after the other: conflicts of one second */

static int name_copy(const struct prelux_dirty *d, int n, char *ret, size_t cap)
{
  char node[HOST_NAME_MAX + 1] = "node", when[24], more[8] = "";
  struct tm tm;
  time_t now = time(NULL);
  const char *base = strrchr(d->row.path, '/');
  size_t name = strlen(base ? base + 1 : d->row.path);
  gethostname(node, sizeof node - 1);
  for (char *p = node; *p; p++)
    if (*p == '/')
      *p = '-';
  gmtime_r(&now, &tm);
  strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
  if (n)
    snprintf(more, sizeof more, "-%d", n);
  int len = snprintf(ret, cap, "%s.conflict-%s-%s%s", d->row.path, node, when, more);
  size_t added = len < 0 ? 0 : (size_t)len - strlen(d->row.path);
  return len < 0 || (size_t)len >= cap || name + added > PRELUX_NAME_MAX ? -ENAMETOOLONG : 0;
}

int prelux_stage_keep(struct prelux_stage *g, struct prelux_dirty *d, int fd, int rc, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  struct prelux_problem ignored = {0};
  struct prelux_able able = {0};
  struct prelux_object obj;
  char path[PRELUX_OBJECT_MAX + 1];
  if (!(d->row.flags & PRELUX_PENDING_KEEP) || b->ops->write->able(b, &able, &ignored) < 0)
    return 0;
  struct prelux_put how = {.cond = {.must = able.caps & PRELUX_CAP_PUT_ABSENT ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING},
                           .set = {.which = PRELUX_SET_MTIME | (d->row.flags & PRELUX_PENDING_MODE ? PRELUX_SET_MODE : 0),
                                   .mode = d->row.mode,
                                   .mtime_ns = d->row.mtime_ns}};
  int err = -EEXIST;
  for (int n = 0; n < NAMES && err == -EEXIST; n++)
  {
    err = name_copy(d, n, path, sizeof path);
    if (err == 0 && how.cond.must == PRELUX_MUST_NOTHING && b->ops->stat(b, path, &obj, &ignored) != -ENOENT)
      err = -EEXIST;
    if (err == 0)
      err = prelux_stage_upload(g, d, path, fd, &able, &how, &obj, &ignored);
  }
  if (err < 0)
    return 0;
  struct prelux_store *s = g->store;
  pthread_mutex_lock(&s->lock);
  prelux_memory_forget(d->tree, path, strlen(path));
  pthread_mutex_unlock(&s->lock);
  prelux_problem(why, -rc, "%.200s was changed on the remote meanwhile; what was written here is kept there as %.200s", d->row.path, path);
  return 1;
}
