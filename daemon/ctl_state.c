/* Verbs that tell how the daemon is. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/pending.h"
#include "daemon/server.h"
#include "include/prelux/version.h"
#include "lib/base/path.h"
#include "lib/map/match.h"

#define RECENT_ERRORS 10
#define ERRORS_MAX 1000
#define ERRORS_TAIL (64u << 10)
#define LOG_BYTES (60u << 10)
#define LOG_LINES 100

static const char *const freshness_names[] = {
    [PRELUX_FRESH_MAX_AGE] = "max_age",
    [PRELUX_FRESH_IMMUTABLE] = "immutable",
    [PRELUX_FRESH_ALWAYS] = "always",
    [PRELUX_FRESH_SKIP] = "skip",
};

const char *prelux_freshness_name(uint32_t freshness)
{
  return freshness < sizeof freshness_names / sizeof *freshness_names ? freshness_names[freshness] : "?";
}

/* Records of RUNTIME/errors, the last `max`, of those at or below `path` (NULL: all). */
static cJSON *recent_errors(struct prelux_daemon *d, const char *path, int max, size_t bytes)
{
  static const char *const names[] = {"errors.1", "errors"};
  cJSON *list = cJSON_CreateArray();
  for (size_t i = path || max > RECENT_ERRORS ? 0 : 1; i < 2; i++)
  {
    char *file = prelux_join(d->runtime, names[i]), *text = NULL, *save = NULL;
    size_t len;
    if (file && prelux_file_tail(file, bytes, &text, &len) == 0)
      for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
      {
        cJSON *rec = cJSON_Parse(line);
        const char *at = cJSON_GetStringValue(cJSON_GetObjectItem(rec, "path"));
        if (!rec || (path && (!at || !prelux_path_below(at, path, NULL))))
        {
          cJSON_Delete(rec);
          continue;
        }
        cJSON_AddItemToArray(list, rec);
        if (cJSON_GetArraySize(list) > max)
          cJSON_DeleteItemFromArray(list, 0);
      }
    free(text);
    free(file);
  }
  return list;
}

static void add_store(struct prelux_store *store, void *arg)
{
  cJSON *cache = arg, *list = cJSON_GetObjectItem(cache, "stores"), *o = cJSON_CreateObject();
  struct prelux_store_stats st = {0};
  prelux_store_stats(store, &st);
  const struct {
    const char *key;
    uint64_t value;
  } numbers[] = {
      {"used_bytes", st.used_bytes},
      {"max_bytes", st.max_bytes},
      {"files", st.files},
      {"hits", st.hits_opens},
      {"fills", st.fills},
      {"filled_bytes", st.filled_bytes},
      {"evictions", st.evictions},
      {"adopted", st.adopted},
      {"negatives", st.negatives},
      {"listings", st.listings},
      {"remote_stats", st.remote_stats},
  };
  prelux_json_text(o, "dir", prelux_store_dir(store));
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    cJSON_AddNumberToObject(o, numbers[i].key, (double)numbers[i].value);
  cJSON_AddItemToArray(list, o);
  for (size_t i = 0; i < 3; i++)
  {
    cJSON *sum = cJSON_GetObjectItem(cache, numbers[i].key);
    cJSON_SetNumberValue(sum, sum->valuedouble + (double)numbers[i].value);
  }
}

static cJSON *cache_state(struct prelux_daemon *d)
{
  cJSON *cache = cJSON_CreateObject();
  cJSON_AddNumberToObject(cache, "used_bytes", 0);
  cJSON_AddNumberToObject(cache, "max_bytes", 0);
  cJSON_AddNumberToObject(cache, "files", 0);
  cJSON *list = cJSON_AddArrayToObject(cache, "stores");
  prelux_stores_each(d->stores, add_store, cache);
  cJSON *first = cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1); /* the one opened first */
  cJSON_AddStringToObject(cache, "dir", first ? cJSON_GetStringValue(cJSON_GetObjectItem(first, "dir")) : "");
  return cache;
}

struct collect {
  cJSON *backends, *mappings;
};

static bool is(const cJSON *o, const char *key, const char *value)
{
  const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
  return s && strcmp(s, value) == 0;
}

/* Two configurations may call different things by one name. */
static void add_backend(const struct prelux_live_mapping *m, cJSON *list)
{
  const char *identity = m->instance ? prelux_instance_identity(m->instance) : "";
  const cJSON *old;
  cJSON_ArrayForEach(old, list) if (is(old, "name", m->backend) && is(old, "identity", identity)) return;
  cJSON *o = cJSON_CreateObject(), *report = cJSON_CreateObject();
  if (m->instance)
    prelux_instance_report(m->instance, report);
  prelux_json_text(o, "name", m->backend);
  prelux_json_text(o, "type", m->type ? m->type : "");
  prelux_json_text(o, "identity", identity);
  cJSON_AddBoolToObject(o, "ok", !m->broken && !cJSON_GetObjectItemCaseSensitive(report, "trouble"));
  prelux_json_move(report, o);
  cJSON_Delete(report);
  cJSON_AddItemToArray(list, o);
}

static void add_mapping(const struct prelux_live_table *t, uint32_t i, const struct collect *to)
{
  const struct prelux_live_mapping *m = &t->mappings[i];
  const struct prelux_table_mapping *tm = &prelux_table_mappings(t->table)[i];
  const char *local = prelux_table_str(t->table, tm->local);
  cJSON *o = cJSON_CreateObject();
  prelux_json_text(o, "local", local[0] ? local : "/");
  prelux_json_text(o, "remote", prelux_table_str(t->table, tm->remote));
  prelux_json_text(o, "cache", prelux_table_str(t->table, tm->tree));
  cJSON_AddStringToObject(o, "freshness", prelux_freshness_name(tm->freshness));
  cJSON_AddBoolToObject(o, "broken", m->broken);
  prelux_json_text(o, "cause", m->broken && m->cause ? m->cause : "");
  cJSON_AddItemToArray(to->mappings, o);
  add_backend(m, to->backends);
}

static void collect_table(struct prelux_live_table *t, void *arg)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
    add_mapping(t, i, arg);
}

bool prelux_ctl_status(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject();
  struct collect to = {
      .backends = cJSON_AddArrayToObject(out, "backends"),
      .mappings = cJSON_AddArrayToObject(out, "mappings"),
  };
  cJSON_AddNumberToObject(out, "pid", getpid());
  cJSON_AddStringToObject(out, "version", PRELUX_VERSION);
  if (x->table)
    collect_table(x->table, &to);
  else
    prelux_tables_each(x->d->tables, collect_table, &to);
  cJSON_AddItemToObject(out, "cache", cache_state(x->d));
  cJSON_AddItemToObject(out, "pending", prelux_pending_report(x->d));
  cJSON_AddItemToObject(out, "errors", recent_errors(x->d, NULL, RECENT_ERRORS, ERRORS_TAIL));
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_daemon_status(struct prelux_ctl *x)
{
  struct prelux_server_stats server;
  struct prelux_pool_stats pool;
  cJSON *out = cJSON_CreateObject();
  prelux_server_stats(x->d->server, &server);
  prelux_pool_stats(x->d->pool, &pool);
  cJSON_AddNumberToObject(out, "pid", getpid());
  cJSON_AddStringToObject(out, "version", PRELUX_VERSION);
  cJSON_AddNumberToObject(out, "uptime_s", (double)(prelux_clock_ms() - x->d->started_ms) / 1000);
  cJSON_AddNumberToObject(out, "clients", server.clients);
  cJSON_AddNumberToObject(out, "pending_uploads", (double)prelux_pending_uploads(x->d, NULL));
  prelux_json_text(out, "runtime", x->d->runtime);
  cJSON_AddBoolToObject(out, "activated", x->d->activated);
  cJSON_AddNumberToObject(out, "sessions", server.sessions);
  cJSON_AddNumberToObject(out, "tables", prelux_tables_count(x->d->tables));
  cJSON_AddNumberToObject(out, "threads", pool.threads);
  cJSON_AddNumberToObject(out, "queue", pool.queued);
  cJSON_AddNumberToObject(out, "requests", (double)server.requests);
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_daemon_stop(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, "pid", getpid());
  prelux_info("asked to end");
  prelux_server_stop(x->d->server);
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_errors(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject();
  const char *path = x->n_args ? x->args[0] : NULL;
  cJSON_AddItemToObject(out, "errors", recent_errors(x->d, path, ERRORS_MAX, 2 * PRELUX_ERRORS_ROTATE_BYTES));
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_log_level(struct prelux_ctl *x)
{
  struct prelux_problem why = {0};
  int level = prelux_log_parse_level(x->args[0]);
  if (level < 0)
    return prelux_ctl_fail(x, prelux_problem(&why, EINVAL, "level is one of error, warn, info, debug"), &why);
  prelux_logfile_set_level(&x->d->log, (enum prelux_log_level)level);
  cJSON *out = cJSON_CreateObject();
  cJSON_AddStringToObject(out, "level", x->args[0]);
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_log(struct prelux_ctl *x)
{
  long lines = x->n_args ? strtol(x->args[0], NULL, 10) : LOG_LINES;
  char *file = prelux_logfile_path(&x->d->log), *text = NULL;
  size_t len = 0;
  int err = file ? prelux_file_tail(file, LOG_BYTES, &text, &len) : 0;
  if (err < 0)
  {
    free(file);
    return prelux_ctl_fail(x, err, NULL);
  }
  char *from = text ? text + len : NULL;
  for (long n = 0; from && from > text; from--)
    if (from[-1] == '\n' && from != text + len && ++n >= lines)
      break;
  cJSON *out = cJSON_CreateObject();
  prelux_json_text(out, "file", file ? file : "");
  prelux_json_text(out, "text", from ? from : "");
  free(text);
  free(file);
  return prelux_ctl_answer(x, out);
}

static void add_table(struct prelux_live_table *t, void *arg)
{
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "hash", t->hex);
  prelux_json_text(o, "path", t->path);
  prelux_json_text(o, "source", t->snapshot.source);
  prelux_json_text(o, "cwd", t->snapshot.cwd);
  cJSON_AddNumberToObject(o, "mappings", t->n_mappings);
  cJSON_AddBoolToObject(o, "broken", t->broken);
  cJSON_AddNumberToObject(o, "uses", (double)atomic_load(&t->uses));
  cJSON_AddItemToArray(arg, o);
}

bool prelux_ctl_tables(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject();
  prelux_tables_each(x->d->tables, add_table, cJSON_AddArrayToObject(out, "tables"));
  return prelux_ctl_answer(x, out);
}
