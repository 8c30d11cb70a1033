#include "daemon/node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/register.h"
#include "lib/backend/beneath.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/base/path.h"
#include "lib/index/writer.h"
#include "lib/map/match.h"
#include "lib/store/share.h"

#define NAME "table"
#define FRESH "table.new"

int prelux_node_runtime(const char *path)
{
  struct stat st;
  if (prelux_os.mkdir(path, 0700) < 0 && errno != EEXIST)
    return -errno;
  int fd = prelux_os.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int ret = prelux_os.fstat(fd, &st) < 0 ? -errno : 0;
  if (ret == 0 && (st.st_uid != geteuid() || (st.st_mode & 022)))
    ret = -EACCES;
  if (ret == 0 && prelux_os.fchmod(fd, 0711) < 0)
    ret = -errno;
  int place = ret == 0 ? prelux_os.openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
  if (ret == 0 && place < 0)
    ret = -errno;
  prelux_os.close(fd);
  return ret < 0 ? ret : place;
}

/* ---- the configuration ---- */

static int check_file(const char *path, struct prelux_problem *why)
{
  struct stat st;
  if (prelux_os.stat(path, &st) < 0)
    return prelux_problem(why, errno, "%s: %s", path, strerror(errno));
  if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & 022))
    return prelux_problem(why, EACCES, "%s: others may write to it: it must be root's or the daemon's own user's, without g+w and o+w", path);
  return 0;
}

static int own_environment(struct prelux_sent_env *ret)
{
  size_t n = 0;
  while (environ[n])
    n++;
  *ret = (struct prelux_sent_env){.set = calloc(n + 1, sizeof(char *)), .unset = calloc(1, sizeof(char *))};
  for (size_t i = 0; ret->set && i < n; i++)
    if (!(ret->set[ret->n_set++] = strdup(environ[i])))
      return -ENOMEM;
  return ret->set && ret->unset ? 0 : -ENOMEM;
}

/* Programs of others read the table by this name: nothing else in RUNTIME can be read by them but what the rules open. */
static int show_table(const struct prelux_daemon *d, const struct prelux_live_table *t, struct prelux_problem *why)
{
  int err = prelux_files_write(d->runtime, FRESH, t->table, t->table->bytes);
  if (err == 0 && (prelux_os.fchmodat(d->runtime_fd, FRESH, 0644, 0) < 0 || prelux_os.renameat(d->runtime_fd, FRESH, d->runtime_fd, NAME) < 0))
    err = -errno;
  return err < 0 ? prelux_problem(why, -err, "%s: %s", d->node->table, strerror(-err)) : 0;
}

static int load(struct prelux_daemon *d, struct prelux_problem *why)
{
  struct prelux_answer a;
  size_t pos = 0, len = 0, at = 0, bytes = 0;
  prelux_answer_init(&a);
  prelux_register_node(d, &a);
  int err = a.msg.buf && !a.msg.overflow ? (int)prelux_msg_u32(a.msg.buf, PRELUX_FIELD_STATUS, 0) : -ENOMEM;
  const void *hash = a.msg.buf ? prelux_msg_next(a.msg.buf, PRELUX_FIELD_TABLE, &pos, &len) : NULL;
  const char *text = NULL, *last;
  while (a.msg.buf && (last = prelux_msg_next(a.msg.buf, PRELUX_FIELD_TEXT, &at, &bytes)))
    text = last;
  if (err < 0)
    prelux_problem(why, -err, "%s", text && *text ? text : strerror(-err));
  else if (!hash || len != sizeof d->node->hash)
    err = prelux_problem(why, EIO, "%s made no table", d->node->source);
  if (err == 0)
    memcpy(d->node->hash, hash, len);
  prelux_answer_release(&a);
  struct prelux_live_table *t = err == 0 ? prelux_tables_get(d->tables, d->node->hash) : NULL;
  if (t)
    err = show_table(d, t, why);
  prelux_live_table_drop(t);
  return err;
}

int prelux_node_begin(struct prelux_daemon *d, const char *file, struct prelux_problem *why)
{
  struct prelux_node *n = calloc(1, sizeof *n);
  int err = prelux_peer_is_unknown(geteuid()) ? prelux_problem(why, EPERM, "a daemon of a node cannot be user %u: many may look like that one", (unsigned)geteuid())
                                              : check_file(file, why);
  if (!n)
    return prelux_problem(why, ENOMEM, "no memory");
  prelux_beneath_distrust();
  d->node = n;
  if (err == 0 && (!(n->source = strdup(file)) || !(n->table = prelux_join(d->runtime, NAME)) || own_environment(&n->env) < 0))
    err = prelux_problem(why, ENOMEM, "no memory");
  return err < 0 ? err : load(d, why);
}

void prelux_node_end(struct prelux_daemon *d)
{
  if (!d->node)
    return;
  free(d->node->source);
  free(d->node->table);
  prelux_sent_env_release(&d->node->env);
  free(d->node);
  d->node = NULL;
}

int prelux_node_names(const struct prelux_node *n, const char *config, const char *cwd, const void *table, struct prelux_problem *why)
{
  char path[PATH_MAX], hex[33];
  bool named = table && memcmp(table, n->hash, sizeof n->hash) == 0;
  if (!table && config && prelux_path_join(path, sizeof path, cwd, config) > 0)
  {
    const char *base = strrchr(path, '/') + 1;
    prelux_hex(n->hash, hex);
    named = strcmp(path, n->source) == 0 || strcmp(path, n->table) == 0 || strcmp(base, hex) == 0;
  }
  if (named)
    return 0;
  if (table)
    return prelux_problem(why, EPERM, "this daemon serves one configuration, and it is another one now: start the program anew");
  return prelux_problem(why, EPERM, "this daemon serves several users by one configuration: set PRELUX_CONFIG=%s", n->table);
}

/* ---- who may what ---- */

static int add_all(const struct prelux_conf_mapping *m, const char *key, struct prelux_who *w, struct prelux_problem *why)
{
  int err = 0;
  for (size_t i = 0; i < m->n_values; i++)
    for (size_t k = 0; strcmp(m->values[i].key->name, key) == 0 && err == 0 && k < m->values[i].n_items; k++)
      err = prelux_who_add(w, m->values[i].items[k], why);
  return err;
}

int prelux_node_rules(const struct prelux_conf_mapping *m, struct prelux_live_mapping *ret, struct prelux_problem *why)
{
  int err = add_all(m, "writers", &ret->writers, why);
  if (err == 0)
    err = add_all(m, "writers", &ret->readers, why); /* who writes a file can read what he wrote */
  if (err == 0)
    err = add_all(m, "readers", &ret->readers, why);
  prelux_who_sort(&ret->readers);
  return err;
}

/* All mappings (of that tree; NULL: of the node) have i's readers. A broken one may have others than are known. */
static bool of_one_mind(const struct prelux_live_mapping *list, unsigned n, unsigned i, const struct prelux_tree *tree)
{
  for (unsigned k = 0; k < n; k++)
    if ((!tree || list[k].view.tree == tree) && (list[k].broken || !prelux_who_equal(&list[k].readers, &list[i].readers)))
      return false;
  return true;
}

/* One of them shows all that may lie in the tree, also what an earlier configuration has fetched. */
static bool shows_all(const struct prelux_live_mapping *list, unsigned n, const struct prelux_tree *tree)
{
  unsigned k = 0;
  while (k < n && (list[k].view.tree != tree || list[k].root[0]))
    k++;
  return k < n;
}

static void share(const struct prelux_live_mapping *list, unsigned n, unsigned i)
{
  struct prelux_allowed readers = prelux_who_allowed(&list[i].readers);
  const struct prelux_tree *tree = list[i].view.tree;
  int err = prelux_share_tree(list[i].view.tree, of_one_mind(list, n, i, tree) && shows_all(list, n, tree) ? &readers : NULL);
  if (err < 0 && err != -ENOTSUP)
    prelux_warn("%s: its cache is not opened to others, who are given each file by the daemon: %s", prelux_tree_root(list[i].view.tree), strerror(-err));
}

void prelux_node_share(struct prelux_index_writer *index, const struct prelux_live_mapping *list, unsigned n)
{
  struct prelux_allowed all = n ? prelux_who_allowed(&list[0].readers) : (struct prelux_allowed){0};
  int err = prelux_index_allow(index, n && of_one_mind(list, n, 0, NULL) ? &all : NULL);
  if (err < 0)
    prelux_warn("the index is not opened to others, who ask the daemon for each file: %s", strerror(-err));
  for (unsigned i = 0; i < n; i++)
  {
    unsigned first = 0;
    while (list[first].view.tree != list[i].view.tree)
      first++;
    if (first == i && list[i].view.tree)
      share(list, n, i);
  }
}

unsigned prelux_node_may(const struct prelux_live_mapping *m, const struct prelux_peer *peer)
{
  if (!peer)
    return PRELUX_MAY_READ | PRELUX_MAY_WRITE;
  return (prelux_who_has(&m->readers, peer) ? PRELUX_MAY_READ : 0u) | (prelux_who_has(&m->writers, peer) ? PRELUX_MAY_WRITE : 0u);
}

/* What a request needs of its mapping; 0: it is decided elsewhere, for each verb. */
static unsigned needs(const void *msg)
{
  enum { NOBODY = 4 };
  switch (prelux_msg_op(msg))
  {
  case PRELUX_OP_REGISTER:
  case PRELUX_OP_SESSION:
  case PRELUX_OP_CTL:
    return 0;
  case PRELUX_OP_STAT:
  case PRELUX_OP_OPEN:
  case PRELUX_OP_LIST:
  case PRELUX_OP_READLINK:
  case PRELUX_OP_WHOSE:
    return PRELUX_MAY_READ;
  case PRELUX_OP_ADVISE: /* to let go of a file is to take it from others */
    return prelux_msg_u32(msg, PRELUX_FIELD_FLAGS, 0) == POSIX_FADV_WILLNEED ? PRELUX_MAY_READ : PRELUX_MAY_WRITE;
  case PRELUX_OP_WRITE:
  case PRELUX_OP_CLOSED:
  case PRELUX_OP_SYNC:
  case PRELUX_OP_NAME:
  case PRELUX_OP_SETATTR:
    return PRELUX_MAY_WRITE;
  default: /* PARTS and LEASE are of what is the daemon's own user's alone */
    return NOBODY;
  }
}

/* Where the prefix of mapping i lies in that of another one; NULL: not in it. */
static const char *inner_of(const struct prelux_live_table *t, uint32_t mapping, uint32_t i)
{
  const struct prelux_table_mapping *tm = prelux_table_mappings(t->table);
  const char *rel;
  return prelux_path_below(prelux_table_str(t->table, tm[i].local), prelux_table_str(t->table, tm[mapping].local), &rel) && rel[0] ? rel : NULL;
}

bool prelux_node_hides(const struct prelux_live_table *t, uint32_t mapping, const char *rel)
{
  const char *inner = NULL;
  for (uint32_t i = 0; i < t->n_mappings && !(inner && prelux_path_below(rel, inner, NULL)); i++)
    inner = inner_of(t, mapping, i);
  return inner && prelux_path_below(rel, inner, NULL);
}

static int check(const struct prelux_conn *c, const struct prelux_live_table *t, uint32_t mapping, unsigned need, struct prelux_problem *why)
{
  if (mapping >= t->n_mappings)
    return -EINVAL;
  if ((prelux_node_may(&t->mappings[mapping], c->peer) & need) == need)
    return 0;
  return prelux_problem(why, EACCES, "user %u is not among the %s of %s", (unsigned)c->peer->uid, need & PRELUX_MAY_READ ? "readers" : "writers",
                        prelux_table_str(t->table, prelux_table_mappings(t->table)[mapping].local));
}

/* Prefixes may lie in one another, and one remote in another: the name `rel` of a mapping that lies at or below the prefix of an inner one, which no
 * program of ours asks for, needs what that one says, too; so does a change of what lies above it, `whole`. */
static int check_inner(const struct prelux_conn *c, const struct prelux_live_table *t, uint32_t mapping, const char *rel, bool whole, unsigned need,
                       struct prelux_problem *why)
{
  int err = 0;
  for (uint32_t i = 0; err == 0 && i < t->n_mappings; i++)
  {
    const char *inner = inner_of(t, mapping, i);
    if (inner && (prelux_path_below(rel, inner, NULL) || (whole && prelux_path_below(inner, rel, NULL))))
      err = check(c, t, i, need, why);
  }
  return err;
}

/* One mapping, and the name in it. */
static int check_name(const struct prelux_conn *c, const struct prelux_live_table *t, const void *msg, enum prelux_field mapping, enum prelux_field name,
                      unsigned need, struct prelux_problem *why)
{
  uint32_t which = prelux_msg_u32(msg, mapping, mapping == PRELUX_FIELD_MAPPING ? UINT32_MAX : 0);
  const char *rel = prelux_msg_str(msg, name);
  int err = check(c, t, which, need, why);
  return err < 0 ? err : check_inner(c, t, which, rel ? rel : "", prelux_msg_op(msg) == PRELUX_OP_NAME, need, why);
}

int prelux_node_admit(const struct prelux_conn *c, const struct prelux_live_table *t, const void *msg, struct prelux_problem *why)
{
  unsigned need = c->peer ? needs(msg) : 0;
  if (!need)
    return 0;
  if (!t)
    return PRELUX_STATUS_NO_TABLE;
  int err = check_name(c, t, msg, PRELUX_FIELD_MAPPING, PRELUX_FIELD_PATH, need, why);
  if (err == 0 && prelux_msg_op(msg) == PRELUX_OP_NAME && prelux_msg_u32(msg, PRELUX_FIELD_VERB32, 0) == PRELUX_NAME_RENAME)
    err = check_name(c, t, msg, PRELUX_FIELD_TO_MAPPING, PRELUX_FIELD_TO, need, why);
  return err;
}
