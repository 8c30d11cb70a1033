#include "lib/store/pin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/catalogue.h"

#define BATCH 64

struct prelux_pin {
  int64_t tree;
  char *path;
};

static int order(const struct prelux_pin *a, int64_t tree, const char *path, size_t len)
{
  if (a->tree != tree)
    return a->tree < tree ? -1 : 1;
  int ret = strncmp(a->path, path, len);
  return ret ? ret : a->path[len] != 0;
}

/* Where it is, or would be. store.lock held. */
static size_t place(const struct prelux_store *s, int64_t tree, const char *path, size_t len, bool *there)
{
  size_t from = 0, to = s->n_pins;
  *there = false;
  while (from < to)
  {
    size_t at = (from + to) / 2;
    int ret = order(&s->pins[at], tree, path, len);
    if (ret == 0)
    {
      *there = true;
      return at;
    }
    if (ret < 0)
      from = at + 1;
    else
      to = at;
  }
  return from;
}

/* store.lock held. -ENOMEM. */
static int add(struct prelux_store *s, int64_t tree, const char *path)
{
  bool there;
  size_t at = place(s, tree, path, strlen(path), &there);
  if (there)
    return 0;
  struct prelux_pin *more = realloc(s->pins, (s->n_pins + 1) * sizeof *more);
  char *own = strdup(path);
  s->pins = more ? more : s->pins;
  if (!more || !own)
  {
    free(own);
    return -ENOMEM;
  }
  memmove(more + at + 1, more + at, (s->n_pins - at) * sizeof *more);
  more[at] = (struct prelux_pin){tree, own};
  s->n_pins++;
  return 0;
}

static bool drop(struct prelux_store *s, int64_t tree, const char *path)
{
  bool there;
  size_t at = place(s, tree, path, strlen(path), &there);
  if (!there)
    return false;
  free(s->pins[at].path);
  memmove(s->pins + at, s->pins + at + 1, (--s->n_pins - at) * sizeof *s->pins);
  return true;
}

static int load_one(void *arg, int64_t tree, const char *path)
{
  return add(arg, tree, path);
}

int prelux_pins_load(struct prelux_store *s)
{
  return prelux_catalogue_pins(s->cat, load_one, s); /* nobody else has the store yet */
}

void prelux_pins_free(struct prelux_store *s)
{
  for (size_t i = 0; i < s->n_pins; i++)
    free(s->pins[i].path);
  free(s->pins);
  s->pins = NULL;
  s->n_pins = 0;
}

bool prelux_pinned(struct prelux_store *s, int64_t tree, const char *object)
{
  bool there = false;
  pthread_mutex_lock(&s->lock);
  for (size_t len = strlen(object); s->n_pins > 0 && !there; len = prelux_object_parent(object, len))
  {
    place(s, tree, object, len, &there);
    if (len == 0)
      break;
  }
  pthread_mutex_unlock(&s->lock);
  return there;
}

int prelux_pin_mark(struct prelux_store *s, struct prelux_victim *rows, int n)
{
  struct prelux_victim still[PRELUX_PINS_AT_ONCE];
  int count = 0;
  pthread_mutex_lock(&s->pin_lock); /* else an unpin could come between the look and the mark, and nobody would undo that */
  for (int i = 0; i < n; i++)
    if (prelux_pinned(s, rows[i].tree, rows[i].path))
      still[count++] = rows[i];
  if (count > 0)
    prelux_catalogue_mark_pinned(s->cat, still, count);
  pthread_mutex_unlock(&s->pin_lock);
  for (int i = 0; i < n; i++)
    free(rows[i].path);
  return 0;
}

bool prelux_pins_any(struct prelux_store *s)
{
  pthread_mutex_lock(&s->lock);
  bool any = s->n_pins > 0;
  pthread_mutex_unlock(&s->lock);
  return any;
}

/* pin_lock held, here and below: list and catalogue say the same, also when the catalogue refuses. */
static int pin(struct prelux_store *s, int64_t tree, const char *object)
{
  bool was;
  pthread_mutex_lock(&s->lock);
  place(s, tree, object, strlen(object), &was);
  int rc = add(s, tree, object);
  pthread_mutex_unlock(&s->lock);
  if (rc < 0)
    return rc;
  rc = prelux_catalogue_set_pin(s->cat, tree, object, true);
  if (rc < 0 && !was)
  {
    pthread_mutex_lock(&s->lock);
    drop(s, tree, object);
    pthread_mutex_unlock(&s->lock);
  }
  return rc < 0 ? rc : was;
}

static int unpin(struct prelux_store *s, int64_t tree, const char *object)
{
  int rc = prelux_catalogue_set_pin(s->cat, tree, object, false);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&s->lock);
  bool was = drop(s, tree, object);
  pthread_mutex_unlock(&s->lock);
  return was ? 0 : -ENOENT;
}

int prelux_store_pin(const struct prelux_view *v, const char *object, bool on)
{
  struct prelux_tree *t = v->tree;
  struct prelux_store *s = t->store;
  int rc = prelux_object_check(s, object, NULL);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&s->pin_lock);
  rc = on ? pin(s, t->id, object) : unpin(s, t->id, object);
  pthread_mutex_unlock(&s->pin_lock);
  return rc;
}

static void count(struct prelux_store *s, int64_t tree, const char *object, struct prelux_pin_info *ret)
{
  struct prelux_victim rows[BATCH];
  struct prelux_row row;
  char *after = NULL;
  int n;
  if (prelux_catalogue_get(s->cat, tree, object, &row) == 0)
  {
    ret->files++;
    ret->bytes += row.bytes;
  }
  while ((n = prelux_catalogue_below(s->cat, tree, object, after, rows, BATCH)) > 0)
    for (int i = 0; i < n; i++)
    {
      ret->files++;
      ret->bytes += rows[i].bytes;
      free(after);
      after = rows[i].path;
    }
  free(after);
}

int prelux_store_pins(const struct prelux_view *v, int (*fn)(void *arg, const struct prelux_pin_info *pin), void *arg)
{
  struct prelux_tree *t = v->tree;
  struct prelux_store *s = t->store;
  size_t n = 0;
  int rc = 0;
  pthread_mutex_lock(&s->lock);
  char **paths = calloc(s->n_pins + 1, sizeof *paths);
  for (size_t i = 0; paths && i < s->n_pins; i++)
    if (s->pins[i].tree == t->id && (paths[n] = strdup(s->pins[i].path)))
      n++;
  pthread_mutex_unlock(&s->lock);
  for (size_t i = 0; i < n; i++)
  {
    struct prelux_pin_info info = {.object = paths[i]};
    if (rc == 0)
      count(s, t->id, paths[i], &info);
    if (rc == 0)
      rc = fn(arg, &info);
    free(paths[i]);
  }
  free(paths);
  return rc;
}
