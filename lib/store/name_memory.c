/* What this node knows and keeps of a name, after the remote has changed it. See name.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/folder_time.h"
#include "lib/store/name.h"

#define BATCH 64

/* ---- memory and index ---- */

void prelux_name_touch(struct prelux_tree *t, const char *object)
{
  pthread_mutex_lock(&t->store->lock);
  prelux_folder_touch(t, object, strlen(object));
  pthread_mutex_unlock(&t->store->lock);
}

void prelux_name_forget(struct prelux_tree *t, const char *object)
{
  pthread_mutex_lock(&t->store->lock);
  prelux_memory_forget(t, object, strlen(object));
  pthread_mutex_unlock(&t->store->lock);
}

void prelux_name_there(struct prelux_tree *t, const char *object, struct prelux_known *k)
{
  size_t len = strlen(object);
  pthread_mutex_lock(&t->store->lock);
  prelux_tree_unpublish(t, object, len);
  prelux_entry_put(t, object, len, k);
  prelux_folder_touch(t, object, len);
  for (size_t i = 0; i < t->n_views; i++)
    prelux_view_publish(&t->views[i], object, len, k);
  pthread_mutex_unlock(&t->store->lock);
}

void prelux_name_gone(struct prelux_tree *t, const char *object)
{
  size_t len = strlen(object);
  struct prelux_known none = {0};
  prelux_number_end(t, object);
  prelux_attrs_drop(t, object);
  prelux_folder_time_drop(t, object);
  prelux_attrs_move_below(t, object, NULL);
  pthread_mutex_lock(&t->store->lock);
  prelux_entries_drop_below(t, object, len);
  prelux_folders_drop_below(t, object, len);
  pthread_mutex_unlock(&t->store->lock);
  none.learned_ns = prelux_store_now();
  prelux_name_there(t, object, &none);
  prelux_cache_drop(t, object);
}

/* ---- cache files ---- */

/* What lies at the cache path of an object loses its name; readers keep it. A folder goes when it is empty. */
static void drop_file(struct prelux_tree *t, const char *object)
{
  char held[32];
  const char *base;
  int dir, rc = prelux_disk_parent(t, object, false, &dir, &base);
  if (rc < 0)
    return;
  prelux_hold(t->store, dir, base, held);
  if (prelux_os.unlinkat(dir, base, 0) < 0 && (errno == EISDIR || errno == EPERM))
    prelux_os.unlinkat(dir, base, AT_REMOVEDIR);
  if (*held)
    prelux_hold_release(t->store, held, false);
  prelux_os.close(dir);
}

void prelux_cache_drop(struct prelux_tree *t, const char *object)
{
  struct prelux_row row;
  if (prelux_catalogue_get(t->store->cat, t->id, object, &row) == 0)
  {
    drop_file(t, object);
    prelux_store_drop_row(t, object);
  }
  else
  {
    /* A folder that nobody needs; a file that is not ours stays. */
    const char *base;
    int dir;
    if (prelux_disk_parent(t, object, false, &dir, &base) == 0)
    {
      prelux_os.unlinkat(dir, base, AT_REMOVEDIR);
      prelux_os.close(dir);
    }
  }
}

static int rename_file(struct prelux_tree *t, const char *from, const char *to)
{
  const char *base, *new_base;
  char held[32];
  int dir, new_dir, rc = prelux_disk_parent(t, from, false, &dir, &base);
  if (rc < 0)
    return rc;
  rc = prelux_disk_parent(t, to, true, &new_dir, &new_base);
  if (rc == 0)
  {
    prelux_hold(t->store, new_dir, new_base, held);
    rc = prelux_os.renameat(dir, base, new_dir, new_base) < 0 ? -errno : 0;
    if (rc < 0)
      prelux_hold_undo(t->store, held);
    else if (*held)
      prelux_hold_release(t->store, held, false);
    prelux_os.close(new_dir);
  }
  prelux_os.close(dir);
  return rc;
}

uint64_t prelux_cache_move(struct prelux_tree *t, const char *from, const struct prelux_object *was, const char *to,
                           const struct prelux_object *now)
{
  struct prelux_store *s = t->store;
  struct prelux_row row;
  int64_t old = -1;
  int rc = prelux_catalogue_get(s->cat, t->id, from, &row);
  if (rc == 0 && !prelux_object_same(&row.obj, was))
    rc = -ESTALE;
  if (rc == 0)
  {
    uint64_t size = row.obj.size;
    row.obj = *now;
    row.obj.type = PRELUX_FILE;
    row.obj.size = size;
    rc = now->size == size ? prelux_catalogue_begin(s->cat, t->id, to, &row) : -ESTALE;
  }
  if (rc == 0 && (rc = rename_file(t, from, to)) < 0)
    prelux_catalogue_abort(s->cat, t->id, to);
  if (rc == 0 && (rc = prelux_catalogue_finish(s->cat, t->id, to, &row, &old)) == 0)
  {
    pthread_mutex_lock(&s->lock);
    prelux_store_account(s, old, (int64_t)row.bytes);
    pthread_mutex_unlock(&s->lock);
    prelux_store_drop_row(t, from);
    return row.ino;
  }
  prelux_cache_drop(t, from);
  prelux_cache_drop(t, to);
  return 0;
}

/* The folder itself, so that who has it as working directory goes along; a folder that is there and not empty is in the way. */
static int rename_folder(struct prelux_tree *t, const char *from, const char *to)
{
  const char *base, *new_base;
  int dir, new_dir, rc = prelux_disk_parent(t, from, false, &dir, &base);
  if (rc < 0)
    return rc;
  rc = prelux_disk_parent(t, to, true, &new_dir, &new_base);
  if (rc == 0)
  {
    if (t->store->index)
      prelux_index_move(t->store->index);
    rc = prelux_os.renameat(dir, base, new_dir, new_base) < 0 ? -errno : 0;
    if (t->store->index)
      prelux_index_move(t->store->index);
    prelux_os.close(new_dir);
  }
  prelux_os.close(dir);
  return rc;
}

/* The row of a file that lies at its new place already. */
static void move_row(struct prelux_tree *t, const char *from, const char *to, struct prelux_row *row)
{
  struct prelux_store *s = t->store;
  int64_t old = -1;
  if (prelux_catalogue_finish(s->cat, t->id, to, row, &old) == 0)
  {
    pthread_mutex_lock(&s->lock);
    prelux_store_account(s, old, (int64_t)row->bytes);
    pthread_mutex_unlock(&s->lock);
  }
  prelux_store_drop_row(t, from);
}

static void move_one(struct prelux_tree *t, const char *from, const char *to, bool moved)
{
  struct prelux_row row;
  uint64_t ino = prelux_catalogue_get(t->store->cat, t->id, from, &row) == 0 ? prelux_number_of(t, from, &row.obj) : 0;
  if (!ino)
    prelux_cache_drop(t, moved ? to : from);
  else if (moved)
    move_row(t, from, to, &row);
  else
    prelux_cache_move(t, from, &row.obj, to, &row.obj);
  if (ino)
    prelux_number_set(t, to, ino, &row.obj);
}

void prelux_cache_move_below(struct prelux_tree *t, const char *from, const char *to)
{
  struct prelux_victim rows[BATCH];
  char path[PRELUX_OBJECT_MAX + 1], *after = NULL;
  bool moved = rename_folder(t, from, to) == 0;
  int n;
  while ((n = prelux_catalogue_below(t->store->cat, t->id, from, after, rows, BATCH)) > 0)
    for (int i = 0; i < n; i++)
    {
      if (snprintf(path, sizeof path, "%s%s", to, rows[i].path + strlen(from)) < (int)sizeof path)
        move_one(t, rows[i].path, path, moved);
      else
        prelux_store_drop_row(t, rows[i].path);
      free(after);
      after = rows[i].path;
    }
  free(after);
}
