/* What may be believed, and asking when nothing may.
 *
 * Memory holds for each object what was learned and when; whether that is fresh is the view's matter, so that views with
 * different rules share one memory. The instant noted is the one before the remote was asked: a change during the question
 * counts as later. Order: memory (the object's entry or its folder's listing, whichever was learned later) -> catalogue
 * (`immutable` only: a cached object is believed over restarts) -> the folder's listing anew, when many of its children have
 * expired -> stat. */
#include <errno.h>
#include <string.h>

#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/folder_time.h"
#include "lib/store/links.h"
#include "lib/store/stage.h"

static bool asks_always(const struct prelux_view *v)
{
  return v->freshness == PRELUX_FRESH_ALWAYS || v->freshness == PRELUX_FRESH_SKIP;
}

static void remember(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *k)
{
  struct prelux_tree *t = v->tree;
  struct prelux_known was;
  size_t parent = prelux_object_parent(object, len);
  prelux_learn_lock(t);
  k->ino = prelux_learn(t, object, len, k);
  prelux_learn_save(t);
  pthread_mutex_lock(&t->store->lock);
  /* Other views must not go on showing the old version, beside the new file. */
  if (prelux_memory_get(t, object, len, &was) && !prelux_object_same(&was.obj, &k->obj))
    prelux_tree_unpublish(t, object, len);
  prelux_entry_put(t, object, len, k);
  prelux_view_publish(v, object, len, k);
  /* A listing that disagrees is out of date: listing and stat must not contradict each other for longer than needed. */
  struct prelux_folder *f = len ? prelux_folder_find(t, object, parent) : NULL;
  if (f && f->learned_ns < k->learned_ns)
  {
    const char *name = object + (parent ? parent + 1 : 0);
    long child = prelux_folder_child(f, name, len - (size_t)(name - object));
    bool there = k->obj.type != PRELUX_NONE;
    if (child >= 0 && there && f->blob->entries[child].ino != k->ino)
    {
      f->outdated = true;
      prelux_folder_stir(t, object, parent);
    }
    if (f->exact && (child >= 0) != there && !f->outdated)
    {
      prelux_folder_drop(t, object, parent);
      prelux_view_publish(v, object, len, k); /* the drop took its slot too */
    }
  }
  t->store->stats.negatives += k->obj.type == PRELUX_NONE;
  pthread_mutex_unlock(&t->store->lock);
  prelux_learn_unlock(t);
}

static int valid_object(const struct prelux_object *o, const char *object, struct prelux_problem *why)
{
  if (o->type != PRELUX_FILE && o->type != PRELUX_DIR)
    return prelux_problem(why, EPROTO, "%.200s: the backend does not say whether it is a file or a folder", object);
  if (o->type == PRELUX_FILE && o->size == UINT64_MAX)
    return prelux_problem(why, EPROTO, "%.200s: the server does not say how long it is", object);
  if (o->type == PRELUX_FILE && o->size > INT64_MAX)
    return prelux_problem(why, EPROTO, "%.200s: impossible length %llu", object, (unsigned long long)o->size);
  return 0;
}

/* Takes what the remote answered (rc 0: k->obj; -ENOENT) to a question put at k->learned_ns. */
static int learn(const struct prelux_view *v, const char *object, size_t len, int rc, struct prelux_known *k, struct prelux_problem *why)
{
  if (rc == 0)
    rc = valid_object(&k->obj, object, why);
  if (rc == -ENOENT)
    memset(&k->obj, 0, sizeof k->obj);
  else if (rc < 0)
    return rc;
  remember(v, object, len, k);
  return 0;
}

/* One stat of the remote. */
static int ask(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *ret, struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_known k = {.learned_ns = prelux_store_now()};
  pthread_mutex_lock(&s->lock);
  s->stats.remote_stats++;
  pthread_mutex_unlock(&s->lock);
  int rc = v->backend->ops->stat(v->backend, object, &k.obj, why);
  rc = learn(v, object, len, rc, &k, why);
  if (rc == 0)
    *ret = k;
  return rc;
}

/* Many remotes say "not found" for a name below a file; programs tell ENOTDIR from ENOENT. Walks up until something exists.
 * That an ancestor is a folder hardly ever changes: memory of any age will do. One that was a file may have gone. */
static bool below_file(const struct prelux_view *v, const char *object, size_t len, bool may_ask)
{
  char path[PRELUX_OBJECT_MAX + 1];
  memcpy(path, object, len + 1);
  while ((len = prelux_object_parent(path, len)) > 0)
  {
    struct prelux_known k;
    path[len] = 0;
    if (prelux_stage_has(v->tree, path, len))
      return true;
    if (prelux_deferred_known(v->tree, path, len, &k))
    {
      if (k.obj.type != PRELUX_NONE)
        return k.obj.type == PRELUX_FILE;
      continue;
    }
    pthread_mutex_lock(&v->tree->store->lock);
    int have = prelux_memory_get(v->tree, path, len, &k);
    pthread_mutex_unlock(&v->tree->store->lock);
    if (have && may_ask && k.obj.type == PRELUX_FILE && !prelux_view_fresh(v, &k, prelux_store_now()))
      have = 0;
    if (!have && (!may_ask || ask(v, path, len, &k, NULL) < 0))
      return false;
    if (k.obj.type != PRELUX_NONE)
      return k.obj.type == PRELUX_FILE;
  }
  return false;
}

/* What was learned, once it is clear whether "not there" means that a name above is a file. */
static int exact(const struct prelux_view *v, const char *object, size_t len, const struct prelux_known *k, struct prelux_problem *why)
{
  if (k->obj.type != PRELUX_NONE)
    return 0;
  if (!below_file(v, object, len, true))
    return 0;
  pthread_mutex_lock(&v->tree->store->lock);
  prelux_entry_drop(v->tree, object, len);
  pthread_mutex_unlock(&v->tree->store->lock);
  return prelux_problem(why, ENOTDIR, "%.200s: a name above it is a file", object);
}

static int ask_exact(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *ret,
                     struct prelux_problem *why)
{
  int rc = ask(v, object, len, ret, why);
  return rc == 0 ? exact(v, object, len, ret, why) : rc;
}

static int not_there(const struct prelux_view *v, const char *object, size_t len, struct prelux_problem *why)
{
  bool not_folder = below_file(v, object, len, false);
  return prelux_problem(why, not_folder ? ENOTDIR : ENOENT, "%.200s: %s", object,
                        not_folder ? "a name above it is a file" : "not there");
}

int prelux_fresh_learn(const struct prelux_view *v, const char *object, int rc, struct prelux_known *k, struct prelux_problem *why)
{
  size_t len = strlen(object);
  rc = learn(v, object, len, rc, k, why);
  if (rc == 0)
    rc = exact(v, object, len, k, why);
  return rc == 0 && k->obj.type == PRELUX_NONE ? not_there(v, object, len, why) : rc;
}

bool prelux_fresh_knows(const struct prelux_view *v, const char *object)
{
  struct prelux_known k;
  struct prelux_row row;
  size_t len = strlen(object);
  if (prelux_links_known(v->tree, object, len, &k) || prelux_links_above(v->tree, object, len) || prelux_deferred_known(v->tree, object, len, &k))
    return true;
  pthread_mutex_lock(&v->tree->store->lock);
  bool knows = prelux_memory_get(v->tree, object, len, &k) &&
               (k.obj.type == PRELUX_DIR || prelux_view_fresh(v, &k, prelux_store_now()));
  pthread_mutex_unlock(&v->tree->store->lock);
  return knows || prelux_catalogue_get(v->tree->store->cat, v->tree->id, object, &row) == 0 ||
         (v->tree->store->stage && prelux_stage_known(v->tree->store->stage, v->tree, object, &k));
}

/* 1 and *ret when memory has what this view may use now. Publishes it. */
static int from_memory(const struct prelux_view *v, const char *object, size_t len, unsigned flags, struct prelux_known *ret)
{
  struct prelux_store *s = v->tree->store;
  pthread_mutex_lock(&s->lock);
  int have = prelux_memory_get(v->tree, object, len, ret);
  bool fresh = have && prelux_view_fresh(v, ret, prelux_store_now());
  if (fresh)
  {
    if (flags & PRELUX_STORE_RECHECK)
      ret->cache_ino = 0;
    prelux_view_publish(v, object, len, ret);
  }
  pthread_mutex_unlock(&s->lock);
  return fresh;
}

/* A row of a cached object is as good as memory for `immutable`, unless its file was in use when it was to be evicted. */
static int from_catalogue(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *ret)
{
  struct prelux_row row;
  if (v->freshness != PRELUX_FRESH_IMMUTABLE || prelux_catalogue_get(v->tree->store->cat, v->tree->id, object, &row) < 0 ||
      row.used_ns == 0)
    return 0;
  *ret = (struct prelux_known){.obj = row.obj, .ino = prelux_number_of(v->tree, object, &row.obj)};
  if (ret->ino == 0)
    return 0;
  pthread_mutex_lock(&v->tree->store->lock);
  prelux_entry_put(v->tree, object, len, ret);
  prelux_view_publish(v, object, len, ret);
  pthread_mutex_unlock(&v->tree->store->lock);
  return ret->obj.type == PRELUX_FILE;
}

/* Is this the child with which asking for a listing becomes cheaper than one stat after another? */
static bool worth_listing(const struct prelux_view *v, const char *object, size_t len)
{
  bool ret = false;
  if (len == 0 || asks_always(v) || !(v->backend->ops->caps & PRELUX_CAP_LIST_EXACT))
    return false;
  pthread_mutex_lock(&v->tree->store->lock);
  struct prelux_folder *f = prelux_folder_find(v->tree, object, prelux_object_parent(object, len));
  if (f && (f->exact || f->made) && f->blob->count <= PRELUX_RENEW_NAMES && ++f->asked > PRELUX_RENEW_AFTER)
  {
    f->asked = 0;
    ret = true;
  }
  pthread_mutex_unlock(&v->tree->store->lock);
  return ret;
}

static bool renew_folder(const struct prelux_view *v, const char *object, size_t len)
{
  char path[PRELUX_OBJECT_MAX + 1];
  size_t parent = prelux_object_parent(object, len);
  memcpy(path, object, parent);
  path[parent] = 0;
  return prelux_list_refresh(v, path, NULL, NULL) == 0;
}

/* Asks, together with whoever asks for the same just now. 1: memory may know now. */
static int ask_shared(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *ret,
                      struct prelux_problem *why)
{
  struct prelux_flight flight;
  struct prelux_problem mine = {0};
  int rc;
  if (!prelux_flight_begin(&flight, v, PRELUX_FLIGHT_STAT, object, &rc, why))
    return rc == 0 || rc == -EAGAIN ? 1 : rc;
  rc = worth_listing(v, object, len) && renew_folder(v, object, len) ? 1 : 0;
  if (rc == 0)
    rc = ask_exact(v, object, len, ret, &mine);
  prelux_flight_end(v->tree->store, &flight, rc < 0 ? rc : 0, &mine);
  if (rc < 0 && why)
    *why = mine;
  return rc;
}

/* The folder that the view puts there. */
static void imply(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *k)
{
  k->obj = (struct prelux_object){.type = PRELUX_DIR};
  prelux_learn_lock(v->tree);
  k->ino = prelux_learn_number(v->tree, object, len);
  prelux_learn_unlock(v->tree);
  pthread_mutex_lock(&v->tree->store->lock);
  prelux_view_publish(v, object, len, k);
  pthread_mutex_unlock(&v->tree->store->lock);
}

/* Changed here and not on the remote yet: what that says does not count. */
static int from_row(const struct prelux_view *v, const char *object, size_t len, struct prelux_known *k, struct prelux_known *ret,
                    struct prelux_problem *why)
{
  if (k->obj.type == PRELUX_NONE && !prelux_view_implies(v, object, len))
    return not_there(v, object, len, why);
  if (k->obj.type == PRELUX_NONE)
    imply(v, object, len, k);
  if (k->obj.type == PRELUX_DIR)
    prelux_folder_time_show(v->tree, object, len, &k->obj);
  *ret = *k;
  return 0;
}

int prelux_fresh_get(const struct prelux_view *v, const char *object, unsigned flags, bool force, struct prelux_known *ret,
                     struct prelux_problem *why)
{
  size_t len = strlen(object);
  struct prelux_known k;
  int rc = 1;
  if (prelux_links_known(v->tree, object, len, ret))
    return 0;
  if (prelux_links_above(v->tree, object, len))
    return prelux_problem(why, ELOOP, "%.200s: a name above it is a symbolic link", object);
  if (!force && v->tree->store->stage && prelux_stage_known(v->tree->store->stage, v->tree, object, ret))
  {
    prelux_attrs_show(v->tree, object, len, ret);
    return 0;
  }
  if (prelux_deferred_known(v->tree, object, len, &k))
    return from_row(v, object, len, &k, ret, why);
  for (int tries = 0; rc == 1 && tries < 3; tries++)
  {
    if (!force && from_memory(v, object, len, flags, &k))
      break;
    if (flags & PRELUX_STORE_CACHED_ONLY)
      return -EAGAIN;
    if (!force && from_catalogue(v, object, len, &k))
      break;
    /* A question that was on its way before this call says nothing about now. */
    if (force || asks_always(v) || tries == 2)
      rc = ask_exact(v, object, len, &k, why);
    else
      rc = ask_shared(v, object, len, &k, why);
  }
  if (rc < 0)
    return rc;
  if (k.obj.type == PRELUX_NONE && !prelux_view_implies(v, object, len))
    return not_there(v, object, len, why);
  if (k.obj.type == PRELUX_NONE)
    imply(v, object, len, &k);
  prelux_attrs_show(v->tree, object, len, &k);
  *ret = k;
  return 0;
}

int prelux_store_stat(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret,
                      struct prelux_problem *why)
{
  struct prelux_known k;
  int rc = prelux_object_check(v->tree->store, object, why);
  if (rc == 0)
    rc = prelux_fresh_get(v, object, flags, false, &k, why);
  if (rc < 0)
    return rc;
  prelux_list_publish_around(v, object, strlen(object));
  prelux_view_attr(v, &k, ret);
  return 0;
}
