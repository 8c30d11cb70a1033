/* Symbolic links. No remote keeps them, so each node keeps its own: in the catalogue, in memory, and in the index, where a link has a slot
 * of type LINK in every view that is never dropped while the link lives: the library finds links on its way without asking anybody.
 * A link hides what the remote has at its path.
 *
 * The lock is inside store.lock, beside that of the stage; nothing waits under it. A slot comes after its link is in the table and
 * counted, and goes before that. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/index/writer.h"
#include "lib/store/links.h"
#include "lib/store/mix.h"

struct prelux_link {
  struct prelux_link *next;
  uint64_t ino;
  int64_t mtime_ns;
  char *target;
  size_t len;
  char path[];
};

static struct prelux_link **place(const struct prelux_tree *t, const char *object, size_t len)
{
  const struct prelux_links *m = &t->links;
  struct prelux_link **at = &((struct prelux_link **)m->slots)[prelux_store_hash(object, len, t->key) & (PRELUX_LINK_SLOTS - 1)];
  while (*at && ((*at)->len != len || memcmp((*at)->path, object, len) != 0))
    at = &(*at)->next;
  return at;
}

static void lock(const struct prelux_tree *t)
{
  pthread_mutex_lock((pthread_mutex_t *)&t->links.lock);
}

static void unlock(const struct prelux_tree *t)
{
  pthread_mutex_unlock((pthread_mutex_t *)&t->links.lock);
}

static void tell(const struct prelux_link *l, struct prelux_known *ret)
{
  *ret = (struct prelux_known){.obj = {.type = PRELUX_LINK, .mode = 0777, .size = strlen(l->target), .mtime_ns = l->mtime_ns},
                               .learned_ns = prelux_store_now(),
                               .ino = l->ino};
}

/* ---- looking ---- */

bool prelux_links_known(const struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret)
{
  if (t->links.count == 0)
    return false;
  lock(t);
  const struct prelux_link *l = *place(t, object, len);
  if (l && ret)
    tell(l, ret);
  unlock(t);
  return l != NULL;
}

bool prelux_links_above(const struct prelux_tree *t, const char *object, size_t len)
{
  bool there = false;
  if (t->links.count == 0)
    return false;
  while (!there && (len = prelux_object_parent(object, len)) > 0)
    there = prelux_links_known(t, object, len, NULL);
  return there;
}

static bool below(const struct prelux_link *l, const char *folder, size_t len)
{
  return len == 0 || (l->len > len && memcmp(l->path, folder, len) == 0 && l->path[len] == '/');
}

bool prelux_links_below(const struct prelux_tree *t, const char *folder)
{
  size_t len = strlen(folder);
  bool there = false;
  if (t->links.count == 0)
    return false;
  lock(t);
  for (size_t i = 0; i < PRELUX_LINK_SLOTS; i++)
    for (const struct prelux_link *l = t->links.slots[i]; l; l = l->next)
      there = there || below(l, folder, len);
  unlock(t);
  return there;
}

char *prelux_links_target(const struct prelux_tree *t, const char *object)
{
  char *target = NULL;
  if (t->links.count == 0)
    return NULL;
  lock(t);
  const struct prelux_link *l = *place(t, object, strlen(object));
  if (l)
    target = strdup(l->target);
  unlock(t);
  return target;
}

int prelux_links_list(const struct prelux_tree *t, const char *folder, const struct prelux_listing *listing, struct prelux_listing **ret)
{
  struct prelux_mix m = {0};
  size_t len = strlen(folder);
  int rc = 0;
  *ret = NULL;
  if (t->links.count == 0)
    return 0;
  lock(t);
  for (size_t i = 0; i < PRELUX_LINK_SLOTS && rc == 0; i++)
    for (const struct prelux_link *l = t->links.slots[i]; l && rc == 0; l = l->next)
    {
      struct prelux_known k;
      if (!below(l, folder, len) || prelux_object_parent(l->path, l->len) != len)
        continue;
      tell(l, &k);
      rc = prelux_mix_add(&m, l->path + len + (len > 0), &k);
    }
  unlock(t);
  if (rc == 0)
    rc = prelux_mix_merge(&m, listing, ret);
  prelux_mix_release(&m);
  return rc;
}

/* ---- the index ---- */

bool prelux_links_publish(const struct prelux_view *v, const char *object, size_t len)
{
  struct prelux_known k;
  struct prelux_attr attr;
  if (!prelux_links_known(v->tree, object, len, &k))
    return false;
  prelux_view_attr(v, &k, &attr);
  prelux_index_put(v->tree->store->index, v->id, object, len, &attr, v->tree->dev);
  return true;
}

/* As the table says now, in all views. */
static void show(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_store *s = t->store;
  pthread_mutex_lock(&s->lock);
  prelux_tree_unpublish(t, object, len);
  pthread_mutex_unlock(&s->lock);
}

static void count(struct prelux_tree *t, int64_t n)
{
  if (t->store->index && t->links.counted)
    prelux_index_count_links(t->store->index, n);
}

void prelux_links_count(struct prelux_tree *t)
{
  t->links.counted = true;
  count(t, (int64_t)t->links.count);
}

void prelux_links_begin(const struct prelux_view *v)
{
  struct prelux_tree *t = v->tree;
  struct prelux_store *s = t->store;
  if (!s->index || t->links.count == 0)
    return;
  pthread_mutex_lock(&s->lock);
  lock(t);
  for (size_t i = 0; i < PRELUX_LINK_SLOTS; i++)
    for (const struct prelux_link *l = t->links.slots[i]; l; l = l->next)
    {
      struct prelux_known k;
      struct prelux_attr attr;
      tell(l, &k);
      prelux_view_attr(v, &k, &attr);
      prelux_index_put(s->index, v->id, l->path, l->len, &attr, t->dev);
    }
  unlock(t);
  pthread_mutex_unlock(&s->lock);
}

/* ---- changing ---- */

static struct prelux_link *link_new(const char *path, const char *target, uint64_t ino, int64_t mtime_ns)
{
  size_t len = strlen(path);
  struct prelux_link *l = calloc(1, sizeof *l + len + 1);
  if (!l || !(l->target = strdup(target)))
  {
    free(l);
    return NULL;
  }
  l->ino = ino;
  l->mtime_ns = mtime_ns;
  l->len = len;
  memcpy(l->path, path, len);
  return l;
}

static void link_free(struct prelux_link *l)
{
  if (l)
    free(l->target);
  free(l);
}

/* Into the table, in the place of one of the same path; counted before anybody can see it. */
static void insert(struct prelux_tree *t, struct prelux_link *l)
{
  count(t, 1);
  lock(t);
  struct prelux_link **at = place(t, l->path, l->len), *old = *at;
  l->next = old ? old->next : NULL;
  *at = l;
  t->links.count += old == NULL;
  unlock(t);
  if (old)
    count(t, -1);
  link_free(old);
}

/* Out of the table; the slots go before it is counted out. */
static int extract(struct prelux_tree *t, const char *object, size_t len)
{
  lock(t);
  struct prelux_link **at = t->links.count ? place(t, object, len) : NULL, *l = at ? *at : NULL;
  if (l)
  {
    *at = l->next;
    t->links.count--;
  }
  unlock(t);
  if (!l)
    return -ENOENT;
  show(t, object, len);
  count(t, -1);
  link_free(l);
  return 0;
}

static int load_one(void *arg, const char *path, const char *target, uint64_t ino, int64_t mtime_ns)
{
  struct prelux_link *l = link_new(path, target, ino, mtime_ns);
  if (!l)
    return -ENOMEM;
  insert(arg, l);
  return 0;
}

int prelux_links_load(struct prelux_tree *t)
{
  return prelux_catalogue_links(t->store->cat, t->id, load_one, t);
}

void prelux_links_release(struct prelux_tree *t)
{
  for (size_t i = 0; i < PRELUX_LINK_SLOTS; i++)
    for (struct prelux_link *l = t->links.slots[i], *next; l; l = next)
    {
      next = l->next;
      for (size_t k = 0; t->store->index && t->links.counted && k < t->n_views; k++)
        prelux_index_drop(t->store->index, t->views[k].id, l->path, l->len);
      count(t, -1);
      link_free(l);
    }
}

/* In the catalogue, then here. `from`: the row that goes in the same step, or NULL. */
static int store_link(struct prelux_tree *t, const char *from, struct prelux_link *l)
{
  if (!l)
    return -ENOMEM;
  int rc = prelux_catalogue_set_link(t->store->cat, t->id, from, l->path, l->target, l->ino, l->mtime_ns);
  if (rc < 0)
  {
    link_free(l);
    return rc;
  }
  size_t len = l->len;
  char path[PRELUX_OBJECT_MAX + 1];
  memcpy(path, l->path, len + 1);
  insert(t, l);
  show(t, path, len);
  return 0;
}

int prelux_links_make(struct prelux_tree *t, const char *object, const char *target)
{
  int64_t now = prelux_store_wall();
  if (t->links.count >= PRELUX_LINKS_MAX)
    return -ENOSPC;
  uint64_t ino = prelux_number_fresh(t, prelux_number_base(t, object, strlen(object)), now);
  return store_link(t, NULL, link_new(object, target, ino, prelux_store_stamp(t->store)));
}

int prelux_links_remove(struct prelux_tree *t, const char *object)
{
  size_t len = strlen(object);
  if (!prelux_links_known(t, object, len, NULL))
    return -ENOENT;
  int rc = prelux_catalogue_set_link(t->store->cat, t->id, object, NULL, NULL, 0, 0);
  return rc < 0 ? rc : extract(t, object, len);
}

/* A copy of the link at `from` for the path `to`. */
static struct prelux_link *moved(struct prelux_tree *t, const char *from, const char *to, const int64_t *mtime_ns)
{
  struct prelux_link *copy = NULL;
  lock(t);
  const struct prelux_link *l = t->links.count ? *place(t, from, strlen(from)) : NULL;
  if (l)
    copy = link_new(to, l->target, l->ino, mtime_ns ? *mtime_ns : l->mtime_ns);
  unlock(t);
  return copy;
}

int prelux_links_rename(struct prelux_tree *t, const char *from, const char *to)
{
  int rc = store_link(t, from, moved(t, from, to, NULL));
  return rc < 0 ? rc : extract(t, from, strlen(from));
}

int prelux_links_set_mtime(struct prelux_tree *t, const char *object, int64_t mtime_ns)
{
  return store_link(t, NULL, moved(t, object, object, &mtime_ns));
}

int prelux_links_move_below(struct prelux_tree *t, const char *from, const char *to)
{
  char path[PRELUX_OBJECT_MAX + 1], new[PRELUX_OBJECT_MAX + 1];
  size_t len = strlen(from);
  int rc = 0;
  for (bool found = t->links.count > 0; found && rc == 0;)
  {
    found = false;
    lock(t);
    for (size_t i = 0; !found && i < PRELUX_LINK_SLOTS; i++)
      for (const struct prelux_link *l = t->links.slots[i]; !found && l; l = l->next)
        if (below(l, from, len) && strlen(to) + l->len - len < sizeof new)
        {
          found = true;
          memcpy(path, l->path, l->len + 1);
        }
    unlock(t);
    if (!found)
      break;
    memcpy(new, to, strlen(to));
    strcpy(new + strlen(to), path + len);
    rc = prelux_links_rename(t, path, new);
  }
  return rc;
}
