#include "daemon/request_name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/node.h"
#include "daemon/report.h"
#include "daemon/request_write.h"
#include "daemon/server.h"
#include "lib/map/match.h"

struct name_job {
  struct prelux_daemon *d;
  struct prelux_target target;
  uint16_t op;
  uint32_t verb, flags, mode, to_mapping;
  char *to;   /* object path, or NULL */
  char *text; /* target of a link, or NULL */
  bool has_ino;
  bool other; /* somebody else than the daemon's own user asks (node.h) */
  uint64_t ino;
  struct prelux_setattr set;
};

static const char *const verb_names[] = {
    [PRELUX_NAME_UNLINK] = "unlink", [PRELUX_NAME_RMDIR] = "rmdir", [PRELUX_NAME_MKDIR] = "mkdir",
    [PRELUX_NAME_RENAME] = "rename", [PRELUX_NAME_LINK] = "link",   [PRELUX_NAME_SYMLINK] = "symlink",
};

static const char *call_name(const struct name_job *j)
{
  if (j->op != PRELUX_OP_NAME)
    return j->op == PRELUX_OP_SETATTR ? "setattr" : j->op == PRELUX_OP_READLINK ? "readlink" : "whose";
  return j->verb < sizeof verb_names / sizeof *verb_names && verb_names[j->verb] ? verb_names[j->verb] : "name";
}

static int rename_it(const struct name_job *j, const struct prelux_live_mapping *m, struct prelux_problem *why)
{
  const struct prelux_live_mapping *to = &j->target.table->mappings[j->to_mapping];
  if (!j->to)
    return -EINVAL;
  if (to->broken)
    return prelux_problem(why, EIO, "%s", to->cause ? to->cause : "the configuration is broken");
  if (to->view.tree != m->view.tree)
    return prelux_problem(why, EXDEV, "%.200s: another remote, or another part of it", j->to);
  if (to->rules.off)
    return prelux_problem(why, EROFS, "the mapping is read-only: its configuration does not say write: sync or async");
  struct prelux_write_rules rules = m->rules;
  rules.async = rules.async && to->rules.async; /* `sync` means that the remote has it, whichever of both says so */
  rules.power = rules.power || to->rules.power;
  return prelux_store_rename(&m->view, &rules, j->target.object, j->to, j->flags, why);
}

static int change_name(const struct name_job *j, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  switch (j->verb)
  {
  case PRELUX_NAME_UNLINK:
    return prelux_store_unlink(&m->view, &m->rules, j->target.object, why);
  case PRELUX_NAME_RMDIR:
    return prelux_store_rmdir(&m->view, &m->rules, j->target.object, why);
  case PRELUX_NAME_MKDIR:
    return prelux_store_mkdir(&m->view, &m->rules, j->target.object, j->mode, why);
  case PRELUX_NAME_RENAME:
    return rename_it(j, m, why);
  case PRELUX_NAME_LINK:
    if (j->other) /* the number of somebody's file without a name would be all that it takes */
      return prelux_problem(why, EPERM, "files without a name are for the daemon's own user");
    return j->has_ino ? prelux_store_link(&m->view, &m->rules, j->ino, j->target.object, why) : -EINVAL;
  case PRELUX_NAME_SYMLINK:
    return j->text ? prelux_store_symlink(&m->view, &m->rules, j->target.object, j->text, why) : -EINVAL;
  default:
    return prelux_problem(why, EOPNOTSUPP, "this preluxd does not know the verb %u", j->verb);
  }
}

/* ---- attributes ---- */

static int set_attributes(const struct name_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  struct prelux_attr attr = {0};
  int err = j->other && j->has_ino ? prelux_target_number(&j->target, j->ino, why) : 0;
  if (err < 0)
    return err;
  err = j->has_ino ? prelux_store_setattr_ino(&m->view, &m->rules, j->ino, &j->set, &attr, why)
                       : prelux_store_setattr(&m->view, &m->rules, j->target.object, &j->set, &attr, why);
  if (err == 0 && prelux_answer_begin(a, 0))
    prelux_msg_put(&a->msg, PRELUX_FIELD_ATTR, &attr, sizeof attr);
  return err;
}

/* ---- links ---- */

static int read_link(const struct name_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
  char *text;
  int err = prelux_store_readlink(&m->view, j->target.object, &text, why);
  if (err < 0)
    return err;
  if (prelux_answer_begin_large(a, 0))
    prelux_msg_put_str(&a->msg, PRELUX_FIELD_TEXT, text);
  free(text);
  return 0;
}

/* ---- whose a staging file is ---- */

/* What is below the mapping's root, when the object is of its tree and there; else NULL. */
static const char *rest_of(const struct prelux_live_table *t, uint32_t mapping, const struct prelux_tree *tree, const char *object)
{
  const struct prelux_live_mapping *m = &t->mappings[mapping];
  const char *root = prelux_table_str(t->table, prelux_table_mappings(t->table)[mapping].object);
  size_t len = strlen(root);
  if (m->broken || m->view.tree != tree || strncmp(object, root, len) != 0)
    return NULL;
  return len == 0 ? object : object[len] == '/' ? object + len + 1 : object[len] == 0 ? "" : NULL;
}

int prelux_target_number(const struct prelux_target *t, uint64_t ino, struct prelux_problem *why)
{
  struct prelux_attr attr;
  struct prelux_tree *tree;
  char *object;
  int err = prelux_store_whose(&prelux_target_mapping(t)->view, ino, &attr, &tree, &object);
  if (err < 0)
    return err;
  const char *rest = object ? rest_of(t->table, t->mapping, tree, object) : NULL;
  if (!rest || prelux_node_hides(t->table, t->mapping, rest))
    err = object ? prelux_problem(why, EACCES, "that file is of another mapping") : -ENOENT;
  free(object);
  return err;
}

static int whose(const struct name_job *j, struct prelux_answer *a)
{
  const struct prelux_live_table *t = j->target.table;
  struct prelux_attr attr;
  struct prelux_tree *tree;
  char *object;
  prelux_conn_passed(); /* exec asks when it is told that somebody writes: it must not be us */
  int err = j->other ? prelux_target_number(&j->target, j->ino, &(struct prelux_problem){0}) : 0;
  if (err < 0)
    return -ENOENT; /* others are not told that there is one */
  err = prelux_store_whose(&prelux_target_mapping(&j->target)->view, j->ino, &attr, &tree, &object);
  if (err < 0)
    return err;
  uint32_t mapping = j->target.mapping, n = 0;
  const char *rest = object ? rest_of(t, mapping, tree, object) : NULL;
  for (; object && !rest && !j->other && n < t->n_mappings; n++)
    if ((rest = rest_of(t, n, tree, object)))
      mapping = n;
  if (prelux_answer_begin_large(a, 0))
  {
    prelux_msg_put(&a->msg, PRELUX_FIELD_ATTR, &attr, sizeof attr);
    if (rest)
    {
      prelux_msg_put_u32(&a->msg, PRELUX_FIELD_MAPPING, mapping);
      prelux_msg_put_str(&a->msg, PRELUX_FIELD_PATH, rest);
    }
  }
  free(object);
  return 0;
}

/* ---- the job ---- */

/* What a file system says every day is nothing to keep a record of. That an owner has no name here it does not. */
static bool everyday(const struct name_job *j, int err)
{
  return err == -EXDEV || err == -ENOTEMPTY || (err == -EINVAL && j->op != PRELUX_OP_SETATTR) || err == -EROFS || err == -EBUSY || err == -ELOOP;
}

static int do_it(const struct name_job *j, struct prelux_answer *a, struct prelux_problem *why)
{
  switch (j->op)
  {
  case PRELUX_OP_SETATTR:
    return set_attributes(j, a, why);
  case PRELUX_OP_READLINK:
    return read_link(j, a, why);
  case PRELUX_OP_WHOSE:
    return j->has_ino ? whose(j, a) : -EINVAL;
  default:
  {
    const struct prelux_live_mapping *m = prelux_target_mapping(&j->target);
    int err = change_name(j, why);
    if (err == 0)
      prelux_answer_begin(a, 0);
    if (err == 0 && m->rules.async)
      prelux_sender_kick(j->d, prelux_tree_store(m->view.tree));
    return err;
  }
  }
}

static void work(struct prelux_flight *f)
{
  struct name_job *j = f->arg;
  struct prelux_problem why = {0};
  if ((j->op == PRELUX_OP_NAME || j->op == PRELUX_OP_SETATTR) && prelux_conn_left(f->direct)) /* as in request_write.c */
    return;
  prelux_origin_bind(prelux_target_mapping(&j->target)->instance);
  int err = do_it(j, &f->answer, &why);
  prelux_origin_bind(NULL);
  prelux_request_changed();
  if (err == 0)
    return;
  if (!everyday(j, err))
    prelux_report(j->d, j->target.table, j->target.mapping, j->target.rel, call_name(j), err, &why);
  prelux_answer_fail(&f->answer, prelux_report_errno(err), &why);
}

static void job_free(struct name_job *j)
{
  prelux_target_release(&j->target);
  free(j->to);
  free(j->text);
  free(j);
}

static void drop(struct prelux_flight *f)
{
  job_free(f->arg);
}

static bool read_fixed(const void *msg, enum prelux_field field, void *ret, size_t size)
{
  size_t pos = 0, len = 0;
  const void *value = prelux_msg_next(msg, field, &pos, &len);
  if (!value || len != size)
    return false;
  memcpy(ret, value, size);
  return true;
}

/* What follows the target in the message. */
static int read_rest(struct name_job *j, const void *msg, struct prelux_problem *why)
{
  const char *text = prelux_msg_str(msg, PRELUX_FIELD_TEXT);
  const char *to = prelux_msg_str(msg, PRELUX_FIELD_TO);
  struct prelux_target second;
  j->op = (uint16_t)prelux_msg_op(msg);
  j->verb = prelux_msg_u32(msg, PRELUX_FIELD_VERB32, 0);
  j->flags = prelux_msg_u32(msg, PRELUX_FIELD_FLAGS, 0);
  j->mode = prelux_msg_u32(msg, PRELUX_FIELD_MODE, 0777);
  j->to_mapping = prelux_msg_u32(msg, PRELUX_FIELD_TO_MAPPING, 0);
  if (j->other)
    j->mode &= 0777;
  j->has_ino = read_fixed(msg, PRELUX_FIELD_INO, &j->ino, sizeof j->ino);
  if (j->op == PRELUX_OP_SETATTR && !read_fixed(msg, PRELUX_FIELD_SET, &j->set, sizeof j->set))
    return -EINVAL;
  /* The remote may be a folder of this machine, and the daemon root. */
  if (j->op == PRELUX_OP_SETATTR && j->other && ((j->set.which & (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID)) || (j->set.mode & 06000)))
    return prelux_problem(why, EPERM, "owners, setuid and setgid are for the daemon's own user to give");
  if (j->op == PRELUX_OP_NAME && text && !(j->text = strdup(text)))
    return -ENOMEM;
  if (j->op != PRELUX_OP_NAME || j->verb != PRELUX_NAME_RENAME)
    return 0;
  int err = to ? prelux_target_init(&second, j->target.table, j->to_mapping, to) : -EINVAL;
  if (err == 0)
    j->to = second.object; /* the first target holds the table */
  return err;
}

/* Takes the table. 0, or why not. */
static int make_job(struct prelux_conn *c, struct prelux_live_table *table, const void *msg, struct name_job **ret, struct prelux_problem *why)
{
  const char *rel = prelux_msg_str(msg, PRELUX_FIELD_PATH);
  struct name_job *j = calloc(1, sizeof *j);
  int err = j ? prelux_target_init(&j->target, table, prelux_msg_u32(msg, PRELUX_FIELD_MAPPING, UINT32_MAX), rel ? rel : "") : -ENOMEM;
  if (err < 0)
  {
    prelux_live_table_drop(table);
    free(j);
    return err;
  }
  j->other = c->peer != NULL;
  err = read_rest(j, msg, why);
  if (err == 0 && prelux_target_mapping(&j->target)->broken)
    err = prelux_target_broken(&j->target, why);
  if (err < 0)
  {
    job_free(j);
    return err;
  }
  j->d = prelux_server_daemon(c->server);
  *ret = j;
  return 0;
}

void prelux_request_name(struct prelux_conn *c, struct prelux_live_table *table, const void *msg)
{
  struct prelux_problem why = {0};
  struct name_job *j = NULL;
  if (!table)
  {
    prelux_request_refuse(c, PRELUX_STATUS_NO_TABLE, NULL);
    return;
  }
  int err = make_job(c, table, msg, &j, &why);
  if (err == 0 && (err = prelux_request_once(c, &j->target, j, work, drop, false)) < 0)
    job_free(j);
  if (err < 0)
    prelux_request_refuse(c, err, &why);
}
