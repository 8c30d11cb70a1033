/* Single flight: the first caller that wants something leads, the others wait for its result. A flight is known by (tree,
 * object, kind). A leader that used other credentials (another backend or reader) shares its success but not its failure. */
#include <errno.h>
#include <string.h>

#include "lib/store/private.h"

static struct prelux_flight *find(struct prelux_tree *t, enum prelux_flight_kind kind, const char *object, size_t len)
{
  struct prelux_flight *f = t->store->flights;
  while (f && (f->tree != t || f->kind != kind || f->len != len || memcmp(f->object, object, len) != 0))
    f = f->next;
  return f;
}

static void start(struct prelux_flight *f, struct prelux_tree *t, struct prelux_backend *backend, uint32_t reader,
                  enum prelux_flight_kind kind, const char *object, size_t len)
{
  *f = (struct prelux_flight){
      .next = t->store->flights, .tree = t, .backend = backend, .reader = reader, .object = object, .len = len, .kind = kind,
  };
  pthread_cond_init(&f->cond, NULL);
  t->store->flights = f;
}

/* Who would be served while the file comes in need not wait for the end. Once: should the stream be of another version, he waits. */
static bool streams(const struct prelux_view *v, enum prelux_flight_kind kind, const char *object)
{
  if (kind != PRELUX_FLIGHT_FILL || !v->early || v->early->done || v->early->joined)
    return false;
  const struct prelux_flow *w = v->tree->store->flows;
  while (w && (w->tree != v->tree || strcmp(w->object, object) != 0))
    w = w->next;
  v->early->joined = w != NULL;
  return w != NULL;
}

void prelux_flight_wake(struct prelux_tree *t, const char *object)
{
  struct prelux_flight *f = find(t, PRELUX_FLIGHT_FILL, object, strlen(object));
  if (f)
    pthread_cond_broadcast(&f->cond);
}

void prelux_flight_tell(struct prelux_tree *t, const char *object)
{
  struct prelux_flight *f = find(t, PRELUX_FLIGHT_FILL, object, strlen(object));
  if (f)
    f->told = true;
}

int prelux_flight_begin(struct prelux_flight *f, const struct prelux_view *v, enum prelux_flight_kind kind, const char *object,
                        int *ret_result, struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  size_t len = strlen(object);
  pthread_mutex_lock(&s->lock);
  struct prelux_flight *other = find(v->tree, kind, object, len);
  if (!other)
  {
    start(f, v->tree, v->backend, v->reader, kind, object, len);
    pthread_mutex_unlock(&s->lock);
    return 1;
  }
  other->waiters++;
  bool joins = false, late = other->told; /* then its failure is of what was asked for before */
  while (!other->done && !(joins = streams(v, kind, object)))
    pthread_cond_wait(&other->cond, &s->lock);
  *ret_result = joins ? -EAGAIN : other->result;
  if (!joins && other->result < 0 && (late || other->backend != v->backend || other->reader != v->reader))
    *ret_result = -EAGAIN;
  else if (!joins && other->result < 0 && why)
    *why = other->why;
  /* The leader waits for this before its flight, which lies on its stack, goes away. */
  if (--other->waiters == 0)
    pthread_cond_broadcast(&other->cond);
  pthread_mutex_unlock(&s->lock);
  return 0;
}

bool prelux_flight_try(struct prelux_flight *f, struct prelux_tree *t, enum prelux_flight_kind kind, const char *object)
{
  size_t len = strlen(object);
  pthread_mutex_lock(&t->store->lock);
  bool free_ = !find(t, kind, object, len);
  if (free_)
    start(f, t, NULL, 0, kind, object, len);
  pthread_mutex_unlock(&t->store->lock);
  return free_;
}

void prelux_flight_end(struct prelux_store *s, struct prelux_flight *f, int result, const struct prelux_problem *why)
{
  pthread_mutex_lock(&s->lock);
  struct prelux_flight **p = &s->flights;
  while (*p != f)
    p = &(*p)->next;
  *p = f->next;
  f->done = true;
  f->result = result;
  if (why)
    f->why = *why;
  pthread_cond_broadcast(&f->cond);
  while (f->waiters)
    pthread_cond_wait(&f->cond, &s->lock);
  pthread_mutex_unlock(&s->lock);
  pthread_cond_destroy(&f->cond);
}
