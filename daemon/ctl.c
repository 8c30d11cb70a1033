#include "daemon/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/gate.h"
#include "daemon/lanes.h"
#include "daemon/node.h"
#include "daemon/request_write.h"
#include "daemon/server.h"
#include "daemon/turns.h"
#include "include/prelux/ctl.h"
#include "lib/base/io.h"
#include "lib/base/os.h"
#include "lib/base/path.h"
#include "lib/map/match.h"

static const struct prelux_verb verbs[] = {
    {.name = PRELUX_CTL_STATUS, .run = prelux_ctl_status},
    {.name = PRELUX_CTL_DAEMON_STATUS, .others = true, .on_loop = true, .run = prelux_ctl_daemon_status},
    {.name = PRELUX_CTL_DAEMON_STOP, .on_loop = true, .ends = true, .run = prelux_ctl_daemon_stop},
    {.name = PRELUX_CTL_MAP, .others = true, .table = true, .min_args = 1, .max_args = 1, .run = prelux_ctl_map},
    {.name = PRELUX_CTL_STAT, .others = true, .table = true, .min_args = 1, .max_args = 1, .run = prelux_ctl_stat},
    {.name = PRELUX_CTL_LS, .others = true, .table = true, .min_args = 1, .max_args = 1, .run = prelux_ctl_ls},
    {.name = PRELUX_CTL_PREFETCH, .others = true, .table = true, .min_args = 1, .max_args = PRELUX_CTL_ARGS, .crew = true,
     .run = prelux_ctl_prefetch},
    {.name = PRELUX_CTL_EVICT, .table = true, .min_args = 1, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_evict},
    {.name = PRELUX_CTL_PIN, .table = true, .min_args = 1, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_pin},
    {.name = PRELUX_CTL_UNPIN, .table = true, .min_args = 1, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_unpin},
    {.name = PRELUX_CTL_PINS, .table = true, .run = prelux_ctl_pins},
    {.name = PRELUX_CTL_VERIFY, .table = true, .min_args = 1, .max_args = PRELUX_CTL_ARGS, .crew = true, .run = prelux_ctl_verify},
    {.name = PRELUX_CTL_METRICS, .run = prelux_ctl_metrics},
    {.name = PRELUX_CTL_STATS, .run = prelux_ctl_stats},
    {.name = PRELUX_CTL_ERRORS, .max_args = 1, .run = prelux_ctl_errors},
    {.name = PRELUX_CTL_LOG_LEVEL, .min_args = 1, .max_args = 1, .run = prelux_ctl_log_level},
    {.name = PRELUX_CTL_LOG, .max_args = 1, .run = prelux_ctl_log},
    {.name = PRELUX_CTL_DOCTOR, .crew = true, .run = prelux_ctl_doctor},
    {.name = PRELUX_CTL_TABLES, .run = prelux_ctl_tables},
    {.name = PRELUX_CTL_PENDING, .others = true, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_pending},
    {.name = PRELUX_CTL_FLUSH, .others = true, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_flush},
    {.name = PRELUX_CTL_PENDING_RETRY, .min_args = 1, .max_args = 2, .run = prelux_ctl_pending_retry},
    {.name = PRELUX_CTL_PENDING_DROP, .min_args = 1, .max_args = 1, .run = prelux_ctl_pending_drop},
    {.name = PRELUX_CTL_LOAD, .table = true, .min_args = 2, .max_args = 7, .run = prelux_ctl_load},
    {.name = PRELUX_CTL_CLUSTER, .table = true, .min_args = 2, .max_args = PRELUX_CTL_ARGS, .run = prelux_ctl_cluster},
};

bool prelux_ctl_fail(struct prelux_ctl *x, int status, const struct prelux_problem *why)
{
  struct prelux_problem plain = {0};
  if (!why || !why->text[0])
  {
    prelux_problem(&plain, -status, "%s", strerror(-status));
    why = &plain;
  }
  prelux_answer_fail(&x->flight->answer, status, why);
  return true;
}

bool prelux_ctl_answer(struct prelux_ctl *x, cJSON *out)
{
  char *text = out ? cJSON_PrintUnformatted(out) : NULL;
  cJSON_Delete(out);
  int fd = text ? prelux_os.memfd_create("prelux-ctl", MFD_CLOEXEC) : -1;
  int err = fd < 0 ? -ENOMEM : prelux_write_all(fd, text, strlen(text));
  cJSON_free(text);
  if (err == 0 && lseek(fd, 0, SEEK_SET) == 0 && prelux_answer_begin(&x->flight->answer, 0))
  {
    x->flight->answer.fd = fd;
    return true;
  }
  if (fd >= 0)
    prelux_os.close(fd);
  return prelux_ctl_fail(x, err < 0 ? err : -ENOMEM, NULL);
}

int prelux_utf8_length(const unsigned char *p)
{
  if (p[0] < 0x80)
    return 1;
  int n = p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
  if (n == 0 || p[0] >= 0xf5)
    return 0;
  for (int i = 1; i < n; i++)
    if ((p[i] & 0xc0) != 0x80)
      return 0;
  if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
      (p[0] == 0xf4 && p[1] > 0x8f))
    return 0;
  return n;
}

static void add_hex(cJSON *o, const char *key, const unsigned char *bytes, size_t n)
{
  static const char digits[] = "0123456789abcdef";
  char *name = malloc(strlen(key) + 5), *hex = malloc(2 * n + 1);
  if (name && hex)
  {
    stpcpy(stpcpy(name, key), "_hex");
    for (size_t i = 0; i < n; i++)
    {
      hex[2 * i] = digits[bytes[i] >> 4];
      hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * n] = 0;
    cJSON_AddStringToObject(o, name, hex);
  }
  free(name);
  free(hex);
}

void prelux_json_text(cJSON *o, const char *key, const char *text)
{
  const unsigned char *p = (const unsigned char *)text;
  size_t n = strlen(text), len = 0;
  while (*p && prelux_utf8_length(p))
    p += prelux_utf8_length(p);
  char *out = *p ? malloc(2 * n + 1) : NULL;
  if (!out)
  {
    cJSON_AddStringToObject(o, key, text);
    return;
  }
  for (p = (const unsigned char *)text; *p; p++)
    if (*p < 0x80)
      out[len++] = (char)*p;
    else
    {
      out[len++] = (char)(0xc0 | *p >> 6);
      out[len++] = (char)(0x80 | (*p & 0x3f));
    }
  out[len] = 0;
  cJSON_AddStringToObject(o, key, out);
  add_hex(o, key, (const unsigned char *)text, n);
  free(out);
}

void prelux_json_move(cJSON *from, cJSON *to)
{
  for (cJSON *item; from && (item = from->child);)
  {
    char *key = strdup(item->string);
    item = cJSON_DetachItemViaPointer(from, item);
    cJSON_AddItemToObject(to, key ? key : "?", item);
    free(key);
  }
}

int prelux_ctl_target(struct prelux_ctl *x, const char *path, struct prelux_target *ret, bool *ret_below)
{
  struct prelux_match m = {0};
  prelux_table_match(x->table->table, path, path[0] != '/', &m);
  if (ret_below)
    *ret_below = m.kind == PRELUX_MATCH_ANCESTOR || (m.kind == PRELUX_MATCH_MAPPED && m.has_below);
  if (m.kind != PRELUX_MATCH_MAPPED)
    return 0;
  if (!prelux_ctl_may(x, m.index))
    return -EACCES;
  int err = prelux_target_init(ret, x->table, m.index, m.rel);
  if (err < 0)
    return err;
  atomic_fetch_add(&x->table->refs, 1); /* the target's */
  return 1;
}

int prelux_ctl_targets(struct prelux_ctl *x, const char *path, struct prelux_target **ret, size_t *ret_n)
{
  struct prelux_live_table *t = x->table;
  struct prelux_target *list = calloc(t->n_mappings + 1u, sizeof *list);
  size_t n = 0;
  const char *rel;
  int err = list ? prelux_ctl_target(x, path, &list[0], NULL) : -ENOMEM;
  n = err > 0;
  for (uint32_t i = 0; err >= 0 && i < t->n_mappings; i++)
  {
    const char *local = prelux_table_str(t->table, prelux_table_mappings(t->table)[i].local);
    if (!prelux_path_below(local, path, &rel) || !rel[0] || !prelux_ctl_may(x, i))
      continue;
    err = prelux_target_init(&list[n], t, i, "");
    if (err == 0)
    {
      atomic_fetch_add(&t->refs, 1);
      n++;
    }
  }
  if (err < 0)
  {
    prelux_ctl_targets_free(list, n);
    list = NULL;
    n = 0;
  }
  *ret = list;
  *ret_n = n;
  return err < 0 ? err : 0;
}

int prelux_ctl_targets_add(struct prelux_ctl *x, const char *path, struct prelux_target **list, size_t *n, struct prelux_problem *why)
{
  struct prelux_target *more, *all;
  size_t n_more;
  int err = prelux_ctl_targets(x, path, &more, &n_more);
  if (err == 0 && n_more == 0)
    err = prelux_problem(why, ENOENT, "%s is in no mapping", path);
  all = err == 0 ? realloc(*list, (*n + n_more) * sizeof *all) : NULL;
  if (!all)
  {
    prelux_ctl_targets_free(more, n_more);
    return err < 0 ? err : -ENOMEM;
  }
  memcpy(all + *n, more, n_more * sizeof *all);
  free(more);
  *list = all;
  *n += n_more;
  return 0;
}

void prelux_ctl_targets_free(struct prelux_target *list, size_t n)
{
  for (size_t i = 0; i < n; i++)
    prelux_target_release(&list[i]);
  free(list);
}

static const char *const told_names[PRELUX_TOLD] = {
    [PRELUX_TOLD_FILES] = "files", [PRELUX_TOLD_BYTES] = "bytes", [PRELUX_TOLD_CACHED] = "cached", [PRELUX_TOLD_FOLDERS] = "folders",
    [PRELUX_TOLD_FAILED] = "failed", [PRELUX_TOLD_FOUND_FILES] = "found_files", [PRELUX_TOLD_FOUND_BYTES] = "found_bytes",
    [PRELUX_TOLD_CAME] = "came",
    [PRELUX_TOLD_OPEN] = "open",
};

void prelux_ctl_tell(struct prelux_flight *f, char *text, size_t cap)
{
  struct prelux_ctl *x = f->arg;
  size_t n = 0;
  for (unsigned i = 0; i < PRELUX_TOLD && n < cap; i++)
    n += (size_t)snprintf(text + n, cap - n, "%s\"%s\":%llu", i ? "," : "{", told_names[i],
                          (unsigned long long)atomic_load_explicit(&x->told[i], memory_order_relaxed));
  if (n < cap)
    snprintf(text + n, cap - n, "}");
}

void prelux_ctl_told(struct prelux_ctl *x, cJSON *out)
{
  for (unsigned i = 0; i < PRELUX_TOLD_FOUND_FILES; i++)
    cJSON_AddNumberToObject(out, told_names[i], (double)atomic_load(&x->told[i]));
}

static void ctl_work(struct prelux_flight *f)
{
  struct prelux_ctl *x = f->arg;
  prelux_lefts_settle(x->d);
  x->verb->run(x);
}

/* What the loop runs itself must see what was made by leases, which are not ended there: that takes a while. */
static void only_the_gate(struct prelux_flight *f)
{
}

static bool go_on(struct prelux_flight *f)
{
  struct prelux_ctl *x = f->arg;
  return x->verb->run(x);
}

/* Behind the gate, and a crew's in its turn. */
static void launch_on_loop(struct prelux_conn *c, struct prelux_flight *f)
{
  struct prelux_ctl *x = f->arg;
  f->job.lane = PRELUX_LANE_WATCH;
  f->work = only_the_gate;
  f->then = go_on;
  if (x->verb->crew)
    prelux_server_launch_in_turn(c->server, c, f, PRELUX_TURN_CREW);
  else
    prelux_server_launch(c->server, c, f);
}

static void ctl_drop(struct prelux_flight *f)
{
  struct prelux_ctl *x = f->arg;
  free(x->may);
  prelux_live_table_drop(x->table);
  free(x->msg);
  free(x);
}

static const struct prelux_verb *find_verb(const char *name)
{
  for (size_t i = 0; name && i < sizeof verbs / sizeof *verbs; i++)
    if (strcmp(verbs[i].name, name) == 0)
      return &verbs[i];
  return NULL;
}

/* False: more arguments than any verb takes. */
static bool take_args(struct prelux_ctl *x)
{
  size_t pos = 0, n;
  for (const char *arg; (arg = prelux_msg_next(x->msg, PRELUX_FIELD_ARG, &pos, &n));)
  {
    if (x->n_args == PRELUX_CTL_ARGS)
      return false;
    x->args[x->n_args++] = arg;
  }
  return true;
}

bool prelux_ctl_may(const struct prelux_ctl *x, uint32_t mapping)
{
  return !x->may || (x->may[mapping] & PRELUX_MAY_READ);
}

/* Of others it is known before the verb runs what they may: it outlives the connection. */
static int take_rights(struct prelux_ctl *x, const struct prelux_peer *peer, struct prelux_problem *why)
{
  if (!peer)
    return 0;
  if (!x->verb || !x->verb->others)
    return prelux_problem(why, EACCES, "only the daemon's own user, and root, may do that");
  x->may = calloc((x->table ? x->table->n_mappings : 0) + 1u, 1);
  for (uint32_t i = 0; x->may && x->table && i < x->table->n_mappings; i++)
    x->may[i] = (unsigned char)prelux_node_may(&x->table->mappings[i], peer);
  return x->may ? 0 : -ENOMEM;
}

/* 0, or the status of a request that is not run. */
static int check(const struct prelux_ctl *x, bool args_fit, struct prelux_problem *why)
{
  if (!x->verb)
    return prelux_problem(why, EINVAL, "no such verb");
  if (!args_fit || x->n_args < x->verb->min_args || x->n_args > x->verb->max_args)
    return prelux_problem(why, EINVAL, "%s: wrong number of arguments", x->verb->name);
  for (unsigned i = 0; x->verb->table && i < x->n_args; i++)
    if (x->args[i][0] == 0)
      return prelux_problem(why, EINVAL, "%s: empty path", x->verb->name);
  return x->verb->table && !x->table ? PRELUX_STATUS_NO_TABLE : 0;
}

void prelux_ctl(struct prelux_conn *c, struct prelux_live_table *table, const void *msg, size_t len)
{
  struct prelux_server *s = c->server;
  struct prelux_problem why = {0};
  struct prelux_answer failed;
  struct prelux_ctl *x = calloc(1, sizeof *x);
  struct prelux_flight *f = prelux_flight_new(NULL, 0);
  void *copy = malloc(len);
  if (!x || !f || !copy)
  {
    free(x);
    free(copy);
    prelux_flight_free(f);
    prelux_live_table_drop(table);
    prelux_answer_init(&failed);
    prelux_conn_answer(c, &failed, true);
    return;
  }
  memcpy(copy, msg, len);
  *x = (struct prelux_ctl){.d = prelux_server_daemon(s), .flight = f, .table = table, .msg = copy};
  x->verb = find_verb(prelux_msg_str(copy, PRELUX_FIELD_VERB));
  f->arg = x;
  f->job.lane = PRELUX_LANE_VERBS;
  f->work = ctl_work;
  f->drop = ctl_drop;
  int err = check(x, take_args(x), &why);
  if (err == 0)
    err = take_rights(x, c->peer, &why);
  bool gate = err == 0 && !x->verb->ends && (x->verb->crew || x->verb->on_loop) && prelux_gate_closed();
  if (gate || (err == 0 && x->verb->crew && c->peer))
  {
    launch_on_loop(c, f);
    return;
  }
  if (err == 0 && x->verb->crew)
  {
    prelux_server_launched(s, c, f);
    if (x->verb->run(x))
      prelux_server_land(s, f);
    return;
  }
  if (err == 0 && !x->verb->on_loop)
  {
    prelux_server_launch_in_turn(s, c, f, PRELUX_TURN_ONE);
    return;
  }
  if (err == 0)
    x->verb->run(x);
  else
    prelux_answer_fail(&f->answer, err, &why);
  prelux_conn_answer(c, &f->answer, true);
  prelux_flight_free(f);
}
