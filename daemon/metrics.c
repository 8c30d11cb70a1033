#include "daemon/metrics.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/ctl.h"
#include "daemon/measure.h"
#include "daemon/pending.h"
#include "include/prelux/version.h"

#define ASKED_MAX 64

struct out {
  FILE *f;
  struct prelux_daemon *d;
  const char *name; /* of the family at hand */
  const char *type;
  int op, result;
  const char *key; /* of a store's number */
};

/* A label's value: quotes, backslashes and line ends are told; bytes that are not UTF-8, for which a whole scrape is refused, are \\xHH. */
static void label(FILE *f, const char *value)
{
  for (int n; *value; value += n ? n : 1)
  {
    n = prelux_utf8_length((const unsigned char *)value);
    if (n == 0)
      fprintf(f, "\\\\x%02x", (unsigned char)*value);
    else if (*value == '\n')
      fputs("\\n", f);
    else
      fprintf(f, "%s%.*s", *value == '"' || *value == '\\' ? "\\" : "", n, value);
  }
}

static void family(struct out *o, const char *name, const char *type, const char *help)
{
  o->name = name;
  fprintf(o->f, "# HELP prelux_%s %s\n# TYPE prelux_%s %s\n", name, help, name, type);
}

static void single(struct out *o, const char *name, const char *type, const char *help, double value)
{
  family(o, name, type, help);
  fprintf(o->f, "prelux_%s %.17g\n", name, value);
}

/* ---- mappings */

static void begin_mapping(const struct out *o, const struct prelux_measure *m, const char *suffix)
{
  fprintf(o->f, "prelux_%s%s{mapping=\"", o->name, suffix);
  label(o->f, *m->local ? m->local : "/");
  fputc('"', o->f);
}

static void requests(const struct prelux_measure *m, void *arg)
{
  struct out *o = arg;
  for (int op = 0; op < PRELUX_MEASURE_OPS; op++)
    for (int r = 0; r < PRELUX_MEASURE_RESULTS; r++)
    {
      begin_mapping(o, m, "");
      fprintf(o->f, ",op=\"%s\",result=\"%s\"} %llu\n", prelux_measure_ops[op], prelux_measure_results[r],
              (unsigned long long)atomic_load(&m->requests[op][r]));
    }
}

static void times(const struct prelux_measure *m, void *arg)
{
  struct out *o = arg;
  for (int op = 0; op < PRELUX_MEASURE_OPS; op++)
  {
    unsigned long long sum = 0;
    for (unsigned i = 0; i <= PRELUX_MEASURE_TIMES; i++)
    {
      char bound[32] = "+Inf";
      sum += atomic_load(&m->times[op][i]);
      if (i < PRELUX_MEASURE_TIMES)
        snprintf(bound, sizeof bound, "%g", prelux_measure_bounds[i]);
      begin_mapping(o, m, "_bucket");
      fprintf(o->f, ",op=\"%s\",le=\"%s\"} %llu\n", prelux_measure_ops[op], bound, sum);
    }
    begin_mapping(o, m, "_sum");
    fprintf(o->f, ",op=\"%s\"} %.6f\n", prelux_measure_ops[op], (double)atomic_load(&m->sum_us[op]) / 1e6);
    begin_mapping(o, m, "_count");
    fprintf(o->f, ",op=\"%s\"} %llu\n", prelux_measure_ops[op], sum);
  }
}

static void remote_bytes(const struct prelux_measure *m, void *arg)
{
  begin_mapping(arg, m, "");
  fprintf(((struct out *)arg)->f, "} %llu\n", (unsigned long long)atomic_load(&m->remote_bytes));
}

static void remote_requests(const struct prelux_measure *m, void *arg)
{
  begin_mapping(arg, m, "");
  fprintf(((struct out *)arg)->f, "} %llu\n", (unsigned long long)atomic_load(&m->remote_requests));
}

static void mappings(struct out *o)
{
  family(o, "requests_total", "counter", "Requests of programs and commands that reached the daemon; a miss asked the remote.");
  prelux_measure_each(requests, o);
  family(o, "request_seconds", "histogram", "How long they took.");
  prelux_measure_each(times, o);
  family(o, "remote_bytes_total", "counter", "Bytes of files that came from the remote, also ahead of requests.");
  prelux_measure_each(remote_bytes, o);
  family(o, "remote_requests_total", "counter", "Questions put to the remote for the mapping, also ahead of requests: attributes, listings, bytes.");
  prelux_measure_each(remote_requests, o);
}

/* ---- stores */

static const struct number {
  const char *name, *type, *help;
  size_t offset;
} numbers[] = {
    {"cache_used_bytes", "gauge", "Bytes that cached files have on the disk.", offsetof(struct prelux_store_stats, used_bytes)},
    {"cache_max_bytes", "gauge", "Most that is kept.", offsetof(struct prelux_store_stats, max_bytes)},
    {"cache_files", "gauge", "Cached files.", offsetof(struct prelux_store_stats, files)},
    {"cache_hits_total", "counter", "Opens that the daemon answered with a file that was there.", offsetof(struct prelux_store_stats, hits_opens)},
    {"cache_fills_total", "counter", "Files that were fetched.", offsetof(struct prelux_store_stats, fills)},
    {"cache_filled_bytes_total", "counter", "Bytes of files that were fetched whole.", offsetof(struct prelux_store_stats, filled_bytes)},
    {"cache_evictions_total", "counter", "Files that were dropped from the cache.", offsetof(struct prelux_store_stats, evictions)},
    {"cache_negatives_total", "counter", "Names that the remote was found not to have.", offsetof(struct prelux_store_stats, negatives)},
    {"cache_listings_total", "counter", "Folders that the remote was asked for.", offsetof(struct prelux_store_stats, listings)},
    {"cache_remote_stats_total", "counter", "Attributes that the remote was asked for.", offsetof(struct prelux_store_stats, remote_stats)},
};

struct stores {
  struct out *o;
  const struct number *number;
};

static void store_line(struct prelux_store *store, void *arg)
{
  const struct stores *s = arg;
  struct prelux_store_stats st = {0};
  prelux_store_stats(store, &st);
  fprintf(s->o->f, "prelux_%s{cache=\"", s->number->name);
  label(s->o->f, prelux_store_dir(store));
  fprintf(s->o->f, "\"} %llu\n", (unsigned long long)*(const uint64_t *)(const void *)((const char *)&st + s->number->offset));
}

static void stores(struct out *o)
{
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
  {
    struct stores s = {o, &numbers[i]};
    family(o, numbers[i].name, numbers[i].type, numbers[i].help);
    prelux_stores_each(o->d->stores, store_line, &s);
  }
}

/* ---- backends: each of an identity once */

struct backends {
  struct out *o;
  const char *key; /* "reads" or "bytes" of a source; NULL: is it in order? */
  const char *seen[ASKED_MAX];
  int n;
};

static void backend_sources(const struct backends *b, const char *identity, const cJSON *report)
{
  const cJSON *source;
  cJSON_ArrayForEach(source, cJSON_GetObjectItemCaseSensitive(report, "reads"))
  {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(source, b->key);
    if (!cJSON_IsNumber(value))
      continue;
    fprintf(b->o->f, "prelux_%s{backend=\"", b->o->name);
    label(b->o->f, identity);
    fputs("\",source=\"", b->o->f);
    label(b->o->f, source->string);
    fprintf(b->o->f, "\"} %.17g\n", value->valuedouble);
  }
}

static void backend_table(struct prelux_live_table *t, void *arg)
{
  struct backends *b = arg;
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const struct prelux_live_mapping *m = &t->mappings[i];
    const char *identity = m->instance ? prelux_instance_identity(m->instance) : NULL;
    bool seen = !identity || b->n == ASKED_MAX;
    for (int k = 0; k < b->n && !seen; k++)
      seen = strcmp(b->seen[k], identity) == 0;
    if (seen)
      continue;
    cJSON *report = cJSON_CreateObject();
    prelux_instance_report(m->instance, report);
    b->seen[b->n++] = identity; /* the table holds it, and tables are held while they are gone through */
    if (b->key)
      backend_sources(b, identity, report);
    else
    {
      fprintf(b->o->f, "prelux_%s{backend=\"", b->o->name);
      label(b->o->f, identity);
      fprintf(b->o->f, "\",type=\"%s\"} %d\n", prelux_instance_type(m->instance), !cJSON_GetObjectItemCaseSensitive(report, "trouble"));
    }
    cJSON_Delete(report);
  }
}

static void backends(struct out *o)
{
  static const char *const families[][3] = {{"backend_ok", NULL, "1: the backend sees no trouble."},
                                            {"backend_reads_total", "reads", "Reads by where the bytes came from (worker, under store, ...)."},
                                            {"backend_read_bytes_total", "bytes", "Bytes of these reads."}};
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
  {
    struct backends b = {.o = o, .key = families[i][1]};
    family(o, families[i][0], families[i][1] ? "counter" : "gauge", families[i][2]);
    prelux_tables_each(o->d->tables, backend_table, &b);
  }
}

static void broken_table(struct prelux_live_table *t, void *arg)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
    *(unsigned *)arg += t->mappings[i].broken;
}

/* ---- the rest */

static void pending(struct out *o)
{
  static const char *const states[] = {"open", "waiting", "refused", "recovered"};
  cJSON *p = prelux_pending_report(o->d);
  family(o, "pending_files", "gauge", "Files and changes of names that are not on the remote, by state.");
  for (size_t i = 0; i < sizeof states / sizeof *states; i++)
  {
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(p, states[i]);
    fprintf(o->f, "prelux_pending_files{state=\"%s\"} %.17g\n", states[i], cJSON_IsNumber(n) ? n->valuedouble : 0);
  }
  const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(p, "bytes");
  single(o, "pending_bytes", "gauge", "Bytes that are not on the remote.", cJSON_IsNumber(bytes) ? bytes->valuedouble : 0);
  cJSON_Delete(p);
}

static void process(struct out *o)
{
  struct prelux_pool_stats pool;
  unsigned broken = 0;
  prelux_pool_stats(o->d->pool, &pool);
  prelux_tables_each(o->d->tables, broken_table, &broken);
  family(o, "build_info", "gauge", "Always 1; the version is a label.");
  fprintf(o->f, "prelux_build_info{version=\"%s\"} 1\n", PRELUX_VERSION);
  single(o, "uptime_seconds", "gauge", "Since the daemon began.", (double)(prelux_clock_ms() - o->d->started_ms) / 1000);
  single(o, "tables", "gauge", "Configurations in use.", prelux_tables_count(o->d->tables));
  single(o, "mappings_broken", "gauge", "Mappings of them that could not be set up.", broken);
  single(o, "pool_threads", "gauge", "Threads for work that blocks.", pool.threads);
  single(o, "pool_running", "gauge", "Of them at work.", pool.running);
  single(o, "pool_queued", "gauge", "Work that waits for a thread.", pool.queued);
}

char *prelux_metrics_text(struct prelux_daemon *d)
{
  char *text = NULL;
  size_t len = 0;
  struct out o = {.f = open_memstream(&text, &len), .d = d};
  if (!o.f)
    return NULL;
  process(&o);
  mappings(&o);
  stores(&o);
  backends(&o);
  pending(&o);
  if (fclose(o.f) != 0)
  {
    free(text);
    return NULL;
  }
  return text;
}

/* ---- verbs */

bool prelux_ctl_metrics(struct prelux_ctl *x)
{
  char *text = prelux_metrics_text(x->d);
  cJSON *out = text ? cJSON_CreateObject() : NULL;
  if (out)
    prelux_json_text(out, "text", text);
  free(text);
  return prelux_ctl_answer(x, out);
}

static void add_op(cJSON *o, const struct prelux_measure *m, int op)
{
  cJSON *into = cJSON_AddObjectToObject(o, prelux_measure_ops[op]), *list;
  for (int r = 0; r < PRELUX_MEASURE_RESULTS; r++)
    cJSON_AddNumberToObject(into, prelux_measure_results[r], (double)atomic_load(&m->requests[op][r]));
  cJSON_AddNumberToObject(into, "seconds", (double)atomic_load(&m->sum_us[op]) / 1e6);
  list = cJSON_AddArrayToObject(into, "times");
  for (unsigned i = 0; i <= PRELUX_MEASURE_TIMES; i++)
    cJSON_AddItemToArray(list, cJSON_CreateNumber((double)atomic_load(&m->times[op][i])));
}

static void add_measure(const struct prelux_measure *m, void *arg)
{
  cJSON *o = cJSON_CreateObject();
  prelux_json_text(o, "mapping", *m->local ? m->local : "/");
  for (int op = 0; op < PRELUX_MEASURE_OPS; op++)
    add_op(o, m, op);
  cJSON_AddNumberToObject(o, "remote_bytes", (double)atomic_load(&m->remote_bytes));
  cJSON_AddNumberToObject(o, "remote_requests", (double)atomic_load(&m->remote_requests));
  cJSON_AddItemToArray(arg, o);
}

bool prelux_ctl_stats(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject(), *bounds;
  cJSON_AddNumberToObject(out, "uptime_s", (double)(prelux_clock_ms() - x->d->started_ms) / 1000);
  bounds = cJSON_AddArrayToObject(out, "bounds_s");
  for (unsigned i = 0; i < PRELUX_MEASURE_TIMES; i++)
    cJSON_AddItemToArray(bounds, cJSON_CreateNumber(prelux_measure_bounds[i]));
  prelux_measure_each(add_measure, cJSON_AddArrayToObject(out, "mappings"));
  return prelux_ctl_answer(x, out);
}
