/* The pool thread that fills the file answers over its own descriptor of the connection, when there is a first byte to wait for, and goes on;
 * what it comes to afterwards is told by the file's front page. Nobody joins such a flight: the store has one flow for all who want the file. */
#include "daemon/request_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ahead.h"
#include "daemon/server.h"
#include "include/prelux/table.h"
#include "lib/map/match.h"

struct stream_job {
  struct prelux_target target;
  struct prelux_early early;
};

static void put_answer(struct prelux_answer *a, const struct prelux_attr *attr, uint64_t version, const char *path)
{
  if (!(path ? prelux_answer_begin_large(a, 0) : prelux_answer_begin(a, 0)))
    return;
  prelux_msg_put(&a->msg, PRELUX_FIELD_ATTR, attr, sizeof *attr);
  prelux_msg_put(&a->msg, PRELUX_FIELD_VERSION, &version, sizeof version);
  if (path)
    prelux_msg_put_str(&a->msg, PRELUX_FIELD_STREAM, path);
}

static void ready(struct prelux_early *e)
{
  struct prelux_flight *f = e->arg;
  put_answer(&f->answer, &e->attr, e->version, e->path);
  f->answer.fd = e->fd;
  prelux_conn_answer_direct(f);
}

static void work(struct prelux_flight *f)
{
  struct stream_job *j = f->arg;
  struct prelux_daemon *d = prelux_server_daemon(f->home);
  struct prelux_problem why = {0};
  struct prelux_attr attr = {0};
  j->early.arg = f;
  prelux_ahead_opened(d, &j->target);
  int err = prelux_target_stream(d, &j->target, &j->early, &attr, &why);
  if (j->early.done)
    return;
  if (err < 0)
    prelux_answer_fail(&f->answer, err, &why);
  else
    put_answer(&f->answer, &attr, j->early.version, NULL);
}

static void drop(struct prelux_flight *f)
{
  struct stream_job *j = f->arg;
  prelux_target_release(&j->target);
  free(j);
}

static bool read_u64s(const void *msg, enum prelux_field field, uint64_t *ret, unsigned n)
{
  size_t pos = 0, len = 0;
  const void *value = prelux_msg_next(msg, field, &pos, &len);
  if (!value || len != n * sizeof *ret)
    return false;
  memcpy(ret, value, len);
  return true;
}

void prelux_request_stream(struct prelux_conn *c, struct prelux_target *t, const void *msg)
{
  uint64_t range[2] = {0};
  struct stream_job *j = calloc(1, sizeof *j);
  uint64_t above = prelux_table_mappings(t->table->table)[t->mapping].stream_above;
  int rc = -ENOMEM;
  if (j)
  {
    *j = (struct stream_job){.target = *t, .early = {.above = above ? above : UINT64_MAX, .ready = ready, .fd = -1}};
    if (read_u64s(msg, PRELUX_FIELD_RANGE, range, 2))
      j->early.need = range[1];
    rc = prelux_request_once(c, t, j, work, drop, false);
  }
  if (rc == 0)
    return;
  free(j);
  prelux_target_release(t);
  prelux_request_refuse(c, rc, NULL);
}

/* ---- parts ---- */

struct parts_job {
  struct prelux_target target;
  uint64_t version, range[2];
};

static void parts_work(struct prelux_flight *f)
{
  const struct parts_job *j = f->arg;
  struct prelux_problem why = {0};
  int err = prelux_target_parts(prelux_server_daemon(f->home), &j->target, j->version, j->range[0], j->range[1], &why);
  if (err < 0)
    prelux_answer_fail(&f->answer, err, &why);
  else
    prelux_answer_begin(&f->answer, 0);
}

static void parts_drop(struct prelux_flight *f)
{
  struct parts_job *j = f->arg;
  prelux_target_release(&j->target);
  free(j);
}

void prelux_request_parts(struct prelux_conn *c, struct prelux_live_table *table, const void *msg)
{
  const char *rel = prelux_msg_str(msg, PRELUX_FIELD_PATH);
  struct parts_job *j = table ? calloc(1, sizeof *j) : NULL;
  int err = !table ? PRELUX_STATUS_NO_TABLE
            : !j   ? -ENOMEM
                   : prelux_target_init(&j->target, table, prelux_msg_u32(msg, PRELUX_FIELD_MAPPING, UINT32_MAX), rel ? rel : "");
  if (err < 0 && table)
    prelux_live_table_drop(table);
  bool held = err == 0;
  if (held && !(read_u64s(msg, PRELUX_FIELD_VERSION, &j->version, 1) && read_u64s(msg, PRELUX_FIELD_RANGE, j->range, 2)))
    err = -EINVAL;
  if (err == 0)
    err = prelux_request_once(c, &j->target, j, parts_work, parts_drop, false);
  if (err == 0)
    return;
  if (held)
    prelux_target_release(&j->target);
  free(j);
  prelux_request_refuse(c, err, NULL);
}
