/* Files at cache paths that the catalogue does not know: an older tool's cache, a lost catalogue, a user's own file. One that
 * equals the remote (length, and MD5 where offered, else mtime) becomes a cached file as it lies; anything else moves to
 * .prelux/recovered/ and is listed in the catalogue. Nothing unknown is served or deleted.
 *
 * After a power loss length and mtime prove nothing for files of the last minutes (the names may have reached the disk before
 * the data did): files changed in that time are believed by checksum only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/fill_check.h"
#include "lib/store/private.h"

static bool md5_equal(int fd, const struct prelux_object *obj)
{
  struct prelux_check c;
  prelux_check_begin(&c, obj, NULL);
  bool same = prelux_check_any(&c) && prelux_check_file(&c, fd, 0, obj->size) == 0 && prelux_check_end(&c, "", obj, NULL) == 0;
  prelux_check_release(&c);
  return same;
}

/* Copying tools keep whole seconds at least; two times that both have a fraction must agree in it. */
static bool mtime_equal(int64_t a, int64_t b)
{
  if (a % 1000000000 && b % 1000000000)
    return a == b;
  return a / 1000000000 == b / 1000000000;
}

static bool equals_remote(struct prelux_store *s, int fd, const struct stat *st, const struct prelux_object *obj)
{
  if ((uint64_t)st->st_size != obj->size)
    return false;
  if (obj->md5[0])
    return md5_equal(fd, obj);
  int64_t changed = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
  if (changed >= s->distrust_from && changed <= s->distrust_to)
    return false;
  return obj->mtime_ns && !obj->mtime_rough && mtime_equal(prelux_stat_mtime(st), obj->mtime_ns);
}

static int adopt_row(const struct prelux_view *v, const char *object, const struct prelux_known *k, const struct stat *st)
{
  struct prelux_store *s = v->tree->store;
  int64_t old = -1;
  struct prelux_row row = {.obj = k->obj,
                           .ino = st->st_ino,
                           .bytes = (uint64_t)st->st_blocks * 512,
                           .file_mtime_ns = prelux_stat_mtime(st),
                           .used_ns = prelux_store_wall()};
  prelux_number_note(v->tree, object, &row.obj);
  int rc = prelux_catalogue_finish(s->cat, v->tree->id, object, &row, &old);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&s->lock);
  s->unsynced = true;
  prelux_store_account(s, old, (int64_t)row.bytes);
  s->stats.adopted++;
  pthread_mutex_unlock(&s->lock);
  return 0;
}

/* Rows below a folder that goes away. */
static void drop_rows_below(struct prelux_tree *t, const char *object)
{
  struct prelux_victim rows[16];
  int n;
  while ((n = prelux_catalogue_below(t->store->cat, t->id, object, NULL, rows, 16)) > 0)
    for (int i = 0; i < n; i++)
    {
      prelux_store_drop_row(t, rows[i].path);
      free(rows[i].path);
    }
}

static int recover(struct prelux_tree *t, int dirfd, const char *name, const char *object)
{
  struct prelux_store *s = t->store;
  char to[PRELUX_NAME_MAX + 1];
  snprintf(to, sizeof to, "%016llx-%.200s", (unsigned long long)atomic_fetch_add(&s->next_name, 1), name);
  if (prelux_os.renameat(dirfd, name, s->recovered_fd, to) < 0)
    return errno == ENOENT ? 0 : -errno;
  prelux_catalogue_recovered(s->cat, t->id, object, to);
  prelux_warn("'%.200s' in the cache folder is not what the remote has: kept as %s/.prelux/recovered/%s", object, s->dir, to);
  return 0;
}

int prelux_adopt_aside(struct prelux_tree *t, int dirfd, const char *name, const char *object)
{
  struct prelux_store *s = t->store;
  struct prelux_row row;
  struct stat st;
  char held[32];
  if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : -errno;
  bool ours = prelux_catalogue_get(s->cat, t->id, object, &row) == 0 && prelux_row_matches(s, &row, &st);
  pthread_mutex_lock(&s->lock);
  prelux_entries_drop_below(t, object, strlen(object));
  prelux_folders_drop_below(t, object, strlen(object));
  pthread_mutex_unlock(&s->lock);
  prelux_store_drop_row(t, object);
  if (!ours)
  {
    int rc = recover(t, dirfd, name, object);
    if (rc == 0 && S_ISDIR(st.st_mode))
      drop_rows_below(t, object);
    return rc;
  }
  prelux_hold_name(s, held);
  if (prelux_os.renameat(dirfd, name, s->held_fd, held) < 0)
    return errno == ENOENT ? 0 : -errno;
  prelux_hold_release(s, held, false);
  return 0;
}

int prelux_adopt(const struct prelux_view *v, const char *object, struct prelux_known *k, struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_row row;
  struct stat st;
  const char *base;
  int dir, fd = -1, rc = prelux_disk_parent(v->tree, object, false, &dir, &base);
  if (rc == -ENOENT || rc == -ENOTDIR)
    return -ENOENT;
  if (rc < 0)
    return prelux_problem(why, -rc, "cache folder of %.200s: %s", object, strerror(-rc));
  bool something = prelux_os.fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (!something)
    rc = errno == ENOENT ? -ENOENT : prelux_problem(why, errno, "cached file of %.200s: %s", object, strerror(errno));
  if (something && prelux_catalogue_get(s->cat, v->tree->id, object, &row) == 0 && prelux_row_matches(s, &row, &st))
    rc = -ENOENT; /* ours, of another version: the fill replaces it */
  if (rc < 0)
  {
    prelux_os.close(dir);
    return rc;
  }
  bool equal = prelux_disk_open(v->tree, object, O_RDONLY | O_NONBLOCK, &fd, &st) == 0 && equals_remote(s, fd, &st, &k->obj);
  rc = equal ? adopt_row(v, object, k, &st) : prelux_adopt_aside(v->tree, dir, base, object);
  if (rc < 0)
    prelux_problem(why, -rc, "cannot %s what lies at the cache path of %.200s: %s", equal ? "adopt" : "put aside", object,
                   strerror(-rc));
  if (fd >= 0)
    prelux_os.close(fd);
  prelux_os.close(dir);
  return rc < 0 ? rc : equal ? 0 : -ENOENT;
}
