#include "daemon/compile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/files.h"
#include "daemon/measure.h"
#include "daemon/metrics.h"
#include "daemon/node.h"
#include "daemon/pending.h"
#include "daemon/request_write.h"
#include "daemon/watch.h"
#include "lib/base/errlog.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/map/build.h"
#include "lib/map/match.h"

#define TABLE_MAX (64u << 20)
#define ERROR_MAX 2000   /* bytes of the error text that a table carries */
#define RETRY_MS 5000u   /* a mapping that could not be set up is tried again, at most so often */
#define PASSING_MS 200u  /* the same, when it was for want of descriptors or memory alone */

static void break_mapping(struct prelux_daemon *d, const struct prelux_conf_mapping *m, struct prelux_live_mapping *lm,
                          int err, const struct prelux_problem *why)
{
  lm->broken = true;
  lm->err = err;
  free(lm->cause);
  free(lm->advice);
  lm->cause = strdup(why->text[0] ? why->text : "could not be set up");
  lm->advice = strdup(why->advice);
  prelux_instance_drop(lm->instance);
  lm->instance = NULL;
  prelux_error("mapping %s is broken: %s%s%s", m->local, why->text, why->advice[0] ? "; " : "", why->advice);
  struct prelux_error_record rec = {
      .err = EIO,
      .call = "set up",
      .path = m->local,
      .cause = why->text,
      .backend = lm->backend,
      .advice = why->advice[0] ? why->advice : NULL,
  };
  prelux_error_record(d->runtime, &rec);
}

/* How what is written below the mapping goes to the remote. An azfuse list says nothing of it: its way is to overwrite. */
static void take_rules(const struct prelux_conf_mapping *m, bool able, struct prelux_write_rules *ret)
{
  static const char *const conflicts[] = {[PRELUX_CONFLICT_FAIL] = "fail", [PRELUX_CONFLICT_OVERWRITE] = "overwrite", [PRELUX_CONFLICT_KEEP] = "keep"};
  *ret = (struct prelux_write_rules){.on_conflict = m->n_values ? PRELUX_CONFLICT_FAIL : PRELUX_CONFLICT_OVERWRITE};
  for (size_t i = 0; i < m->n_values; i++)
  {
    const struct prelux_conf_value *v = &m->values[i];
    if (strcmp(v->key->name, "write") == 0)
    {
      ret->off = strcmp(v->text, "off") == 0;
      ret->async = strcmp(v->text, "async") == 0;
    }
    else if (strcmp(v->key->name, "async_durable") == 0)
      ret->power = strcmp(v->text, "power") == 0;
    else if (strcmp(v->key->name, "fsync") == 0)
      ret->fsync_remote = strcmp(v->text, "remote") == 0;
    else if (strcmp(v->key->name, "held") == 0)
      ret->wait = strcmp(v->text, "wait") == 0;
    else if (strcmp(v->key->name, "after_upload") == 0)
      ret->drop = strcmp(v->text, "drop") == 0;
    else if (strcmp(v->key->name, "on_crash") == 0)
      ret->publish = strcmp(v->text, "publish") == 0;
    else if (strcmp(v->key->name, "write_back") == 0)
      ret->linger_ns = (uint64_t)v->number;
    for (unsigned k = 0; k < 3 && strcmp(v->key->name, "on_conflict") == 0; k++)
      if (strcmp(v->text, conflicts[k]) == 0)
        ret->on_conflict = (enum prelux_on_conflict)k;
  }
  ret->off |= !able;
}

/* An azfuse list says nothing of it: off. */
static uint8_t ahead_of(const struct prelux_conf_mapping *m)
{
  uint8_t ret = PRELUX_AHEAD_OFF;
  for (size_t i = 0; i < m->n_values; i++)
    if (strcmp(m->values[i].key->name, "prefetch") == 0)
      ret = strcmp(m->values[i].text, "directory") == 0  ? PRELUX_AHEAD_DIRECTORY
            : strcmp(m->values[i].text, "siblings") == 0 ? PRELUX_AHEAD_SIBLINGS
                                                         : PRELUX_AHEAD_OFF;
  return ret;
}

/* Where that cannot be, files are staged in the cache. */
static bool stage_in(struct prelux_store *store, const char *dir)
{
  struct prelux_problem why = {0};
  int rc = prelux_store_stage_in(store, dir, &why);
  if (rc < 0)
    prelux_warn("%s; files are staged in the cache", why.text);
  else if (rc == 1)
    prelux_info("staging folder %s is on the cache's file system: files are staged in the cache", dir);
  return rc == 0;
}

/* What a daemon before has left is sent; a store that takes no writes now says why to who tries. */
static void begin_writing(struct prelux_daemon *d, struct prelux_store *store)
{
  struct prelux_problem why = {0};
  prelux_store_hear(store, prelux_pending_refused, d);
  if (prelux_store_writable(store, &why) < 0)
    prelux_error("%s", why.text);
  else
    prelux_watch_store(d->watch, store);
  if (prelux_store_owes(store))
    prelux_sender_kick(d, store);
}

static int open_mapping(struct prelux_daemon *d, const struct prelux_compile *in, const struct prelux_conf_mapping *m,
                        struct prelux_live_mapping *lm, const char **ret_object, struct prelux_problem *why)
{
  const struct prelux_conf_backend *b = m->backend ? prelux_conf_backend(in->conf, m->backend) : NULL;
  struct prelux_tree *tree;
  if (!b)
    return prelux_problem(why, EINVAL, "no backend \"%s\"", m->backend ? m->backend : "");
  if (!(lm->type = strdup(b->type)))
    return prelux_problem(why, ENOMEM, "no memory");
  int err = prelux_instance_get(d->origins, b, &lm->instance, why);
  if (err == 0)
    err = prelux_stores_tree(d->stores, in->conf, m, in->snapshot->home, lm->instance, &tree, ret_object, why);
  if (err < 0)
    return err;
  prelux_view_init(&lm->view, tree, m->freshness, m->max_age_ns, m->negative_age_ns, m->file_mode, m->dir_mode);
  take_rules(m, lm->view.backend->ops->write != NULL, &lm->rules);
  lm->ahead = ahead_of(m);
  if (!lm->rules.off && m->staging)
    lm->rules.scratch = stage_in(prelux_tree_store(tree), m->staging);
  if (!lm->rules.off)
    begin_writing(d, prelux_tree_store(tree));
  lm->single = m->cache != NULL;
  lm->view.reader = prelux_instance_number(lm->instance); /* what fails with these credentials fails for these only */
  return 0;
}

/* An azfuse list says nothing of it: 0. */
static uint64_t stream_above(const struct prelux_conf_mapping *m)
{
  for (size_t i = 0; i < m->n_values; i++)
    if (strcmp(m->values[i].key->name, "stream_above") == 0)
      return (uint64_t)m->values[i].number;
  return 0;
}

/* Named first: who asks for a mapping that is broken reads these, too. */
static bool name_all(const struct prelux_conf *c, struct prelux_live_table *t)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    t->mappings[i].backend = strdup(c->mappings[i].backend ? c->mappings[i].backend : "");
    t->mappings[i].root = strdup(c->mappings[i].path ? c->mappings[i].path : "");
    if (!t->mappings[i].backend || !t->mappings[i].root)
      return false;
  }
  return true;
}

static void open_one(struct prelux_daemon *d, const struct prelux_compile *in, const struct prelux_conf_mapping *m,
                     struct prelux_live_mapping *lm, struct prelux_build_mapping *bm)
{
  struct prelux_problem why = {0};
  const char *object = "";
  *bm = (struct prelux_build_mapping){
      .local = m->local && strcmp(m->local, "/") != 0 ? m->local : "",
      .tree = "",
      .remote = m->remote ? m->remote : "",
      .max_age_ns = m->max_age_ns,
      .negative_age_ns = m->negative_age_ns,
      .stream_above = stream_above(m),
      .freshness = m->freshness,
      .file_mode = m->file_mode,
      .dir_mode = m->dir_mode,
      .flags = m->exec_auto ? PRELUX_MAPPING_EXEC : 0,
  };
  lm->broken = in->error != NULL;
  int err = in->error ? 0 : open_mapping(d, in, m, lm, &object, &why);
  if (err == 0 && !in->error && d->node)
    err = prelux_node_rules(m, lm, &why);
  if (err < 0)
    break_mapping(d, m, lm, err, &why);
  bm->object = object;
  if (lm->broken)
  {
    bm->flags |= PRELUX_MAPPING_BROKEN;
    lm->cache = m->cache ? strdup(m->cache) : NULL;
  }
  else
  {
    bm->tree = prelux_tree_root(lm->view.tree);
    bm->tree_id = lm->view.id;
    if (!lm->rules.off)
    {
      bm->flags |= PRELUX_MAPPING_WRITE | (lm->rules.wait ? PRELUX_MAPPING_HELD_WAIT : 0);
      bm->flags |= lm->rules.async && !lm->rules.power && !lm->rules.wait ? PRELUX_MAPPING_LEAVES : 0;
      bm->staging = prelux_store_staging(prelux_tree_store(lm->view.tree));
    }
    bm->dev = prelux_tree_dev(lm->view.tree);
  }
}

/* Mappings in force: an azfuse list that is switched off has none. */
static size_t count(const struct prelux_conf *c)
{
  return c->azfuse_off ? 0 : c->n_mappings;
}

void prelux_compile_metrics(struct prelux_daemon *d, const struct prelux_live_table *t, bool old)
{
  prelux_metrics_follow(d, t->snapshot.source, t->text, t->metrics, old);
}

static void measure(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_live_table *t, bool old)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
    t->mappings[i].measure = prelux_measure_of(prelux_table_str(t->table, prelux_table_mappings(t->table)[i].local));
  const struct prelux_snapshot *s = &t->snapshot;
  t->metrics = in->conf->metrics_listen ? strdup(in->conf->metrics_listen) : NULL;
  for (size_t i = 0; i < s->n_files; i++)
    t->text = s->files[i].text ? XXH3_64bits_withSeed(s->files[i].text, s->files[i].len, t->text) : t->text;
  prelux_compile_metrics(d, t, old || in->error);
}

static void try_again(struct prelux_live_table *t, int err)
{
  bool passing = err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -EINTR;
  uint64_t at = prelux_clock_ms() + (passing ? PASSING_MS : RETRY_MS);
  t->retry_ms = t->retry_ms && t->retry_ms < at ? t->retry_ms : at;
}

/* A live table without its bytes and file, mappings opened. */
static int open_all(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_live_table **ret,
                    struct prelux_build_mapping **ret_build, struct prelux_problem *why)
{
  size_t n = count(in->conf);
  struct prelux_live_table *t = calloc(1, sizeof *t);
  struct prelux_build_mapping *bm = calloc(n + 1, sizeof *bm);
  if (t)
    t->mappings = calloc(n + 1, sizeof *t->mappings);
  if (t)
    atomic_init(&t->refs, 1);
  if (t && t->mappings)
    t->n_mappings = (uint32_t)n;
  if (!t || !bm || !t->mappings || !name_all(in->conf, t))
  {
    prelux_live_table_drop(t);
    free(bm);
    return prelux_problem(why, ENOMEM, "no memory");
  }
  t->broken = in->error != NULL;
  t->idle_ns = in->conf->idle_exit_ns || in->error ? in->conf->idle_exit_ns : UINT64_MAX; /* a broken one says nothing of it by 0 */
  t->grace_ns = in->conf->grace_ns;
  memcpy(t->bound, in->bound, sizeof t->bound);
  for (size_t i = 0; i < n; i++)
  {
    open_one(d, in, &in->conf->mappings[i], &t->mappings[i], &bm[i]);
    if (t->mappings[i].broken && !t->broken && t->mappings[i].err != -ENOSYS)
      try_again(t, t->mappings[i].err);
  }
  for (size_t i = 0; i < n; i++) /* when all are open: another mapping may have given the store its folder */
    if (bm[i].staging)
      bm[i].scratch = prelux_store_scratch(prelux_tree_store(t->mappings[i].view.tree), &bm[i].scratch_dev);
  if (d->node)
    prelux_node_share(d->index, t->mappings, t->n_mappings);
  *ret = t;
  *ret_build = bm;
  return 0;
}

static int build(struct prelux_daemon *d, const struct prelux_compile *in, const struct prelux_build_mapping *bm,
                 struct prelux_table **ret, struct prelux_problem *why)
{
  const struct prelux_conf *c = in->conf;
  char error[ERROR_MAX + 1] = "";
  size_t clash = 0;
  if (in->error)
    snprintf(error, sizeof error, "%s", in->error);
  struct prelux_build b = {
      .mappings = bm,
      .n_mappings = count(c),
      .flags = (c->azfuse ? PRELUX_TABLE_FIRST_MATCH : 0) | (in->error ? PRELUX_TABLE_BROKEN : 0) |
               (c->outside_links || in->error ? 0 : PRELUX_TABLE_LINKS_OFF) | (d->node ? PRELUX_TABLE_NODE : 0),
      .uid = geteuid(),
      .gid = getegid(),
      .daemon_timeout_ms = c->daemon_timeout_ns ? (uint32_t)(c->daemon_timeout_ns / 1000000) : 15000,
      .source = in->snapshot->source,
      .cwd = in->snapshot->cwd,
      .daemon = d->node ? "" : d->exe, /* nobody but who runs the node starts its daemon */
      .runtime = d->runtime,
      .error = error,
  };
  if (in->error) /* two broken mappings of one prefix are one */
    b.flags |= PRELUX_TABLE_FIRST_MATCH;
  memcpy(b.credentials, in->bound, sizeof b.credentials);
  int err = prelux_table_build(&b, ret, &clash);
  if (err == -EEXIST)
    return prelux_problem(why, EEXIST, "%s:%d:%d: another mapping has the same local: %s", in->snapshot->source,
                          c->mappings[clash].line, c->mappings[clash].column, c->mappings[clash].local);
  return err < 0 ? prelux_problem(why, -err, "table cannot be built: %s", strerror(-err)) : 0;
}

/* The snapshot first: a table that is there can be registered again. A file that is there already holds the same
 * bytes. */
static int write_files(struct prelux_daemon *d, struct prelux_live_table *t, struct prelux_problem *why)
{
  char name[64], *old = NULL;
  size_t len = 0;
  int err = 0;
  snprintf(name, sizeof name, "%s.conf", t->hex);
  if (!t->broken)
    err = prelux_snapshot_write(&t->snapshot, d->tables_dir, name);
  if (err == 0)
    err = prelux_file_read(t->path, TABLE_MAX, &old, &len, NULL);
  bool there = err == 0 && len == t->table->bytes && memcmp(old, t->table, len) == 0;
  free(old);
  if (!there && (err == 0 || err == -ENOENT || err == -EFBIG))
    err = prelux_files_write(d->tables_dir, t->hex, t->table, t->table->bytes);
  return err < 0 ? prelux_problem(why, -err, "%s cannot be written: %s", t->path, strerror(-err)) : 0;
}

int prelux_compile(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_live_table **ret,
                   struct prelux_problem *why)
{
  struct prelux_live_table *t;
  struct prelux_build_mapping *bm;
  int err = open_all(d, in, &t, &bm, why);
  if (err < 0)
    return err;
  err = build(d, in, bm, &t->table, why);
  free(bm);
  if (err < 0)
  {
    prelux_live_table_drop(t);
    return err;
  }
  prelux_hex(t->table->hash, t->hex);
  t->path = prelux_join(d->tables_dir, t->hex);
  t->snapshot = *in->snapshot;
  err = t->path ? write_files(d, t, why) : prelux_problem(why, ENOMEM, "no memory");
  if (err < 0)
  {
    *in->snapshot = t->snapshot;
    t->snapshot = (struct prelux_snapshot){0};
    prelux_live_table_drop(t);
    return err;
  }
  *in->snapshot = (struct prelux_snapshot){0};
  measure(d, in, t, false);
  *ret = t;
  return 0;
}

int prelux_compile_restore(struct prelux_daemon *d, struct prelux_live_table *t)
{
  struct prelux_problem why = {0};
  struct stat st;
  if (prelux_os.lstat(t->path, &st) == 0 || errno != ENOENT)
    return 0;
  prelux_os.mkdirat(d->runtime_fd, "tables", 0700); /* there, mostly */
  int err = write_files(d, t, &why);
  if (err < 0)
    prelux_error("%s was removed: %s", t->path, why.text);
  else
    prelux_warn("%s was removed: written again", t->path);
  return err;
}

static bool missing(const struct prelux_live_table *t, void *arg)
{
  struct stat st;
  return prelux_os.lstat(t->path, &st) < 0 && errno == ENOENT;
}

void prelux_tables_restore(struct prelux_daemon *d)
{
  struct prelux_live_table *t;
  int err = 0;
  pthread_mutex_lock(&d->compiling);
  while (err == 0 && (t = prelux_tables_find(d->tables, missing, NULL)))
  {
    err = prelux_compile_restore(d, t);
    prelux_live_table_drop(t);
  }
  pthread_mutex_unlock(&d->compiling);
}

int prelux_compile_read(struct prelux_daemon *d, const char *hex, struct prelux_table **ret, struct prelux_problem *why)
{
  char *bytes = NULL, found[33];
  size_t len = 0;
  char *path = prelux_join(d->tables_dir, hex);
  int err = path ? prelux_file_read(path, TABLE_MAX, &bytes, &len, NULL) : -ENOMEM;
  free(path);
  if (err < 0)
    return prelux_problem(why, -err, "table %s: %s", hex, strerror(-err));
  struct prelux_table *t = (struct prelux_table *)bytes;
  err = prelux_table_check(t, len);
  if (err == 0)
  {
    prelux_hex(t->hash, found);
    err = strcmp(found, hex) == 0 ? 0 : -EINVAL;
  }
  if (err < 0)
  {
    free(bytes);
    return prelux_problem(why, -err, "table %s is damaged or of another version", hex);
  }
  *ret = t;
  return 0;
}

/* The table's tree is the folder of the mapping's object. */
static bool is_tree_of(const struct prelux_build_mapping *bm, const char *tree)
{
  size_t n = strlen(bm->tree);
  if (strncmp(tree, bm->tree, n) != 0)
    return false;
  return n > 0 && bm->object[0] ? tree[n] == '/' && strcmp(tree + n + 1, bm->object) == 0 : tree[n] == 0;
}

/* Programs open cache paths that the table names: a mapping whose cache is elsewhere now cannot be served under it. */
static void compare(struct prelux_daemon *d, const struct prelux_conf *conf, struct prelux_live_table *t,
                    const struct prelux_build_mapping *bm)
{
  const struct prelux_table_mapping *tm = prelux_table_mappings(t->table);
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    struct prelux_problem why = {0};
    if (t->mappings[i].broken || is_tree_of(&bm[i], prelux_table_str(t->table, tm[i].tree)))
      continue;
    prelux_problem(&why, ESTALE, "its cache folder was %s when the table was made and is %s now",
                   prelux_table_str(t->table, tm[i].tree), bm[i].tree);
    snprintf(why.advice, sizeof why.advice, "start the program anew");
    break_mapping(d, &conf->mappings[i], &t->mappings[i], -ESTALE, &why);
  }
}

int prelux_compile_again(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_table *bytes,
                         struct prelux_live_table **ret, struct prelux_problem *why)
{
  struct prelux_live_table *t;
  struct prelux_build_mapping *bm;
  int err = 0;
  if (bytes->n_mappings != count(in->conf))
    err = prelux_problem(why, EINVAL, "the table does not fit its snapshot");
  if (err == 0)
    err = open_all(d, in, &t, &bm, why);
  if (err < 0)
    return err;
  prelux_hex(bytes->hash, t->hex);
  t->path = prelux_join(d->tables_dir, t->hex);
  if (!t->path)
  {
    free(bm);
    prelux_live_table_drop(t);
    return prelux_problem(why, ENOMEM, "no memory");
  }
  t->table = bytes;
  t->snapshot = *in->snapshot;
  *in->snapshot = (struct prelux_snapshot){0};
  compare(d, in->conf, t, bm);
  measure(d, in, t, true);
  free(bm);
  *ret = t;
  return 0;
}
