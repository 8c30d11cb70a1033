#include "lib/store/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/os.h"
#include "lib/store/partial.h"

struct fetch {
  const struct prelux_view *v;
  const char *object;
  uint64_t version;
  struct prelux_object obj;
  char name[32];
  int fd; /* of the file */
  struct prelux_stream *m;
  struct prelux_parts_job job;
  char *buf; /* of the job's bytes */
  uint64_t got;
};

static struct prelux_flow *flow_of(const struct fetch *f)
{
  struct prelux_flow *w = f->v->tree->store->flows;
  while (w && (w->tree != f->v->tree || w->version != f->version || strcmp(w->object, f->object) != 0))
    w = w->next;
  return w;
}

static struct prelux_partial *partial_of(const struct fetch *f, struct prelux_partial *p)
{
  while (p && (p->tree != f->v->tree->id || strcmp(p->path, f->object) != 0 || prelux_flow_version(&p->obj) != f->version))
    p = p->next;
  return p;
}

/* The stream's file, or what is kept of one. */
static int find(struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  pthread_mutex_lock(&s->lock);
  const struct prelux_partial *kept = partial_of(f, s->partials), *p = kept ? kept : partial_of(f, s->taken);
  const struct prelux_flow *w = p ? NULL : flow_of(f);
  if (p || w)
  {
    f->obj = p ? p->obj : w->obj;
    memcpy(f->name, p ? p->name : w->name, strlen(p ? p->name : w->name) + 1);
  }
  pthread_mutex_unlock(&s->lock);
  return p || w ? 0 : -EAGAIN;
}

static int attach(struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  struct stat st;
  int rc = find(f);
  if (rc < 0)
    return rc;
  f->fd = prelux_os.openat(s->fill_fd, f->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (f->fd < 0)
    return errno == ENOENT ? -EAGAIN : -errno;
  f->m = prelux_os.fstat(f->fd, &st) == 0 ? prelux_partial_map(s, f->name, &f->obj, &st) : NULL;
  return f->m ? 0 : -EAGAIN;
}

/* ---- whose turn it is ---- */

static const struct prelux_parts_job *others(const struct fetch *f, uint64_t at)
{
  const struct prelux_parts_job *j = f->v->tree->store->part_jobs;
  while (j && (strcmp(j->name, f->name) != 0 || at < j->from || at >= j->to))
    j = j->next;
  return j;
}

/* The job becomes the first missing parts from `at` on, which nobody fetches. False: somebody does, and has ended since. */
static bool claim(struct fetch *f, uint64_t at, uint64_t to)
{
  struct prelux_store *s = f->v->tree->store;
  unsigned bits = prelux_stream_part_bits(f->obj.size);
  pthread_mutex_lock(&s->parts_lock);
  bool mine = !others(f, at);
  if (!mine)
    pthread_cond_wait(&s->parts_cond, &s->parts_lock);
  else
  {
    uint64_t end = ((at >> bits) + 1) << bits;
    f->job = (struct prelux_parts_job){.next = s->part_jobs, .name = f->name, .from = at >> bits << bits};
    while (end < to && end - f->job.from < PRELUX_PARTS_AT_ONCE && prelux_stream_missing(f->m, end, to) == end && !others(f, end))
      end += (uint64_t)1 << bits;
    f->job.to = end < f->obj.size ? end : f->obj.size;
    s->part_jobs = &f->job;
  }
  pthread_mutex_unlock(&s->parts_lock);
  return mine;
}

/* parts_lock held. */
static void release(struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  struct prelux_parts_job **at = &s->part_jobs;
  while (*at != &f->job)
    at = &(*at)->next;
  *at = f->job.next;
  pthread_cond_broadcast(&s->parts_cond);
}

/* ---- bytes ---- */

static int sink(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct fetch *f = arg;
  if (off != f->job.from + f->got || len > f->job.to - off)
    return -EPROTO;
  memcpy(f->buf + f->got, buf, len);
  f->got += len;
  if (f->v->came)
    atomic_fetch_add_explicit(&f->v->came->bytes, len, memory_order_relaxed);
  return 0;
}

/* Asked for again from where it stopped, as long as each try gets further. */
static int read_job(struct fetch *f, struct prelux_problem *why)
{
  const struct prelux_backend_ops *ops = f->v->backend->ops;
  uint64_t len = f->job.to - f->job.from;
  f->got = 0;
  f->buf = malloc(len);
  if (!f->buf)
    return -ENOMEM;
  while (f->got < len)
  {
    uint64_t had = f->got;
    int rc = ops->read(f->v->backend, f->object, &f->obj, f->job.from + had, len - had, sink, f, why);
    if (rc < 0 && (rc != -EIO || f->got == had))
      return rc == -ENOENT ? -ESTALE : rc;
    if (rc == 0 && f->got < len)
      return prelux_problem(why, EPROTO, "%.200s: %llu bytes came where %llu were asked for", f->object, (unsigned long long)(f->got - had),
                            (unsigned long long)(len - had));
  }
  return 0;
}

static bool alive(const struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  pthread_mutex_lock(&s->lock);
  const struct prelux_partial *kept = partial_of(f, s->partials), *p = kept ? kept : partial_of(f, s->taken);
  const struct prelux_flow *w = p ? NULL : flow_of(f);
  bool ret = (p && strcmp(p->name, f->name) == 0) || (w && strcmp(w->name, f->name) == 0);
  pthread_mutex_unlock(&s->lock);
  return ret;
}

/* What was reserved is a kept file's now; of a fill under way it stays reserved until that ends. False: the file is none of the store's any more. */
static bool count(const struct fetch *f, uint64_t bytes)
{
  struct prelux_store *s = f->v->tree->store;
  struct stat st;
  uint64_t now = prelux_os.fstat(f->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
  pthread_mutex_lock(&s->lock);
  struct prelux_partial *p = partial_of(f, s->partials), *taken = p ? NULL : partial_of(f, s->taken);
  struct prelux_flow *w = p || taken ? NULL : flow_of(f);
  bool kept = p && strcmp(p->name, f->name) == 0, comes = w && strcmp(w->name, f->name) == 0;
  bool begins = taken && strcmp(taken->name, f->name) == 0;
  if (kept && now > p->bytes)
  {
    s->used += now - p->bytes;
    p->bytes = now;
  }
  if (kept)
    p->used_ns = prelux_store_wall();
  if (comes)
    w->reserved += bytes;
  else if (begins)
    taken->reserved += bytes;
  else
    s->reserved -= bytes;
  s->stats.filled_bytes += kept || comes || begins ? bytes : 0;
  pthread_mutex_unlock(&s->lock);
  return kept || comes || begins;
}

static void show(struct prelux_stream *m, uint64_t from, uint64_t to)
{
  unsigned bits = prelux_stream_part_bits(m->size);
  for (uint64_t part = from >> bits; part << bits < to; part++)
    atomic_fetch_or(&prelux_stream_parts(m)[part / 64], UINT64_C(1) << part % 64);
  atomic_fetch_add(&m->seq, 1);
  syscall(SYS_futex, &m->seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* What came goes into the file; parts_lock held, `bytes` of room taken. */
static int put(struct fetch *f, uint64_t bytes, struct prelux_problem *why)
{
  struct prelux_store *s = f->v->tree->store;
  int rc = alive(f) ? 0 : -EAGAIN;
  bool passed = atomic_load(&f->m->front) >= f->job.to; /* by the fill: the file may be whole, and dressed */
  if (rc == 0 && !passed)
  {
    rc = prelux_pwrite_all(f->fd, f->buf, bytes, f->job.from);
    if (rc < 0)
      prelux_problem(why, -rc, "cannot write the cached file of %.200s: %s", f->object, strerror(-rc));
    else if (!count(f, bytes))
      return -EAGAIN;
    else
    {
      show(f->m, f->job.from, f->job.to);
      return 0;
    }
  }
  prelux_room_return(s, bytes);
  return rc;
}

static int fetch_job(struct fetch *f, struct prelux_problem *why)
{
  struct prelux_store *s = f->v->tree->store;
  uint64_t bytes = f->job.to - f->job.from;
  int rc = prelux_room_take(s, bytes, why);
  bool room = rc == 0;
  if (rc == 0 && !alive(f)) /* that was the room */
    rc = -EAGAIN;
  if (rc == 0)
    rc = read_job(f, why);
  pthread_mutex_lock(&s->parts_lock);
  if (rc == 0)
    rc = put(f, bytes, why);
  else if (room)
    prelux_room_return(s, bytes);
  release(f);
  pthread_mutex_unlock(&s->parts_lock);
  free(f->buf);
  f->buf = NULL;
  return rc;
}

int prelux_store_parts(const struct prelux_view *v, const char *object, uint64_t version, uint64_t from, uint64_t to, struct prelux_problem *why)
{
  struct fetch f = {.v = v, .object = object, .version = version, .fd = -1};
  uint64_t at;
  int rc = version ? attach(&f) : -EAGAIN;
  if (rc == 0 && (f.obj.size <= PRELUX_STREAM_LARGE || from >= to || to > f.obj.size))
    rc = -EINVAL;
  while (rc == 0 && (at = prelux_stream_missing(f.m, from, to)) < to)
    if (claim(&f, at, to))
      rc = fetch_job(&f, why);
    else if (!alive(&f))
      rc = -EAGAIN;
  if (f.m)
    prelux_os.munmap(f.m, prelux_stream_bytes(f.obj.size));
  if (f.fd >= 0)
    prelux_os.close(f.fd);
  return rc;
}

/* ---- for the fill ---- */

void prelux_parts_stop(struct prelux_store *s)
{
  /* Who has the lock writes; who gets it later sees that the front is behind his parts. */
  pthread_mutex_lock(&s->parts_lock);
  pthread_mutex_unlock(&s->parts_lock);
}

/* The first part from `part` on that is there, or (there false) is not; n: none. */
static uint64_t next_part(const struct prelux_stream *m, uint64_t part, uint64_t n, bool there)
{
  while (part < n && prelux_stream_part_is(m, part) != there)
    part++;
  return part < n ? part : n;
}

void prelux_parts_trim(int fd, const struct prelux_stream *m)
{
  unsigned bits = prelux_stream_part_bits(m->size);
  uint64_t n = ((m->size - 1) >> bits) + 1, at = atomic_load(&m->front);
  for (uint64_t part = at >> bits, end; part < n; part = next_part(m, end, n, false))
  {
    end = next_part(m, part, n, true);
    uint64_t to = end < n ? end << bits : m->size;
    if (to > at)
      prelux_os.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(to - at));
    at = next_part(m, end, n, false) << bits;
  }
}

uint64_t prelux_parts_end(const struct prelux_stream *m)
{
  unsigned bits = prelux_stream_part_bits(m->size);
  uint64_t n = ((m->size - 1) >> bits) + 1;
  for (uint64_t word = (n + 63) / 64; word-- > 0;)
  {
    uint64_t set = atomic_load(&prelux_stream_parts(m)[word]);
    if (set)
    {
      uint64_t end = (word * 64 + 64 - (unsigned)__builtin_clzll(set)) << bits;
      return end < m->size ? end : m->size;
    }
  }
  return 0;
}
