/* prefetch: a depth-first walk by a crew. The walk is a stack of open listings; a worker takes the next entry of the
 * top one: a file is filled, a folder is listed and pushed. So memory is bounded by the depth of the tree and the
 * number of workers, not by the number of names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crew.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/listing.h"
#include "daemon/report.h"
#include "daemon/server.h"

#define WORKERS 8u
#define LANE 63u
#define FAILURES 20

struct frame {
  struct frame *below;
  struct prelux_list list;
  uint32_t at;
  uint32_t mapping;
  char *rel;
};

struct walk {
  struct prelux_crew crew; /* its lock guards all below */
  struct prelux_ctl *x;
  struct prelux_target *seeds;
  size_t n_seeds, seed;
  struct frame *top;
  uint64_t files, bytes, folders, failed;
  cJSON *failures;
};

struct item {
  uint32_t mapping;
  char *rel;
  unsigned type; /* PRELUX_NONE: not known yet */
  uint64_t size;
};

static void pop(struct walk *w)
{
  struct frame *f = w->top;
  w->top = f->below;
  prelux_list_close(&f->list);
  free(f->rel);
  free(f);
}

/* With the lock held. */
static bool next_item(struct walk *w, struct item *ret)
{
  while (w->top && w->top->at == w->top->list.head->count)
    pop(w);
  if (w->top)
  {
    struct frame *f = w->top;
    const struct prelux_listing_entry *e = &f->list.head->entries[f->at];
    *ret = (struct item){f->mapping, prelux_join(f->rel, prelux_list_name(&f->list, f->at)), e->type, e->size};
    f->at++;
    return true;
  }
  if (w->seed == w->n_seeds)
    return false;
  struct prelux_target *s = &w->seeds[w->seed++];
  *ret = (struct item){s->mapping, strdup(s->rel), PRELUX_NONE, 0};
  return true;
}

static void failed(struct walk *w, const struct item *it, int err, const struct prelux_problem *why)
{
  char *path = prelux_report_path(w->x->table, it->mapping, it->rel);
  pthread_mutex_lock(&w->crew.lock);
  w->failed++;
  if (path && cJSON_GetArraySize(w->failures) < FAILURES)
  {
    cJSON *o = cJSON_CreateObject();
    prelux_json_text(o, "path", path);
    cJSON_AddNumberToObject(o, "errno", -err);
    prelux_json_text(o, "cause", why->text[0] ? why->text : strerror(-err));
    cJSON_AddItemToArray(w->failures, o);
  }
  pthread_mutex_unlock(&w->crew.lock);
  free(path);
}

static int push(struct walk *w, struct item *it, int fd)
{
  struct frame *f = calloc(1, sizeof *f);
  struct prelux_list list;
  int err = prelux_list_open(&list, fd);
  if (err < 0 || !f)
  {
    if (err == 0)
      prelux_list_close(&list);
    free(f);
    return err < 0 ? err : -ENOMEM;
  }
  *f = (struct frame){.list = list, .mapping = it->mapping, .rel = it->rel};
  it->rel = NULL;
  uint32_t n = list.head->count;
  pthread_mutex_lock(&w->crew.lock);
  f->below = w->top;
  w->top = f;
  w->folders++;
  pthread_mutex_unlock(&w->crew.lock);
  while (n-- > 1 && prelux_crew_call(&w->crew))
    ;
  return 0;
}

static void do_item(struct walk *w, struct item *it)
{
  struct prelux_problem why = {0};
  struct prelux_attr attr = {0};
  struct prelux_target t;
  int fd = -1, err = it->rel ? prelux_target_init(&t, w->x->table, it->mapping, it->rel) : -ENOMEM;
  if (err == 0)
  {
    struct prelux_daemon *d = w->x->d;
    if (it->type == PRELUX_NONE && (err = prelux_target_ask(d, &t, PRELUX_ASK_STAT, 0, &attr, NULL, &why)) == 0)
      it->type = attr.type;
    if (err == 0)
      err = prelux_target_ask(d, &t, it->type == PRELUX_DIR ? PRELUX_ASK_LIST : PRELUX_ASK_OPEN, 0, &attr,
                              it->type == PRELUX_DIR ? &fd : NULL, &why);
    free(t.object); /* the table is the verb's, not the target's */
  }
  if (err == 0 && it->type == PRELUX_DIR)
    err = push(w, it, fd);
  else if (err == 0)
  {
    pthread_mutex_lock(&w->crew.lock);
    w->files++;
    w->bytes += attr.size;
    pthread_mutex_unlock(&w->crew.lock);
  }
  if (err < 0 && it->rel)
    failed(w, it, err, &why);
}

static bool step(struct prelux_crew *crew)
{
  struct walk *w = (struct walk *)crew;
  struct item it;
  if (atomic_load(&w->x->flight->abandoned)) /* the asker has left */
    return false;
  pthread_mutex_lock(&crew->lock);
  bool more = next_item(w, &it);
  pthread_mutex_unlock(&crew->lock);
  if (!more)
    return false;
  do_item(w, &it);
  free(it.rel);
  return true;
}

static void end(struct prelux_crew *crew)
{
  struct walk *w = (struct walk *)crew;
  struct prelux_ctl *x = w->x;
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, "files", (double)w->files);
  cJSON_AddNumberToObject(out, "bytes", (double)w->bytes);
  cJSON_AddNumberToObject(out, "folders", (double)w->folders);
  cJSON_AddNumberToObject(out, "failed", (double)w->failed);
  cJSON_AddItemToObject(out, "failures", w->failures);
  prelux_ctl_answer(x, out);
  while (w->top)
    pop(w);
  prelux_ctl_targets_free(w->seeds, w->n_seeds);
  prelux_crew_release(crew);
  free(w);
  prelux_server_land(x->d->server, x->flight);
}

/* All seeds of all arguments. The first that is in no mapping is returned in *bad. */
static int collect(struct walk *w, const char **bad)
{
  for (unsigned i = 0; i < w->x->n_args; i++)
  {
    struct prelux_target *list, *more;
    size_t n;
    *bad = w->x->args[i];
    int err = prelux_ctl_targets(w->x, w->x->args[i], &list, &n);
    if (err == 0 && n == 0)
      err = -ENOENT;
    more = err == 0 ? realloc(w->seeds, (w->n_seeds + n) * sizeof *more) : NULL;
    if (!more)
    {
      prelux_ctl_targets_free(err == 0 || err == -ENOENT ? list : NULL, err == 0 ? n : 0);
      return err < 0 ? err : -ENOMEM;
    }
    memcpy(more + w->n_seeds, list, n * sizeof *more);
    free(list);
    w->seeds = more;
    w->n_seeds += n;
  }
  return 0;
}

bool prelux_ctl_prefetch(struct prelux_ctl *x)
{
  struct prelux_problem why = {0};
  const char *bad = "";
  struct walk *w = calloc(1, sizeof *w);
  if (!w)
    return prelux_ctl_fail(x, -ENOMEM, NULL);
  w->x = x;
  w->crew = (struct prelux_crew){.pool = x->d->pool, .lane = LANE, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&w->crew);
  w->failures = cJSON_CreateArray();
  int err = collect(w, &bad);
  if (err == -ENOENT)
    prelux_problem(&why, ENOENT, "%s is in no mapping", bad);
  if (err == 0 && !prelux_crew_call(&w->crew))
    err = -EBUSY;
  if (err == 0)
    return false;
  cJSON_Delete(w->failures);
  prelux_ctl_targets_free(w->seeds, w->n_seeds);
  prelux_crew_release(&w->crew);
  free(w);
  return prelux_ctl_fail(x, err, &why);
}
