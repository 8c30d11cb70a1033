#include "daemon/request_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/lanes.h"
#include "daemon/report.h"
#include "daemon/request_name.h"
#include "daemon/server.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/base/process.h"

struct write_job {
  struct prelux_daemon *d;
  struct prelux_target target;
  uint16_t op; /* WRITE, CLOSED, SYNC, LEASE */
  int flags;
  uint32_t mode;
  uint64_t ino, once, handed; /* handed: the file that was opened, or 0 */
  uint64_t number;            /* of the request */
  int64_t lease;
  bool other;     /* somebody else than the daemon's own user asks (node.h) */
  bool closes;    /* CLOSED, of a file that he may speak of */
  int pid, pidfd; /* WRITE: who asks; -1: not known, or of no interest */
};

static void put_grant(struct prelux_answer *a, const struct prelux_grant *g)
{
  prelux_msg_put(&a->msg, PRELUX_FIELD_LEASE, &g->number, sizeof g->number);
  prelux_msg_put(&a->msg, PRELUX_FIELD_LEASE_FILES, g->files, g->n * sizeof g->files[0]);
}

/* Behind an open for writing: the asker may make the next ones without asking. */
static void offer_lease(const struct write_job *j, bool made, struct prelux_answer *a)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  const struct prelux_lease_ask ask = {.v = &m->view, .rules = &m->rules, .object = j->target.object, .flags = j->flags, .mode = j->mode, .made = made,
                                       .pid = j->pid, .pidfd = j->pidfd, .serial = j->number};
  struct prelux_grant g;
  if (prelux_store_lease(prelux_tree_store(m->view.tree), &ask, &g))
    put_grant(a, &g);
}

static int lease_it(struct write_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  struct prelux_grant g;
  int err = prelux_store_lease_more(&prelux_target_mapping(&j->target)->view, j->lease, j->number, &g);
  if (!prelux_answer_begin(a, err) || err < 0)
    return 0;
  put_grant(a, &g);
  return 0;
}

static int open_it(struct write_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  struct prelux_attr attr;
  if (j->other && (j->flags & O_TMPFILE) == O_TMPFILE) /* whose it is could not be told when it gets its name */
    return prelux_problem(why, EOPNOTSUPP, "files without a name are for the daemon's own user");
  prelux_conn_passed(); /* who has it from us may have closed it already, and is settled then */
  if (!prelux_answer_begin(a, 0)) /* first: what the open does, O_TRUNC, cannot be taken back */
    return prelux_problem(why, ENOMEM, "no memory");
  bool made = false;
  const struct prelux_asker by = {.once = j->once, .pidfd = j->pidfd, .ret_made = &made};
  int fd = -1, err = prelux_store_open_write(&m->view, &m->rules, j->target.object, j->flags, j->mode, &by, &attr, &fd, why);
  if (err < 0)
    return err;
  prelux_msg_put(&a->msg, PRELUX_FIELD_ATTR, &attr, sizeof attr);
  if (j->pid > 0 && !j->other) /* marks and leases are names in our folders, which others cannot make */
    prelux_msg_put_u32(&a->msg, PRELUX_FIELD_ASKER, (uint32_t)j->pid);
  if (!j->other)
    offer_lease(j, made, a);
  a->fd = fd;
  j->handed = attr.cache_ino;
  prelux_store_handing(prelux_tree_store(m->view.tree), j->handed, true);
  prelux_store_writer(prelux_tree_store(m->view.tree), j->handed, j->pid, j->pidfd);
  j->pidfd = -1;
  return 0;
}

/* Somebody else names a file by its number: 0, it is one of the mapping that he was admitted to; 1: nothing is to be done, the answer is made. */
static int look_at_number(const struct write_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  int err = j->other && j->ino ? prelux_target_number(&j->target, j->ino, why) : 0;
  if (err != -ENOENT)
    return err;
  prelux_answer_begin(a, 0);
  return 1;
}

static int close_it(struct write_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  struct prelux_store *store = prelux_tree_store(m->view.tree);
  prelux_conn_passed();
  int err = look_at_number(j, a, why);
  if (err != 0)
    return err < 0 ? err : 0;
  err = prelux_store_closed(store, &m->rules, j->ino, why);
  if (err == -EAGAIN)
    prelux_answer_begin(a, err);
  else if (err == 0)
    prelux_answer_begin(a, 0);
  if (err != -EAGAIN && m->rules.async) /* what cannot be made safe here is sent all the same */
    prelux_sender_kick(j->d, store);
  return err == -EAGAIN ? 0 : err;
}

static void settle_lefts(struct prelux_store *store, void *arg)
{
  prelux_conn_passed();
  prelux_store_lefts(store);
  if (prelux_store_owes(store))
    prelux_sender_kick(arg, store);
}

void prelux_lefts_settle(struct prelux_daemon *d)
{
  prelux_stores_each(d->stores, settle_lefts, d);
}

static int sync_it(struct write_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  settle_lefts(prelux_tree_store(m->view.tree), j->d);
  int err = look_at_number(j, a, why);
  if (err != 0)
    return err < 0 ? err : 0;
  struct prelux_write_rules rules = m->rules;
  rules.fsync_remote |= ((unsigned)j->flags & PRELUX_SYNC_REMOTE) != 0;
  err = prelux_store_sync(&m->view, &rules, j->ino, j->target.object, why);
  if (err == 0)
    prelux_answer_begin(a, 0);
  return err;
}

static const struct verb
{
  const char *call; /* for records */
  int (*run)(struct write_job *j, struct prelux_answer *a, struct prelux_problem *why);
} verbs[] = {
    [PRELUX_OP_WRITE] = {"open", open_it},
    [PRELUX_OP_CLOSED] = {"close", close_it},
    [PRELUX_OP_SYNC] = {"fsync", sync_it},
    [PRELUX_OP_LEASE] = {"open", lease_it},
};

struct spares_job {
  struct prelux_job job;
  struct prelux_store *store;
};

static void make_spares(struct prelux_job *job)
{
  prelux_store_make_spares(((struct spares_job *)job)->store);
}

static void spares_free(struct prelux_job *job)
{
  free(job);
}

/* Behind an open: the next ones find their files made. */
static void spares_kick(struct write_job *j)
{
  struct prelux_store *store = prelux_tree_store(prelux_target_mapping(&j->target)->view.tree);
  if (!prelux_store_wants_spares(store))
    return;
  struct spares_job *s = calloc(1, sizeof *s);
  if (s)
    *s = (struct spares_job){.job = {.run = make_spares, .after = spares_free, .lane = PRELUX_LANE_SENDER}, .store = store};
  if (s && prelux_pool_submit(j->d->pool, &s->job) == 0)
    return;
  free(s);
  prelux_store_make_spares(store);
}

static void work(struct prelux_flight *f)
{
  struct write_job *j = f->arg;
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  struct prelux_problem why = {0};
  j->number = f->number;
  if (j->op == PRELUX_OP_WRITE && prelux_conn_left(f->direct)) /* while it waited for its turn: he has told his program that it failed */
    return;
  prelux_origin_bind(m->instance);
  int err = verbs[j->op].run(j, &f->answer, &why);
  prelux_origin_bind(NULL);
  if (j->op != PRELUX_OP_SYNC)
    prelux_request_changed();
  if (err == 0 && (j->op == PRELUX_OP_WRITE || j->op == PRELUX_OP_LEASE))
    spares_kick(j);
  if (err == 0)
    return;
  if (err != -ESRCH) /* else there is nobody to tell */
    prelux_report(j->d, j->target.table, j->target.mapping, j->target.rel, verbs[j->op].call, err, &why);
  prelux_answer_fail(&f->answer, prelux_report_errno(err), &why);
}

/* Told apart from a writer that is killed: from when it is heard, not when its turn comes. */
static void closing(const struct write_job *j, bool begins)
{
  if (j->closes)
    prelux_store_closing(prelux_tree_store(prelux_target_mapping(&j->target)->view.tree), j->ino, begins);
}

static void job_free(struct write_job *j)
{
  if (j->pidfd >= 0)
    prelux_os.close(j->pidfd);
  prelux_target_release(&j->target);
  free(j);
}

/* Our copy goes first: the kernel tells of that close, too, and then the file is looked at again. */
static void end_handing(struct prelux_flight *f)
{
  const struct write_job *j = f->arg;
  if (!j->handed)
    return;
  if (f->answer.fd >= 0)
    prelux_os.close(f->answer.fd);
  f->answer.fd = -1;
  prelux_store_handing(prelux_tree_store(prelux_target_mapping(&j->target)->view.tree), j->handed, false);
}

static void drop(struct prelux_flight *f)
{
  closing(f->arg, false);
  end_handing(f);
  job_free(f->arg);
}

/* Takes the table. 0, or why not. */
static int make_job(struct prelux_conn *c, struct prelux_live_table *table, const void *msg, struct write_job **ret,
                    struct prelux_problem *why)
{
  const char *rel = prelux_msg_str(msg, PRELUX_FIELD_PATH);
  size_t pos = 0, len = 0;
  const void *ino = prelux_msg_next(msg, PRELUX_FIELD_INO, &pos, &len);
  size_t once_pos = 0, once_len = 0;
  const void *once = prelux_msg_next(msg, PRELUX_FIELD_ONCE, &once_pos, &once_len);
  uint16_t op = prelux_msg_op(msg);
  struct write_job *j = calloc(1, sizeof *j);
  if (j)
    j->pidfd = -1;
  int err = !j ? -ENOMEM : (ino ? len != sizeof j->ino : op == PRELUX_OP_CLOSED) ? -EINVAL : 0;
  if (err == 0)
    err = prelux_target_init(&j->target, table, prelux_msg_u32(msg, PRELUX_FIELD_MAPPING, UINT32_MAX), rel ? rel : "");
  if (err < 0)
  {
    prelux_live_table_drop(table);
    free(j);
    return err;
  }
  if (prelux_target_mapping(&j->target)->broken)
  {
    err = prelux_target_broken(&j->target, why);
    job_free(j);
    return err;
  }
  const struct prelux_write_rules *rules = &prelux_target_mapping(&j->target)->rules;
  j->d = prelux_server_daemon(c->server);
  j->pidfd = op == PRELUX_OP_WRITE && !rules->off ? prelux_process_peer(c->fd, &j->pid) : -1;
  if (j->pidfd == -ESRCH || j->pidfd == -EMFILE || j->pidfd == -ENFILE) /* killed since it has asked; or nobody would know when it is */
  {
    err = j->pidfd;
    job_free(j);
    return err;
  }
  j->op = op;
  j->other = c->peer != NULL;
  j->flags = (int)prelux_msg_u32(msg, PRELUX_FIELD_FLAGS, O_RDONLY);
  j->mode = prelux_msg_u32(msg, PRELUX_FIELD_MODE, 0600) & (j->other ? 0777 : 07777);
  if (once && once_len == sizeof j->once)
    memcpy(&j->once, once, sizeof j->once);
  size_t lease_pos = 0, lease_len = 0;
  const void *lease = prelux_msg_next(msg, PRELUX_FIELD_LEASE, &lease_pos, &lease_len);
  if (lease && lease_len == sizeof j->lease)
    memcpy(&j->lease, lease, sizeof j->lease);
  if (ino && op != PRELUX_OP_WRITE)
    memcpy(&j->ino, ino, sizeof j->ino);
  *ret = j;
  return 0;
}

void prelux_request_write(struct prelux_conn *c, struct prelux_live_table *table, const void *msg)
{
  struct prelux_problem why = {0};
  struct write_job *j = NULL;
  if (!table)
  {
    prelux_request_refuse(c, PRELUX_STATUS_NO_TABLE, NULL);
    return;
  }
  int err = make_job(c, table, msg, &j, &why);
  if (err == 0)
  {
    j->closes = j->op == PRELUX_OP_CLOSED && (!j->other || prelux_target_number(&j->target, j->ino, &(struct prelux_problem){0}) == 0);
    closing(j, true);
    err = prelux_request_once(c, &j->target, j, work, drop, j->op == PRELUX_OP_LEASE);
    if (err < 0)
    {
      closing(j, false);
      job_free(j);
    }
  }
  if (err < 0)
    prelux_request_refuse(c, err, &why);
}

/* ---- sending in the background ---- */

struct sender {
  struct prelux_job job;
  struct prelux_daemon *d;
  struct prelux_store *store;
};

/* The loop looks once a second whether a retry is due. */
static void note_due(struct prelux_daemon *d, int64_t at_ns)
{
  int64_t due = atomic_load(&d->send_due_ns);
  while (at_ns && (!due || at_ns < due) && !atomic_compare_exchange_weak(&d->send_due_ns, &due, at_ns))
    ;
}

static void send_all(struct prelux_job *job)
{
  struct sender *s = (struct sender *)job;
  prelux_store_linger(s->store);
  prelux_sender_kick(s->d, s->store); /* while all were waiting for a pause one was enough */
  note_due(s->d, prelux_store_send_all(s->store));
}

static void sender_free(struct prelux_job *job)
{
  if (job->dropped)
    prelux_store_no_sender(((struct sender *)job)->store);
  free(job);
}

void prelux_sender_kick(struct prelux_daemon *d, struct prelux_store *store)
{
  if (!prelux_store_wants_sender(store))
    return;
  struct sender *s = calloc(1, sizeof *s);
  if (s)
    *s = (struct sender){.job = {.run = send_all, .after = sender_free, .lane = PRELUX_LANE_SENDER}, .d = d, .store = store};
  if (s && prelux_pool_submit(d->pool, &s->job) == 0)
    return;
  free(s);
  prelux_store_no_sender(store); /* the next who asks, or housekeeping, gets one */
}
