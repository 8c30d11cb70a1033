#include "daemon/stores.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/path.h"

#define IDENTITY_MAX 8192
#define STORES_MAX 1024 /* cache folders of one daemon */

struct kept_tree {
  struct kept_tree *next;
  char *identity;
  bool path; /* the identity names a path below the backend's root */
  struct prelux_tree *tree;
  struct prelux_switch *feed;
};

struct kept_store {
  struct kept_store *next;
  char *dir;
  bool single;
  struct prelux_store *store;
  struct kept_tree *trees;
};

struct prelux_stores {
  pthread_mutex_t lock; /* guards the lists; taken before the stores' own locks */
  struct kept_store *first;
  unsigned count;
  struct prelux_index_writer *index;
};

int prelux_stores_create(struct prelux_index_writer *index, struct prelux_stores **ret)
{
  struct prelux_stores *s = calloc(1, sizeof *s);
  if (!s)
    return -ENOMEM;
  pthread_mutex_init(&s->lock, NULL);
  s->index = index;
  *ret = s;
  return 0;
}

static void tree_free(struct kept_tree *t)
{
  prelux_switch_free(t->feed);
  free(t->identity);
  free(t);
}

static void store_free(struct kept_store *k)
{
  if (k->store)
    prelux_store_close(k->store);
  while (k->trees)
  {
    struct kept_tree *t = k->trees;
    k->trees = t->next;
    tree_free(t);
  }
  free(k->dir);
  free(k);
}

void prelux_stores_free(struct prelux_stores *s)
{
  if (!s)
    return;
  while (s->first)
  {
    struct kept_store *k = s->first;
    s->first = k->next;
    store_free(k);
  }
  pthread_mutex_destroy(&s->lock);
  free(s);
}

/* The same folder under two names must not be opened twice: names are compared when resolved. */
static int resolve(const char *dir, char out[PATH_MAX])
{
  if (realpath(dir, out))
    return 0;
  if (errno != ENOENT)
    return -errno;
  long n = prelux_path_join(out, PATH_MAX, NULL, dir);
  return n < 0 ? (int)n : 0;
}

static struct kept_store *find_store(struct prelux_stores *s, const char *dir)
{
  char real[PATH_MAX];
  if (resolve(dir, real) < 0)
    return NULL;
  struct kept_store *k = s->first;
  while (k && strcmp(k->dir, real) != 0)
    k = k->next;
  return k;
}

/* With the lock held. */
static int open_store(struct prelux_stores *s, const struct prelux_conf *conf, const char *dir, bool single,
                      struct kept_store **ret, struct prelux_problem *why)
{
  struct kept_store *k = find_store(s, dir);
  if (k && k->single != single)
    return prelux_problem(why, EBUSY, "cache folder %s is %s in another configuration", dir,
                          k->single ? "one mapping's `cache:`" : "the `cache.dir`");
  if (!k && s->count >= STORES_MAX)
    return prelux_problem(why, EMFILE, "more than %d cache folders in one preluxd", STORES_MAX);
  if (!k)
  {
    struct prelux_store_opts opts = {
        .dir = dir,
        .single = single,
        .max_size = conf->cache_max_size,
        .staging_size = conf->cache_staging,
        .high = conf->cache_high,
        .low = conf->cache_low,
        .min_free_bytes = conf->min_free_bytes,
        .min_free_share = conf->min_free_share,
    };
    char real[PATH_MAX];
    if (!(k = calloc(1, sizeof *k)))
      return prelux_problem(why, ENOMEM, "no memory");
    k->single = single;
    int err = prelux_store_open(&opts, s->index, &k->store, why);
    if (err == 0 && (resolve(dir, real) < 0 || !(k->dir = strdup(real))))
      err = prelux_problem(why, ENOMEM, "cache folder %s: its real path cannot be told", dir);
    if (err < 0)
    {
      store_free(k);
      return err;
    }
    k->next = s->first;
    s->first = k;
    s->count++;
    prelux_info("cache folder %s opened", k->dir);
  }
  *ret = k;
  return 0;
}

/* `inner` lies in `outer`, which mirrors `identity`: a file there is a cached object of both, so it must be the same object. */
static bool agree(const char *identity, bool path, const char *outer, const char *inner, const char *inner_identity)
{
  char want[IDENTITY_MAX];
  const char *rel = inner + strlen(outer) + 1;
  int n = snprintf(want, sizeof want, "%s%s%s", identity, path ? "/" : " path=", rel);
  return n > 0 && (size_t)n < sizeof want && strcmp(want, inner_identity) == 0;
}

static bool below(const char *dir, const char *of)
{
  size_t n = strlen(of);
  return strncmp(dir, of, n) == 0 && dir[n] == '/';
}

/* Folders of mappings in one another that show different remotes would take each other's files for their own. With the
 * lock held. */
static int check_nesting(const struct prelux_stores *s, const struct kept_store *k, const char *identity, bool path,
                         struct prelux_problem *why)
{
  for (const struct kept_store *o = s->first; o && k->single; o = o->next)
    for (const struct kept_tree *t = o->single && o != k ? o->trees : NULL; t; t = t->next)
      if ((below(k->dir, o->dir) && !agree(t->identity, t->path, o->dir, k->dir, identity)) ||
          (below(o->dir, k->dir) && !agree(identity, path, k->dir, o->dir, t->identity)))
      {
        prelux_problem(why, EEXIST, "cache folder %s and cache folder %s lie in one another and mirror different remotes",
                       k->dir, o->dir);
        snprintf(why->advice, sizeof why->advice, "give each remote a `cache:` folder of its own");
        return -EEXIST;
      }
  return 0;
}

/* With the lock held. */
static int open_tree(const struct prelux_stores *s, struct kept_store *k, struct prelux_instance *i, const char *prefix,
                     struct prelux_tree **ret, struct prelux_problem *why)
{
  char identity[IDENTITY_MAX];
  struct prelux_switch *feed;
  struct kept_tree *t = calloc(1, sizeof *t);
  int err = t ? prelux_switch_create(i, prefix, &feed) : -ENOMEM;
  if (err < 0)
  {
    free(t);
    return prelux_problem(why, -err, "no memory");
  }
  t->feed = feed;
  struct prelux_backend *b = prelux_switch_backend(feed);
  if ((err = b->ops->identity(b, identity, sizeof identity)) < 0)
    err = prelux_problem(why, -err, "identity of the remote is too long");
  for (struct kept_tree *old = k->trees; err == 0 && old; old = old->next)
    if (strcmp(old->identity, identity) == 0)
    {
      prelux_switch_renew(old->feed, i);
      *ret = old->tree;
      tree_free(t);
      return 0;
    }
  t->path = prefix[0] != 0;
  if (err == 0)
    err = check_nesting(s, k, identity, t->path, why);
  if (err == 0 && !(t->identity = strdup(identity)))
    err = prelux_problem(why, ENOMEM, "no memory");
  if (err == 0)
    err = prelux_tree_open(k->store, identity, b, &t->tree, why);
  if (err < 0)
  {
    tree_free(t);
    return err;
  }
  t->next = k->trees;
  k->trees = t;
  *ret = t->tree;
  return 0;
}

int prelux_stores_tree(struct prelux_stores *s, const struct prelux_conf *conf, const struct prelux_conf_mapping *m,
                       const char *home, struct prelux_instance *i, struct prelux_tree **ret, const char **ret_object,
                       struct prelux_problem *why)
{
  char place[PATH_MAX];
  const char *dir = m->cache;
  struct kept_store *k = NULL;
  int err = 0;
  if (!dir)
  {
    err = prelux_store_place(conf->cache_dir, home, place, sizeof place, why);
    dir = place;
  }
  if (err < 0)
    return err;
  pthread_mutex_lock(&s->lock);
  err = open_store(s, conf, dir, m->cache != NULL, &k, why);
  if (err == 0)
    err = open_tree(s, k, i, m->cache ? m->path : "", ret, why);
  pthread_mutex_unlock(&s->lock);
  if (err == 0)
    *ret_object = m->cache ? "" : m->path;
  return err;
}

/* With the lock held. Stores stay open until the end: the list can be used without the lock, which who opens one holds for long, and so may
 * whoever walks the list. */
static unsigned copy_list(const struct prelux_stores *s, struct prelux_store *ret[STORES_MAX])
{
  unsigned n = 0;
  for (struct kept_store *k = s->first; k && n < STORES_MAX; k = k->next)
    ret[n++] = k->store;
  return n;
}

void prelux_stores_each(struct prelux_stores *s, void (*fn)(struct prelux_store *store, void *arg), void *arg)
{
  struct prelux_store *list[STORES_MAX];
  pthread_mutex_lock(&s->lock);
  unsigned n = copy_list(s, list);
  pthread_mutex_unlock(&s->lock);
  for (unsigned i = 0; i < n; i++)
    fn(list[i], arg);
}

bool prelux_stores_try_each(struct prelux_stores *s, void (*fn)(struct prelux_store *store, void *arg), void *arg)
{
  struct prelux_store *list[STORES_MAX];
  if (pthread_mutex_trylock(&s->lock) != 0)
    return false;
  unsigned n = copy_list(s, list);
  pthread_mutex_unlock(&s->lock);
  for (unsigned i = 0; i < n; i++)
    fn(list[i], arg);
  return true;
}

bool prelux_stores_tick(struct prelux_stores *s)
{
  bool whole = true;
  struct prelux_store *list[STORES_MAX];
  pthread_mutex_lock(&s->lock);
  unsigned n = copy_list(s, list);
  pthread_mutex_unlock(&s->lock);
  for (unsigned i = 0; i < n; i++)
    if (!prelux_store_lost(list[i]))
      prelux_store_tick(list[i]);
    else
    {
      prelux_error("cache folder %s was removed while it was in use", prelux_store_dir(list[i]));
      whole = false;
    }
  return whole;
}
