/* Uploads in parts. A large file goes as parts, several at once, each read from the file as it is sent: memory does not grow with the file. The
 * token of an upload stands in the journal before the first part is sent; a daemon that finds one there gives that upload up and begins
 * anew, so that nothing of a dead one stays on the remote. An upload that was begun while the file grew (stage_grow.c) goes on here. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/store/stage.h"

struct parts {
  struct prelux_dirty *d;
  struct prelux_backend *b;
  const char *path, *token;
  const struct prelux_grow *grown; /* parts of it are there already */
  void *asker; /* all of them as him */
  int fd;
  uint64_t size, part_size;
  struct prelux_part *list;
  size_t n;
  const struct prelux_put *how;
  _Atomic size_t next;
  _Atomic uint64_t done;
  pthread_mutex_t lock; /* guards err, why */
  int err;
  struct prelux_problem why;
};

static void fail(struct parts *p, int err, const struct prelux_problem *why)
{
  pthread_mutex_lock(&p->lock);
  if (p->err == 0)
  {
    p->err = err;
    p->why = *why;
  }
  pthread_mutex_unlock(&p->lock);
  atomic_store(&p->next, p->n); /* the others begin no more */
}

static void *send_parts(void *arg)
{
  struct parts *p = arg;
  prelux_ask_as(p->b, p->asker);
  for (size_t i; (i = atomic_fetch_add(&p->next, 1)) < p->n;)
  {
    struct prelux_problem why = {0};
    uint64_t off = i * p->part_size, len = p->size - off < p->part_size ? p->size - off : p->part_size;
    p->list[i].n = (unsigned)i;
    bool there = p->grown && i + 1 < p->n && prelux_grow_has(p->grown, i, p->fd, len, p->list[i].tag);
    int rc = there ? 0 : p->b->ops->write->part(p->b, p->path, p->token, (unsigned)i, p->fd, off, len, p->list[i].tag, &why);
    uint64_t done = atomic_fetch_add(&p->done, len) + len;
    if (rc == 0 && p->how->progress)
      rc = p->how->progress(p->how->arg, done);
    if (rc < 0)
    {
      fail(p, rc, &why);
      break;
    }
  }
  return NULL;
}

static int send_all(struct parts *p)
{
  pthread_t helpers[PRELUX_PARTS_AT_ONCE - 1];
  unsigned n = 0;
  pthread_attr_t attr;
  p->asker = prelux_asker(p->b);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 512u << 10);
  while (n < PRELUX_PARTS_AT_ONCE - 1 && n + 1 < p->n && pthread_create(&helpers[n], &attr, send_parts, p) == 0)
    n++;
  pthread_attr_destroy(&attr);
  send_parts(p); /* without helpers too */
  while (n > 0)
    pthread_join(helpers[--n], NULL);
  return p->err;
}

int prelux_stage_note_upload(struct prelux_stage *g, struct prelux_dirty *d, const char *token)
{
  struct prelux_pending next = d->row;
  char *old = d->row.upload;
  next.upload = token ? strdup(token) : NULL;
  int rc = token && !next.upload ? -ENOMEM : prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  if (rc < 0)
  {
    free(next.upload);
    return rc;
  }
  prelux_dirty_becomes(g, d, &next);
  if (token && old)
    prelux_lost_add(g, d->tree, d->row.path, old);
  free(old);
  return 0;
}

uint64_t prelux_stage_part_size(uint64_t part, uint64_t size, const struct prelux_able *able)
{
  part = part < able->part_min ? able->part_min : part;
  while (able->parts_max && size / part >= able->parts_max)
    part *= 2;
  return part > able->part_max ? able->part_max : part;
}

/* The upload is over; or `left` on the remote: then the next try gives it up first, where the row can say so. */
static void settle_token(struct prelux_stage *g, const struct parts *p, const char *token, bool left)
{
  struct prelux_dirty *d = p->d;
  bool named = d->row.upload && strcmp(d->row.upload, token) == 0, own = strcmp(p->path, d->row.path) == 0;
  if (left && !(named && own))
    prelux_lost_add(g, d->tree, p->path, token);
  if (named && !(left && own) && prelux_stage_note_upload(g, d, NULL) < 0)
    prelux_warn("journal of %s cannot be written", g->store->dir); /* the next try gives the upload up once more */
}

static int in_parts(struct prelux_stage *g, struct parts *p, struct prelux_object *ret, struct prelux_problem *why)
{
  const struct prelux_backend_write *w = p->b->ops->write;
  char token[PRELUX_TOKEN_MAX];
  int rc = p->grown ? 0 : w->begin(p->b, p->path, p->part_size, &p->how->set, token, why);
  if (rc < 0)
    return rc;
  if (p->grown)
    snprintf(token, sizeof token, "%s", p->d->row.upload);
  else
    rc = prelux_stage_note_upload(g, p->d, token);
  p->token = token;
  if (rc == 0 && (rc = send_all(p)) < 0 && why)
    *why = p->why;
  bool whole = rc == 0;
  if (whole)
    rc = w->complete(p->b, p->path, token, p->list, p->n, p->size, p->how, ret, why);
  /* One whose completion is unknown may be there yet. */
  bool left = rc < 0 && rc != -ENXIO && ((whole && rc == -PRELUX_EUNKNOWN) || w->abort(p->b, p->path, token, NULL) < 0);
  if (whole && rc == -ENXIO)
    rc = -PRELUX_EUNKNOWN; /* it is gone: completed, perhaps */
  settle_token(g, p, token, left);
  return rc;
}

/* With the parts that `p` says. */
static int upload_parts(struct prelux_stage *g, struct parts *p, const struct prelux_able *able, struct prelux_object *ret, struct prelux_problem *why)
{
  p->n = (size_t)((p->size + p->part_size - 1) / p->part_size);
  if (able->parts_max && p->n > able->parts_max)
    return prelux_problem(why, EFBIG, "%.200s: more than %llu parts", p->path, (unsigned long long)able->parts_max);
  p->list = calloc(p->n, sizeof *p->list);
  if (!p->list)
    return prelux_problem(why, ENOMEM, "no memory");
  atomic_store(&p->next, 0);
  atomic_store(&p->done, 0);
  p->err = 0;
  pthread_mutex_init(&p->lock, NULL);
  int rc = in_parts(g, p, ret, why);
  pthread_mutex_destroy(&p->lock);
  free(p->list);
  return rc;
}

int prelux_stage_upload(struct prelux_stage *g, struct prelux_dirty *d, const char *path, int fd, const struct prelux_able *able,
                        const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  struct parts p = {.d = d, .b = b, .path = path, .fd = fd, .size = d->row.size, .how = how};
  bool can = (able->caps & PRELUX_CAP_MULTIPART) && d->row.size > g->parts_above && d->row.size > able->whole_max;
  struct prelux_grow *grown = prelux_grow_take(g, d, path, d->row.size, able, &p.part_size);
  if (grown)
  {
    p.grown = grown;
    int rc = upload_parts(g, &p, able, ret, why);
    prelux_grow_free(grown);
    if (rc != -ENXIO && rc != -EINVAL)
      return rc;
    p.grown = NULL; /* somebody has swept it meanwhile: nothing was completed */
  }
  if (d->row.upload && b->ops->write->abort && b->ops->write->abort(b, d->row.path, d->row.upload, NULL) == 0)
    prelux_stage_note_upload(g, d, NULL);
  if (!can)
    return d->row.size > able->put_max
               ? prelux_problem(why, EFBIG, "%.200s: the remote takes %llu bytes at most", path, (unsigned long long)able->put_max)
               : b->ops->write->put(b, path, fd, d->row.size, how, ret, why);
  p.part_size = prelux_stage_part_size(g->part_size, p.size, able);
  return upload_parts(g, &p, able, ret, why);
}
