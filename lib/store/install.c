#include "lib/store/install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/victims.h"

#define UNCOUNTED INT64_MIN

/* Something else may stand at the name since it was looked at: a folder, when the remote has turned one into a file. */
static int rename_in(struct prelux_tree *t, const char *object, const char *name, int dir, const char *base)
{
  int fill = t->store->fill_fd;
  char held[32];
  prelux_hold(t->store, dir, base, held);
  if (prelux_os.renameat(fill, name, dir, base) == 0)
    return 0;
  int rc = -errno;
  prelux_hold_undo(t->store, held);
  if (rc != -EISDIR && rc != -ENOTEMPTY && rc != -EEXIST)
    return rc;
  rc = prelux_adopt_aside(t, dir, base, object);
  if (rc == 0 && prelux_os.renameat(fill, name, dir, base) < 0)
    rc = -errno;
  return rc;
}

static void installed(const struct prelux_view *v, const char *object, int64_t old, uint64_t bytes)
{
  struct prelux_store *s = v->tree->store;
  pthread_mutex_lock(&s->lock);
  s->unsynced = true;
  if (old != UNCOUNTED)
    prelux_store_account(s, old, (int64_t)bytes);
  pthread_mutex_unlock(&s->lock);
  prelux_victims_filled(v->tree, object, bytes);
}

/* Where nothing lies: one transaction. A row whose file never got its name does no harm: what it tells of the remote is right, and an open finds
 * that the file is not there. */
static int install_first(const struct prelux_view *v, const char *object, const char *name, int dir, const char *base, struct prelux_row *row)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_number number;
  int64_t old = -1;
  bool first = prelux_number_first(v->tree, object, &row->obj, &number);
  if (!first)
    prelux_number_note(v->tree, object, &row->obj);
  int rc = prelux_catalogue_fresh(s->cat, v->tree->id, object, row, first ? &number : NULL, &old);
  if (rc < 0)
    return rc;
  installed(v, object, old, row->bytes);
  if (prelux_os.renameat(s->fill_fd, name, dir, base) == 0)
    return 0;
  rc = -errno;
  prelux_store_drop_row(v->tree, object);
  return rc;
}

/* Where another version lies, or something else. */
static int install_over(const struct prelux_view *v, const char *object, const char *name, int dir, const char *base, struct prelux_row *row)
{
  struct prelux_store *s = v->tree->store;
  int64_t old = -1;
  prelux_number_note(v->tree, object, &row->obj);
  int rc = prelux_catalogue_begin(s->cat, v->tree->id, object, row);
  if (rc == 0)
  {
    rc = rename_in(v->tree, object, name, dir, base);
    if (rc < 0)
      prelux_catalogue_abort(s->cat, v->tree->id, object);
  }
  if (rc < 0)
    return rc;
  /* From here on the file is there, whole. A catalogue that cannot take the last step leaves its row "filling", which the
   * next start promotes; until then each open fetches again. */
  rc = prelux_catalogue_finish(s->cat, v->tree->id, object, row, &old);
  if (rc < 0)
    prelux_warn("cache catalogue of %s: %s: '%.200s' will be fetched again", s->dir, strerror(-rc), object);
  installed(v, object, rc < 0 ? UNCOUNTED : old, row->bytes);
  return 0;
}

int prelux_install(const struct prelux_view *v, const char *object, const char *name, struct prelux_row *row, struct prelux_problem *why)
{
  struct stat st;
  const char *base;
  int dir, rc = prelux_disk_parent(v->tree, object, true, &dir, &base);
  if (rc < 0)
    return prelux_problem(why, -rc, "cannot make the cache folder of %.200s: %s", object, strerror(-rc));
  bool nothing = prelux_os.fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
  rc = nothing ? install_first(v, object, name, dir, base, row) : install_over(v, object, name, dir, base, row);
  prelux_os.close(dir);
  return rc < 0 ? prelux_problem(why, -rc, "cannot name the cached file of %.200s: %s", object, strerror(-rc)) : 0;
}

int prelux_install_nameless(const struct prelux_view *v, const char *object, const char *name, struct prelux_known *k,
                            struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  char held[32];
  prelux_hold_name(s, held);
  if (prelux_os.renameat(s->fill_fd, name, s->held_fd, held) < 0)
    return prelux_problem(why, errno, "cannot keep the fetched file of %.200s: %s", object, strerror(errno));
  pthread_mutex_lock(&s->lock);
  prelux_view_publish(v, object, strlen(object), k); /* its inode: fstat shows the object's identity */
  pthread_mutex_unlock(&s->lock);
  return 0;
}
