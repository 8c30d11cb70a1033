/* Memory of single objects: a hash with chains and one LRU list over all trees of the store; at PRELUX_ENTRIES_MAX the
 * object unused for longest is forgotten, with its slots in the index. All under store.lock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/private.h"

#define SLOTS (1u << 17)

int prelux_entries_init(struct prelux_store *s)
{
  s->entries.slots = calloc(SLOTS, sizeof *s->entries.slots);
  s->entries.n_slots = SLOTS;
  return s->entries.slots ? 0 : -ENOMEM;
}

void prelux_entries_release(struct prelux_store *s)
{
  struct prelux_entry *older;
  for (struct prelux_entry *e = s->entries.newest; e; e = older)
  {
    older = e->older;
    free(e);
  }
  free(s->entries.slots);
  memset(&s->entries, 0, sizeof s->entries);
}

static uint64_t hash_of(const struct prelux_tree *t, const char *object, size_t len)
{
  return prelux_store_hash(object, len, t->store->seed + (uint64_t)t->id);
}

static void lru_unlink(struct prelux_entries *m, struct prelux_entry *e)
{
  *(e->newer ? &e->newer->older : &m->newest) = e->older;
  *(e->older ? &e->older->newer : &m->oldest) = e->newer;
}

static void lru_front(struct prelux_entries *m, struct prelux_entry *e)
{
  e->newer = NULL;
  e->older = m->newest;
  *(m->newest ? &m->newest->newer : &m->oldest) = e;
  m->newest = e;
}

static struct prelux_entry **find_link(struct prelux_tree *t, uint64_t hash, const char *object, size_t len)
{
  struct prelux_entries *m = &t->store->entries;
  struct prelux_entry **p = &m->slots[hash & (m->n_slots - 1)];
  while (*p && ((*p)->hash != hash || (*p)->tree != t || (*p)->path_len != len || memcmp((*p)->data, object, len) != 0))
    p = &(*p)->chain;
  return p;
}

struct prelux_entry *prelux_entry_find(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_entries *m = &t->store->entries;
  struct prelux_entry *e = *find_link(t, hash_of(t, object, len), object, len);
  if (e && e != m->newest)
  {
    lru_unlink(m, e);
    lru_front(m, e);
  }
  return e;
}

void prelux_entry_known(const struct prelux_entry *e, struct prelux_known *ret)
{
  const char *version = e->data + e->path_len + 1, *md5 = version + e->version_len + 1;
  *ret = (struct prelux_known){
      .obj = {.type = e->type, .mode = e->mode, .size = e->size, .mtime_ns = e->mtime_ns, .mtime_rough = e->mtime_rough},
      .learned_ns = e->learned_ns,
      .cache_ino = e->cache_ino,
      .ino = e->ino,
  };
  memcpy(ret->obj.version, version, e->version_len + 1u);
  memcpy(ret->obj.md5, md5, e->md5_len + 1u);
}

static void unlink_entry(struct prelux_entry **p)
{
  struct prelux_entry *e = *p;
  struct prelux_entries *m = &e->tree->store->entries;
  *p = e->chain;
  lru_unlink(m, e);
  m->count--;
}

static void forget_entry(struct prelux_entry **p)
{
  struct prelux_entry *e = *p;
  prelux_tree_unpublish_slots(e->tree, e->data, e->path_len);
  unlink_entry(p);
  free(e);
}

/* What a listing that is out of date says of the object was right only beside the entry. */
static void forget_outdated(const struct prelux_entry *e)
{
  size_t parent = prelux_object_parent(e->data, e->path_len);
  const struct prelux_folder *f = e->path_len ? prelux_folder_find(e->tree, e->data, parent) : NULL;
  if (f && f->outdated && f->learned_ns <= e->learned_ns)
    prelux_folder_drop(e->tree, e->data, parent);
}

static void make_room(struct prelux_entries *m)
{
  while (m->count >= PRELUX_ENTRIES_MAX && m->oldest)
  {
    struct prelux_entry *e = m->oldest;
    forget_outdated(e);
    forget_entry(find_link(e->tree, e->hash, e->data, e->path_len));
  }
}

static struct prelux_entry *entry_new(struct prelux_tree *t, const char *object, size_t len, const struct prelux_known *k)
{
  size_t version = strnlen(k->obj.version, sizeof k->obj.version - 1), md5 = strnlen(k->obj.md5, sizeof k->obj.md5 - 1);
  struct prelux_entry *e = calloc(1, sizeof *e + len + version + md5 + 3);
  if (!e)
    return NULL;
  e->tree = t;
  e->hash = hash_of(t, object, len);
  e->path_len = (uint32_t)len;
  e->type = k->obj.type;
  e->mode = k->obj.mode;
  e->size = k->obj.size;
  e->mtime_ns = k->obj.mtime_ns;
  e->mtime_rough = k->obj.mtime_rough;
  e->learned_ns = k->learned_ns;
  e->cache_ino = k->cache_ino;
  e->ino = k->ino;
  e->version_len = (uint8_t)version;
  e->md5_len = (uint8_t)md5;
  memcpy(e->data, object, len);
  memcpy(e->data + len + 1, k->obj.version, version);
  memcpy(e->data + len + version + 2, k->obj.md5, md5);
  return e;
}

void prelux_entry_put(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *k)
{
  struct prelux_entries *m = &t->store->entries;
  uint64_t hash = hash_of(t, object, len);
  struct prelux_entry **p = find_link(t, hash, object, len), *old = *p;
  struct prelux_known was;
  int64_t used_ns = 0;
  if (old)
  {
    prelux_entry_known(old, &was);
    used_ns = old->used_ns;
    if (was.learned_ns > k->learned_ns)
    {
      bool same = prelux_object_same(&was.obj, &k->obj);
      if (same && k->cache_ino)
        old->cache_ino = was.cache_ino = k->cache_ino;
      *k = was;
      return;
    }
    if (!k->cache_ino && prelux_object_same(&was.obj, &k->obj))
      k->cache_ino = was.cache_ino;
    unlink_entry(p);
    free(old);
  }
  make_room(m);
  struct prelux_entry *e = entry_new(t, object, len, k);
  if (!e)
  {
    prelux_memory_forget(t, object, len);
    return;
  }
  e->used_ns = used_ns;
  p = &m->slots[hash & (m->n_slots - 1)];
  e->chain = *p;
  *p = e;
  lru_front(m, e);
  m->count++;
}

void prelux_entry_drop(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_entry **p = find_link(t, hash_of(t, object, len), object, len);
  if (!*p)
    return;
  forget_outdated(*p);
  forget_entry(p);
}

void prelux_entries_drop_below(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_entry *older;
  for (struct prelux_entry *e = t->store->entries.newest; e; e = older)
  {
    older = e->older;
    if (e->tree == t && e->path_len >= len && memcmp(e->data, object, len) == 0 &&
        (len == 0 || e->path_len == len || e->data[len] == '/'))
      prelux_entry_drop(t, e->data, e->path_len);
  }
}
