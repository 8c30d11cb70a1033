/* Writing. Two ways (`write_through`):
 *
 * Through the under store: its own backend is called, with all that it promises, and Alluxio is not asked at all. Workers then go on with
 * what they knew: by default for ever. So wherever a mapping writes, the under store says what is there (`prelux_alluxio_under_rules`): stat
 * and list are its answers, versions are its versions, and conditions mean what they mean there. Nothing need be remembered of what was
 * written here: neither an evicted file, nor a daemon that starts anew, nor another node's change makes this node believe a worker's old
 * word. Workers are what they are good at, fast copies of bytes: they are read when length and time that they tell are those of the
 * version that is wanted (alluxio_read.c), else the under store is.
 *
 * For that, length and time must tell a version from all that were at its path before. So no put sets a time (the node keeps it for its
 * programs, as for remotes that keep none), and a file whose time was set by others, or that was renamed long after it was written, is
 * read from the under store. What this node has changed lately is so, too: two changes within one second are one time to an object store.
 *
 * Through a worker (alluxio_put.c): small files only, whole, each verified. What workers cannot do in one step is not promised. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/backend/alluxio_put.h"
#include "lib/conf/conf.h"

static struct prelux_alluxio *self(struct prelux_backend *b)
{
  return (struct prelux_alluxio *)b;
}

bool prelux_alluxio_under_rules(const struct prelux_alluxio *x)
{
  return x->under && atomic_load_explicit(&x->written, memory_order_relaxed);
}

bool prelux_alluxio_distinct(const struct prelux_alluxio *x, const struct prelux_object *obj)
{
  if (obj->mtime_ns == 0)
    return false;
  return strcmp(x->under->ops->type, "file") != 0 || prelux_alluxio_settled(obj->version, obj->mtime_ns);
}

void prelux_alluxio_use(struct prelux_backend *b, const struct prelux_conf_backend *conf)
{
  const struct prelux_conf_value *v = prelux_conf_get(conf, "write_through");
  if (conf->written || (v && v->line))
    atomic_store(&self(b)->written, true);
}

void prelux_alluxio_write_init(struct prelux_alluxio *x, const struct prelux_conf_backend *conf)
{
  const struct prelux_conf_value *v = prelux_conf_get(conf, "write_through");
  x->through = v ? (enum prelux_alluxio_through)v->number : PRELUX_ALLUXIO_AUTO;
  if (x->through == PRELUX_ALLUXIO_AUTO)
    x->through = x->under && x->under->ops->write ? PRELUX_ALLUXIO_BY_UNDER : PRELUX_ALLUXIO_BY_WORKER;
  prelux_alluxio_use(&x->base, conf);
}

/* Before any change: by whom? NULL: by a worker. */
static const struct prelux_backend_write *below(struct prelux_alluxio *x)
{
  atomic_store(&x->written, true);
  return x->through == PRELUX_ALLUXIO_BY_UNDER && x->under ? x->under->ops->write : NULL;
}

static int no_such(const struct prelux_alluxio *x, const char *what, struct prelux_problem *why)
{
  prelux_problem(why, EOPNOTSUPP, "backend %s: %s cannot be done through Alluxio's workers", x->options.name, what);
  if (why && !x->under)
    snprintf(why->advice, sizeof(why->advice), "name a backend that writes %.90s by `under_store:` of backend %.40s", x->options.root,
             x->options.name);
  return -EOPNOTSUPP;
}

/* What came of a change that gives the path other bytes: 0, or an errno that does not say for sure that nothing happened. The old bytes are not
 * read from a worker. */
static int changed(struct prelux_alluxio *x, const char *path, int rc)
{
  if (rc == 0 || rc == -PRELUX_EUNKNOWN)
    prelux_alluxio_doubt_own(x, path);
  return rc;
}

/* An object store's times are whole seconds. What has no MD5 by which a fill finds out (files sent in parts, copies of such; in some stores all) must not get
 * length and time of a file before it that a worker may have read in between: nobody remembers for ever that this node has changed it.
 * from: what becomes of path is a copy of it; NULL: new bytes. */
static int next_second(struct prelux_alluxio *x, const char *from, const char *path, struct prelux_problem *why)
{
  struct prelux_object source;
  if (!x->whole_seconds || prelux_alluxio_doubts_age_ms(&x->doubts, path) > 1000)
    return 0;
  if (from && x->under->ops->stat(x->under, from, &source, NULL) == 0 && source.md5[0])
    return 0;
  while (prelux_alluxio_doubts_age_ms(&x->doubts, path) <= 1000)
    if (prelux_net_backoff(x->net, 0) < 0)
      return prelux_problem(why, EIO, "/%s: the daemon ends", path);
  return 0;
}

static int alluxio_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  if (x->through == PRELUX_ALLUXIO_BY_WORKER)
    return prelux_alluxio_put_able(x, ret, why);
  if (!x->under || !x->under->ops->write || !x->under->ops->write->able)
    return prelux_problem(why, EROFS, "backend %s: its under store is read-only", x->options.name);
  struct prelux_able able;
  int rc = x->under->ops->write->able(x->under, &able, why);
  if (rc < 0)
    return rc;
  able.caps &= ~(unsigned)PRELUX_CAP_KEEP_MTIME;
  *ret = able;
  return 0;
}

static struct prelux_set timeless(const struct prelux_set *set)
{
  struct prelux_set ret = *set;
  ret.which &= ~(unsigned)PRELUX_SET_MTIME;
  return ret;
}

static int alluxio_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  struct prelux_put mine = *how;
  mine.set = timeless(&how->set);
  if (!w)
    return changed(x, path, prelux_alluxio_put(x, path, fd, size, &mine, ret, why));
  if (!w->put)
    return no_such(x, "a put", why);
  int rc = atomic_load(&x->sumless) ? next_second(x, NULL, path, why) : 0;
  if (rc == 0)
    rc = changed(x, path, w->put(x->under, path, fd, size, &mine, ret, why));
  if (rc == 0 && !ret->md5[0])
    atomic_store(&x->sumless, true);
  return rc;
}

static int alluxio_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                         char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  struct prelux_set mine = timeless(set);
  return w && w->begin ? w->begin(x->under, path, part_size, &mine, token, why) : no_such(x, "an upload in parts", why);
}

static int alluxio_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off, uint64_t len,
                        char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  return w && w->part ? w->part(x->under, path, token, n, fd, off, len, tag, why) : no_such(x, "an upload in parts", why);
}

static int alluxio_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts, size_t n,
                            uint64_t size, const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  struct prelux_put mine = *how;
  mine.set = timeless(&how->set);
  if (!w || !w->complete)
    return no_such(x, "an upload in parts", why);
  int rc = next_second(x, NULL, path, why);
  return rc < 0 ? rc : changed(x, path, w->complete(x->under, path, token, parts, n, size, &mine, ret, why));
}

/* What was begun through the under store is ended there, whatever `write_through` says by now. */
static const struct prelux_backend_write *uploader(const struct prelux_alluxio *x)
{
  return x->under ? x->under->ops->write : NULL;
}

static int alluxio_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = uploader(x);
  return w && w->abort ? w->abort(x->under, path, token, why) : no_such(x, "an upload in parts", why);
}

static int alluxio_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = uploader(x);
  return w && w->uploads ? w->uploads(x->under, path, add, arg, why) : no_such(x, "an upload in parts", why);
}

static int alluxio_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = uploader(x);
  return w && w->clean ? w->clean(x->under, path, idle_s, why) : 0;
}

static int alluxio_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  if (!w)
    return prelux_alluxio_put_remove(x, path, cond, why);
  return w->remove ? w->remove(x->under, path, cond, why) : no_such(x, "a removal", why);
}

static int alluxio_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                          struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  if (!w || !w->rename)
    return no_such(x, "a rename", why);
  int rc = next_second(x, from, to, why);
  return rc < 0 ? rc : changed(x, to, w->rename(x->under, from, to, flags, ret, why));
}

static int alluxio_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  if (!w)
    return prelux_alluxio_put_mkdir(x, path, why);
  return w->mkdir ? w->mkdir(x->under, path, mode, why) : no_such(x, "a folder", why);
}

static int alluxio_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  if (!w)
    return prelux_alluxio_put_rmdir(x, path, why);
  return w->rmdir ? w->rmdir(x->under, path, why) : no_such(x, "the removal of a folder", why);
}

static int alluxio_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                            struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  struct prelux_set mine = timeless(set);
  if (!w || !w->set_attr)
    return no_such(x, "a change of attributes", why);
  return w->set_attr(x->under, path, cond, &mine, ret, why);
}

static int alluxio_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                        const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  const struct prelux_backend_write *w = below(x);
  struct prelux_put mine = *how;
  mine.set = timeless(&how->set);
  if (!w || !w->copy)
    return no_such(x, "a copy", why);
  int rc = next_second(x, from, to, why);
  return rc < 0 ? rc : changed(x, to, w->copy(x->under, from, source_version, to, &mine, ret, why));
}

const struct prelux_backend_write prelux_alluxio_write = {
    .able = alluxio_able,
    .put = alluxio_put,
    .begin = alluxio_begin,
    .part = alluxio_part,
    .complete = alluxio_complete,
    .abort = alluxio_abort,
    .uploads = alluxio_uploads,
    .clean = alluxio_clean,
    .remove = alluxio_remove,
    .rename = alluxio_rename,
    .mkdir = alluxio_mkdir,
    .rmdir = alluxio_rmdir,
    .set_attr = alluxio_set_attr,
    .copy = alluxio_copy,
};
