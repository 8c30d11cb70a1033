/* Reading ahead of siblings.
 *
 * Theory of operation. Who opens the files of a folder one after the other waits a round trip to the remote for each of them. An open that
 * reaches the daemon tells its place in the folder's listing (when that is known and fresh: it is never asked for on this account, but for
 * `directory`). START opens in the listing's order make a stream: the next files, `window` of them, are fetched by a few pool threads, in a
 * lane of their own, so that who waits for a file comes first; an open of a file that is under way joins its fetch in the store.
 *
 * Opens of files that are in the cache by then never reach the daemon, so it would not know whether anybody reads what it has fetched. So one
 * file of each window, the *mark*, in its middle, is left out: the open that asks for it is the proof that the reader is there still, and has
 * the next window fetched, twice as long, while he has half of this one before him. Who comes behind the window without having asked for the
 * mark is no such reader: the next window is half as long, and below LEAST the stream ends. So what is fetched and not read is bounded: a
 * window (WINDOW files, BYTES) when a reader stops, two when he goes over to reading a file here and there.
 *
 * Several processes that share a folder's files are one stream: places within NEAR of its head count as in order.
 *
 * With `directory` there are neither marks nor proofs: the first open has the folder listed, and all of its small files fetched, in windows
 * of their own. A failure ends the run, and no other begins in this folder for REST_MS. */
#include "daemon/ahead.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/clock.h"
#include "daemon/crew.h"
#include "daemon/files.h"
#include "daemon/lanes.h"
#include "daemon/measure.h"
#include "daemon/request.h"
#include "lib/base/os.h"

#define STREAMS 64u  /* folders being read that are remembered */
#define START 4u     /* opens in order that make a stream */
#define NEAR 16u
#define FIRST 4u /* half of the first window */
#define LEAST 4u
#define WINDOW 64u
#define LARGEST (4u << 20)
#define BYTES (UINT64_C(16) << 20)
#define DIRECTORY_BYTES (UINT64_C(256) << 20)
#define DIRECTORY_WINDOW 65536u /* places looked at in one go */
#define SHARE 8u     /* of the cache's size, at most one part of so many */
#define RUNS 8u      /* at once */
#define WORKERS 16u
#define AT_ONCE (UINT64_C(1) << 20) /* bytes under way above which more workers would only take the line from who waits for a file ... */
#define FEW 4u                      /* ... but so many there are */
#define REST_MS 10000u

struct stream {
  uint64_t id;           /* 0: nobody's */
  uint64_t view, folder; /* folder: a hash */
  uint64_t used;
  uint64_t rest_ms;      /* nothing is fetched before that */
  uint32_t first, last;  /* least and greatest place of the opens that made it */
  uint32_t asks;
  uint32_t next;         /* up to there it was read ahead */
  uint32_t window;
  uint32_t mark;
  bool marked, heard;    /* there is a mark; it was asked for */
  bool busy;             /* a run is under way */
};

struct prelux_ahead {
  pthread_mutex_t lock;
  struct stream streams[STREAMS];
  uint64_t clock, ids;
  unsigned runs;
  atomic_bool stop;
};

struct run {
  struct prelux_crew crew; /* its lock guards `next` and `failed` */
  struct prelux_daemon *d;
  struct prelux_live_table *table; /* held */
  uint32_t mapping;
  uint64_t stream;
  char *path; /* of the folder, an object */
  struct prelux_siblings s;
  bool list;  /* the folder is to be listed first */
  uint32_t next, end;
  bool failed;
};

int prelux_ahead_create(struct prelux_ahead **ret)
{
  struct prelux_ahead *a = calloc(1, sizeof *a);
  if (!a)
    return -ENOMEM;
  pthread_mutex_init(&a->lock, NULL);
  *ret = a;
  return 0;
}

void prelux_ahead_stop(struct prelux_ahead *a)
{
  if (a)
    atomic_store(&a->stop, true);
}

bool prelux_ahead_stopped(struct prelux_ahead *a)
{
  return a && atomic_load(&a->stop);
}

bool prelux_ahead_busy(struct prelux_ahead *a)
{
  if (!a)
    return false;
  pthread_mutex_lock(&a->lock);
  bool ret = a->runs > 0;
  pthread_mutex_unlock(&a->lock);
  return ret;
}

void prelux_ahead_free(struct prelux_ahead *a)
{
  if (!a)
    return;
  pthread_mutex_destroy(&a->lock);
  free(a);
}

static uint32_t head_of(const struct stream *s)
{
  return s->next > s->last ? s->next - 1 : s->last;
}

/* The place is where this stream is, or a little before. */
static bool is_near(const struct stream *s, uint32_t place)
{
  return place <= head_of(s) + NEAR && place + 2 * WINDOW >= head_of(s);
}

/* Those that never became one go first, so that who opens files here and there does not end all others' streams. */
static bool goes_before(const struct stream *a, const struct stream *b)
{
  bool one = a->asks >= START, other = b->asks >= START;
  return one == other ? a->used < b->used : other;
}

/* The stream that is at this place of the folder (`any`: wherever), or a new one in the place of another. Lock held. */
static struct stream *stream_of(struct prelux_ahead *a, uint64_t view, uint64_t folder, uint32_t place, bool any)
{
  struct stream *least = &a->streams[0];
  for (unsigned i = 0; i < STREAMS; i++)
  {
    struct stream *s = &a->streams[i];
    if (s->id && s->view == view && s->folder == folder && (any || is_near(s, place)))
      return s;
    if (goes_before(s, least))
      least = s;
  }
  *least = (struct stream){.id = ++a->ids, .view = view, .folder = folder, .first = place, .last = place, .next = place + 1, .window = FIRST};
  return least;
}

/* NULL: it is gone. Lock held. */
static struct stream *stream_find(struct prelux_ahead *a, uint64_t id)
{
  for (unsigned i = 0; i < STREAMS; i++)
    if (a->streams[i].id == id)
      return &a->streams[i];
  return NULL;
}

static uint64_t folder_hash(const char *object)
{
  const char *slash = strrchr(object, '/');
  return XXH3_64bits(object, slash ? (size_t)(slash - object) : 0);
}

/* He has come to the end of what was fetched: was he seen in the middle of it? */
static void judge(struct stream *s)
{
  bool there = !s->marked || s->heard;
  s->window = there ? (s->window * 2 < WINDOW ? s->window * 2 : WINDOW) : s->window / 2;
}

/* An open at this place. True: [*from, *to) is to be fetched now. */
static bool heard(struct stream *s, uint32_t place, uint32_t *from, uint32_t *to)
{
  s->asks++;
  s->last = place > s->last ? place : s->last;
  s->first = place < s->first && !s->marked ? place : s->first;
  s->heard |= s->marked && place == s->mark;
  bool dense = s->asks >= START && (s->marked || s->asks * 2 > s->last - s->first);
  if (s->busy || !dense || (s->marked && !s->heard && place < s->next))
    return false;
  judge(s);
  if (s->window < LEAST)
  {
    s->used = s->asks = 0; /* it ends: the next open is of another */
    s->id = 0;
    return false;
  }
  *from = s->next > place ? s->next : place + 1;
  *to = *from + s->window;
  return true;
}

static void run_free(struct run *r)
{
  prelux_siblings_release(&r->s);
  prelux_live_table_drop(r->table);
  free(r->path);
  prelux_crew_release(&r->crew);
  free(r);
}

/* The last worker has left, or none came. */
static void end(struct prelux_crew *crew)
{
  struct run *r = (struct run *)crew;
  struct prelux_ahead *a = r->d->ahead;
  pthread_mutex_lock(&a->lock);
  struct stream *s = stream_find(a, r->stream);
  if (s)
  {
    s->busy = false;
    s->rest_ms = r->failed ? prelux_clock_ms() + REST_MS : s->rest_ms;
  }
  a->runs--;
  pthread_mutex_unlock(&a->lock);
  run_free(r);
}

static uint64_t budget(const struct prelux_view *v, uint64_t most)
{
  struct prelux_store_stats stats;
  prelux_store_stats(prelux_tree_store(v->tree), &stats);
  return stats.max_bytes / SHARE < most ? stats.max_bytes / SHARE : most;
}

/* `directory`: what is there. */
static bool list(struct run *r, const struct prelux_view *v)
{
  struct prelux_attr attr;
  struct prelux_problem why = {0};
  int fd = -1;
  if (prelux_store_list(v, r->path, 0, &attr, &fd, &why) < 0)
    return false;
  if (fd >= 0)
    prelux_os.close(fd);
  r->s = (struct prelux_siblings){.to = DIRECTORY_WINDOW, .largest = LARGEST, .bytes = budget(v, DIRECTORY_BYTES)};
  r->end = prelux_store_siblings(v, r->path, &r->s) == 0 ? r->s.n : 0;
  return true;
}

static bool fetch(struct run *r, const struct prelux_view *v, uint32_t i)
{
  struct prelux_attr attr;
  struct prelux_problem why = {0};
  if (!r->s.names[i]) /* the mark */
    return true;
  char *object = prelux_join(r->path, r->s.names[i]);
  int err = object ? prelux_store_open_object(v, object, 0, &attr, NULL, &why) : -ENOMEM;
  free(object);
  return err == 0 || err == -ENOENT || err == -EACCES; /* that one alone */
}

static bool step(struct prelux_crew *crew)
{
  struct run *r = (struct run *)crew;
  const struct prelux_live_mapping *m = &r->table->mappings[r->mapping];
  bool first = false;
  uint32_t i = 0;
  pthread_mutex_lock(&crew->lock);
  bool more = !r->failed && !atomic_load(&r->d->ahead->stop);
  if (more && r->list)
    first = true;
  else if (more && (more = r->next < r->end))
    i = r->next++;
  pthread_mutex_unlock(&crew->lock);
  if (!more)
    return false;
  if (!first)
    prelux_crew_call(crew); /* one more, while there is work and room */
  struct prelux_came came = {0};
  struct prelux_view view = m->view;
  uint64_t asked = prelux_measure_asked();
  view.came = &came;
  prelux_origin_bind(m->instance);
  bool good = first ? list(r, &view) : fetch(r, &view, i);
  prelux_origin_bind(NULL);
  prelux_measure_remote(m->measure, asked, atomic_load(&came.bytes));
  pthread_mutex_lock(&crew->lock);
  if (first)
    r->list = false; /* there was no other worker */
  r->failed |= !good;
  pthread_mutex_unlock(&crew->lock);
  return true;
}

static struct run *run_new(struct prelux_daemon *d, const struct prelux_target *t, uint64_t stream)
{
  struct run *r = calloc(1, sizeof *r);
  if (!r)
    return NULL;
  r->crew = (struct prelux_crew){.pool = d->pool, .lane = PRELUX_LANE_CREW, .limit = WORKERS, .step = step, .end = end};
  prelux_crew_init(&r->crew);
  r->d = d;
  r->table = t->table;
  atomic_fetch_add(&t->table->refs, 1);
  r->mapping = t->mapping;
  r->stream = stream;
  r->path = strdup(t->object);
  if (r->path)
    *(strrchr(r->path, '/') ? strrchr(r->path, '/') : r->path) = 0;
  return r;
}

/* Takes r. Without the lock: the workers take it. */
static void launch(struct run *r)
{
  if (!r->path || (!r->list && r->end == 0) || !prelux_crew_call(&r->crew))
    end(&r->crew);
}

/* True: a run may begin, and is counted. Lock held. */
static bool may_run(struct prelux_ahead *a, struct stream *s)
{
  if (s->busy || a->runs >= RUNS || atomic_load(&a->stop) || prelux_clock_ms() < s->rest_ms)
    return false;
  s->busy = true;
  a->runs++;
  return true;
}

static void give_back(struct prelux_ahead *a, uint64_t stream)
{
  pthread_mutex_lock(&a->lock);
  struct stream *s = stream_find(a, stream);
  if (s)
    s->busy = false;
  a->runs--;
  pthread_mutex_unlock(&a->lock);
}

static unsigned workers(const struct prelux_siblings *s)
{
  uint64_t n = s->bytes ? AT_ONCE * s->n / s->bytes : WORKERS;
  return n < FEW ? FEW : n < WORKERS ? (unsigned)n : WORKERS;
}

/* The files of a window, but its mark: the one in the middle of those that are not there. */
static void plan(struct prelux_ahead *a, struct run *r, const struct prelux_view *v, uint32_t from, uint32_t to)
{
  r->s = (struct prelux_siblings){.from = from, .to = to, .largest = LARGEST, .bytes = budget(v, BYTES)};
  if (!r->path || prelux_store_siblings(v, r->path, &r->s) < 0)
    return;
  uint32_t middle = r->s.n / 2, mark = r->s.n ? r->s.at[middle] : 0;
  r->end = r->s.n;
  r->crew.limit = workers(&r->s);
  if (r->s.n)
  {
    free(r->s.names[middle]);
    r->s.names[middle] = NULL;
  }
  pthread_mutex_lock(&a->lock);
  struct stream *s = stream_find(a, r->stream);
  if (s)
  {
    s->next = r->s.to;
    s->marked = r->s.n > 0;
    s->heard = false;
    s->mark = mark;
  }
  pthread_mutex_unlock(&a->lock);
}

/* All of the folder; what comes later, or was dropped again, with an open a while later. */
static bool whole(struct prelux_ahead *a, struct stream *s)
{
  s->asks = START;
  if (!may_run(a, s))
    return false;
  s->rest_ms = prelux_clock_ms() + REST_MS;
  return true;
}

void prelux_ahead_opened(struct prelux_daemon *d, const struct prelux_target *t)
{
  const struct prelux_live_mapping *m = prelux_target_mapping(t);
  struct prelux_ahead *a = d->ahead;
  uint32_t place = 0, from = 0, to = 0;
  bool go, all = m->ahead == PRELUX_AHEAD_DIRECTORY;
  if (!a || m->broken || m->ahead == PRELUX_AHEAD_OFF || !t->rel[0] || m->view.freshness == PRELUX_FRESH_ALWAYS ||
      m->view.freshness == PRELUX_FRESH_SKIP || (!all && prelux_store_place_of(&m->view, t->object, &place) < 0))
    return;
  uint64_t folder = folder_hash(t->object);
  pthread_mutex_lock(&a->lock);
  struct stream *s = stream_of(a, m->view.id, folder, place, all);
  s->used = ++a->clock;
  uint64_t id = s->id;
  go = all ? whole(a, s) : heard(s, place, &from, &to) && may_run(a, s);
  pthread_mutex_unlock(&a->lock);
  struct run *r = go ? run_new(d, t, id) : NULL;
  if (go && !r)
    give_back(a, id);
  if (!r)
    return;
  r->list = all;
  if (!all)
    plan(a, r, &m->view, from, to);
  launch(r);
}
