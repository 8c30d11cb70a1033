/* Verbs about what this node owes the remote: pending, flush, pending-retry, pending-drop. */
#include "daemon/pending.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/node.h"
#include "daemon/report.h"
#include "daemon/request_write.h"
#include "lib/base/errlog.h"
#include "lib/base/path.h"
#include "lib/map/match.h"
#include "lib/store/journal.h"

#define FILES_MAX 1000 /* of one answer; the counts are of all */

static const char *const state_names[] = {
    [PRELUX_OWED_OPEN] = "open",       [PRELUX_OWED_WAITING] = "waiting",     [PRELUX_OWED_SENDING] = "sending",
    [PRELUX_OWED_REFUSED] = "refused", [PRELUX_OWED_RECOVERED] = "recovered", [PRELUX_OWED_AWAY] = "away",
};

/* As errors are recorded, and as `prelux pending list` calls them. */
static const char *intent_name(uint32_t intent)
{
  static const char *const names[] = {
      [PRELUX_INTENT_PUT] = "upload",   [PRELUX_INTENT_REMOVE] = "unlink", [PRELUX_INTENT_RENAME] = "rename",
      [PRELUX_INTENT_MKDIR] = "mkdir", [PRELUX_INTENT_RMDIR] = "rmdir",   [PRELUX_INTENT_ATTR] = "setattr",
  };
  return intent < sizeof names / sizeof *names ? names[intent] : "?";
}

struct gathering {
  struct prelux_ctl *x;
  struct prelux_target *targets; /* NULL: everything */
  size_t n_targets;
  int64_t after, before; /* of made_ns */
  const char *id;        /* this one only; NULL: all */
  const char *past;      /* no file up to this one is shown; NULL: from the first on */
  int shown;
  bool everything;       /* neither PATH nor times were given, nor is anything waited for */
  struct prelux_store *store;
  cJSON *files;
  uint64_t states[PRELUX_OWED_STATES], bytes, failed, sent;
};

/* ---- names ---- */

/* Numbers are a store's own: the store's mark goes before. */
static void id_text(const struct prelux_store *store, int64_t id, char ret[40])
{
  uint32_t mark = 2166136261u;
  for (const char *p = prelux_store_dir(store); *p; p++)
    mark = (mark ^ (unsigned char)*p) * 16777619u;
  snprintf(ret, 40, "%04x-%" PRId64, mark & 0xffffu, id);
}

/* Object paths: "" is above all. */
static bool below(const char *object, const char *root, const char **ret_rel)
{
  *ret_rel = object;
  return !root[0] || prelux_path_below(object, root, ret_rel);
}

struct naming {
  const struct prelux_tree *tree;
  const char *object;
  char *path;
};

/* The path that a mapping of t gives to the object; malloc'd. */
static char *name_in(const struct prelux_live_table *t, const struct prelux_tree *tree, const char *object)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const char *root = prelux_table_str(t->table, prelux_table_mappings(t->table)[i].object), *rel;
    if (!t->mappings[i].broken && t->mappings[i].view.tree == tree && below(object, root, &rel))
      return prelux_report_path(t, i, rel);
  }
  return NULL;
}

static void try_table(struct prelux_live_table *t, void *arg)
{
  struct naming *n = arg;
  if (!n->path)
    n->path = name_in(t, n->tree, n->object);
}

char *prelux_pending_path(struct prelux_daemon *d, const struct prelux_live_table *prefer, const struct prelux_tree *tree, const char *object)
{
  struct naming n = {.tree = tree, .object = object};
  if (prefer && tree)
    n.path = name_in(prefer, tree, object);
  if (!n.path && tree)
    prelux_tables_each(d->tables, try_table, &n);
  return n.path ? n.path : strdup(object);
}

/* ---- gathering ---- */

static bool asked_for(const struct gathering *g, const struct prelux_tree *tree, const char *object)
{
  const char *rel;
  for (size_t i = 0; object && i < g->n_targets; i++)
  {
    const struct prelux_target *t = &g->targets[i];
    const struct prelux_live_mapping *m = prelux_target_mapping(t);
    const char *root = prelux_table_str(t->table->table, prelux_table_mappings(t->table->table)[t->mapping].object);
    if (!m->broken && m->view.tree == tree && below(object, t->object, &rel) &&
        !(g->x->may && below(object, root, &rel) && prelux_node_hides(t->table, t->mapping, rel))) /* an inner mapping shows it, or not */
      return true;
  }
  return false;
}

static bool wanted(const struct gathering *g, const struct prelux_owed *o)
{
  if (o->made_ns > g->before || o->made_ns < g->after)
    return false;
  if (!g->targets)
    return true;
  bool one = o->path && asked_for(g, o->tree, o->path), other = o->path && asked_for(g, o->tree, o->to);
  return g->x->may && o->to ? one && other : one || other; /* he must be allowed to read both names to see any */
}

static void add_number(cJSON *o, const char *key, int64_t n)
{
  char digits[24];
  snprintf(digits, sizeof digits, "%" PRId64, n);
  cJSON_AddRawToObject(o, key, digits);
}

static void add_file(struct gathering *g, const struct prelux_owed *owed, const char *id)
{
  char name[32];
  cJSON *o = cJSON_CreateObject();
  char *path = prelux_pending_path(g->x->d, g->x->table, owed->tree, owed->path ? owed->path : "");
  cJSON_AddStringToObject(o, "id", id);
  prelux_json_text(o, "path", owed->path && path ? path : "");
  cJSON_AddStringToObject(o, "state", state_names[owed->state]);
  cJSON_AddNumberToObject(o, "size", (double)owed->size);
  cJSON_AddNumberToObject(o, "sent", (double)owed->sent);
  cJSON_AddNumberToObject(o, "tries", owed->tries);
  cJSON_AddStringToObject(o, "errno", owed->err ? prelux_errno_name(owed->err) : "");
  prelux_json_text(o, "cause", owed->cause ? owed->cause : "");
  add_number(o, "since_ns", owed->made_ns);
  uint64_t dev;
  const char *folder = owed->ino & PRELUX_INO_SCRATCH ? prelux_store_scratch(g->store, &dev) : prelux_store_staging(g->store);
  snprintf(name, sizeof name, "%" PRIu64, PRELUX_INO(owed->ino));
  char *file = owed->ino && folder ? prelux_join(folder, name) : NULL;
  char *to = owed->to ? prelux_pending_path(g->x->d, g->x->table, owed->tree, owed->to) : NULL;
  prelux_json_text(o, "file", file ? file : "");
  cJSON_AddStringToObject(o, "intent", intent_name(owed->intent));
  prelux_json_text(o, "to", to ? to : "");
  cJSON_AddItemToArray(g->files, o);
  free(file);
  free(to);
  free(path);
}

/* Behind the one that the page before ended with. Stores come in the same order each time. */
static bool in_page(struct gathering *g, const struct prelux_owed *o, const char *id)
{
  size_t mark = strcspn(id, "-") + 1;
  if (!g->past)
    return true;
  if (strncmp(g->past, id, mark) != 0)
    return false;
  return o->id > strtoll(g->past + mark, NULL, 10);
}

static int gather_one(void *arg, const struct prelux_owed *o)
{
  struct gathering *g = arg;
  char id[40];
  id_text(g->store, o->id, id);
  if (g->id && strcmp(g->id, id) != 0)
    return 0;
  if (!o->tree && g->everything && !g->x->may) /* no table can show it */
    g->states[PRELUX_OWED_AWAY]++;
  else if (!o->tree || !wanted(g, o))
    return 0;
  else
  {
    g->states[o->settling && o->state == PRELUX_OWED_OPEN ? PRELUX_OWED_WAITING : o->state]++; /* who waits for what was closed asks again */
    g->bytes += o->size;
  }
  if (in_page(g, o, id) && g->shown++ < FILES_MAX)
    add_file(g, o, id);
  return 0;
}

static void gather_store(struct prelux_store *store, void *arg)
{
  struct gathering *g = arg;
  struct prelux_owed_sum sum;
  char id[40];
  g->store = store;
  prelux_store_owed_sum(store, &sum);
  g->failed += sum.failed;
  g->sent += sum.sent;
  prelux_store_owed(store, gather_one, g);
  id_text(store, 0, id);
  if (g->past && strncmp(g->past, id, strcspn(id, "-") + 1) == 0) /* of the stores behind it all */
    g->past = NULL;
}

/* PATHs, "after=NS", "before=NS", "id=ID", "past=ID". 0 or -errno with why. */
static int take_args(struct gathering *g, struct prelux_problem *why)
{
  struct prelux_ctl *x = g->x;
  g->before = INT64_MAX;
  g->after = INT64_MIN;
  for (unsigned i = 0; i < x->n_args; i++)
  {
    struct prelux_target *more;
    size_t n;
    if (strncmp(x->args[i], "id=", 3) == 0)
    {
      g->id = x->args[i] + 3;
      continue;
    }
    if (strncmp(x->args[i], "past=", 5) == 0)
    {
      g->past = x->args[i] + 5;
      continue;
    }
    g->everything = false;
    if (strncmp(x->args[i], "after=", 6) == 0)
      g->after = strtoll(x->args[i] + 6, NULL, 10);
    else if (strncmp(x->args[i], "before=", 7) == 0)
      g->before = strtoll(x->args[i] + 7, NULL, 10);
    else if (!x->table)
      return PRELUX_STATUS_NO_TABLE;
    else
    {
      int err = prelux_ctl_targets(x, x->args[i], &more, &n);
      if (err == 0 && n == 0)
      {
        prelux_ctl_targets_free(more, 0);
        return prelux_problem(why, ENOENT, "%s is in no mapping", x->args[i]);
      }
      struct prelux_target *all = err == 0 ? realloc(g->targets, (g->n_targets + n) * sizeof *all) : NULL;
      if (!all)
      {
        prelux_ctl_targets_free(err == 0 ? more : NULL, err == 0 ? n : 0);
        return err < 0 ? err : -ENOMEM;
      }
      memcpy(all + g->n_targets, more, n * sizeof *all);
      free(more);
      g->targets = all;
      g->n_targets += n;
    }
  }
  return 0;
}

/* Without a PATH: all that TABLE shows, or without TABLE everything. */
static int all_of_table(struct gathering *g)
{
  struct prelux_live_table *t = g->x->table;
  if (!t && g->x->may)
    return PRELUX_STATUS_NO_TABLE;
  if (!t || g->targets)
    return 0;
  g->targets = calloc(t->n_mappings + 1u, sizeof *g->targets);
  for (uint32_t i = 0; g->targets && i < t->n_mappings; i++)
    if (prelux_ctl_may(g->x, i) && prelux_target_init(&g->targets[g->n_targets], t, i, "") == 0)
    {
      atomic_fetch_add(&t->refs, 1);
      g->n_targets++;
    }
  return g->targets ? 0 : -ENOMEM;
}

static void longest_grace(struct prelux_live_table *t, void *arg)
{
  uint64_t *ns = arg;
  *ns = t->grace_ns > *ns ? t->grace_ns : *ns;
}

uint64_t prelux_pending_grace_ms(struct prelux_daemon *d)
{
  uint64_t ns = 0;
  prelux_tables_each(d->tables, longest_grace, &ns);
  return ns / 1000000;
}

static bool answer(struct gathering *g)
{
  struct prelux_ctl *x = g->x;
  struct timespec now;
  bool async = false;
  cJSON *out = cJSON_CreateObject();
  uint64_t count = 0;
  clock_gettime(CLOCK_REALTIME, &now);
  for (uint32_t i = 0; x->table && i < x->table->n_mappings; i++)
    async |= !x->table->mappings[i].broken && !x->table->mappings[i].rules.off && x->table->mappings[i].rules.async;
  for (int i = 0; i < PRELUX_OWED_STATES; i++)
  {
    cJSON_AddNumberToObject(out, state_names[i], (double)g->states[i]);
    count += i == PRELUX_OWED_AWAY ? 0 : g->states[i];
  }
  cJSON_AddNumberToObject(out, "count", (double)count);
  cJSON_AddNumberToObject(out, "bytes", (double)g->bytes);
  cJSON_AddNumberToObject(out, "sent_files", (double)g->sent);
  cJSON_AddNumberToObject(out, "failed_tries", (double)g->failed);
  cJSON_AddBoolToObject(out, "async", async);
  cJSON_AddNumberToObject(out, "grace_s", x->table ? (double)x->table->grace_ns / 1e9 : (double)prelux_pending_grace_ms(x->d) / 1e3);
  add_number(out, "now_ns", (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
  cJSON_AddItemToObject(out, "files", g->files);
  if (g->shown > FILES_MAX)
    cJSON_AddBoolToObject(out, "more", true);
  return prelux_ctl_answer(x, out);
}

static bool gather(struct prelux_ctl *x, bool list)
{
  struct prelux_problem why = {0};
  struct gathering g = {.x = x, .everything = list};
  int err = take_args(&g, &why);
  if (err == 0)
    err = all_of_table(&g);
  if (err == 0)
  {
    g.files = cJSON_CreateArray();
    prelux_stores_each(x->d->stores, gather_store, &g);
    answer(&g);
  }
  prelux_ctl_targets_free(g.targets, g.n_targets);
  return err < 0 ? prelux_ctl_fail(x, err, &why) : true;
}

bool prelux_ctl_pending(struct prelux_ctl *x)
{
  return gather(x, true);
}

static void hurry(struct prelux_store *store, void *arg)
{
  prelux_store_poll(store);
  prelux_store_hurry(store);
  if (prelux_store_owes(store))
    prelux_sender_kick(arg, store);
}

bool prelux_ctl_flush(struct prelux_ctl *x)
{
  bool writes = !x->may;
  for (uint32_t i = 0; x->table && !writes && i < x->table->n_mappings; i++)
    writes = x->may[i] & PRELUX_MAY_WRITE;
  if (writes)
    prelux_stores_each(x->d->stores, hurry, x->d);
  return gather(x, false);
}

/* ---- one of them ---- */

struct finding {
  const char *text;
  struct prelux_store *store;
  int64_t id;
};

static void find_store(struct prelux_store *store, void *arg)
{
  struct finding *f = arg;
  char id[40];
  id_text(store, f->id, id);
  if (strcmp(id, f->text) == 0)
    f->store = store;
}

static bool one(struct prelux_ctl *x, int (*fn)(struct prelux_store *s, int64_t id, bool flag, struct prelux_problem *why))
{
  struct prelux_problem why = {0};
  const char *dash = strchr(x->args[0], '-');
  struct finding f = {.text = x->args[0], .id = dash ? strtoll(dash + 1, NULL, 10) : 0};
  prelux_stores_each(x->d->stores, find_store, &f);
  int err = f.store ? fn(f.store, f.id, x->n_args > 1 && strcmp(x->args[1], "overwrite") == 0, &why)
                    : prelux_problem(&why, ENOENT, "%.40s: no such number", x->args[0]);
  if (err < 0)
    return prelux_ctl_fail(x, err, &why);
  prelux_sender_kick(x->d, f.store);
  cJSON *out = cJSON_CreateObject();
  cJSON_AddStringToObject(out, "id", x->args[0]);
  return prelux_ctl_answer(x, out);
}

static int drop(struct prelux_store *s, int64_t id, bool flag, struct prelux_problem *why)
{
  return prelux_store_drop(s, id, why);
}

bool prelux_ctl_pending_retry(struct prelux_ctl *x)
{
  return one(x, prelux_store_retry);
}

bool prelux_ctl_pending_drop(struct prelux_ctl *x)
{
  return one(x, drop);
}

/* ---- what others show of it ---- */

static void sum_store(struct prelux_store *store, void *arg)
{
  struct prelux_owed_sum *to = arg, one_;
  prelux_store_owed_sum(store, &one_);
  for (int i = 0; i < PRELUX_OWED_STATES; i++)
    to->files[i] += one_.files[i];
  to->bytes += one_.bytes;
  to->sent += one_.sent;
  to->failed += one_.failed;
}

cJSON *prelux_pending_report(struct prelux_daemon *d)
{
  struct prelux_owed_sum sum = {0};
  uint64_t count = 0;
  cJSON *o = cJSON_CreateObject();
  prelux_stores_each(d->stores, sum_store, &sum);
  for (int i = 0; i < PRELUX_OWED_STATES; i++)
    count += sum.files[i];
  cJSON_AddNumberToObject(o, "count", (double)count);
  cJSON_AddNumberToObject(o, "bytes", (double)sum.bytes);
  for (int i = 0; i < PRELUX_OWED_STATES; i++)
    if (i != PRELUX_OWED_SENDING && i != PRELUX_OWED_AWAY) /* counted as waiting here; not counted */
      cJSON_AddNumberToObject(o, state_names[i], (double)sum.files[i]);
  return o;
}

uint64_t prelux_pending_uploads(struct prelux_daemon *d, bool *ret_going)
{
  struct prelux_owed_sum sum = {0};
  if (prelux_stores_try_each(d->stores, sum_store, &sum))
  {
    uint64_t going = sum.files[PRELUX_OWED_OPEN] + sum.files[PRELUX_OWED_WAITING];
    d->owing = going > 0;
    d->pending = going + sum.files[PRELUX_OWED_REFUSED] + sum.files[PRELUX_OWED_RECOVERED];
  }
  if (ret_going)
    *ret_going = d->owing;
  return d->pending;
}

void prelux_pending_refused(void *arg, const struct prelux_tree *t, uint32_t intent, const char *object, int err, const struct prelux_problem *why)
{
  struct prelux_daemon *d = arg;
  char *path = prelux_pending_path(d, NULL, t, object);
  struct prelux_error_record rec = {
      .err = -prelux_report_errno(err),
      .call = intent_name(intent),
      .path = path ? path : object,
      .cause = why && why->text[0] ? why->text : strerror(-err),
      .advice = intent == PRELUX_INTENT_PUT ? "`prelux pending list` shows it; its bytes are kept" : "`prelux pending list` shows it",
  };
  prelux_error_record(d->runtime, &rec);
  free(path);
}
