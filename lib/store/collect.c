/* What a server says is not believed: names that no folder can hold ("", ".", "..", with '/' or NUL, over 255 bytes), the
 * cache's own ".prelux" and entries of no type are dropped, counted and named in the log. One name given twice is kept once;
 * when it is both a file and a folder (keys "a" and "a/b") the folder wins, else what lies below it could not be reached. */
#include "lib/store/collect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/prelux/version.h"

struct prelux_collect_item {
  uint64_t size;
  int64_t mtime_ns;
  uint32_t mode, name, version, md5; /* name, version, md5: offsets in the pool */
  uint16_t name_len;
  uint8_t type;
};

static const char *fault_of(const struct prelux_collect *c, const char *name, size_t len, const struct prelux_object *obj)
{
  if (len == 0)
    return "empty name";
  if (len > PRELUX_NAME_MAX)
    return "name longer than 255 bytes";
  if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
    return "name . or ..";
  if (memchr(name, '/', len) || memchr(name, 0, len))
    return "slash or NUL in a name";
  if (*c->object == 0 && c->v->tree->store->opts.single && len == 7 && memcmp(name, ".prelux", 7) == 0)
    return "the cache's own name";
  if (obj->type != PRELUX_FILE && obj->type != PRELUX_DIR)
    return "neither file nor folder";
  size_t at = strlen(c->object);
  return at + len + 1 > PRELUX_OBJECT_MAX ? "path too long" : NULL;
}

/* Appends to the pool; offset, 0 for "" and -errno. */
static int64_t keep(struct prelux_collect *c, const char *text, size_t len)
{
  if (len == 0)
    return 0;
  if (c->pool_len + len + 1 > c->pool_cap)
  {
    size_t cap = (c->pool_cap ? c->pool_cap * 2 : 4096) + len;
    char *grown = cap > PRELUX_LIST_BYTES_MAX ? NULL : realloc(c->pool, cap);
    if (!grown)
      return cap > PRELUX_LIST_BYTES_MAX ? -EOVERFLOW : -ENOMEM;
    c->pool = grown;
    c->pool_cap = cap;
  }
  if (c->pool_len == 0)
    c->pool[c->pool_len++] = 0;
  size_t at = c->pool_len;
  memcpy(c->pool + at, text, len);
  c->pool[at + len] = 0;
  c->pool_len += len + 1;
  return (int64_t)at;
}

int prelux_collect_add(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct prelux_collect *c = arg;
  const char *fault = fault_of(c, name, len, obj);
  if (fault)
  {
    if (c->dropped++ == 0)
      snprintf(c->example, sizeof c->example, "%s", fault);
    return 0;
  }
  if (c->n == PRELUX_LIST_NAMES_MAX)
    return -EOVERFLOW;
  if (c->n == c->cap)
  {
    size_t cap = c->cap ? c->cap * 2 : 64;
    struct prelux_collect_item *grown = realloc(c->items, cap * sizeof *grown);
    if (!grown)
      return -ENOMEM;
    c->items = grown;
    c->cap = cap;
  }
  int64_t at = keep(c, name, len);
  int64_t version = at < 0 ? at : keep(c, obj->version, strnlen(obj->version, sizeof obj->version - 1));
  int64_t md5 = version < 0 ? version : keep(c, obj->md5, strnlen(obj->md5, sizeof obj->md5 - 1));
  if (md5 < 0)
    return (int)md5;
  bool file = obj->type == PRELUX_FILE, sure = c->exact && !obj->mtime_rough;
  c->items[c->n++] = (struct prelux_collect_item){
      .size = !file ? 0 : c->exact ? obj->size : UINT64_MAX,
      .mtime_ns = sure ? obj->mtime_ns : 0,
      .mode = obj->mode & 07777,
      .name = (uint32_t)at,
      .version = (uint32_t)version,
      .md5 = (uint32_t)md5,
      .name_len = (uint16_t)len,
      .type = obj->type,
  };
  return 0;
}

static int by_name(const void *a, const void *b, void *arg)
{
  const struct prelux_collect_item *x = a, *y = b;
  const char *pool = arg;
  size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
  int c = memcmp(pool + x->name, pool + y->name, n);
  if (c == 0)
    c = (int)x->name_len - (int)y->name_len;
  /* The folder first: it is the one that stays. */
  return c ? c : (x->type != PRELUX_DIR) - (y->type != PRELUX_DIR);
}

void prelux_collect_sort(struct prelux_collect *c)
{
  size_t n = 0;
  if (c->n)
    qsort_r(c->items, c->n, sizeof *c->items, by_name, c->pool);
  for (size_t i = 0; i < c->n; i++)
  {
    const struct prelux_collect_item *it = &c->items[i], *last = n ? &c->items[n - 1] : NULL;
    if (last && last->name_len == it->name_len && memcmp(c->pool + last->name, c->pool + it->name, it->name_len) == 0)
      continue;
    c->items[n++] = *it;
    c->names += it->name_len + 1u;
  }
  c->n = n;
}

/* The number of a child; one of which the listing says nothing but that it is there is not learned about. */
static uint64_t child_number(const struct prelux_collect *c, const struct prelux_folder *f, const struct prelux_collect_item *it,
                             const char *path, size_t len)
{
  struct prelux_known k = {.obj = {.type = it->type, .size = it->size, .mtime_ns = it->mtime_ns}, .learned_ns = f->learned_ns};
  if (!f->exact)
    return prelux_learn_number(f->tree, path, len);
  if (it->version)
    memccpy(k.obj.version, c->pool + it->version, 0, sizeof k.obj.version);
  if (it->md5)
    memccpy(k.obj.md5, c->pool + it->md5, 0, sizeof k.obj.md5);
  return prelux_learn(f->tree, path, len, &k);
}

/* Learn lock held. */
static void fill_blob(struct prelux_collect *c, struct prelux_folder *f, size_t bytes)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  struct prelux_listing *l = f->blob;
  size_t at = sizeof *l + c->n * sizeof *l->entries, base = f->path_len;
  *l = (struct prelux_listing){.magic = PRELUX_LISTING_MAGIC,
                               .major = PRELUX_LISTING_MAJOR,
                               .count = (uint32_t)c->n,
                               .bytes = bytes,
                               .dir_ino = prelux_learn_number(f->tree, f->path, f->path_len)};
  memcpy(path, f->path, base);
  if (base)
    path[base++] = '/';
  for (size_t i = 0; i < c->n; i++)
  {
    const struct prelux_collect_item *it = &c->items[i];
    memcpy(path + base, c->pool + it->name, it->name_len);
    l->entries[i] = (struct prelux_listing_entry){
        .size = it->size,
        .mtime_ns = it->mtime_ns,
        .ino = child_number(c, f, it, path, base + it->name_len),
        .mode = it->mode,
        .name_off = (uint32_t)at,
        .name_len = it->name_len,
        .type = it->type,
    };
    memcpy((char *)l + at, c->pool + it->name, it->name_len + 1u);
    at += it->name_len + 1u;
    f->extra[i] = (struct prelux_folder_extra){.version_off = it->version, .md5_off = it->md5};
  }
}

struct prelux_folder *prelux_collect_pack(struct prelux_collect *c, uint64_t learned_ns)
{
  size_t len = strlen(c->object), bytes = sizeof(struct prelux_listing) + c->n * sizeof(struct prelux_listing_entry) + c->names;
  struct prelux_folder *f = calloc(1, sizeof *f + len + 1);
  if (!f)
    return NULL;
  atomic_init(&f->refs, 1);
  f->tree = c->v->tree;
  f->learned_ns = learned_ns;
  f->exact = c->exact;
  f->all = c->exact && !c->dropped && (c->v->backend->ops->caps & PRELUX_CAP_LIST_ALL);
  f->path_len = (uint32_t)len;
  memcpy(f->path, c->object, len);
  f->blob = malloc(bytes);
  f->extra = malloc(c->n * sizeof *f->extra + 1);
  if (!f->blob || !f->extra)
  {
    prelux_folder_unref(f);
    return NULL;
  }
  fill_blob(c, f, bytes);
  f->pool = c->pool;
  f->pool_len = c->pool_len;
  c->pool = NULL;
  return f;
}

void prelux_collect_release(struct prelux_collect *c)
{
  free(c->items);
  free(c->pool);
}
