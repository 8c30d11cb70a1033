/* prefetch: a depth-first walk by a crew. The walk is a stack of open listings; a worker takes the next entry of the
 * top one: a file is filled, a folder is listed and pushed. So memory is bounded by the depth of the tree and the
 * number of workers, not by the number of names.
 *
 * "glob=/a/b-?/c": what matches, found in the same way: a pattern goes down with the walk, a component at each folder. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crew.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/lanes.h"
#include "daemon/listing.h"
#include "daemon/node.h"
#include "daemon/report.h"
#include "daemon/server.h"

#define WORKERS 8u
#define FAILURES 20
#define GLOB "glob="

struct seed {
  struct prelux_target target;
  const char *glob; /* what is below it and matches, NULL: itself */
  bool matched;
};

struct frame {
  struct frame *below;
  struct prelux_list list;
  uint32_t at;
  uint32_t mapping;
  char *rel;
  const char *glob; /* for its names, and what is below them; NULL: all */
  struct seed *seed;
};

struct walk {
  struct prelux_crew crew; /* its lock guards all below */
  struct prelux_ctl *x;
  struct seed *seeds;
  size_t n_seeds, seed;
  struct frame *top;
  cJSON *failures;
  uint64_t refused; /* paths that are in no mapping */
};

struct item {
  uint32_t mapping;
  char *rel;
  unsigned type; /* PRELUX_NONE: not known yet */
  uint64_t size;
  const char *glob; /* for what is in this folder; NULL: all of it is wanted */
  struct seed *seed;
};

static void pop(struct walk *w)
{
  struct frame *f = w->top;
  w->top = f->below;
  prelux_list_close(&f->list);
  free(f->rel);
  free(f);
}

/* Is the name wanted, and (*ret) with which pattern what is below it? A folder only, when one is left. */
static bool wanted(const char *glob, const char *name, unsigned type, const char **ret)
{
  char part[512];
  *ret = NULL;
  if (!glob)
    return true;
  size_t n = strcspn(glob, "/");
  if (n >= sizeof part)
    return false;
  memcpy(part, glob, n);
  part[n] = 0;
  *ret = glob[n] ? glob + n + 1 : NULL;
  return fnmatch(part, name, FNM_PERIOD) == 0 && (!*ret || type == PRELUX_DIR);
}

/* With the lock held. */
static bool next_item(struct walk *w, struct item *ret)
{
  for (;;)
  {
    while (w->top && w->top->at == w->top->list.head->count)
      pop(w);
    if (!w->top)
      break;
    struct frame *f = w->top;
    const struct prelux_listing_entry *e = &f->list.head->entries[f->at];
    const char *name = prelux_list_name(&f->list, f->at++), *glob;
    if (!wanted(f->glob, name, e->type, &glob))
      continue;
    *ret = (struct item){f->mapping, prelux_join(f->rel, name), e->type, e->size, glob, f->seed};
    f->seed->matched |= !glob;
    return true;
  }
  if (w->seed == w->n_seeds)
    return false;
  struct seed *s = &w->seeds[w->seed++];
  *ret = (struct item){s->target.mapping, strdup(s->target.rel), PRELUX_NONE, 0, s->glob, s};
  return true;
}

static void note_failure(struct walk *w, const char *path, int err, const struct prelux_problem *why)
{
  prelux_ctl_count(w->x, PRELUX_TOLD_FAILED, 1);
  pthread_mutex_lock(&w->crew.lock);
  if (path && cJSON_GetArraySize(w->failures) < FAILURES)
  {
    cJSON *o = cJSON_CreateObject();
    prelux_json_text(o, "path", path);
    cJSON_AddNumberToObject(o, "errno", -err);
    prelux_json_text(o, "cause", why->text[0] ? why->text : strerror(-err));
    cJSON_AddItemToArray(w->failures, o);
  }
  pthread_mutex_unlock(&w->crew.lock);
}

static void failed(struct walk *w, const struct item *it, int err, const struct prelux_problem *why)
{
  char *path = prelux_report_path(w->x->table, it->mapping, it->rel);
  note_failure(w, path, err, why);
  free(path);
}

/* What a folder has to do, told before any of it is begun. Its number of names. */
static uint32_t tell_folder(struct walk *w, const struct prelux_list *list, const char *pattern)
{
  uint64_t bytes = 0;
  uint32_t files = 0, folders = 0, count = list->head->count;
  for (uint32_t i = 0; i < count; i++)
  {
    const struct prelux_listing_entry *e = &list->head->entries[i];
    const char *glob;
    if (!wanted(pattern, prelux_list_name(list, i), e->type, &glob))
      continue;
    folders += e->type == PRELUX_DIR;
    files += e->type != PRELUX_DIR;
    bytes += e->type == PRELUX_DIR ? 0 : e->size;
  }
  prelux_ctl_count(w->x, PRELUX_TOLD_FOUND_FILES, files);
  prelux_ctl_count(w->x, PRELUX_TOLD_FOUND_BYTES, bytes);
  prelux_ctl_count(w->x, PRELUX_TOLD_OPEN, folders);
  prelux_ctl_count(w->x, PRELUX_TOLD_FOLDERS, 1);
  return count;
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
  *f = (struct frame){.list = list, .mapping = it->mapping, .rel = it->rel, .glob = it->glob, .seed = it->seed};
  it->rel = NULL;
  uint32_t n = tell_folder(w, &list, it->glob);
  pthread_mutex_lock(&w->crew.lock);
  f->below = w->top;
  w->top = f;
  pthread_mutex_unlock(&w->crew.lock);
  while (n-- > 1 && prelux_crew_call(&w->crew))
    ;
  return 0;
}

/* A file that is whole in the cache now. */
static void done(struct walk *w, uint64_t bytes, bool known, bool cached)
{
  struct prelux_ctl *x = w->x;
  if (!known) /* by no listing: it is found and done at once */
  {
    prelux_ctl_count(x, PRELUX_TOLD_FOUND_FILES, 1);
    prelux_ctl_count(x, PRELUX_TOLD_FOUND_BYTES, bytes);
  }
  prelux_ctl_count(x, PRELUX_TOLD_FILES, 1);
  prelux_ctl_count(x, PRELUX_TOLD_BYTES, bytes);
  prelux_ctl_count(x, PRELUX_TOLD_CACHED, cached);
}

static int do_target(struct walk *w, struct item *it, const struct prelux_target *t, int *fd, struct prelux_problem *why)
{
  struct prelux_daemon *d = w->x->d;
  struct prelux_attr attr = {0}, before = {0};
  bool known = it->type != PRELUX_NONE;
  int err = known ? 0 : prelux_target_ask(d, t, PRELUX_ASK_STAT, 0, &attr, NULL, why);
  if (err == 0 && !known)
    it->type = attr.type;
  if (err == 0 && it->type == PRELUX_DIR)
    return prelux_target_ask(d, t, PRELUX_ASK_LIST, 0, &attr, fd, why);
  if (err == 0 && it->glob)
    return prelux_problem(why, ENOTDIR, "not a folder");
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  bool cached = err == 0 && !m->broken && prelux_store_stat(&m->view, t->object, PRELUX_STORE_CACHED_ONLY, &before, NULL) == 0 && before.cached;
  if (err == 0)
    err = prelux_target_ask(d, t, PRELUX_ASK_OPEN, 0, &attr, NULL, why);
  if (err == 0)
    done(w, attr.size, known, cached);
  return err;
}

static void do_item(struct walk *w, struct item *it)
{
  struct prelux_problem why = {0};
  struct prelux_target t;
  bool counted = it->type == PRELUX_NONE || it->type == PRELUX_DIR;
  bool hidden = it->rel && w->x->may && prelux_node_hides(w->x->table, it->mapping, it->rel); /* an inner mapping's readers may fetch it */
  int fd = -1, err = it->rel ? prelux_target_init(&t, w->x->table, it->mapping, it->rel) : -ENOMEM;
  if (err == 0 && hidden)
    free(t.object);
  else if (err == 0)
  {
    t.came = &w->x->told[PRELUX_TOLD_CAME];
    err = do_target(w, it, &t, &fd, &why);
    free(t.object); /* the table is the verb's, not the target's */
  }
  if (err == 0 && it->type == PRELUX_DIR && !hidden)
    err = push(w, it, fd);
  if (counted)
    prelux_ctl_count(w->x, PRELUX_TOLD_OPEN, (uint64_t)-1);
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
  bool more = next_item(w, &it), others = w->seed < w->n_seeds;
  pthread_mutex_unlock(&crew->lock);
  if (!more)
    return false;
  if (others) /* each worker brings the next one, as long as there are paths for him */
    prelux_crew_call(crew);
  do_item(w, &it);
  free(it.rel);
  return true;
}

static void free_seeds(struct walk *w)
{
  for (size_t i = 0; i < w->n_seeds; i++)
    prelux_target_release(&w->seeds[i].target);
  free(w->seeds);
}

static void end(struct prelux_crew *crew)
{
  struct walk *w = (struct walk *)crew;
  struct prelux_ctl *x = w->x;
  bool clean = atomic_load(&x->told[PRELUX_TOLD_FAILED]) == w->refused; /* else a folder that failed may have had what matches */
  for (size_t i = 0; i < w->n_seeds; i++)
  {
    struct seed *s = &w->seeds[i];
    struct prelux_problem why = {0};
    char *rel = s->glob && !s->matched && clean ? prelux_join(s->target.rel, s->glob) : NULL;
    const struct item it = {.mapping = s->target.mapping, .rel = rel};
    if (rel && !atomic_load(&x->flight->abandoned))
      failed(w, &it, prelux_problem(&why, ENOENT, "nothing matches"), &why);
    free(rel);
  }
  cJSON *out = cJSON_CreateObject();
  prelux_ctl_told(x, out);
  cJSON_AddItemToObject(out, "failures", w->failures);
  prelux_ctl_answer(x, out);
  while (w->top)
    pop(w);
  free_seeds(w);
  prelux_crew_release(crew);
  free(w);
  prelux_server_land(x->d->server, x->flight);
}

/* Takes the targets. */
static int add_seeds(struct walk *w, struct prelux_target *list, size_t n, const char *glob)
{
  struct seed *more = realloc(w->seeds, (w->n_seeds + n) * sizeof *more);
  if (!more)
  {
    prelux_ctl_targets_free(list, n);
    return -ENOMEM;
  }
  for (size_t i = 0; i < n; i++)
    more[w->n_seeds + i] = (struct seed){.target = list[i], .glob = glob};
  free(list);
  w->seeds = more;
  w->n_seeds += n;
  prelux_ctl_count(w->x, PRELUX_TOLD_OPEN, n);
  return 0;
}

/* The folder above the first component that is a pattern. */
static int add_glob(struct walk *w, char *path)
{
  struct prelux_target *list = calloc(1, sizeof *list);
  char *magic = strpbrk(path, "*?[\\"), *slash = magic;
  while (slash && slash > path && *slash != '/')
    slash--;
  if (!list || !slash || *slash != '/')
  {
    free(list);
    return list ? -EINVAL : -ENOMEM;
  }
  *slash = 0;
  int err = prelux_ctl_target(w->x, *path ? path : "/", list, NULL);
  if (err == 1)
    return add_seeds(w, list, 1, slash + 1);
  *slash = '/';
  free(list);
  return err < 0 ? err : -ENOENT;
}

/* A path that leads nowhere fails alone. */
static void refuse(struct walk *w, const char *path, int err)
{
  struct prelux_problem why = {0};
  if (err == -ENOENT)
    prelux_problem(&why, ENOENT, "in no mapping");
  note_failure(w, path, err, &why);
  w->refused++;
}

/* All seeds of all arguments. */
static int collect(struct walk *w)
{
  int err = 0;
  for (unsigned i = 0; err != -ENOMEM && i < w->x->n_args; i++)
  {
    const char *path = w->x->args[i];
    struct prelux_target *list = NULL;
    size_t n = 0;
    if (strncmp(path, GLOB, strlen(GLOB)) == 0)
    {
      path += strlen(GLOB);
      err = add_glob(w, (char *)path); /* the verb's own copy */
    }
    else if ((err = prelux_ctl_targets(w->x, path, &list, &n)) == 0 && n > 0)
      err = add_seeds(w, list, n, NULL);
    else
    {
      prelux_ctl_targets_free(list, n);
      err = err == 0 ? -ENOENT : err;
    }
    if (err < 0 && err != -ENOMEM)
      refuse(w, path, err);
  }
  return err == -ENOMEM ? err : 0;
}

bool prelux_ctl_prefetch(struct prelux_ctl *x)
{
  struct walk *w = calloc(1, sizeof *w);
  if (!w)
    return prelux_ctl_fail(x, -ENOMEM, NULL);
  w->x = x;
  x->flight->tell = prelux_ctl_tell;
  unsigned limit = x->flight->turn ? PRELUX_TURNS_CREW : WORKERS;
  w->crew = (struct prelux_crew){.pool = x->d->pool, .lane = PRELUX_LANE_PREFETCH, .limit = limit, .step = step, .end = end};
  prelux_crew_init(&w->crew);
  w->failures = cJSON_CreateArray();
  int err = collect(w);
  if (err == 0 && !prelux_crew_call(&w->crew))
    err = -EBUSY;
  if (err == 0)
    return false;
  cJSON_Delete(w->failures);
  free_seeds(w);
  prelux_crew_release(&w->crew);
  free(w);
  return prelux_ctl_fail(x, err, NULL);
}
