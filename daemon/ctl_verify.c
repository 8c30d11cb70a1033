/* verify: a crew goes through the cached files of each target, a batch of names at a time, and holds each beside the remote. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crew.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/lanes.h"
#include "daemon/report.h"
#include "daemon/server.h"

#define WORKERS 16u
#define BATCH 128
#define LISTED 100
#define OPTION_DATA "option=data"
#define OPTION_REPAIR "option=repair"

static const char *const verdicts[] = {
    [PRELUX_VERDICT_SAME] = "same", [PRELUX_VERDICT_STALE] = "stale", [PRELUX_VERDICT_GONE] = "gone",
    [PRELUX_VERDICT_DAMAGED] = "damaged", [PRELUX_VERDICT_UNKNOWN] = "unknown",
};

struct verify {
  struct prelux_crew crew; /* its lock guards all below */
  struct prelux_ctl *x;
  struct prelux_target *targets;
  size_t n_targets, target;
  char *names[BATCH], *last;
  int at, n;
  bool data, repair;
  uint64_t counts[sizeof verdicts / sizeof *verdicts], repaired;
  cJSON *found;
};

/* With the lock held. */
static void note(struct verify *w, const struct prelux_target *t, const char *rel, const char *state, const char *cause)
{
  char *path = prelux_report_path(w->x->table, t->mapping, rel);
  if (path && cJSON_GetArraySize(w->found) < LISTED)
  {
    cJSON *o = cJSON_CreateObject();
    prelux_json_text(o, "path", path);
    cJSON_AddStringToObject(o, "state", state);
    prelux_json_text(o, "cause", cause);
    cJSON_AddItemToArray(w->found, o);
  }
  free(path);
}

/* With the lock held: what lies there, or the rest of it, is not looked at. */
static void refuse(struct verify *w, const struct prelux_target *t, int err)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  prelux_ctl_count(w->x, PRELUX_TOLD_FAILED, 1);
  note(w, t, t->rel, "failed", !m->broken ? strerror(-err) : m->cause ? m->cause : "the configuration is broken");
}

/* With the lock held. The object, malloc'd, and its mapping; NULL: there are no more. */
static char *next_name(struct verify *w, struct prelux_target **ret)
{
  while (w->at == w->n)
  {
    if (w->target == w->n_targets)
      return NULL;
    struct prelux_target *t = &w->targets[w->target];
    const struct prelux_live_mapping *m = prelux_target_mapping(t);
    w->at = 0;
    w->n = m->broken ? -EIO : prelux_store_cached(&m->view, t->object, w->last, w->names, BATCH);
    free(w->last);
    w->last = w->n > 0 ? strdup(w->names[w->n - 1]) : NULL;
    if (w->n < 0 || (w->n > 0 && !w->last))
      refuse(w, t, w->n < 0 ? w->n : -ENOMEM);
    if (w->n <= 0 || !w->last)
    {
      w->target++;
      prelux_ctl_count(w->x, PRELUX_TOLD_OPEN, (uint64_t)-1);
      w->n = w->n < 0 ? 0 : w->n;
    }
    prelux_ctl_count(w->x, PRELUX_TOLD_FOUND_FILES, (uint64_t)w->n);
  }
  *ret = &w->targets[w->last ? w->target : w->target - 1];
  return w->names[w->at++];
}

static void list(struct verify *w, const struct prelux_target *t, const char *rel, const char *state, const char *cause)
{
  pthread_mutex_lock(&w->crew.lock);
  note(w, t, rel, state, cause);
  pthread_mutex_unlock(&w->crew.lock);
}

/* What is not as the remote has it leaves the cache, and comes anew unless it is gone there. */
static bool mend(struct verify *w, struct prelux_target *one, enum prelux_verdict verdict)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(one);
  struct prelux_attr attr;
  uint64_t files = 0, bytes = 0, busy = 0;
  if (prelux_store_evict(&m->view, one->object, &files, &bytes, &busy) < 0 || busy)
    return false;
  return verdict == PRELUX_VERDICT_GONE || prelux_target_ask(w->x->d, one, PRELUX_ASK_OPEN, 0, &attr, NULL, NULL) == 0;
}

static void judge(struct verify *w, const struct prelux_target *t, char *object)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  size_t root = strlen(t->object) - strlen(t->rel);
  struct prelux_target one = {.table = t->table, .mapping = t->mapping, .object = object, .rel = object + root};
  struct prelux_problem why = {0};
  enum prelux_verdict verdict;
  prelux_origin_bind(m->instance);
  int err = prelux_store_verify(&m->view, object, w->data, &verdict, &why);
  prelux_origin_bind(NULL);
  if (err == -ENOENT) /* evicted meanwhile, or somebody is at work on it */
    return;
  if (err < 0)
  {
    prelux_ctl_count(w->x, PRELUX_TOLD_FAILED, 1);
    list(w, t, one.rel, "failed", why.text[0] ? why.text : strerror(-err));
    return;
  }
  bool bad = verdict != PRELUX_VERDICT_SAME && verdict != PRELUX_VERDICT_UNKNOWN, mended = bad && w->repair && mend(w, &one, verdict);
  prelux_ctl_count(w->x, PRELUX_TOLD_FILES, 1);
  pthread_mutex_lock(&w->crew.lock);
  w->counts[verdict]++;
  w->repaired += mended;
  pthread_mutex_unlock(&w->crew.lock);
  if (bad)
    list(w, t, one.rel, verdicts[verdict], mended ? "mended" : "");
}

static bool step(struct prelux_crew *crew)
{
  struct verify *w = (struct verify *)crew;
  struct prelux_target *t;
  if (atomic_load(&w->x->flight->abandoned))
    return false;
  pthread_mutex_lock(&crew->lock);
  char *object = next_name(w, &t);
  bool others = w->at < w->n || w->target < w->n_targets;
  pthread_mutex_unlock(&crew->lock);
  if (!object)
    return false;
  if (others)
    prelux_crew_call(crew);
  judge(w, t, object);
  free(object);
  return true;
}

static void release(struct verify *w)
{
  while (w->at < w->n)
    free(w->names[w->at++]);
  free(w->last);
  prelux_ctl_targets_free(w->targets, w->n_targets);
  prelux_crew_release(&w->crew);
  free(w);
}

static void end(struct prelux_crew *crew)
{
  struct verify *w = (struct verify *)crew;
  struct prelux_ctl *x = w->x;
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, "files", (double)atomic_load(&x->told[PRELUX_TOLD_FILES]));
  for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
    cJSON_AddNumberToObject(out, verdicts[i], (double)w->counts[i]);
  cJSON_AddNumberToObject(out, "failed", (double)atomic_load(&x->told[PRELUX_TOLD_FAILED]));
  cJSON_AddNumberToObject(out, "repaired", (double)w->repaired);
  cJSON_AddItemToObject(out, "found", w->found);
  prelux_ctl_answer(x, out);
  release(w);
  prelux_server_land(x->d->server, x->flight);
}

static int collect(struct verify *w, struct prelux_problem *why)
{
  int err = 0;
  for (unsigned i = 0; err == 0 && i < w->x->n_args; i++)
  {
    const char *arg = w->x->args[i];
    if (strcmp(arg, OPTION_DATA) == 0 || strcmp(arg, OPTION_REPAIR) == 0)
      *(strcmp(arg, OPTION_DATA) == 0 ? &w->data : &w->repair) = true;
    else
      err = prelux_ctl_targets_add(w->x, arg, &w->targets, &w->n_targets, why);
  }
  prelux_ctl_count(w->x, PRELUX_TOLD_OPEN, w->n_targets);
  return err;
}

bool prelux_ctl_verify(struct prelux_ctl *x)
{
  struct prelux_problem why = {0};
  struct verify *w = calloc(1, sizeof *w);
  if (!w)
    return prelux_ctl_fail(x, -ENOMEM, NULL);
  w->x = x;
  x->flight->tell = prelux_ctl_tell;
  w->crew = (struct prelux_crew){.pool = x->d->pool, .lane = PRELUX_LANE_CREW, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&w->crew);
  w->found = cJSON_CreateArray();
  int err = collect(w, &why);
  if (err == 0 && !prelux_crew_call(&w->crew))
    err = -EBUSY;
  if (err == 0)
    return false;
  cJSON_Delete(w->found);
  release(w);
  return prelux_ctl_fail(x, err, &why);
}
