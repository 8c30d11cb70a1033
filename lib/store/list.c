/* Listings: backend -> checked, sorted, without duplicates -> memory (folder.c) -> sealed memfd for the library. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/collect.h"
#include "lib/store/deferred.h"
#include "lib/store/links.h"
#include "lib/store/mix.h"
#include "lib/store/stage.h"

#define PUBLISH_CHUNK 1024u   /* names published in the index per hold of the lock */
#define PUBLISH_MAX 262144u   /* names of one listing published when it comes; the rest as they are asked for */
#define LIST_TRIES 5           /* of a folder that is being changed here while it is listed */
#define PUBLISH_AROUND 256u   /* ... so many at once: who walks through a folder asks for the next one soon */

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
  struct prelux_collect c = {.v = v, .object = object, .exact = v->backend->ops->caps & PRELUX_CAP_LIST_EXACT};
  uint64_t learned = prelux_store_now();
  struct prelux_folder *f = NULL;
  int rc = v->backend->ops->list(v->backend, object, prelux_collect_add, &c, why);
  if (rc == -ENOENT && prelux_view_implies(v, object, strlen(object)))
    rc = 0;
  if (rc == -EOVERFLOW)
    prelux_problem(why, EOVERFLOW, "%.200s: more than %u names or %u bytes of names", object, PRELUX_LIST_NAMES_MAX,
                   PRELUX_LIST_BYTES_MAX);
  if (rc == 0)
  {
    if (c.dropped)
      prelux_warn("listing of '%.200s': %u names dropped, first reason: %s", object, c.dropped, c.example);
    prelux_collect_sort(&c);
    prelux_learn_lock(v->tree);
    f = prelux_collect_pack(&c, learned);
    rc = f ? remember(f) : prelux_problem(why, ENOMEM, "out of memory");
    prelux_learn_unlock(v->tree);
  }
  prelux_collect_release(&c);
  if (rc < 0)
    return rc;
  publish_children(v, f);
  *ret = f;
  return 0;
}

void prelux_list_made(const struct prelux_view *v, const char *object, uint64_t learned_ns)
{
  struct prelux_collect c = {.v = v, .object = object};
  struct prelux_store *s = v->tree->store;
  prelux_learn_lock(v->tree);
  struct prelux_folder *f = prelux_collect_pack(&c, learned_ns);
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
  struct prelux_collect c = {.v = v, .object = object};
  prelux_learn_lock(v->tree);
  *ret = prelux_collect_pack(&c, prelux_store_now());
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
