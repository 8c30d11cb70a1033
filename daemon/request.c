#include "daemon/request.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/ctl.h"
#include "daemon/files.h"
#include "daemon/gate.h"
#include "daemon/lanes.h"
#include "daemon/measure.h"
#include "daemon/node.h"
#include "daemon/register.h"
#include "daemon/report.h"
#include "daemon/request_advise.h"
#include "daemon/request_name.h"
#include "daemon/request_stream.h"
#include "daemon/request_write.h"
#include "daemon/server.h"
#include "daemon/walks.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/map/match.h"

#define REL_MAX 4095
#define COMPONENT_MAX 255

static const char *const call_names[] = {[PRELUX_ASK_STAT] = "stat", [PRELUX_ASK_OPEN] = "open",
                                         [PRELUX_ASK_LIST] = "list"};

/* The answer is made already: sent at once. */
static void answer_now(struct prelux_conn *c, int status, const struct prelux_attr *attr,
                       const struct prelux_problem *why)
{
  struct prelux_answer a;
  prelux_answer_init(&a);
  if (prelux_answer_begin(&a, status) && attr)
    prelux_msg_put(&a.msg, PRELUX_FIELD_ATTR, attr, sizeof *attr);
  if (a.msg.buf && status < 0 && why && why->text[0])
    prelux_answer_text(&a, why->text);
  prelux_conn_answer(c, &a, true);
  prelux_answer_release(&a);
}

void prelux_request_refuse(struct prelux_conn *c, int status, const struct prelux_problem *why)
{
  struct prelux_answer a;
  prelux_answer_init(&a);
  prelux_answer_fail(&a, status, why);
  prelux_conn_answer(c, &a, true);
  prelux_answer_release(&a);
}

int prelux_request_once(struct prelux_conn *c, const struct prelux_target *t, void *job, void (*work)(struct prelux_flight *),
                        void (*drop)(struct prelux_flight *), bool keeps)
{
  struct prelux_flight *f = prelux_flight_new(NULL, 0);
  if (!f)
    return -ENOMEM;
  f->keeps = keeps;
  f->object = true;
  f->arg = job;
  f->work = work;
  f->drop = drop;
  f->job.lane = prelux_lane_of(prelux_instance_number(prelux_target_mapping(t)->instance));
  prelux_conn_direct(c, f);
  prelux_server_launch(c->server, c, f);
  return 0;
}

static int check_rel(const char *rel)
{
  size_t len = strlen(rel), n;
  if (len > REL_MAX)
    return -ENAMETOOLONG;
  for (const char *p = rel; len; p += n + 1)
  {
    n = strcspn(p, "/");
    if (n > COMPONENT_MAX)
      return -ENAMETOOLONG;
    if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
      return -EINVAL;
    if (p[n] == 0)
      break;
  }
  return 0;
}

int prelux_target_init(struct prelux_target *t, struct prelux_live_table *table, uint32_t mapping, const char *rel)
{
  if (mapping >= table->n_mappings)
    return -EINVAL;
  int err = check_rel(rel);
  if (err < 0)
    return err;
  const char *root = prelux_table_str(table->table, prelux_table_mappings(table->table)[mapping].object);
  char *object = prelux_join(root, rel);
  if (!object)
    return -ENOMEM;
  *t = (struct prelux_target){.table = table, .mapping = mapping, .object = object};
  t->rel = object + strlen(object) - strlen(rel);
  return 0;
}

void prelux_target_release(struct prelux_target *t)
{
  prelux_live_table_drop(t->table);
  free(t->object);
  *t = (struct prelux_target){0};
}

const struct prelux_live_mapping *prelux_target_mapping(const struct prelux_target *t)
{
  return &t->table->mappings[t->mapping];
}

static int broken(const struct prelux_live_mapping *m, struct prelux_problem *why)
{
  prelux_problem(why, EIO, "%s", m->cause ? m->cause : "the configuration is broken");
  if (m->advice)
    snprintf(why->advice, sizeof why->advice, "%s", m->advice);
  return -EIO;
}

int prelux_target_broken(const struct prelux_target *t, struct prelux_problem *why)
{
  bool heal = t->table->retry_ms && prelux_clock_ms() >= t->table->retry_ms; /* REGISTER opens it anew */
  return heal ? PRELUX_STATUS_NO_TABLE : broken(prelux_target_mapping(t), why);
}

/* A failure whose cause is our own cache folder must not pass for the remote's word ("no such file"). */
static int own_fault(struct prelux_daemon *d, const struct prelux_live_mapping *m, int err, struct prelux_problem *why)
{
  struct prelux_store *s = prelux_tree_store(m->view.tree);
  if (err != -EUCLEAN && !prelux_store_lost(s))
    return err;
  atomic_store(&d->lost, true);
  prelux_problem(why, EIO, "cache folder %s %s while it was in use", prelux_store_dir(s),
                 err == -EUCLEAN ? "was damaged" : "was removed");
  snprintf(why->advice, sizeof why->advice, "try again: preluxd starts anew");
  return -EIO;
}

static void count(const struct prelux_live_mapping *m, int what, int err, uint64_t began, uint64_t before, const struct prelux_came *came)
{
  bool there = err == 0 || err == -ENOENT || err == -ENOTDIR || err == -EINPROGRESS, asked = prelux_measure_asked() > before;
  prelux_measure_done(m->measure, what, !there ? PRELUX_MEASURE_ERROR : asked ? PRELUX_MEASURE_MISS : PRELUX_MEASURE_HIT, prelux_measure_now() - began);
  prelux_measure_remote(m->measure, before, atomic_load(&came->bytes));
}

static int ask(struct prelux_daemon *d, const struct prelux_target *t, int what, unsigned store_flags, struct prelux_early *early,
               struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  struct prelux_view view = m->view;
  int err;
  struct prelux_came came = {.also = t->came};
  uint64_t began = prelux_measure_now(), asked = prelux_measure_asked();
  view.early = early;
  view.came = &came;
  if (m->broken)
    err = broken(m, why);
  else
  {
    prelux_origin_bind(m->instance);
    if (what == PRELUX_ASK_STAT)
      err = prelux_store_stat(&m->view, t->object, store_flags, ret, why);
    else if (what == PRELUX_ASK_OPEN)
      err = prelux_store_open_object(&view, t->object, store_flags, ret, ret_fd, why);
    else
      err = prelux_store_list(&m->view, t->object, store_flags, ret, ret_fd, why);
    prelux_origin_bind(NULL);
    count(m, what, err, began, asked, &came);
    if (err == -EINPROGRESS && early && early->done)
      return err;
    if (err < 0 && err != -EAGAIN)
      err = own_fault(d, m, err, why);
  }
  if (err < 0)
  {
    prelux_report(d, t->table, t->mapping, t->rel, call_names[what], err, why);
    err = prelux_report_errno(err);
  }
  return err;
}

int prelux_target_ask(struct prelux_daemon *d, const struct prelux_target *t, int what, unsigned store_flags,
                      struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why)
{
  return ask(d, t, what, store_flags, NULL, ret, ret_fd, why);
}

int prelux_target_stream(struct prelux_daemon *d, const struct prelux_target *t, struct prelux_early *early, struct prelux_attr *ret,
                         struct prelux_problem *why)
{
  return ask(d, t, PRELUX_ASK_OPEN, 0, early, ret, NULL, why);
}

int prelux_target_parts(struct prelux_daemon *d, const struct prelux_target *t, uint64_t version, uint64_t from, uint64_t to,
                        struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  if (m->broken)
    return broken(m, why);
  struct prelux_came came = {0};
  struct prelux_view view = m->view;
  uint64_t asked = prelux_measure_asked();
  view.came = &came;
  prelux_origin_bind(m->instance);
  int err = prelux_store_parts(&view, t->object, version, from, to, why);
  prelux_origin_bind(NULL);
  prelux_measure_remote(m->measure, asked, atomic_load(&came.bytes));
  if (err == 0 || err == -EAGAIN)
    return err;
  err = own_fault(d, m, err, why);
  prelux_report(d, t->table, t->mapping, t->rel, "read", err, why);
  return prelux_report_errno(err);
}

/* STAT, OPEN, LIST under way. */
struct object_job {
  struct prelux_daemon *d;
  struct prelux_target target;
  int what;
  unsigned store_flags;
  bool want_fd;
};

static void object_work(struct prelux_flight *f)
{
  struct object_job *j = f->arg;
  struct prelux_problem why = {0};
  struct prelux_attr attr = {0};
  int fd = -1;
  if (j->what == PRELUX_ASK_OPEN)
    prelux_ahead_opened(j->d, &j->target);
  if (j->what == PRELUX_ASK_LIST)
    prelux_walks_listed(j->d, &j->target);
  int err = prelux_target_ask(j->d, &j->target, j->what, j->store_flags, &attr, j->want_fd ? &fd : NULL, &why);
  if (err < 0)
  {
    prelux_answer_fail(&f->answer, err, &why);
    return;
  }
  if (prelux_answer_begin(&f->answer, 0))
    prelux_msg_put(&f->answer.msg, PRELUX_FIELD_ATTR, &attr, sizeof attr);
  f->answer.fd = fd;
  f->answer.reopen = j->what == PRELUX_ASK_OPEN;
}

static void object_drop(struct prelux_flight *f)
{
  struct object_job *j = f->arg;
  prelux_target_release(&j->target);
  free(j);
}

static _Atomic uint32_t changes; /* made on this node */

void prelux_request_changed(void)
{
  atomic_fetch_add(&changes, 1);
}

struct object_key {
  uint64_t view;
  uint32_t instance;
  uint16_t what, want_fd;
  uint32_t flags;
  uint32_t change; /* see prelux_request_changed() */
};

/* Joins an equal request under way, or starts one. Takes the target. */
static void object_fly(struct prelux_conn *c, struct prelux_target *t, int what, uint32_t flags)
{
  struct prelux_server *s = c->server;
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  bool want_fd = what == PRELUX_ASK_LIST || (what == PRELUX_ASK_OPEN && (flags & PRELUX_F_WANT_FD));
  bool recheck = flags & PRELUX_F_RECHECK;
  struct object_key key = {.view = m->view.id,
                           .instance = prelux_instance_number(m->instance),
                           .what = (uint16_t)what,
                           .want_fd = want_fd,
                           .flags = recheck,
                           .change = atomic_load(&changes)};
  unsigned char bytes[sizeof key + REL_MAX * 3];
  size_t n = strlen(t->object);
  n = n < sizeof bytes - sizeof key ? n : 0; /* too long to join: no key */
  memcpy(bytes, &key, sizeof key);
  memcpy(bytes + sizeof key, t->object, n);
  size_t len = n || !t->object[0] ? sizeof key + n : 0;
  bool fresh = recheck || m->view.freshness == PRELUX_FRESH_ALWAYS;
  struct prelux_flight *f = len ? prelux_flights_find(prelux_server_flights(s), bytes, len, fresh) : NULL;
  if (f)
  {
    prelux_target_release(t);
    prelux_conn_wait(c, f);
    return;
  }
  struct object_job *j = calloc(1, sizeof *j);
  f = j ? prelux_flight_new(bytes, len) : NULL;
  if (!f)
  {
    free(j);
    prelux_target_release(t);
    answer_now(c, -ENOMEM, NULL, NULL);
    return;
  }
  *j = (struct object_job){.d = prelux_server_daemon(s),
                           .target = *t,
                           .what = what,
                           .store_flags = recheck ? PRELUX_STORE_RECHECK : 0,
                           .want_fd = want_fd};
  f->arg = j;
  f->looks = f->object = true;
  f->work = object_work;
  f->drop = object_drop;
  f->job.lane = prelux_lane_of(key.instance);
  prelux_server_launch_in_turn(s, c, f, PRELUX_TURN_ONE);
}

/* What memory and index know is answered here, on the loop. True: done. */
static bool object_fast(struct prelux_conn *c, const struct prelux_target *t, int what, uint32_t flags)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  struct prelux_problem why = {0};
  struct prelux_attr attr = {0};
  if (what == PRELUX_ASK_LIST || (flags & (PRELUX_F_RECHECK | PRELUX_F_WANT_FD)) || prelux_gate_closed())
    return false;
  int err = prelux_store_stat(&m->view, t->object, PRELUX_STORE_CACHED_ONLY, &attr, &why);
  if (err == -EAGAIN || (err < 0 && err != -ENOENT && err != -ENOTDIR))
    return false; /* the long way reports it */
  if (err == 0 && what == PRELUX_ASK_OPEN)
    if (m->view.freshness == PRELUX_FRESH_SKIP || !attr.cache_ino || (attr.type == PRELUX_FILE && !attr.cached))
      return false;
  if (err < 0)
    prelux_report(prelux_server_daemon(c->server), t->table, t->mapping, t->rel, call_names[what], err, &why);
  prelux_measure_done(m->measure, what, PRELUX_MEASURE_HIT, 0);
  answer_now(c, err, err < 0 ? NULL : &attr, &why);
  return true;
}

static struct prelux_live_table *table_of(struct prelux_conn *c, const void *msg)
{
  size_t pos = 0, len = 0;
  const void *hash = prelux_msg_next(msg, PRELUX_FIELD_TABLE, &pos, &len);
  return hash && len == 16 ? prelux_tables_get(prelux_server_daemon(c->server)->tables, hash) : NULL;
}

static void object_request(struct prelux_conn *c, const void *msg, int what)
{
  struct prelux_live_table *table = table_of(c, msg);
  const char *rel = prelux_msg_str(msg, PRELUX_FIELD_PATH);
  uint32_t flags = prelux_msg_u32(msg, PRELUX_FIELD_FLAGS, 0);
  struct prelux_problem why = {0};
  struct prelux_target t;
  if (!table)
  {
    answer_now(c, PRELUX_STATUS_NO_TABLE, NULL, NULL);
    return;
  }
  int err = prelux_target_init(&t, table, prelux_msg_u32(msg, PRELUX_FIELD_MAPPING, UINT32_MAX), rel ? rel : "");
  if (err < 0)
  {
    prelux_live_table_drop(table);
    answer_now(c, err, NULL, NULL);
    return;
  }
  const struct prelux_live_mapping *m = prelux_target_mapping(&t);
  if (m->broken)
  {
    err = prelux_target_broken(&t, &why);
    if (err != PRELUX_STATUS_NO_TABLE)
      prelux_report(prelux_server_daemon(c->server), table, t.mapping, t.rel, call_names[what], err, &why);
    answer_now(c, err, NULL, &why);
    prelux_target_release(&t);
  }
  else if (what == PRELUX_ASK_OPEN && (flags & PRELUX_F_STREAM) && !c->peer) /* the file that comes in has a name that others cannot open */
    prelux_request_stream(c, &t, msg);
  else if (object_fast(c, &t, what, flags))
    prelux_target_release(&t);
  else
    object_fly(c, &t, what, flags);
}

static void register_work(struct prelux_flight *f)
{
  prelux_register(f->arg, f->key, &f->answer);
}

/* Equal messages at the same time are one: a thousand processes of one job compile their configuration once. */
static void register_request(struct prelux_conn *c, void *msg, size_t len)
{
  struct prelux_server *s = c->server;
  ((struct prelux_msg_header *)msg)->serial = 0;
  struct prelux_flight *f = prelux_flights_find(prelux_server_flights(s), msg, len, true);
  if (f)
  {
    prelux_conn_wait(c, f);
    return;
  }
  f = prelux_flight_new(msg, len);
  if (!f)
  {
    answer_now(c, -ENOMEM, NULL, NULL);
    return;
  }
  f->arg = prelux_server_daemon(s);
  f->looks = true;
  f->work = register_work;
  f->job.lane = PRELUX_LANE_REGISTER;
  prelux_server_launch(s, c, f);
}

static void session_request(struct prelux_conn *c, const void *msg)
{
  struct prelux_live_table *table = table_of(c, msg);
  if (table)
    prelux_conn_session(c, table);
  else
    answer_now(c, PRELUX_STATUS_NO_TABLE, NULL, NULL);
}

/* True: refused, and answered. */
static bool refused(struct prelux_conn *c, const void *msg)
{
  struct prelux_problem why = {0};
  if (!c->peer)
    return false;
  struct prelux_live_table *table = table_of(c, msg);
  int err = prelux_node_admit(c, table, msg, &why);
  prelux_live_table_drop(table);
  if (err == 0)
    return false;
  prelux_debug("request refused: %s", why.text);
  prelux_request_refuse(c, err, &why);
  return true;
}

/* Who waited too long for us has told his program that it failed: a file that is cut, made or renamed behind his back later would be a surprise. */
static bool lapsed(const struct prelux_conn *c, const void *msg)
{
  uint16_t op = prelux_msg_op(msg);
  return (op == PRELUX_OP_WRITE || op == PRELUX_OP_NAME || op == PRELUX_OP_SETATTR) && prelux_conn_left(c->fd);
}

void prelux_request(struct prelux_conn *c, void *msg, size_t len)
{
  prelux_server_count(c->server);
  if (lapsed(c, msg))
  {
    prelux_conn_close(c);
    return;
  }
  if (refused(c, msg))
    return;
  switch (prelux_msg_op(msg))
  {
  case PRELUX_OP_REGISTER:
    register_request(c, msg, len);
    break;
  case PRELUX_OP_STAT:
    object_request(c, msg, PRELUX_ASK_STAT);
    break;
  case PRELUX_OP_OPEN:
    object_request(c, msg, PRELUX_ASK_OPEN);
    break;
  case PRELUX_OP_LIST:
    object_request(c, msg, PRELUX_ASK_LIST);
    break;
  case PRELUX_OP_WRITE:
  case PRELUX_OP_CLOSED:
  case PRELUX_OP_SYNC:
  case PRELUX_OP_LEASE:
    prelux_request_write(c, table_of(c, msg), msg);
    break;
  case PRELUX_OP_NAME:
  case PRELUX_OP_SETATTR:
  case PRELUX_OP_READLINK:
  case PRELUX_OP_WHOSE:
    prelux_request_name(c, table_of(c, msg), msg);
    break;
  case PRELUX_OP_PARTS:
    prelux_request_parts(c, table_of(c, msg), msg);
    break;
  case PRELUX_OP_ADVISE:
    prelux_request_advise(c, table_of(c, msg), msg);
    break;
  case PRELUX_OP_SESSION:
    session_request(c, msg);
    break;
  case PRELUX_OP_CTL:
    prelux_ctl(c, table_of(c, msg), msg, len);
    break;
  default:
    answer_now(c, -EOPNOTSUPP, NULL, NULL);
  }
}
