/* Objects: names, identity, versions, and how a view shows what is known of them. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/links.h"
#include "lib/store/stage_lease.h"

static uint64_t clock_ns(clockid_t id)
{
  struct timespec t;
  prelux_os.clock_gettime(id, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t prelux_store_now(void)
{
  return clock_ns(CLOCK_MONOTONIC);
}

int64_t prelux_store_wall(void)
{
  return (int64_t)clock_ns(CLOCK_REALTIME);
}

uint64_t prelux_store_hash(const void *data, size_t len, uint64_t seed)
{
  return XXH3_64bits_withSeed(data, len, seed);
}

bool prelux_object_same(const struct prelux_object *a, const struct prelux_object *b)
{
  if (a->type != b->type)
    return false;
  if (a->type != PRELUX_FILE)
    return true;
  if (a->size != b->size)
    return false;
  if (a->version[0] && b->version[0])
    return strcmp(a->version, b->version) == 0;
  if (a->md5[0] && b->md5[0])
    return strcmp(a->md5, b->md5) == 0;
  return a->mtime_ns != 0 && a->mtime_ns == b->mtime_ns && !a->mtime_rough && !b->mtime_rough;
}

size_t prelux_object_parent(const char *object, size_t len)
{
  const char *slash = len ? memrchr(object, '/', len) : NULL;
  return slash ? (size_t)(slash - object) : 0;
}

int prelux_object_check(const struct prelux_store *s, const char *object, struct prelux_problem *why)
{
  size_t len = strlen(object);
  if (len > PRELUX_OBJECT_MAX)
    return prelux_problem(why, ENAMETOOLONG, "a path of %zu bytes: at most %u are served", len, PRELUX_OBJECT_MAX);
  if (len == 0)
    return 0;
  if (s->opts.single && strncmp(object, ".prelux", 7) == 0 && (object[7] == 0 || object[7] == '/'))
    return prelux_problem(why, EOPNOTSUPP, "the name .prelux at the top of %s is the cache's own", s->dir);
  for (const char *p = object;; p++)
  {
    size_t n = strcspn(p, "/");
    if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
      return prelux_problem(why, EINVAL, "not an object path: empty, '.' or '..' component");
    if (n > PRELUX_NAME_MAX)
      return prelux_problem(why, ENAMETOOLONG, "a name of %zu bytes: a local file system holds %u", n, PRELUX_NAME_MAX);
    p += n;
    if (!*p)
      return 0;
  }
}

/* How long k may be used from the instant it was learned; 0: not beyond the call at hand. */
static uint64_t view_age(const struct prelux_view *v, const struct prelux_known *k)
{
  if (v->freshness == PRELUX_FRESH_ALWAYS || v->freshness == PRELUX_FRESH_SKIP)
    return 0;
  if (k->obj.type == PRELUX_NONE) /* a listing is no longer believed for what it lacks than for what it has */
    return k->unlisted && v->freshness == PRELUX_FRESH_MAX_AGE && v->max_age_ns < v->negative_age_ns ? v->max_age_ns : v->negative_age_ns;
  return v->freshness == PRELUX_FRESH_IMMUTABLE ? UINT64_MAX : v->max_age_ns;
}

static uint64_t valid_until(const struct prelux_view *v, const struct prelux_known *k)
{
  uint64_t age = view_age(v, k);
  if (age == UINT64_MAX)
    return UINT64_MAX;
  if (age == 0 || k->learned_ns == 0)
    return 0;
  return age > UINT64_MAX - 1 - k->learned_ns ? UINT64_MAX - 1 : k->learned_ns + age;
}

bool prelux_view_fresh(const struct prelux_view *v, const struct prelux_known *k, uint64_t now)
{
  return now < valid_until(v, k);
}

void prelux_view_attr(const struct prelux_view *v, const struct prelux_known *k, struct prelux_attr *ret)
{
  bool file = k->obj.type == PRELUX_FILE, link = k->obj.type == PRELUX_LINK;
  *ret = (struct prelux_attr){
      .type = k->obj.type,
      .cached = k->cache_ino != 0 && !k->live,
      .flags = (k->live ? PRELUX_ATTR_LIVE : 0) | (k->owned ? PRELUX_ATTR_OWNED : 0),
      .mode = k->obj.mode ? k->obj.mode & 07777 : (file ? v->file_mode : v->dir_mode),
      .size = file || link ? k->obj.size : 0,
      .mtime_ns = k->obj.mtime_ns,
      .ino = k->ino ? k->ino : 1,
      .cache_ino = k->cache_ino,
      .cache_dev = !k->cache_ino ? 0 : k->cache_ino & PRELUX_INO_SCRATCH ? v->tree->store->scratch_dev : v->tree->store->dev,
      .valid_ns = k->live || link ? UINT64_MAX : valid_until(v, k),
      .owner = k->owned ? k->owner : 0,
  };
}

static bool view_indexed(const struct prelux_view *v)
{
  for (size_t i = 0; i < v->tree->n_views; i++)
    if (v->tree->views[i].id == v->id)
      return true;
  return false;
}

/* What this node has at the path, whatever the remote has. */
static bool publish_own(const struct prelux_view *v, const char *object, size_t len)
{
  if (prelux_links_publish(v, object, len) || prelux_stage_publish(v, object, len))
    return true;
  if (!prelux_deferred_has(v->tree, object, len))
    return false;
  prelux_index_drop(v->tree->store->index, v->id, object, len); /* it is asked for: see deferred.h */
  return true;
}

bool prelux_view_implies(const struct prelux_view *v, const char *object, size_t len)
{
  return v->root && strlen(v->root) == len && memcmp(v->root, object, len) == 0;
}

void prelux_view_publish(const struct prelux_view *v, const char *object, size_t len, const struct prelux_known *k)
{
  struct prelux_index_writer *index = v->tree->store->index;
  struct prelux_known seen = *k;
  struct prelux_attr attr;
  if (!index || !view_indexed(v))
    return;
  if (publish_own(v, object, len)) /* what is known is of the remote's object */
    return;
  if ((k->obj.type == PRELUX_NONE || k->obj.type == PRELUX_DIR) && prelux_lease_hides(v->tree, object, len, k->obj.type == PRELUX_DIR))
  {
    prelux_index_drop(index, v->id, object, len);
    return;
  }
  prelux_attrs_show(v->tree, object, len, &seen);
  prelux_view_attr(v, &seen, &attr);
  if (k->obj.type == PRELUX_NONE && prelux_view_implies(v, object, len))
    attr.valid_ns = 0;
  /* A slot without validity is of use only for the inode key that comes with it. */
  if (attr.valid_ns || attr.cached)
    prelux_index_put(index, v->id, object, len, &attr, v->tree->dev);
  else
    prelux_index_drop(index, v->id, object, len);
}

void prelux_view_publish_inode(const struct prelux_view *v, const struct prelux_known *k)
{
  struct prelux_attr attr;
  if (!v->tree->store->index || !view_indexed(v))
    return;
  prelux_view_attr(v, k, &attr);
  prelux_index_put_inode(v->tree->store->index, &attr, v->tree->dev);
}

void prelux_view_share(const struct prelux_view *v, const struct prelux_folder *f, const struct prelux_names_at *at)
{
  struct prelux_known k = {.obj = {.type = PRELUX_DIR}, .learned_ns = f->learned_ns};
  uint64_t valid = valid_until(v, &k);
  if (valid && view_indexed(v) && !prelux_lease_hides(v->tree, f->path, f->path_len, true))
    prelux_index_put_names(v->tree->store->index, v->id, f->path, f->path_len, at, valid);
}

void prelux_tree_unpublish(const struct prelux_tree *t, const char *object, size_t len)
{
  if (len)
    prelux_folder_stir(t, object, prelux_object_parent(object, len));
  prelux_tree_unpublish_slots(t, object, len);
}

void prelux_tree_unpublish_slots(const struct prelux_tree *t, const char *object, size_t len)
{
  if (!t->store->index)
    return;
  for (size_t i = 0; i < t->n_views; i++)
    if (!publish_own(&t->views[i], object, len))
      prelux_index_drop(t->store->index, t->views[i].id, object, len);
}
