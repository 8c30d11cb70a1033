/* Filling: remote -> .prelux/fill/<number> -> cache path.
 *
 *   1 room: quota and free space, evicting; blocks are allocated before the first byte is asked for
 *   2 bytes: in order, exactly once, exactly as many as the version has; checksum where offered. Written in aligned pieces of
 *     1 MiB: the page cache then has them in large folios, and mapping the file costs half of what it costs after 256 KiB
 *     writes (64 MiB, a touch a page, ext4: 0.9 ms against 1.9; 64 KiB 4.5). Pieces of 2 MiB would make it 0.3, but a virtual
 *     machine with free page reporting has given the host every free block of that size: writing 256 MiB then takes 430 to
 *     900 ms instead of 60
 *   3 the version is still the remote's (backends whose read() cannot tell are asked again)
 *   4 mtime and mode; writable fd closed (a program may exec the file the moment it has a name)
 *   5 its name (install.h)
 * Killed before the rename: the partial file is removed at the next start, or gone on with (partial.h). Killed after it: the row names the inode that
 * lies there, which is whole. The old version, if any, keeps its inode for those who have it open (prelux_hold). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/os.h"
#include "lib/store/fill_check.h"
#include "lib/store/fill_sum.h"
#include "lib/store/install.h"
#include "lib/store/partial.h"
#include "lib/store/parts.h"

#define PIECE (1u << 20)

struct fetch {
  const struct prelux_view *v;
  const char *object;
  struct prelux_object obj;
  struct prelux_problem *why;
  char name[32]; /* below fill/ */
  bool begun;    /* room was taken, the file may be there */
  bool named;    /* it is for the object's name */
  uint64_t from; /* so much was there already, of a fill that failed or was killed */
  struct prelux_stream *front; /* its page, until a flow has it; NULL */
  const char *step; /* what failed here; NULL: why is filled */
  int fd;        /* -1: none */
  uint64_t pos, size;
  uint64_t limit;    /* it goes so far, and rests then; most often the size */
  uint64_t reserved; /* bytes of room */
  char *piece; /* the last `held` bytes before pos, not written yet; NULL: none */
  size_t held;
  struct prelux_fill_sum sum;
  unsigned char head[4];
  bool ours; /* the error is our disk's, not the backend's */
  bool wrong; /* the checksum */
  bool kept;  /* it has failed, and is gone on with when it is asked for again */
  struct prelux_known *known; /* not NULL: who asked may be answered when the first bytes have come */
  bool large;               /* unasked, and not to be asked for as a whole, as this question does */
  bool unasked;             /* attributes come with the bytes: `known` is filled and learned when that is done */
  struct prelux_flow room, *flow;   /* flow NULL: nobody reads it before it is whole */
  uint64_t written_ns;      /* with a flow: when something was written last */
};

#define PATIENCE_NS 20000000u /* with a flow, bytes are not held back for longer: somebody may wait for them */
#define WRONG_TRIES 3 /* of bytes that are not those of the checksum */

/* What is held, and n bytes more, in one call: put together before, they would be copied once more. */
static int write_both(struct fetch *f, const char *p, size_t n)
{
  struct iovec v[2] = {{.iov_base = f->piece, .iov_len = f->held}, {.iov_base = (void *)p, .iov_len = n}};
  uint64_t at = f->pos - f->held;
  size_t held = f->held;
  ssize_t done;
  do
    done = prelux_os.pwritev(f->fd, v, 2, (off_t)at);
  while (done < 0 && errno == EINTR);
  f->held = 0;
  if (done < 0)
    return -errno;
  size_t first = (size_t)done < held ? (size_t)done : held, second = (size_t)done - first;
  int rc = first < held ? prelux_pwrite_all(f->fd, f->piece + first, held - first, at + first) : 0;
  return rc == 0 && second < n ? prelux_pwrite_all(f->fd, p + second, n - second, at + held + second) : rc;
}

static bool awaited(struct fetch *f)
{
  uint64_t now = f->flow ? prelux_store_now() : 0;
  if (!f->flow || now - f->written_ns < PATIENCE_NS)
    return false;
  f->written_ns = now;
  return true;
}

/* Takes n bytes at pos, which end at the end of their piece, of the file, or before: held back until then. */
static int put(struct fetch *f, const char *p, size_t n)
{
  bool ends = (f->pos + n) % PIECE == 0 || f->pos + n == f->size || awaited(f);
  if (!f->piece && !ends)
    f->piece = malloc(f->size < PIECE ? f->size : PIECE);
  if (!f->piece || (f->held == 0 && ends))
    return prelux_pwrite_all(f->fd, p, n, f->pos);
  if (ends)
    return write_both(f, p, n);
  memcpy(f->piece + f->held, p, n);
  f->held += n;
  return 0;
}

/* Whoever fetches parts of what this fill has taken does so no more. */
static void untake(const struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  pthread_mutex_lock(&s->lock);
  s->reserved -= prelux_partial_untake(s, f->name);
  pthread_mutex_unlock(&s->lock);
  prelux_parts_stop(s);
}

/* Not before the first bytes: they say that the remote has this version still. */
static void hand_out(struct fetch *f)
{
  struct prelux_known *k = f->known;
  f->known = NULL;
  if (f->unasked && prelux_flow_wanted(f->v, &f->obj))
  {
    k->obj = f->obj;
    if (prelux_fresh_learn(f->v, f->object, 0, k, NULL) < 0)
      return;
    f->unasked = false;
  }
  bool begun = !f->unasked && prelux_flow_begin(&f->room, f->v, f->object, k, f->name, f->fd, f->front);
  if (f->front && !begun)
    untake(f);
  if (!begun)
    return;
  f->flow = &f->room;
  f->front = NULL;
}

static int allocate(struct prelux_store *s, int fd, uint64_t size);

/* So far it was to go. -ECANCELED: it rests there; 0: nobody could be answered by what has come, so it goes on to the end. */
static int reach(struct fetch *f)
{
  struct prelux_store *s = f->v->tree->store;
  if (f->limit == f->size)
    return 0;
  if (f->flow && f->v->early->done)
    return -ECANCELED;
  int rc = prelux_room_take(s, f->size - f->limit, f->why);
  if (rc < 0)
    return rc;
  f->reserved += f->size - f->limit;
  f->limit = f->size;
  return allocate(s, f->fd, f->size);
}

static int sink(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct fetch *f = arg;
  if (off != f->pos || len > f->size - f->pos)
    return -EPROTO;
  prelux_fill_sum_choose(&f->sum, off, f->piece, f->held);
  for (size_t done = 0; done < len;)
  {
    size_t room = PIECE - (size_t)(f->pos % PIECE), n = len - done < room ? len - done : room;
    prelux_fill_sum_add(&f->sum, (const char *)buf + done, n); /* before it is written: both find it in the processor's cache */
    int rc = put(f, (const char *)buf + done, n);
    f->ours = rc < 0;
    if (rc < 0)
      return rc;
    f->pos += n;
    done += n;
  }
  if (f->v->came)
    atomic_fetch_add_explicit(&f->v->came->bytes, len, memory_order_relaxed);
  if (f->v->came && f->v->came->also)
    atomic_fetch_add_explicit(f->v->came->also, len, memory_order_relaxed);
  if (f->known)
    hand_out(f);
  if (f->flow)
    prelux_flow_advance(f->flow, f->pos - f->held);
  if (off < sizeof f->head)
    memcpy(f->head + off, buf, len < sizeof f->head - off ? len : sizeof f->head - off);
  return 0;
}

/* A server that sends a little and stalls, again and again, is given up: a second for each KiB that came, and some more. */
static bool too_slow(const struct fetch *f, uint64_t start_ns)
{
  return prelux_store_now() - start_ns > (PRELUX_FILL_GRACE_S + f->pos / 1024) * UINT64_C(1000000000);
}

/* All bytes. A part that fails is asked for again from where it stopped, as long as each try gets further. */
static int read_parts(struct fetch *f)
{
  const struct prelux_backend_ops *ops = f->v->backend->ops;
  uint64_t start_ns = prelux_store_now();
  while (f->pos < f->size)
  {
    int rests = f->pos >= f->limit ? reach(f) : 0;
    if (rests < 0)
      return rests;
    uint64_t from = f->pos, left = f->limit - f->pos;
    uint64_t part = (ops->caps & PRELUX_CAP_RANGE) && left > PRELUX_FILL_PART ? PRELUX_FILL_PART : left;
    int rc = ops->read(f->v->backend, f->object, &f->obj, from, part, sink, f, f->why);
    if (rc == -EIO && !f->ours && f->pos > from && (ops->caps & PRELUX_CAP_RANGE) && !too_slow(f, start_ns))
      continue;
    if (rc == -ENOENT) /* it went since it was looked at: look again, so that memory learns it */
      return -ESTALE;
    if (rc < 0)
      return rc;
    if (f->pos != from + part)
      return prelux_problem(f->why, EPROTO, "%.200s: %llu bytes came where %llu were asked for", f->object,
                            (unsigned long long)(f->pos - from), (unsigned long long)part);
  }
  return 0;
}

static int allocate(struct prelux_store *s, int fd, uint64_t size)
{
  for (int evicted = 0;;)
  {
    if (size == 0 || prelux_os.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0)
      return 0;
    if (errno == EINTR)
      continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
      return 0; /* writes will tell */
    if ((errno != ENOSPC && errno != EDQUOT) || evicted++ || prelux_evict_bytes(s, size) == 0)
      return -errno;
  }
}

static void file_name(struct prelux_store *s, char ret[32])
{
  snprintf(ret, 32, "%016llx", (unsigned long long)atomic_fetch_add(&s->next_name, 1));
}

/* The file; known: its page and its row, too. */
static void drop_partial(struct fetch *f, bool known)
{
  struct prelux_store *s = f->v->tree->store;
  char front[48];
  snprintf(front, sizeof front, "%s" PRELUX_STREAM_SUFFIX, f->name);
  prelux_os.unlinkat(s->fill_fd, f->name, 0);
  if (!known)
    return;
  prelux_os.unlinkat(s->fill_fd, front, 0);
  prelux_partial_forget(f->v->tree, f->object, f->name);
}

/* The remote failed, and what has come is worth going on with: trimmed to that. */
static bool keep_partial(struct fetch *f, int rc)
{
  struct prelux_stream *m = f->flow ? f->flow->map : f->front;
  if (!m || f->ours || rc == -ESTALE || rc == -ENOENT || rc == -EPROTO)
    return false;
  if (f->flow && f->held && write_both(f, "", 0) == 0)
    prelux_flow_advance(f->flow, f->pos);
  return prelux_partial_keep(f->v->tree, f->object, &f->obj, f->name, f->fd, m);
}

/* What a fill of this version has left: true, and it is gone on with. *ret_bytes: so much of the disk it has. */
static bool go_on(struct fetch *f, uint64_t *ret_bytes)
{
  struct prelux_tree *t = f->v->tree;
  struct stat st;
  if (!f->named || !(f->v->backend->ops->caps & PRELUX_CAP_CONDITIONAL) ||
      !prelux_partial_take(t, f->object, &f->obj, prelux_flow_wanted(f->v, &f->obj), f->name, ret_bytes))
    return false;
  f->fd = prelux_os.openat(t->store->fill_fd, f->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (f->fd >= 0 && prelux_os.fstat(f->fd, &st) == 0 &&
      (f->front = prelux_partial_map(t->store, f->name, &f->obj, &st)) &&
      prelux_os.pread(f->fd, f->head, sizeof f->head, 0) == sizeof f->head)
  {
    uint64_t came = atomic_load(&f->front->front);
    /* Something has to come: it says that the remote has this version still. */
    f->pos = f->from = came < f->size ? came : f->size - 1;
    return true;
  }
  untake(f);
  drop_partial(f, true);
  if (f->front)
    prelux_os.munmap(f->front, prelux_stream_bytes(f->size));
  f->front = NULL;
  *ret_bytes = 0;
  if (f->fd >= 0)
    prelux_os.close(f->fd);
  f->fd = -1;
  file_name(t->store, f->name);
  return false;
}

/* Room for what is to come and what there is, in the file of which `had` bytes are on the disk. */
static int take_room(struct fetch *f, uint64_t had)
{
  struct prelux_store *s = f->v->tree->store;
  f->limit = f->named ? prelux_flow_limit(f->v, &f->obj, f->pos) : f->size;
  for (;;)
  {
    f->reserved = f->limit < f->size ? had + f->limit - f->pos : f->size;
    int rc = prelux_room_take(s, f->reserved, f->why);
    uint64_t least = f->pos + PRELUX_PARTIAL_LEAST;
    if (rc != -ENOSPC || f->limit == f->size || f->limit <= least)
      return rc;
    f->limit = least; /* a little at a time, then */
  }
}

/* Room, and a file of that name below fill/ with its blocks, for obj. */
static int begin(void *arg, const struct prelux_object *obj)
{
  struct fetch *f = arg;
  struct prelux_store *s = f->v->tree->store;
  if (f->begun)
    return -EPROTO;
  f->obj = *obj;
  f->large = f->unasked && f->known && prelux_flow_limit(f->v, obj, 0) < obj->size;
  if (f->large)
    return -ECANCELED;
  f->size = obj->size;
  uint64_t had = 0;
  bool on = go_on(f, &had); /* before others take its blocks as room */
  int rc = take_room(f, had);
  if (rc < 0)
    return rc;
  f->begun = true;
  if (!on)
    f->fd = prelux_os.openat(s->fill_fd, f->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (f->fd < 0)
    return prelux_problem(f->why, errno, "cannot make a file in %s/.prelux/fill: %s", s->dir, strerror(errno));
  rc = allocate(s, f->fd, f->limit);
  if (rc < 0)
    f->step = "make";
  prelux_fill_sum_begin(&f->sum, f->v, f->object, &f->obj, f->fd, f->from);
  return rc;
}

/* The bytes are there, or not (rc): checked, and dressed. *ret_fd O_RDONLY. On failure nothing is left that is not `kept`. */
static int end(struct fetch *f, int rc, int *ret_fd, struct stat *ret_st)
{
  struct prelux_store *s = f->v->tree->store;
  if (rc < 0 && f->ours)
    f->step = "write";
  f->kept = rc < 0 && keep_partial(f, rc);
  if (f->front)
    untake(f);
  if (rc == 0 && f->size > PRELUX_STREAM_LARGE)
    prelux_parts_stop(s);
  if (rc == 0)
    f->wrong = (rc = prelux_fill_sum_end(&f->sum, f->why)) == -EPROTO;
  const struct prelux_backend_ops *ops = f->v->backend->ops;
  if (f->wrong && ops->distrust && ops->distrust(f->v->backend, f->object))
    rc = -ESTALE; /* once more */
  if (rc == 0)
    rc = prelux_check_version(f->v, f->object, &f->obj, f->why);
  if (rc == 0 && (rc = prelux_dress(s, &f->obj, f->fd, f->head)) < 0)
    f->step = "write";
  if (rc == 0 && (*ret_fd = prelux_os.openat(s->fill_fd, f->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0)
  {
    rc = -errno;
    f->step = "write";
  }
  prelux_fill_sum_release(&f->sum);
  free(f->piece);
  if (f->fd >= 0)
    prelux_os.close(f->fd);
  if (rc == 0 && (prelux_os.fstat(*ret_fd, ret_st) < 0 || (uint64_t)ret_st->st_size != f->size))
  {
    rc = -EIO;
    f->step = "write";
    prelux_os.close(*ret_fd);
  }
  if (rc < 0 && f->fd >= 0 && !f->kept)
    drop_partial(f, f->front != NULL);
  if (f->front)
    prelux_os.munmap(f->front, prelux_stream_bytes(f->size));
  if (rc < 0 && f->step)
    prelux_problem(f->why, -rc, "cannot %s the cached file of %.200s: %s", f->step, f->object, strerror(-rc));
  return rc;
}

/* Puts the file where it belongs; k is known to memory. */
static int keep_file(struct fetch *f, struct prelux_known *k, bool keep, int fd, const struct stat *st)
{
  struct prelux_store *s = f->v->tree->store;
  struct prelux_row row = {.obj = k->obj,
                           .ino = st->st_ino,
                           .bytes = (uint64_t)st->st_blocks * 512,
                           .file_mtime_ns = prelux_stat_mtime(st),
                           .used_ns = prelux_store_wall()};
  k->cache_ino = st->st_ino;
  int rc = keep ? prelux_install(f->v, f->object, f->name, &row, f->why) : prelux_install_nameless(f->v, f->object, f->name, k, f->why);
  if (rc < 0)
  {
    prelux_os.unlinkat(s->fill_fd, f->name, 0);
    prelux_os.close(fd);
    k->cache_ino = 0;
  }
  return rc;
}

static void account(const struct fetch *f, struct prelux_known *k, bool keep)
{
  struct prelux_store *s = f->v->tree->store;
  if (keep)
    prelux_open_remember(f->v, f->object, k);
  pthread_mutex_lock(&s->lock);
  s->stats.fills++;
  s->stats.filled_bytes += f->size - f->from;
  pthread_mutex_unlock(&s->lock);
}

static int fill_once(const struct prelux_view *v, const char *object, struct prelux_known *k, bool keep, int *ret_fd, bool *ret_wrong,
                     struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  struct fetch f = {.v = v, .object = object, .why = why, .fd = -1};
  struct stat st;
  int fd = -1;
  *ret_wrong = false;
  if (v->early && v->early->done) /* who asked has the version that failed: nobody has asked for this one */
    return prelux_problem(why, ESTALE, "%.200s: changed on the remote while it was read", object);
  file_name(s, f.name);
  f.named = keep;
  int rc = begin(&f, &k->obj);
  f.known = keep ? k : NULL;
  if (rc == 0)
    rc = read_parts(&f);
  rc = end(&f, rc, &fd, &st);
  if (rc == 0)
    rc = keep_file(&f, k, keep, fd, &st);
  if (f.begun)
    prelux_room_return(s, f.reserved);
  if (rc == 0)
    account(&f, k, keep);
  if (f.flow)
    prelux_flow_end(f.flow, rc, f.wrong, f.kept);
  if (rc == 0)
    *ret_fd = fd;
  *ret_wrong = f.wrong && rc == -EPROTO && !f.flow;
  return rc;
}

/* Bytes that came wrong once are asked for again: what changed them on their way does so rarely. */
int prelux_fill(const struct prelux_view *v, const char *object, struct prelux_known *k, bool keep, int *ret_fd,
                struct prelux_problem *why)
{
  bool wrong = true;
  int rc = 0;
  for (int tries = 0; wrong && tries < WRONG_TRIES; tries++)
    rc = fill_once(v, object, k, keep, ret_fd, &wrong, why);
  return rc;
}

/* What came of a question that no file's bytes answered. */
static int no_file(const struct prelux_view *v, const char *object, int rc, struct prelux_known *k, struct prelux_problem *why)
{
  if (rc == 0 || rc == -ENOENT)
    rc = prelux_fresh_learn(v, object, rc, k, why);
  return rc == 0 ? 2 : rc;
}

int prelux_fill_unknown(const struct prelux_view *v, const char *object, struct prelux_known *k, bool keep, int *ret_fd,
                        struct prelux_problem *why)
{
  struct prelux_store *s = v->tree->store;
  struct fetch f = {.v = v, .object = object, .why = why, .fd = -1, .known = keep ? k : NULL, .unasked = true};
  struct stat st;
  int fd = -1;
  *k = (struct prelux_known){.learned_ns = prelux_store_now()};
  file_name(s, f.name);
  int rc = v->backend->ops->fetch(v->backend, object, begin, sink, &f, &k->obj, why);
  if (f.large)
  {
    k->obj = f.obj;
    rc = prelux_fresh_learn(v, object, 0, k, why);
    return rc < 0 ? rc : 1;
  }
  if (!f.begun)
    return rc > 0 ? 1 : no_file(v, object, rc, k, why);
  if (rc == -EIO && !f.ours && f.fd >= 0 && f.pos > 0)
    rc = read_parts(&f);
  else if (rc == 0 && f.pos != f.size)
    rc = prelux_problem(why, EPROTO, "%.200s: %llu bytes came where %llu were asked for", object, (unsigned long long)f.pos,
                        (unsigned long long)f.size);
  rc = end(&f, rc == -ENOENT ? -ESTALE : rc, &fd, &st);
  if (rc == 0 && f.unasked)
  {
    k->obj = f.obj;
    rc = prelux_fresh_learn(v, object, 0, k, why);
    if (rc < 0)
    {
      prelux_os.unlinkat(s->fill_fd, f.name, 0);
      prelux_os.close(fd);
    }
  }
  if (rc == 0)
    rc = keep_file(&f, k, keep, fd, &st);
  prelux_room_return(s, f.reserved);
  if (rc == 0)
    account(&f, k, keep);
  if (f.flow)
    prelux_flow_end(f.flow, rc, f.wrong, f.kept);
  if (rc == 0)
    *ret_fd = fd;
  if (f.wrong && rc == -EPROTO && !f.flow)
    return 1; /* once more, the usual way */
  return rc;
}
