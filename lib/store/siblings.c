/* What stands beside an object in the listing of its folder, as long as that is known and fresh: for who reads ahead. The remote is not asked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/private.h"

/* The fresh listing of a folder, or NULL (store.lock held). */
static struct prelux_folder *fresh_folder(const struct prelux_view *v, const char *folder, size_t len)
{
  struct prelux_folder *f = prelux_folder_find(v->tree, folder, len);
  struct prelux_known k = {.obj = {.type = PRELUX_FILE}};
  if (!f || f->outdated)
    return NULL;
  k.learned_ns = f->learned_ns;
  return prelux_view_fresh(v, &k, prelux_store_now()) ? f : NULL;
}

/* The object of a name in a folder, without a 0 at its end; returns its length. */
static size_t child_path(const struct prelux_folder *f, const char *name, size_t len, char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2])
{
  size_t at = f->path_len;
  memcpy(path, f->path, at);
  if (at)
    path[at++] = '/';
  memcpy(path + at, name, len);
  return at + len;
}

static bool is_cached(const struct prelux_folder *f, const char *name, size_t len)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  const struct prelux_entry *e = prelux_entry_find(f->tree, path, child_path(f, name, len, path));
  return e && e->cache_ino;
}

int prelux_store_place_of(const struct prelux_view *v, const char *object, uint32_t *ret)
{
  size_t len = strlen(object), parent = prelux_object_parent(object, len);
  const char *name = object + (parent ? parent + 1 : 0);
  pthread_mutex_lock(&v->tree->store->lock);
  const struct prelux_folder *f = len ? fresh_folder(v, object, parent) : NULL;
  long i = f ? prelux_folder_child(f, name, len - (size_t)(name - object)) : -1;
  pthread_mutex_unlock(&v->tree->store->lock);
  *ret = i < 0 ? 0 : (uint32_t)i;
  return i < 0 ? -ENOENT : 0;
}

/* A folder whose listing is not known, or not fresh (store.lock held). */
static bool is_unlisted(const struct prelux_view *v, const struct prelux_folder *f, const char *name, size_t len)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  return !fresh_folder(v, path, child_path(f, name, len, path));
}

/* One that is wanted (store.lock held). */
static bool suits(const struct prelux_view *v, const struct prelux_siblings *s, const struct prelux_folder *f, const struct prelux_listing_entry *e)
{
  const char *name = (const char *)f->blob + e->name_off;
  if (s->folders)
    return e->type == PRELUX_DIR && is_unlisted(v, f, name, e->name_len);
  return e->type == PRELUX_FILE && e->size <= s->largest && !is_cached(f, name, e->name_len);
}

int prelux_store_siblings(const struct prelux_view *v, const char *folder, struct prelux_siblings *s)
{
  s->n = 0;
  s->names = calloc(s->to > s->from ? s->to - s->from : 1, sizeof *s->names);
  if (!s->names)
    return -ENOMEM;
  s->at = calloc(s->to > s->from ? s->to - s->from : 1, sizeof *s->at);
  pthread_mutex_lock(&v->tree->store->lock);
  const struct prelux_folder *f = fresh_folder(v, folder, strlen(folder));
  if (!f || !s->at)
    s->to = s->from;
  else if (s->to > f->blob->count)
    s->to = f->blob->count;
  uint64_t left = s->bytes;
  for (uint32_t i = s->from; i < s->to; i++)
  {
    const struct prelux_listing_entry *e = &f->blob->entries[i];
    uint64_t size = s->folders ? 0 : e->size;
    if (!suits(v, s, f, e))
      continue;
    if (size > left || (s->most && s->n == s->most) || !(s->names[s->n] = strdup((const char *)f->blob + e->name_off)))
    {
      s->to = i; /* the next one begins there */
      break;
    }
    s->at[s->n++] = i;
    left -= size;
  }
  s->bytes -= left;
  pthread_mutex_unlock(&v->tree->store->lock);
  return 0;
}

void prelux_siblings_release(struct prelux_siblings *s)
{
  for (uint32_t i = 0; i < s->n; i++)
    free(s->names[i]);
  free(s->names);
  free(s->at);
  *s = (struct prelux_siblings){0};
}
