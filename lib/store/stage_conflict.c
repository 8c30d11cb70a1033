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

/* ---- whom nobody has told yet ---- */

/* The kernel tells of a close, too, and may be heard first: then the file is sent, and gone, before who waits in close() has asked. */

static unsigned find(const struct prelux_stage *g, uint64_t ino)
{
  unsigned i = 0;
  while (i < g->n_losers && g->losers[i].ino != ino)
    i++;
  return i;
}

void prelux_loser_forget(struct prelux_stage *g, uint64_t ino)
{
  unsigned i = find(g, ino);
  if (i == g->n_losers)
    return;
  g->n_losers--;
  memmove(&g->losers[i], &g->losers[i + 1], (g->n_losers - i) * sizeof g->losers[0]);
}

void prelux_loser_note(struct prelux_stage *g, uint64_t ino, const struct prelux_problem *why)
{
  prelux_loser_forget(g, ino);
  if (g->n_losers == PRELUX_LOSERS)
    prelux_loser_forget(g, g->losers[0].ino);
  g->losers[g->n_losers++] = (struct prelux_loser){.ino = ino, .why = *why};
}

bool prelux_loser_told(struct prelux_stage *g, uint64_t ino, struct prelux_problem *why)
{
  pthread_mutex_lock(&g->lock);
  unsigned i = find(g, ino);
  bool is = i < g->n_losers;
  if (is && why)
    *why = g->losers[i].why;
  prelux_loser_forget(g, ino);
  pthread_mutex_unlock(&g->lock);
  return is;
}
