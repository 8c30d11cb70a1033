/* Memory of listings. A folder is kept as the very bytes that are sent to the library (blob) and beside it what the library
 * has no use for: versions and checksums. Immutable once put; readers outside the lock hold a reference. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/index/writer.h"
#include "lib/store/private.h"

#define SLOTS (1u << 16)

int prelux_folders_init(struct prelux_store *s)
{
  s->folders.slots = calloc(SLOTS, sizeof *s->folders.slots);
  s->folders.n_slots = SLOTS;
  return s->folders.slots ? 0 : -ENOMEM;
}

static size_t weight(const struct prelux_folder *f)
{
  return sizeof *f + f->path_len + f->blob->bytes + f->pool_len + f->blob->count * sizeof *f->extra;
}

void prelux_folder_unref(struct prelux_folder *f)
{
  if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
    return;
  free(f->blob);
  free(f->extra);
  free(f->pool);
  free(f);
}

static uint64_t hash_of(const struct prelux_tree *t, const char *object, size_t len)
{
  return prelux_store_hash(object, len, t->store->seed + (uint64_t)t->id + 1);
}

static struct prelux_folder **find_link(struct prelux_tree *t, uint64_t hash, const char *object, size_t len)
{
  struct prelux_folders *m = &t->store->folders;
  struct prelux_folder **p = &m->slots[hash & (m->n_slots - 1)];
  while (*p && ((*p)->hash != hash || (*p)->tree != t || (*p)->path_len != len || memcmp((*p)->path, object, len) != 0))
    p = &(*p)->chain;
  return p;
}

static void lru_unlink(struct prelux_folders *m, struct prelux_folder *f)
{
  *(f->newer ? &f->newer->older : &m->newest) = f->older;
  *(f->older ? &f->older->newer : &m->oldest) = f->newer;
}

static void lru_front(struct prelux_folders *m, struct prelux_folder *f)
{
  f->newer = NULL;
  f->older = m->newest;
  *(m->newest ? &m->newest->newer : &m->oldest) = f;
  m->newest = f;
}

struct prelux_folder *prelux_folder_find(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_folders *m = &t->store->folders;
  struct prelux_folder *f = *find_link(t, hash_of(t, object, len), object, len);
  if (f && f != m->newest)
  {
    lru_unlink(m, f);
    lru_front(m, f);
  }
  return f;
}

static uint32_t *below(const struct prelux_tree *t, const char *object, size_t len)
{
  return &t->store->folders.below[hash_of(t, object, len) & (PRELUX_BELOW_SLOTS - 1)];
}

/* f comes (1) or goes (-1): with the folders above it, but for the tree's root. */
static void count_above(const struct prelux_folder *f, int n)
{
  for (size_t len = prelux_object_parent(f->path, f->path_len); len > 0; len = prelux_object_parent(f->path, len))
    *below(f->tree, f->path, len) += (uint32_t)n;
}

static void unlink_folder(struct prelux_folder **p)
{
  struct prelux_folder *f = *p;
  struct prelux_folders *m = &f->tree->store->folders;
  *p = f->chain;
  count_above(f, -1);
  lru_unlink(m, f);
  m->count--;
  m->bytes -= weight(f);
}

static const char *entry_name(const struct prelux_folder *f, uint32_t i)
{
  return (const char *)f->blob + f->blob->entries[i].name_off;
}

/* The same version under the same name in a later listing, as far as listings tell: what views show of it stays right. */
static bool stays(const struct prelux_folder *f, uint32_t i, const struct prelux_folder *next, size_t len)
{
  struct prelux_known was, now;
  long j = prelux_folder_child(next, entry_name(f, i), len);
  if (j < 0 || !f->exact || !next->exact)
    return j >= 0;
  prelux_folder_known(f, i, &was);
  prelux_folder_known(next, (uint32_t)j, &now);
  return prelux_object_same(&was.obj, &now.obj);
}

/* Drops the slots of all names, or of those that are not in `next` as they were. */
static void unpublish_children(struct prelux_folder *f, const struct prelux_folder *next)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  size_t at = f->path_len;
  memcpy(path, f->path, at);
  if (at)
    path[at++] = '/';
  for (uint32_t i = 0; i < f->blob->count; i++)
  {
    size_t n = f->blob->entries[i].name_len;
    if (next && stays(f, i, next, n))
      continue;
    memcpy(path + at, entry_name(f, i), n);
    prelux_tree_unpublish_slots(f->tree, path, at + n);
  }
}

/* Its listing is in shared memory for nobody any more. */
static void take_back(const struct prelux_tree *t, const char *object, size_t len)
{
  for (size_t i = 0; t->store->index && i < t->n_views; i++)
    prelux_index_drop_names(t->store->index, t->views[i].id, object, len);
}

static void forget_folder(struct prelux_folder **p)
{
  struct prelux_folder *f = *p;
  take_back(f->tree, f->path, f->path_len);
  unlink_folder(p);
  unpublish_children(f, NULL);
  prelux_folder_unref(f);
}

void prelux_folders_release(struct prelux_store *s)
{
  struct prelux_folder *older;
  for (struct prelux_folder *f = s->folders.newest; f; f = older)
  {
    older = f->older;
    prelux_folder_unref(f);
  }
  free(s->folders.slots);
  memset(&s->folders, 0, sizeof s->folders);
}

void prelux_folder_put(struct prelux_folder *f)
{
  struct prelux_folders *m = &f->tree->store->folders;
  f->hash = hash_of(f->tree, f->path, f->path_len);
  struct prelux_folder **p = find_link(f->tree, f->hash, f->path, f->path_len), *old = *p;
  if (m->changed[f->hash & (PRELUX_CHANGED_SLOTS - 1)] >= f->learned_ns)
    f->outdated = true;
  if (old && old->learned_ns > f->learned_ns)
  {
    prelux_folder_unref(f);
    return;
  }
  if (old)
  {
    unlink_folder(p);
    take_back(old->tree, old->path, old->path_len);
    unpublish_children(old, weight(f) > PRELUX_FOLDERS_BYTES ? NULL : f);
    prelux_folder_unref(old);
  }
  if (weight(f) > PRELUX_FOLDERS_BYTES)
  {
    prelux_folder_unref(f); /* served, but not remembered */
    return;
  }
  while (m->oldest && (m->count >= PRELUX_FOLDERS_MAX || m->bytes + weight(f) > PRELUX_FOLDERS_BYTES))
    forget_folder(find_link(m->oldest->tree, m->oldest->hash, m->oldest->path, m->oldest->path_len));
  p = &m->slots[f->hash & (m->n_slots - 1)];
  f->chain = *p;
  *p = f;
  lru_front(m, f);
  count_above(f, 1);
  m->count++;
  m->bytes += weight(f);
}

void prelux_folder_stir(const struct prelux_tree *t, const char *object, size_t len)
{
  t->store->folders.stirred[hash_of(t, object, len) & (PRELUX_STIRRED_SLOTS - 1)]++;
  take_back(t, object, len);
}

uint32_t prelux_folder_stirred(const struct prelux_tree *t, const char *object, size_t len)
{
  return t->store->folders.stirred[hash_of(t, object, len) & (PRELUX_STIRRED_SLOTS - 1)];
}

void prelux_folder_touch(struct prelux_tree *t, const char *object, size_t len)
{
  if (len == 0)
    return;
  size_t parent = prelux_object_parent(object, len);
  prelux_folder_stir(t, object, parent);
  uint64_t hash = hash_of(t, object, parent);
  struct prelux_folder *f = *find_link(t, hash, object, parent);
  t->store->folders.changed[hash & (PRELUX_CHANGED_SLOTS - 1)] = prelux_store_now();
  if (f)
    f->outdated = true;
}

void prelux_folders_touch(struct prelux_store *s)
{
  uint64_t now = prelux_store_now();
  for (size_t i = 0; i < PRELUX_CHANGED_SLOTS; i++)
    s->folders.changed[i] = now;
  for (size_t i = 0; i < PRELUX_STIRRED_SLOTS; i++)
    s->folders.stirred[i]++;
  for (const struct prelux_folder *f = s->folders.newest; f; f = f->older)
    take_back(f->tree, f->path, f->path_len);
}

void prelux_folder_drop(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_folder **p = find_link(t, hash_of(t, object, len), object, len);
  if (*p)
    forget_folder(p);
}

void prelux_folders_drop_below(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_folder *older;
  prelux_folder_drop(t, object, len);
  for (struct prelux_folder *f = t->store->folders.newest; f && (len == 0 || *below(t, object, len) > 0); f = older)
  {
    older = f->older;
    if (f->tree == t && f->path_len >= len && memcmp(f->path, object, len) == 0 &&
        (len == 0 || f->path_len == len || f->path[len] == '/'))
      forget_folder(find_link(t, f->hash, f->path, f->path_len));
  }
}

long prelux_folder_child(const struct prelux_folder *f, const char *name, size_t len)
{
  uint32_t lo = 0, hi = f->blob->count;
  while (lo < hi)
  {
    uint32_t mid = lo + (hi - lo) / 2;
    size_t n = f->blob->entries[mid].name_len;
    int c = memcmp(entry_name(f, mid), name, n < len ? n : len);
    if (c == 0 && n == len)
      return mid;
    if (c < 0 || (c == 0 && n < len))
      lo = mid + 1;
    else
      hi = mid;
  }
  return -1;
}

void prelux_folder_known(const struct prelux_folder *f, uint32_t i, struct prelux_known *ret)
{
  const struct prelux_listing_entry *e = &f->blob->entries[i];
  *ret = (struct prelux_known){.obj = {.type = e->type, .mode = e->mode, .size = e->size, .mtime_ns = e->mtime_ns},
                               .learned_ns = f->learned_ns,
                               .ino = e->ino};
  if (f->extra[i].version_off)
    memccpy(ret->obj.version, f->pool + f->extra[i].version_off, 0, sizeof ret->obj.version);
  if (f->extra[i].md5_off)
    memccpy(ret->obj.md5, f->pool + f->extra[i].md5_off, 0, sizeof ret->obj.md5);
}

int prelux_memory_get(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret)
{
  struct prelux_entry *e = prelux_entry_find(t, object, len);
  size_t parent = prelux_object_parent(object, len);
  struct prelux_folder *f = len ? prelux_folder_find(t, object, parent) : NULL;
  if (e)
    prelux_entry_known(e, ret);
  if (!f || !f->exact || (e && e->learned_ns >= f->learned_ns))
    return e != NULL;
  const char *name = object + (parent ? parent + 1 : 0);
  long i = prelux_folder_child(f, name, len - (size_t)(name - object));
  struct prelux_known k = {.learned_ns = f->learned_ns, .unlisted = i < 0};
  if (i < 0 && !f->all)
    return e != NULL;
  if (i >= 0)
    prelux_folder_known(f, (uint32_t)i, &k);
  if (e && prelux_object_same(&k.obj, &ret->obj))
    k.cache_ino = e->cache_ino;
  *ret = k;
  return 1;
}

void prelux_memory_forget(struct prelux_tree *t, const char *object, size_t len)
{
  prelux_entry_drop(t, object, len);
  prelux_folder_drop(t, object, len);
  if (len)
    prelux_folder_drop(t, object, prelux_object_parent(object, len));
  prelux_tree_unpublish(t, object, len);
}
