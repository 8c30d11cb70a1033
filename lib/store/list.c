/* Listings: backend -> checked, sorted, without duplicates -> memory (folder.c) -> sealed memfd for the library.
 *
 * What a server says is not believed: names that no folder can hold ("", ".", "..", with '/' or NUL, over 255 bytes), the
 * cache's own ".prelux" and entries of no type are dropped, counted and named in the log. One name given twice is kept once;
 * when it is both a file and a folder (keys "a" and "a/b") the folder wins, else what lies below it could not be reached. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "include/prelux/version.h"
#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/links.h"
#include "lib/store/mix.h"
#include "lib/store/stage.h"

#define PUBLISH_CHUNK 1024u   /* names published in the index per hold of the lock */
#define PUBLISH_MAX 262144u   /* names of one listing published when it comes; the rest as they are asked for */
#define LIST_TRIES 5           /* of a folder that is being changed here while it is listed */
#define PUBLISH_AROUND 256u   /* ... so many at once: who walks through a folder asks for the next one soon */

struct item {
  uint64_t size;
  int64_t mtime_ns;
  uint32_t mode, name, version, md5; /* name, version, md5: offsets in the pool */
  uint16_t name_len;
  uint8_t type;
};

struct collect {
  const struct prelux_view *v;
  const char *object;
  bool exact;
  struct item *items;
  size_t n, cap;
  char *pool;
  size_t pool_len, pool_cap;
  size_t names; /* bytes of names with their NUL */
  unsigned dropped;
  char example[64];
};

static const char *fault_of(const struct collect *c, const char *name, size_t len, const struct prelux_object *obj)
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
static int64_t keep(struct collect *c, const char *text, size_t len)
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

static int add(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct collect *c = arg;
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
    struct item *grown = realloc(c->items, cap * sizeof *grown);
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
  c->items[c->n++] = (struct item){
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
  const struct item *x = a, *y = b;
  const char *pool = arg;
  size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
  int c = memcmp(pool + x->name, pool + y->name, n);
  if (c == 0)
    c = (int)x->name_len - (int)y->name_len;
  /* The folder first: it is the one that stays. */
  return c ? c : (x->type != PRELUX_DIR) - (y->type != PRELUX_DIR);
}

static void sort_items(struct collect *c)
{
  size_t n = 0;
  if (c->n)
    qsort_r(c->items, c->n, sizeof *c->items, by_name, c->pool);
  for (size_t i = 0; i < c->n; i++)
  {
    const struct item *it = &c->items[i], *last = n ? &c->items[n - 1] : NULL;
    if (last && last->name_len == it->name_len && memcmp(c->pool + last->name, c->pool + it->name, it->name_len) == 0)
      continue;
    c->items[n++] = *it;
    c->names += it->name_len + 1u;
  }
  c->n = n;
}

/* The number of a child; one of which the listing says nothing but that it is there is not learned about. */
static uint64_t child_number(const struct collect *c, const struct prelux_folder *f, const struct item *it, const char *path,
                             size_t len)
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
static void fill_blob(struct collect *c, struct prelux_folder *f, size_t bytes)
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
    const struct item *it = &c->items[i];
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

/* Packs what was collected. The pool goes over to the folder. */
static struct prelux_folder *pack(struct collect *c, uint64_t learned_ns)
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

/* Puts children into the index (store.lock held). */
static void publish_range(const struct prelux_view *v, const struct prelux_folder *f, uint32_t from, uint32_t end)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  size_t base = f->path_len;
  memcpy(path, f->path, base);
  if (base)
    path[base++] = '/';
  for (uint32_t i = from; i < end; i++)
  {
    struct prelux_known k;
    const struct prelux_listing_entry *e = &f->blob->entries[i];
    memcpy(path + base, (const char *)f->blob + e->name_off, e->name_len);
    if (prelux_memory_get(v->tree, path, base + e->name_len, &k))
      prelux_view_publish(v, path, base + e->name_len, &k);
  }
}

/* The first children of a new listing, a chunk at a time, as long as it is the one that is known. */
static void publish_children(const struct prelux_view *v, const struct prelux_folder *f)
{
  struct prelux_store *s = v->tree->store;
  uint32_t end = f->blob->count < PUBLISH_MAX ? f->blob->count : PUBLISH_MAX;
  for (uint32_t i = 0; f->exact && s->index && i < end; i += PUBLISH_CHUNK)
  {
    pthread_mutex_lock(&s->lock);
    if (prelux_folder_find(v->tree, f->path, f->path_len) != f)
      end = i;
    publish_range(v, f, i, end - i < PUBLISH_CHUNK ? end : i + PUBLISH_CHUNK);
    pthread_mutex_unlock(&s->lock);
  }
}

void prelux_list_publish_around(const struct prelux_view *v, const char *object, size_t len)
{
  struct prelux_store *s = v->tree->store;
  size_t parent = prelux_object_parent(object, len), at = parent ? parent + 1 : 0;
  struct prelux_known k = {.obj = {.type = PRELUX_DIR}};
  if (!s->index || len == 0)
    return;
  pthread_mutex_lock(&s->lock);
  const struct prelux_folder *f = prelux_folder_find(v->tree, object, parent);
  long i = f && f->exact ? prelux_folder_child(f, object + at, len - at) : -1;
  k.learned_ns = f ? f->learned_ns : 0;
  if (i >= 0 && prelux_view_fresh(v, &k, prelux_store_now()))
  {
    uint32_t from = (uint32_t)i / PUBLISH_AROUND * PUBLISH_AROUND, left = f->blob->count - from;
    publish_range(v, f, from, from + (left < PUBLISH_AROUND ? left : PUBLISH_AROUND));
  }
  pthread_mutex_unlock(&s->lock);
}

/* The caller keeps its reference. */
static int remember(struct prelux_folder *f)
{
  struct prelux_store *s = f->tree->store;
  prelux_learn_save(f->tree);
  atomic_fetch_add(&f->refs, 1);
  pthread_mutex_lock(&s->lock);
  s->stats.listings++;
  prelux_folder_put(f);
  pthread_mutex_unlock(&s->lock);
  return 0;
}

static int fetch(const struct prelux_view *v, const char *object, struct prelux_folder **ret, struct prelux_problem *why)
{
  struct collect c = {.v = v, .object = object, .exact = v->backend->ops->caps & PRELUX_CAP_LIST_EXACT};
  uint64_t learned = prelux_store_now();
  struct prelux_folder *f = NULL;
  int rc = v->backend->ops->list(v->backend, object, add, &c, why);
  if (rc == -ENOENT && prelux_view_implies(v, object, strlen(object)))
    rc = 0;
  if (rc == -EOVERFLOW)
    prelux_problem(why, EOVERFLOW, "%.200s: more than %u names or %u bytes of names", object, PRELUX_LIST_NAMES_MAX,
                   PRELUX_LIST_BYTES_MAX);
  if (rc == 0)
  {
    if (c.dropped)
      prelux_warn("listing of '%.200s': %u names dropped, first reason: %s", object, c.dropped, c.example);
    sort_items(&c);
    prelux_learn_lock(v->tree);
    f = pack(&c, learned);
    rc = f ? remember(f) : prelux_problem(why, ENOMEM, "out of memory");
    prelux_learn_unlock(v->tree);
  }
  free(c.items);
  free(c.pool);
  if (rc < 0)
    return rc;
  publish_children(v, f);
  *ret = f;
  return 0;
}

void prelux_list_made(const struct prelux_view *v, const char *object, uint64_t learned_ns)
{
  struct collect c = {.v = v, .object = object};
  struct prelux_store *s = v->tree->store;
  prelux_learn_lock(v->tree);
  struct prelux_folder *f = pack(&c, learned_ns);
  if (f)
  {
    f->made = f->outdated = true;
    pthread_mutex_lock(&s->lock);
    prelux_folder_put(f);
    pthread_mutex_unlock(&s->lock);
  }
  prelux_learn_unlock(v->tree);
}

bool prelux_list_lacks(const struct prelux_view *v, const char *object)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_known none = {.obj.type = PRELUX_NONE, .unlisted = true};
  size_t len = strlen(object);
  if (!len || prelux_view_implies(v, object, len) || prelux_links_known(v->tree, object, len, NULL) || prelux_links_above(v->tree, object, len))
    return false;
  pthread_mutex_lock(&s->lock);
  const struct prelux_folder *f = prelux_folder_find(v->tree, object, prelux_object_parent(object, len));
  none.learned_ns = f ? f->learned_ns : 0;
  bool ret = f && f->made && !prelux_entry_find(v->tree, object, len) && prelux_view_fresh(v, &none, prelux_store_now());
  pthread_mutex_unlock(&s->lock);
  return ret;
}

static struct prelux_folder *remembered(const struct prelux_view *v, const char *object, uint64_t not_before, bool any_age)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_known k = {.obj = {.type = PRELUX_DIR}};
  pthread_mutex_lock(&s->lock);
  struct prelux_folder *f = prelux_folder_find(v->tree, object, strlen(object));
  k.learned_ns = f ? f->learned_ns : 0;
  if (f && !f->outdated && f->learned_ns >= not_before && (any_age || prelux_view_fresh(v, &k, prelux_store_now())))
    atomic_fetch_add(&f->refs, 1);
  else
    f = NULL;
  pthread_mutex_unlock(&s->lock);
  return f;
}

int prelux_list_refresh(const struct prelux_view *v, const char *object, struct prelux_folder **ret, struct prelux_problem *why)
{
  bool alone = v->freshness == PRELUX_FRESH_ALWAYS || v->freshness == PRELUX_FRESH_SKIP;
  struct prelux_flight flight;
  struct prelux_folder *f = NULL;
  struct prelux_problem mine = {0};
  int rc = 0;
  if (!alone && !prelux_flight_begin(&flight, v, PRELUX_FLIGHT_LIST, object, &rc, why))
  {
    if (rc == 0)
      f = remembered(v, object, 1, true);
    if (rc < 0 && rc != -EAGAIN)
      return rc;
    alone = true;
    rc = f ? 0 : fetch(v, object, &f, &mine);
  }
  else
    rc = fetch(v, object, &f, &mine);
  if (!alone)
    prelux_flight_end(v->tree->store, &flight, rc, &mine);
  if (rc < 0)
  {
    if (why)
      *why = mine;
    return rc;
  }
  if (ret)
    *ret = f;
  else
    prelux_folder_unref(f);
  return 0;
}

/* The listing as a file that nobody can change. */
static int seal(const struct prelux_listing *l, int *ret_fd)
{
  char path[32];
  int fd = prelux_os.memfd_create("prelux-listing", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0)
    return -errno;
  int rc = prelux_write_all(fd, l, l->bytes);
  if (rc == 0 && prelux_os.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
    rc = -errno;
  if (rc < 0)
  {
    prelux_os.close(fd);
    return rc;
  }
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int ro = prelux_os.open(path, O_RDONLY | O_CLOEXEC);
  if (ro < 0)
    ro = fd; /* no /proc: sealed all the same */
  else
    prelux_os.close(fd);
  *ret_fd = ro;
  return 0;
}

static struct prelux_listing *copy_of(const struct prelux_listing *l)
{
  struct prelux_listing *copy = malloc(l->bytes);
  if (copy)
    memcpy(copy, l, l->bytes);
  return copy;
}

/* A copy with the attributes that this node keeps; NULL with 0: none of them matters here. */
static int lay_over(struct prelux_folder *f, struct prelux_listing **ret)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  struct prelux_listing *l = NULL;
  size_t base = f->path_len;
  memcpy(path, f->path, base);
  if (base)
    path[base++] = '/';
  for (uint32_t i = 0; f->exact && f->tree->attrs.count && i < f->blob->count; i++)
  {
    const struct prelux_listing_entry *e = &f->blob->entries[i];
    struct prelux_known k;
    memcpy(path + base, (const char *)f->blob + e->name_off, e->name_len);
    prelux_folder_known(f, i, &k);
    prelux_attrs_show(f->tree, path, base + e->name_len, &k);
    if (k.obj.mode == e->mode && k.obj.mtime_ns == e->mtime_ns)
      continue;
    if (!l && !(l = copy_of(f->blob)))
      return -ENOMEM;
    l->entries[i].mode = k.obj.mode;
    l->entries[i].mtime_ns = k.obj.mtime_ns;
  }
  *ret = l;
  return 0;
}

static uint32_t stirred(const struct prelux_view *v, const char *object)
{
  pthread_mutex_lock(&v->tree->store->lock);
  uint32_t ret = prelux_folder_stirred(v->tree, object, strlen(object));
  pthread_mutex_unlock(&v->tree->store->lock);
  return ret;
}

/* `f`, with our names, is what programs may be shown without asking: nothing has changed since `stir` was read, before all of it was. */
static bool stands(const struct prelux_view *v, const struct prelux_folder *f, uint32_t stir)
{
  struct prelux_known k = {.obj = {.type = PRELUX_DIR}, .learned_ns = f->learned_ns};
  return prelux_folder_find(v->tree, f->path, f->path_len) == f && !f->outdated && prelux_view_fresh(v, &k, prelux_store_now()) &&
         prelux_folder_stirred(v->tree, f->path, f->path_len) == stir;
}

/* Puts an answer into shared memory, so that the next who opens the folder need not ask. What cannot be put there is asked for. */
static void share(const struct prelux_view *v, const struct prelux_folder *f, const struct prelux_listing *l, uint32_t stir)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_names_writer *names = s->index ? prelux_index_names(s->index) : NULL;
  struct prelux_names_at at;
  pthread_mutex_lock(&s->lock);
  bool may = names && stands(v, f, stir);
  pthread_mutex_unlock(&s->lock);
  if (!may || prelux_names_write(names, l, &at) < 0)
    return;
  pthread_mutex_lock(&s->lock);
  if (stands(v, f, stir))
    prelux_view_share(v, f, &at);
  pthread_mutex_unlock(&s->lock);
}

/* What the remote lists, and what this node has there itself. */
static int pack_answer(const struct prelux_view *v, const char *object, struct prelux_folder *f, struct prelux_mix *live, uint32_t stir,
                       int *ret_fd)
{
  struct prelux_listing *laid = NULL, *linked = NULL, *mixed = NULL;
  int rc = lay_over(f, &laid);
  const struct prelux_listing *l = laid ? laid : f->blob;
  if (rc == 0)
    rc = prelux_mix_merge(live, l, &mixed);
  l = mixed ? mixed : l;
  if (rc == 0)
    rc = prelux_links_list(v->tree, object, l, &linked);
  if (rc == 0)
    rc = seal(linked ? linked : l, ret_fd);
  if (rc == 0)
    share(v, f, linked ? linked : l, stir);
  free(laid);
  free(mixed);
  free(linked);
  return rc;
}

/* One that no change on this node is later than; after so many that were overtaken, the last. */
static int up_to_date(const struct prelux_view *v, const char *object, struct prelux_folder **ret, struct prelux_problem *why)
{
  bool overtaken = true;
  for (int tries = 0; overtaken && tries < LIST_TRIES; tries++)
  {
    prelux_folder_unref(*ret);
    *ret = NULL;
    int rc = prelux_list_refresh(v, object, ret, why);
    if (rc < 0)
      return rc;
    pthread_mutex_lock(&v->tree->store->lock);
    overtaken = (*ret)->outdated;
    pthread_mutex_unlock(&v->tree->store->lock);
  }
  return 0;
}

/* Of a folder that the remote does not have yet. */
static int nothing(const struct prelux_view *v, const char *object, struct prelux_folder **ret, struct prelux_problem *why)
{
  struct collect c = {.v = v, .object = object};
  prelux_learn_lock(v->tree);
  *ret = pack(&c, prelux_store_now());
  prelux_learn_unlock(v->tree);
  return *ret ? 0 : prelux_problem(why, ENOMEM, "out of memory");
}

/* What the remote has in the folder; our own names were collected before. */
static int theirs(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_folder **ret, struct prelux_problem *why)
{
  *ret = NULL;
  if (prelux_deferred_made(v->tree, object))
    return nothing(v, object, ret, why);
  *ret = remembered(v, object, 1, false);
  if (!*ret && (flags & PRELUX_STORE_CACHED_ONLY))
    return -EAGAIN;
  return *ret ? 0 : up_to_date(v, object, ret, why);
}

/* Taken before the remote's listing is: a file that is sent and settles in between is in one of them at least. */
static int ours(const struct prelux_view *v, const char *object, struct prelux_mix *ret, struct prelux_problem *why)
{
  struct prelux_stage *g = v->tree->store->stage;
  int rc = g ? prelux_stage_names(g, v->tree, object, ret) : 0;
  if (g && rc == 0)
    rc = prelux_deferred_names(g, v->tree, object, ret);
  return rc < 0 ? prelux_problem(why, -rc, "cannot collect the names in %.200s: %s", object, strerror(-rc)) : 0;
}

int prelux_list_empty(const struct prelux_view *v, const char *object, struct prelux_problem *why)
{
  struct prelux_mix mine = {0};
  struct prelux_folder *f = NULL;
  struct prelux_listing *mixed = NULL;
  int rc = ours(v, object, &mine, why);
  if (rc == 0)
    rc = theirs(v, object, 0, &f, why);
  if (rc == 0 && (rc = prelux_mix_merge(&mine, f->blob, &mixed)) < 0)
    prelux_problem(why, -rc, "out of memory");
  if (rc == 0 && (mixed ? mixed : f->blob)->count > 0)
    rc = prelux_problem(why, ENOTEMPTY, "%.200s is not empty", object);
  prelux_folder_unref(f);
  free(mixed);
  prelux_mix_release(&mine);
  return rc;
}

static int list_folder(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_known *k,
                       struct prelux_mix *live, uint32_t stir, int *ret_fd, struct prelux_problem *why)
{
  struct prelux_folder *f;
  int rc = theirs(v, object, flags, &f, why);
  if (rc == 0)
    rc = prelux_open_folder(v, object, k, NULL, why);
  if (rc == 0 && (rc = pack_answer(v, object, f, live, stir, ret_fd)) < 0)
    prelux_problem(why, -rc, "cannot pack the listing of %.200s: %s", object, strerror(-rc));
  prelux_folder_unref(f);
  return rc;
}

int prelux_store_list(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret, int *ret_fd,
                      struct prelux_problem *why)
{
  struct prelux_mix live = {0};
  struct prelux_known k;
  int rc = prelux_object_check(v->tree->store, object, why);
  if (rc == 0)
    rc = prelux_fresh_get(v, object, flags, false, &k, why);
  if (rc < 0)
    return rc;
  if (k.obj.type != PRELUX_DIR)
    return prelux_problem(why, ENOTDIR, "%.200s: not a folder", object);
  uint32_t stir = stirred(v, object);
  rc = ours(v, object, &live, why);
  if (rc == 0)
    rc = list_folder(v, object, flags, &k, &live, stir, ret_fd, why);
  prelux_mix_release(&live);
  if (rc == 0)
    prelux_view_attr(v, &k, ret);
  return rc;
}
