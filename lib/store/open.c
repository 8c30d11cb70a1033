/* Opening: attributes as the view wants them, then the cache file of that version, filled when it is not there.
 *
 * The file is looked at each time (inode, size, mtime against its catalogue row): a daemon's restart, an eviction or somebody's
 * editor in the cache folder can never make a wrong file pass. While the fd is open here the evictor's lease fails, so the
 * file still has its name when it is published in the index. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/partial.h"
#include "lib/store/stage.h"

/* store.lock held. */
static void note_use(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_store *s = t->store;
  struct prelux_entry *e = prelux_entry_find(t, object, len);
  int64_t now = prelux_store_wall();
  if (!e || (now >= e->used_ns && now - e->used_ns < PRELUX_USE_NS) || s->n_uses == PRELUX_USES_MAX)
    return;
  if (!s->uses && !(s->uses = calloc(PRELUX_USES_MAX, sizeof *s->uses)))
    return;
  struct prelux_victim *use = &s->uses[s->n_uses];
  *use = (struct prelux_victim){.tree = t->id, .used_ns = now, .path = strdup(object)};
  s->n_uses += use->path != NULL;
  e->used_ns = now;
}

void prelux_open_remember(const struct prelux_view *v, const char *object, struct prelux_known *k)
{
  struct prelux_store *s = v->tree->store;
  size_t len = strlen(object);
  struct prelux_known now = *k;
  pthread_mutex_lock(&s->lock);
  prelux_entry_put(v->tree, object, len, &now);
  bool same = prelux_object_same(&now.obj, &k->obj);
  if (!same)
  {
    /* What we hold is not the latest any more: its inode still has to be known as the object. */
    struct prelux_known inode = *k;
    inode.learned_ns = 0;
    prelux_view_publish(v, object, len, &inode);
    prelux_view_publish(v, object, len, &now);
  }
  else
  {
    *k = now;
    prelux_view_publish(v, object, len, k);
    if (k->obj.type == PRELUX_FILE)
      note_use(v->tree, object, len);
  }
  pthread_mutex_unlock(&s->lock);
}

static void name_inode(const struct prelux_view *v, const struct prelux_known *k)
{
  pthread_mutex_lock(&v->tree->store->lock);
  prelux_view_publish_inode(v, k);
  pthread_mutex_unlock(&v->tree->store->lock);
}

int prelux_open_folder(const struct prelux_view *v, const char *object, struct prelux_known *k, int *ret_fd,
                       struct prelux_problem *why)
{
  struct stat st;
  int fd, rc = prelux_disk_folder(v->tree, object, true, &fd);
  if (rc < 0)
    return prelux_problem(why, -rc, "cannot make the cache folder of %.200s: %s", object, strerror(-rc));
  if (prelux_os.fstat(fd, &st) < 0)
    rc = prelux_problem(why, errno, "cache folder of %.200s: %s", object, strerror(errno));
  if (rc == 0)
  {
    k->cache_ino = st.st_ino;
    prelux_open_remember(v, object, k);
    if (prelux_deferred_has(v->tree, object, strlen(object)))
      name_inode(v, k);
  }
  if (rc == 0 && ret_fd)
  {
    int ro = prelux_dir_open(fd, ".");
    if (ro < 0)
      rc = prelux_problem(why, -ro, "cannot open the cache folder of %.200s: %s", object, strerror(-ro));
    else
      *ret_fd = ro;
  }
  prelux_os.close(fd);
  return rc;
}

bool prelux_row_matches(const struct prelux_store *s, const struct prelux_row *row, const struct stat *st)
{
  return S_ISREG(st->st_mode) && st->st_nlink > 0 && st->st_dev == s->dev && st->st_ino == row->ino &&
         (uint64_t)st->st_size == row->obj.size && prelux_stat_mtime(st) == row->file_mtime_ns;
}

/* Somebody removed the cache file: its inode number may belong to another file by now. Only who leads the object's fill flight
 * can say so: for anybody else it may have come (back) since he looked. */
static void lost(struct prelux_tree *t, const char *object)
{
  struct prelux_store *s = t->store;
  size_t len = strlen(object);
  pthread_mutex_lock(&s->lock);
  struct prelux_entry *e = prelux_entry_find(t, object, len);
  if (e && e->cache_ino)
  {
    if (s->index)
      prelux_index_drop_inode(s->index, s->dev, e->cache_ino);
    e->cache_ino = 0;
    prelux_tree_unpublish(t, object, len);
  }
  pthread_mutex_unlock(&s->lock);
}

/* As prelux_open_cached; *ret_nothing: nothing at all lies at the cache path. */
static int open_cached(const struct prelux_view *v, const char *object, struct prelux_known *k, bool leads, int *ret_fd, bool *ret_nothing)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_row row;
  struct stat st;
  int fd, rc = prelux_disk_open(v->tree, object, O_RDONLY, &fd, &st);
  *ret_nothing = rc == -ENOENT;
  if (rc == -ENOENT && leads)
    lost(v->tree, object);
  if (rc < 0)
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM ? rc : -ENOENT;
  rc = prelux_catalogue_get(s->cat, v->tree->id, object, &row);
  if (rc == 0 && (!prelux_row_matches(s, &row, &st) || !prelux_object_same(&row.obj, &k->obj)))
    rc = -ENOENT;
  if (rc < 0)
  {
    prelux_os.close(fd);
    return rc;
  }
  k->cache_ino = st.st_ino;
  prelux_open_remember(v, object, k);
  *ret_fd = fd;
  return 0;
}

int prelux_open_cached(const struct prelux_view *v, const char *object, struct prelux_known *k, bool leads, int *ret_fd)
{
  bool nothing;
  return open_cached(v, object, k, leads, ret_fd, &nothing);
}

/* What was renamed here and is not on the remote yet, by its cache file, which came along. Memory goes on telling of the remote, and the path gets
 * no slot; but descriptors shall tell what they are. */
static int cached_renamed(const struct prelux_view *v, const char *object, struct prelux_known *k, int *ret_fd)
{
  struct prelux_row row;
  struct stat st;
  int fd, rc = prelux_disk_open(v->tree, object, O_RDONLY, &fd, &st);
  if (rc < 0)
    return rc;
  rc = prelux_catalogue_get(v->tree->store->cat, v->tree->id, object, &row);
  if (rc == 0 && (!prelux_row_matches(v->tree->store, &row, &st) || !prelux_object_same(&row.obj, &k->obj)))
    rc = -ENOENT;
  if (rc < 0)
  {
    prelux_os.close(fd);
    return rc;
  }
  k->cache_ino = st.st_ino;
  name_inode(v, k);
  *ret_fd = fd;
  return 0;
}

/* 0 and an fd; 1: look again, the remote has it now, or it is something else; or -errno. The remote is asked only for what is not here. */
static int open_renamed(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_known *k, int *ret_fd,
                        struct prelux_problem *why)
{
  struct prelux_flight flight;
  int rc = cached_renamed(v, object, k, ret_fd);
  if (rc == 0 || (flags & PRELUX_STORE_CACHED_ONLY))
    return rc == 0 ? 0 : -EAGAIN;
  if (!prelux_flight_begin(&flight, v, PRELUX_FLIGHT_FILL, object, &rc, NULL)) /* whoever renamed it just now may not have come to that */
    return 1;
  rc = cached_renamed(v, object, k, ret_fd);
  prelux_flight_end(v->tree->store, &flight, -EAGAIN, NULL);
  if (rc == 0)
    return 0;
  rc = prelux_deferred_drain(v->tree, object, NULL, why);
  return rc < 0 ? rc : 1;
}

void prelux_open_warm(const struct prelux_view *v)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_victim *rows = calloc(PRELUX_WARM_MAX, sizeof *rows);
  int n = rows ? prelux_catalogue_newest(s->cat, v->tree->id, rows, PRELUX_WARM_MAX) : 0;
  for (int i = 0; i < n; i++)
  {
    struct prelux_row row;
    struct stat st;
    int fd;
    if (prelux_catalogue_get(s->cat, v->tree->id, rows[i].path, &row) == 0 && row.used_ns != 0 &&
        prelux_disk_open(v->tree, rows[i].path, O_RDONLY | O_NONBLOCK, &fd, &st) == 0)
    {
      struct prelux_known k = {.obj = row.obj, .cache_ino = row.ino, .ino = prelux_number_of(v->tree, rows[i].path, &row.obj)};
      size_t len = strlen(rows[i].path);
      pthread_mutex_lock(&s->lock);
      if (k.ino && prelux_row_matches(s, &row, &st))
      {
        prelux_entry_put(v->tree, rows[i].path, len, &k);
        if (k.cache_ino == row.ino)
          prelux_view_publish(v, rows[i].path, len, &k);
      }
      pthread_mutex_unlock(&s->lock);
      prelux_os.close(fd);
    }
    free(rows[i].path);
  }
  free(rows);
}

/* The one that makes the file appear: whoever finished just before, what lies there already, or the remote. */
static int produce(const struct prelux_view *v, const char *object, struct prelux_known *k, int *ret_fd,
                   struct prelux_problem *why)
{
  bool nothing;
  int rc = open_cached(v, object, k, true, ret_fd, &nothing);
  if (rc != -ENOENT)
    return rc == 0 ? 0 : prelux_problem(why, -rc, "cached file of %.200s: %s", object, strerror(-rc));
  rc = nothing ? -ENOENT : prelux_adopt(v, object, k, why);
  if (rc == 0)
    rc = prelux_open_cached(v, object, k, true, ret_fd);
  return rc == -ENOENT ? prelux_fill(v, object, k, true, ret_fd, why) : rc;
}

/* Who asked has the file already, and more comes when he needs it; others look again. */
static bool fill_rests(const struct prelux_view *v, int rc)
{
  return rc == -ECANCELED && v->early && v->early->done;
}

/* 0 and an fd; 1: somebody else did it, look again; or -errno. */
static int produce_shared(const struct prelux_view *v, const char *object, struct prelux_known *k, int *ret_fd,
                          struct prelux_problem *why)
{
  struct prelux_flight flight;
  struct prelux_problem mine = {0};
  int rc;
  if (!prelux_flight_begin(&flight, v, PRELUX_FLIGHT_FILL, object, &rc, why))
    return rc == 0 || rc == -EAGAIN || rc == -EBUSY ? 1 : rc;
  rc = produce(v, object, k, ret_fd, &mine);
  bool rests = fill_rests(v, rc);
  prelux_flight_end(v->tree->store, &flight, rests ? -EAGAIN : rc, &mine);
  if (rc < 0 && why)
    *why = mine;
  return rests ? -EINPROGRESS : rc;
}

/* One round for a file: 0, 1 (look again), -ESTALE (with fresh attributes again) or an error. */
static int open_file(const struct prelux_view *v, const char *object, struct prelux_known *k, bool want_fd, int *ret_fd,
                     struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  if (v->freshness == PRELUX_FRESH_SKIP)
    return want_fd ? prelux_fill(v, object, k, false, ret_fd, why) : 0;
  int rc = prelux_open_cached(v, object, k, false, ret_fd);
  if (rc == 0)
  {
    pthread_mutex_lock(&s->lock);
    s->stats.hits_opens++;
    pthread_mutex_unlock(&s->lock);
  }
  if (rc == -ENOENT && prelux_flow_join(v, object, k))
    return -EINPROGRESS;
  return rc == -ENOENT ? produce_shared(v, object, k, ret_fd, why)
         : rc < 0      ? prelux_problem(why, -rc, "cached file of %.200s: %s", object, strerror(-rc))
                       : 0;
}

/* A file of which nothing is known, neither here nor in the cache folder: where the backend can, its attributes come with its bytes.
 * 0 and an fd; 1: not so, the usual way; 2: it is a folder, *k says more; or -errno. */
static int open_unknown(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_known *k, bool want_fd,
                        int *ret_fd, struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_flight flight;
  struct prelux_problem mine = {0};
  struct stat st;
  bool skip = v->freshness == PRELUX_FRESH_SKIP;
  int fd, rc;
  if (!v->backend->ops->fetch || (flags & PRELUX_STORE_CACHED_ONLY) || (skip && !want_fd) || prelux_fresh_knows(v, object))
    return 1;
  if (skip)
    return prelux_fill_unknown(v, object, k, false, ret_fd, why);
  if (!prelux_flight_begin(&flight, v, PRELUX_FLIGHT_FILL, object, &rc, why))
    return rc == 0 || rc == -EAGAIN || rc == -EBUSY || rc == -ESTALE ? 1 : rc;
  rc = prelux_disk_open(v->tree, object, O_RDONLY, &fd, &st);
  if (rc == 0)
    prelux_os.close(fd);
  /* Somebody was here first; or what lies there may do, or be gone on with. */
  if (rc != -ENOENT || prelux_fresh_knows(v, object) || prelux_partial_there(v->tree, object))
    rc = 1;
  else
    rc = prelux_fill_unknown(v, object, k, true, ret_fd, &mine);
  bool rests = fill_rests(v, rc);
  prelux_flight_end(s, &flight, rests ? -EAGAIN : rc < 0 ? rc : 0, &mine);
  if (rc < 0 && why)
    *why = mine;
  return rests ? -EINPROGRESS : rc;
}

static int hand_out(const struct prelux_view *v, const char *object, struct prelux_known *k, int fd, struct prelux_attr *ret, int *ret_fd)
{
  prelux_attrs_show(v->tree, object, strlen(object), k);
  prelux_view_attr(v, k, ret);
  if (v->early && !v->early->done)
    v->early->version = k->pending ? 0 : prelux_flow_version(&k->obj);
  if (ret_fd)
    *ret_fd = fd;
  else if (fd >= 0)
    prelux_os.close(fd);
  return 0;
}

int prelux_store_open_object(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret,
                             int *ret_fd, struct prelux_problem *why)
{
  struct prelux_known k;
  int fd = -1, stale = 0, rc = prelux_object_check(v->tree->store, object, why);
  bool skip = v->freshness == PRELUX_FRESH_SKIP;
  if (rc == 0 && v->tree->store->stage && prelux_stage_read(v->tree->store->stage, v->tree, object, &k, &fd) == 0)
    return hand_out(v, object, &k, fd, ret, ret_fd);
  int unknown = rc < 0 ? rc : open_unknown(v, object, flags, &k, ret_fd != NULL, &fd, why);
  stale = unknown == -ESTALE;
  if (unknown < 0 && !stale)
    return unknown;
  for (int again = unknown != 0; rc == 0 && again;)
  {
    if (unknown != 2)
      rc = prelux_fresh_get(v, object, flags, stale > 0, &k, why);
    if (rc == 0 && k.obj.type == PRELUX_LINK)
      rc = prelux_problem(why, ELOOP, "%.200s is a symbolic link", object);
    if (rc < 0)
      return rc;
    unknown = 1;
    if (k.pending && k.obj.type == PRELUX_FILE)
    {
      rc = open_renamed(v, object, flags, &k, &fd, why);
      again = rc != 0;
      rc = rc == 1 ? 0 : rc;
      continue;
    }
    if (flags & PRELUX_STORE_CACHED_ONLY)
    {
      rc = k.obj.type == PRELUX_DIR || skip ? -EAGAIN : prelux_open_cached(v, object, &k, false, &fd);
      if (rc < 0)
        return -EAGAIN;
      again = 0;
    }
    else if (k.obj.type == PRELUX_DIR)
    {
      rc = prelux_open_folder(v, object, &k, ret_fd ? &fd : NULL, why);
      again = 0;
    }
    else
    {
      rc = open_file(v, object, &k, ret_fd != NULL, &fd, why);
      again = rc != 0;
      if (rc == 1 || (rc == -ESTALE && ++stale < PRELUX_OPEN_TRIES))
        rc = 0;
    }
  }
  if (rc < 0)
    return rc;
  if (skip && k.obj.type == PRELUX_FILE)
    k.cache_ino = 0;
  return hand_out(v, object, &k, fd, ret, ret_fd);
}
