/* doctor: the root of every mapping is asked for at its remote, and every backend says what it finds at its servers; all at
 * once, and the time taken. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/clock.h"
#include "daemon/crew.h"
#include "daemon/ctl.h"
#include "daemon/lanes.h"
#include "daemon/server.h"
#include "lib/map/match.h"

#define WORKERS 16u

struct probe {
  struct prelux_live_table *table; /* held */
  uint32_t mapping;
  bool backend;                    /* of the mapping's backend, not of the mapping */
  cJSON *found;                    /* by the backend */
  int err;
  uint64_t ms;
  struct prelux_problem why;
};

struct check {
  struct prelux_crew crew; /* its lock guards `next` */
  struct prelux_ctl *x;
  struct probe *probes;
  size_t n, next;
};

static const struct prelux_live_mapping *mapping_of(const struct probe *p)
{
  return &p->table->mappings[p->mapping];
}

static void add_probe_of(struct check *c, struct prelux_live_table *t, uint32_t i, bool backend)
{
  atomic_fetch_add(&t->refs, 1);
  c->probes[c->n++] = (struct probe){.table = t, .mapping = i, .backend = backend};
}

static bool known(const struct check *c, const struct prelux_instance *instance)
{
  for (size_t i = 0; i < c->n; i++)
    if (c->probes[i].backend && mapping_of(&c->probes[i])->instance == instance)
      return true;
  return false;
}

static void add_table(struct prelux_live_table *t, void *arg)
{
  struct check *c = arg;
  struct probe *more = realloc(c->probes, (c->n + 2 * (t->n_mappings + 1)) * sizeof *more);
  if (!more)
    return;
  c->probes = more;
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    add_probe_of(c, t, i, false);
    if (!t->mappings[i].broken && !known(c, t->mappings[i].instance))
      add_probe_of(c, t, i, true);
  }
}

static void run(struct probe *p)
{
  struct prelux_object object;
  const struct prelux_live_mapping *m = mapping_of(p);
  if (p->backend && (p->found = cJSON_CreateObject()))
    prelux_instance_examine(m->instance, p->found);
  else if (!m->broken)
    p->err = prelux_instance_stat(m->instance, m->root, &object, &p->why);
  else
  {
    p->err = m->err ? m->err : -EINVAL;
    prelux_problem(&p->why, -p->err, "%s", m->cause ? m->cause : "the configuration is broken");
    snprintf(p->why.advice, sizeof p->why.advice, "%s", m->advice ? m->advice : "");
  }
}

static bool step(struct prelux_crew *crew)
{
  struct check *c = (struct check *)crew;
  pthread_mutex_lock(&crew->lock);
  size_t i = c->next < c->n ? c->next++ : c->n;
  pthread_mutex_unlock(&crew->lock);
  if (i == c->n || atomic_load(&c->x->flight->abandoned))
    return false;
  struct probe *p = &c->probes[i];
  uint64_t start = prelux_clock_ms();
  run(p);
  p->ms = prelux_clock_ms() - start;
  return true;
}

static void add_probe(cJSON *list, const struct probe *p)
{
  const struct prelux_table_mapping *tm = &prelux_table_mappings(p->table->table)[p->mapping];
  const char *local = prelux_table_str(p->table->table, tm->local);
  cJSON *o = cJSON_CreateObject();
  prelux_json_text(o, "local", local[0] ? local : "/");
  prelux_json_text(o, "remote", prelux_table_str(p->table->table, tm->remote));
  prelux_json_text(o, "backend", p->table->mappings[p->mapping].backend);
  cJSON_AddBoolToObject(o, "ok", p->err == 0);
  cJSON_AddNumberToObject(o, "ms", (double)p->ms);
  cJSON_AddNumberToObject(o, "errno", -p->err);
  prelux_json_text(o, "cause", p->err == 0 ? "" : p->why.text[0] ? p->why.text : strerror(-p->err));
  prelux_json_text(o, "advice", p->why.advice);
  cJSON_AddItemToArray(list, o);
}

/* What the backend found, behind who it is. Only what has something to tell. */
static void add_backend(cJSON *list, struct probe *p)
{
  const struct prelux_live_mapping *m = mapping_of(p);
  if (!p->found || !p->found->child)
    return;
  cJSON *o = cJSON_CreateObject();
  prelux_json_text(o, "name", m->backend);
  prelux_json_text(o, "type", m->type ? m->type : "");
  cJSON_AddNumberToObject(o, "ms", (double)p->ms);
  prelux_json_move(p->found, o);
  cJSON_AddItemToArray(list, o);
}

static void release(struct check *c)
{
  for (size_t i = 0; i < c->n; i++)
  {
    cJSON_Delete(c->probes[i].found);
    prelux_live_table_drop(c->probes[i].table);
  }
  free(c->probes);
  prelux_crew_release(&c->crew);
  free(c);
}

static void answer(struct check *c)
{
  struct rlimit lim = {0};
  cJSON *out = cJSON_CreateObject(), *mappings = cJSON_AddArrayToObject(out, "mappings");
  cJSON *backends = cJSON_AddArrayToObject(out, "backends");
  for (size_t i = 0; i < c->n; i++)
    if (c->probes[i].backend)
      add_backend(backends, &c->probes[i]);
    else
      add_probe(mappings, &c->probes[i]);
  char *log = prelux_logfile_path(&c->x->d->log);
  prelux_json_text(out, "runtime", c->x->d->runtime);
  prelux_json_text(out, "log", log ? log : "");
  free(log);
  getrlimit(RLIMIT_NOFILE, &lim);
  cJSON_AddNumberToObject(out, "nofile", (double)lim.rlim_cur);
  prelux_ctl_answer(c->x, out);
}

static void end(struct prelux_crew *crew)
{
  struct check *c = (struct check *)crew;
  struct prelux_ctl *x = c->x;
  answer(c);
  release(c);
  prelux_server_land(x->d->server, x->flight);
}

bool prelux_ctl_doctor(struct prelux_ctl *x)
{
  struct check *c = calloc(1, sizeof *c);
  if (!c)
    return prelux_ctl_fail(x, -ENOMEM, NULL);
  c->x = x;
  c->crew = (struct prelux_crew){.pool = x->d->pool, .lane = PRELUX_LANE_CREW, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&c->crew);
  if (x->table)
    add_table(x->table, c);
  else
    prelux_tables_each(x->d->tables, add_table, c);
  /* One reference is ours while we call the others: the first may be done before the last is called. */
  c->crew.active = 1;
  c->crew.limit++;
  for (size_t i = 0; i < c->n && prelux_crew_call(&c->crew); i++)
    ;
  pthread_mutex_lock(&c->crew.lock);
  bool alone = --c->crew.active == 0;
  pthread_mutex_unlock(&c->crew.lock);
  if (!alone)
    return false;
  if (c->next < c->n) /* nobody could be called */
  {
    release(c);
    return prelux_ctl_fail(x, -EBUSY, NULL);
  }
  answer(c); /* nothing to ask, or all done already */
  release(c);
  return true;
}
