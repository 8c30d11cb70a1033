/* Listing ahead of a walk.
 *
 * find, du, ls -R and os.walk list one folder after the other, and wait a round trip or more for each. A listing that reaches the daemon tells
 * where its folder stands in the listing of the folder above, when that is known and fresh. START of them in its order are a walk: the next
 * `window` folders are listed by a few pool threads, each with what lies below it before the next one beside it, as walks go. Folders that are
 * listed by then are read out of shared memory, and never reach the daemon; so the next that does, and stands behind what was listed ahead, is
 * the walk's, who has come through: the next window is twice as long, up to WINDOW. So a walk that stops has had a window of folders listed for
 * nothing, WINDOW at most. A failure ends the run, and none begins there for REST_MS. */
#include "daemon/walks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/crew.h"
#include "daemon/files.h"
#include "daemon/gate.h"
#include "daemon/lanes.h"
#include "daemon/measure.h"
#include "daemon/request.h"
#include "lib/base/os.h"

#define WALKS 64u /* folders above that are remembered */
#define START 3u  /* folders listed in order that make a walk */
#define FIRST 8u
#define WINDOW 128u
#define LOOK 4096u /* places of a listing that are looked at for the next folders */
#define RUNS 8u    /* at once */
#define WORKERS 8u
#define REST_MS 10000u

struct walk {
  uint64_t id; /* 0: nobody's */
  uint64_t view, folder, used, rest_ms;
  uint32_t asks, last, next, window; /* next: up to there it was listed ahead */
  bool busy;
};

struct item {
  struct item *under; /* what is done after it */
  uint32_t place;     /* in the folder that is walked through; UINT32_MAX: it lies deeper */
  char path[];
};

struct run {
  struct prelux_crew crew; /* its lock guards the next three */
  struct item *top;
  uint32_t left; /* folders that may be listed yet */
  bool failed;
  struct prelux_daemon *d;
  struct prelux_live_table *table; /* held */
  uint32_t mapping;
  uint64_t walk;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest; a daemon has one set of walks */
static struct walk walks[WALKS];
static uint64_t uses, ids;
static unsigned runs;

bool prelux_walks_busy(void)
{
  pthread_mutex_lock(&lock);
  bool ret = runs > 0;
  pthread_mutex_unlock(&lock);
  return ret;
}

/* The walk through that folder, or a new one in the place of the one that was used longest ago. Lock held. */
static struct walk *walk_of(uint64_t view, uint64_t folder)
{
  struct walk *oldest = &walks[0];
  for (unsigned i = 0; i < WALKS; i++)
  {
    if (walks[i].id && walks[i].view == view && walks[i].folder == folder)
      return &walks[i];
    if (walks[i].used < oldest->used)
      oldest = &walks[i];
  }
  *oldest = (struct walk){.id = ++ids, .view = view, .folder = folder, .window = FIRST};
  return oldest;
}

/* A folder at this place is listed. True: those from *ret_from on are to be listed now. Lock held. */
static bool heard(struct walk *w, uint32_t place, uint32_t *ret_from)
{
  bool in_order = w->asks == 0 || place > w->last;
  w->asks = in_order ? w->asks + 1 : 1;
  w->window = in_order ? w->window : FIRST;
  w->next = in_order ? w->next : 0;
  w->last = place;
  *ret_from = place + 1 > w->next ? place + 1 : w->next;
  return w->asks >= START && place >= w->next && !w->busy && runs < RUNS && prelux_clock_ms() >= w->rest_ms;
}

/* The first folder that was to be listed and was not: what lies below others took its turn. */
static uint32_t left_out(const struct run *r)
{
  uint32_t least = UINT32_MAX;
  for (const struct item *i = r->top; i; i = i->under)
    least = i->place < least ? i->place : least;
  return least;
}

static void end(struct prelux_crew *crew)
{
  struct run *r = (struct run *)crew;
  uint32_t least = left_out(r);
  pthread_mutex_lock(&lock);
  for (unsigned i = 0; i < WALKS; i++)
    if (walks[i].id == r->walk)
    {
      walks[i].busy = false;
      walks[i].next = least < walks[i].next ? least : walks[i].next;
      walks[i].rest_ms = r->failed ? prelux_clock_ms() + REST_MS : 0;
    }
  runs--;
  pthread_mutex_unlock(&lock);
  for (struct item *i = r->top, *under; i; i = under)
  {
    under = i->under;
    free(i);
  }
  prelux_live_table_drop(r->table);
  prelux_crew_release(&r->crew);
  free(r);
}

/* The folders of `path` from a place on go on top, the first one uppermost; *ret_to: behind the last of them. */
static bool push(struct run *r, const struct prelux_view *v, const char *path, uint32_t from, uint32_t most, uint32_t *ret_to)
{
  struct prelux_siblings s = {.from = from, .to = from + LOOK, .folders = true, .most = most};
  bool any = prelux_store_siblings(v, path, &s) == 0 && s.n > 0;
  pthread_mutex_lock(&r->crew.lock);
  for (uint32_t i = s.n; i-- > 0;)
  {
    char *object = prelux_join(path, s.names[i]);
    size_t len = object ? strlen(object) + 1 : 0;
    struct item *item = object ? malloc(sizeof *item + len) : NULL;
    if (item)
    {
      memcpy(item->path, object, len);
      item->place = ret_to ? s.at[i] : UINT32_MAX;
      item->under = r->top;
      r->top = item;
    }
    free(object);
  }
  pthread_mutex_unlock(&r->crew.lock);
  if (ret_to)
    *ret_to = s.to;
  prelux_siblings_release(&s);
  return any;
}

static struct item *pop(struct run *r)
{
  pthread_mutex_lock(&r->crew.lock);
  bool over = r->failed || !r->left || prelux_ahead_stopped(r->d->ahead) || prelux_gate_closed(); /* the last: listings would lack names */
  struct item *item = over ? NULL : r->top;
  if (item)
  {
    r->top = item->under;
    r->left--;
  }
  pthread_mutex_unlock(&r->crew.lock);
  return item;
}

static bool step(struct prelux_crew *crew)
{
  struct run *r = (struct run *)crew;
  const struct prelux_live_mapping *m = &r->table->mappings[r->mapping];
  struct item *item = pop(r);
  struct prelux_problem why = {0};
  struct prelux_attr attr;
  int fd = -1;
  if (!item)
    return false;
  prelux_crew_call(crew); /* one more, while there is work and room */
  uint64_t asked = prelux_measure_asked();
  prelux_origin_bind(m->instance);
  int err = prelux_store_list(&m->view, item->path, 0, &attr, &fd, &why);
  prelux_origin_bind(NULL);
  prelux_measure_remote(m->measure, asked, 0);
  if (fd >= 0)
    prelux_os.close(fd);
  if (err == 0)
    push(r, &m->view, item->path, 0, WINDOW, NULL);
  free(item);
  pthread_mutex_lock(&crew->lock);
  r->failed |= err < 0 && err != -ENOENT && err != -ENOTDIR && err != -EACCES; /* those: that one alone */
  pthread_mutex_unlock(&crew->lock);
  return true;
}

static void launch(struct prelux_daemon *d, const struct prelux_target *t, struct run *r, const char *folder, uint32_t from)
{
  uint32_t to = from;
  r->crew = (struct prelux_crew){.pool = d->pool, .lane = PRELUX_LANE_CREW, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&r->crew);
  r->d = d;
  r->table = t->table;
  atomic_fetch_add(&t->table->refs, 1);
  r->mapping = t->mapping;
  bool any = push(r, &prelux_target_mapping(t)->view, folder, from, r->left, &to);
  pthread_mutex_lock(&lock);
  for (unsigned i = 0; i < WALKS; i++)
    if (walks[i].id == r->walk)
      walks[i].next = to;
  pthread_mutex_unlock(&lock);
  if (!any || !prelux_crew_call(&r->crew))
    end(&r->crew);
}

void prelux_walks_listed(struct prelux_daemon *d, const struct prelux_target *t)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  uint32_t place, from;
  struct run *r = NULL;
  if (!d->ahead || m->broken || m->ahead == PRELUX_AHEAD_OFF || !t->rel[0] || m->view.freshness == PRELUX_FRESH_ALWAYS ||
      m->view.freshness == PRELUX_FRESH_SKIP || prelux_store_place_of(&m->view, t->object, &place) < 0)
    return;
  char *folder = strdup(t->object);
  if (!folder)
    return;
  *(strrchr(folder, '/') ? strrchr(folder, '/') : folder) = 0;
  pthread_mutex_lock(&lock);
  struct walk *w = walk_of(m->view.id, XXH3_64bits(folder, strlen(folder)));
  w->used = ++uses;
  if (heard(w, place, &from) && (r = calloc(1, sizeof *r)))
  {
    r->walk = w->id;
    r->left = w->window;
    w->window = w->window * 2 < WINDOW ? w->window * 2 : WINDOW;
    w->busy = true;
    runs++;
  }
  pthread_mutex_unlock(&lock);
  if (r)
    launch(d, t, r, folder, from);
  free(folder);
}
