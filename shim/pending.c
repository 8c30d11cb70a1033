#include "shim/pending.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/ipc/msg.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/pending_slot.h"
#include "shim/stats.h"

enum { HIGH_FD = 600, LOOK_S = 1, SILENT_LOOKS = 2 /* so many seconds without a byte: the daemon is asked */ };
enum { NEAR = 1 << 20, NEAR_RESTING = 256 << 10 /* behind the front: it is waited for, or gone on with */, PARTS_MAX = 8 << 20, TRIES = 64, PLACE_MS = 1000 };
enum { OWN_FLAGS = O_DIRECT | O_NOATIME, STATUS_FLAGS = O_APPEND | O_NONBLOCK | OWN_FLAGS };
enum { COPY_MAX = 4 << 20 /* at once: signals are blocked meanwhile */, READ_MAX = 0x7ffff000 /* more the kernel gives at once to nobody */ };

/* ---- the daemon */

/* Asks for the file by a stream, or (version 0: it has none) as ever. A stream: *ret_path. need: it has been read so far, and is gone on with. */
static int ask(const struct prelux_route *r, const char *call, uint64_t need, struct prelux_attr *ret, int *ret_fd, uint64_t *ret_version, char *ret_path)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {
    .op = PRELUX_OP_OPEN, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel, .flags = PRELUX_F_STREAM, .range_to = need};
  size_t pos = 0, len = 0;
  *ret_fd = -1;
  *ret_path = '\0';
  int rc = prelux_ask(&q, reply, ret_fd);
  if (rc == 0 && prelux_msg_attr(reply, ret) < 0) rc = -EIO;
  const void *version = rc == 0 ? prelux_msg_next(reply, PRELUX_FIELD_VERSION, &pos, &len) : NULL;
  const char *path = rc == 0 ? prelux_msg_str(reply, PRELUX_FIELD_STREAM) : NULL;
  *ret_version = 0;
  if (version && len == sizeof(*ret_version)) memcpy(ret_version, version, len);
  if (path && *ret_fd >= 0 && strlen(path) + sizeof(PRELUX_STREAM_SUFFIX) <= PATH_MAX) memcpy(ret_path, path, strlen(path) + 1);
  if (rc < 0 && *ret_fd >= 0) {
    prelux_sys(SYS_close, *ret_fd); /* a placeholder: no lock can be on it */
    *ret_fd = -1;
  }
  return rc;
}

/* A descriptor out of the program's way: its numbers are low ones. */
static int open_high(const char *path, int flags)
{
  /* No more flags than the program's: F_GETFL shows them. */
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | (flags & (OWN_FLAGS | O_NOFOLLOW)), 0);
  if (fd < 0) return fd;
  int high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_FD);
  if (high == -EINVAL || high == -EMFILE) high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 64);
  prelux_sys(SYS_close, fd);
  return high;
}

/* The stream at `path` into the slot: 0, or -errno: it is over already, or cannot be seen from here. */
static int attach(struct prelux_slot *p, char *path, int flags, uint64_t size, uint64_t version)
{
  struct stat st;
  size_t n = strlen(path);
  __atomic_store_n(&p->real, open_high(path, flags), __ATOMIC_RELAXED);
  if (p->real < 0) return p->real;
  int rc = (int)prelux_fstat(p->real, &st);
  p->real_dev = st.st_dev;
  p->real_ino = st.st_ino;
  memcpy(path + n, PRELUX_STREAM_SUFFIX, sizeof(PRELUX_STREAM_SUFFIX));
  int fd = rc == 0 ? (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0) : rc;
  path[n] = '\0';
  if (fd < 0) return fd;
  p->map_bytes = prelux_stream_bytes(size);
  bool whole = prelux_fstat(fd, &st) == 0 && (size_t)st.st_size == p->map_bytes;
  long map = whole ? prelux_sys(SYS_mmap, NULL, p->map_bytes, PROT_READ, MAP_SHARED, fd, 0L) : -EIO;
  prelux_sys(SYS_close, fd);
  if (map < 0 && map > -4096) return (int)map;
  p->map = (const struct prelux_stream *)map;
  const struct prelux_stream *m = p->map;
  return m->magic == PRELUX_STREAM_MAGIC && m->size == size && m->version == version && m->ino == p->real_ino ? 0 : -ESTALE;
}

/* ---- waiting */

/* What is waited for. While that takes time no slot is held: should the page be unmapped meanwhile, or be something else, the wait ends early or
 * takes a second. */
struct look {
  const struct prelux_stream *map;
  uint64_t front;
  uint32_t seq;
  int silent; /* seconds without a byte */
  int tries;  /* questions for parts that had come already */
  uint64_t at, to; /* PARTS: what is asked for. ASK: `to` bytes from the beginning; 0: that is not known */
};
enum { SERVED, AGAIN, WAIT, ASK, PARTS, WHOLE, JOIN /* another process has put the real file there */ };

/* What is asked for, of parts from `at` on: when they follow those that were asked for before, more and more. */
static void aim(struct prelux_slot *p, uint64_t at, uint64_t to, struct look *l)
{
  const uint64_t size = p->attr.size, part = (uint64_t)1 << prelux_stream_part_bits(size);
  uint64_t run = at && at == __atomic_load_n(&p->run_end, __ATOMIC_RELAXED) ? 2 * __atomic_load_n(&p->run, __ATOMIC_RELAXED) : 0;
  run = run < part ? part : run > PARTS_MAX ? PARTS_MAX : run;
  uint64_t end = (at / part * part + run + part - 1) / part * part;
  if (end < to) end = (to + part - 1) / part * part;
  if (end - at > PARTS_MAX) end = at / part * part + PARTS_MAX;
  __atomic_store_n(&p->run, run, __ATOMIC_RELAXED);
  __atomic_store_n(&p->run_end, end, __ATOMIC_RELAXED);
  l->tries += at <= l->at;
  l->at = at;
  l->to = end < size ? end : size;
}

/* The fill will be there soon, or it rests where this reader reads on. */
static bool comes(const struct prelux_slot *p, uint32_t state, uint64_t from, uint64_t behind)
{
  if (state != PRELUX_STREAM_RESTS) return behind <= NEAR;
  return behind <= NEAR_RESTING && __atomic_load_n(&p->last, __ATOMIC_RELAXED) == from;
}

/* Of a held slot: [from, to) is there, or all of it and in the cache: SERVED; WAIT; ASK the daemon to go on; PARTS, WHOLE: for that; or -errno. */
static int look(struct prelux_slot *p, uint64_t from, uint64_t to, bool whole, struct look *l)
{
  const struct prelux_stream *m = p->map;
  uint32_t seq = atomic_load(&m->seq), state = atomic_load(&m->state);
  uint64_t at = state == PRELUX_STREAM_WRONG || whole ? 0 : prelux_stream_missing(m, from, to);
  if (state == PRELUX_STREAM_DONE || (!whole && state != PRELUX_STREAM_WRONG && at >= to)) return SERVED;
  uint64_t front = atomic_load(&m->front);
  if (l->map != m || l->front != front) l->silent = 0;
  l->map = m;
  l->front = front;
  l->seq = seq;
  l->to = 0;
  int err = atomic_load(&m->error);
  if (state == PRELUX_STREAM_WRONG || (state == PRELUX_STREAM_FAILED && err == -ESTALE)) return err;
  if (!whole && p->attr.size > PRELUX_STREAM_LARGE && !comes(p, state, from, at - (at < front ? at : front))) {
    aim(p, at, to, l);
    return PARTS;
  }
  if (state == PRELUX_STREAM_RESTS) {
    l->to = to;
    return whole ? WHOLE : ASK;
  }
  if (state == PRELUX_STREAM_FAILED) {
    return err == -ESTALE || !__atomic_exchange_n(&p->told, 1, __ATOMIC_SEQ_CST) ? err : ASK;
  }
  return l->silent >= SILENT_LOOKS ? ASK : WAIT;
}

static int revive(int fd, int step, const struct look *l);

/* Does what look() came to. 0: look again; or -errno. Signals do not end it: it is a local file. */
static int go_on(int fd, int step, struct look *l)
{
  struct timespec ts = {.tv_sec = LOOK_S};
  if (step == JOIN) return prelux_pending_settle(fd);
  if (step < 0 || step == SERVED || step == AGAIN) return step < 0 ? step : 0;
  if (step != WAIT) {
    l->silent = 0;
    int rc = revive(fd, step, l);
    if (rc != 0 || step == PARTS) return rc < 0 ? rc : 0;
  }
  if (prelux_sys(SYS_futex, &l->map->seq, FUTEX_WAIT, l->seq, &ts, NULL, 0) == -ETIMEDOUT) l->silent++;
  return 0;
}

/* ---- replacing: by who holds the slot */

/* The offset becomes that of `real`. 0 or -errno. */
static int place(struct prelux_slot *p, int real)
{
  uint64_t was = __atomic_fetch_or(p->offset, PRELUX_FROZEN, __ATOMIC_SEQ_CST);
  if (!(was & PRELUX_FROZEN)) {
    long rc = prelux_sys(SYS_lseek, real, (off_t)was, SEEK_SET);
    if (rc < 0) __atomic_fetch_and(p->offset, ~PRELUX_FROZEN, __ATOMIC_SEQ_CST);
    else __atomic_fetch_or(p->offset, real == p->real ? PRELUX_PLACED : PRELUX_LOST, __ATOMIC_SEQ_CST);
    return rc < 0 ? (int)rc : 0;
  }
  /* Another process, that has the same descriptor, was first; it is between two system calls, or was killed there. */
  const struct timespec pause = {.tv_nsec = 1000000};
  for (int i = 0; i < PLACE_MS && !(was & (PRELUX_PLACED | PRELUX_LOST)); i++) {
    prelux_sys(SYS_nanosleep, &pause, NULL);
    was = __atomic_load_n(p->offset, __ATOMIC_SEQ_CST);
  }
  return (was & PRELUX_PLACED) && real == p->real ? 0
         : prelux_fail(EIO, "read", p->logical, "the offset that forked processes share was lost", NULL);
}

/* The file that `real` is takes the placeholder's number; by whoever made the slot SLOT_MOVING. 0; 1: the number is somebody else's by now; or -errno. */
static int put_real(struct prelux_slot *p, int real)
{
  long flags = prelux_sys(SYS_fcntl, p->fd, F_GETFD), rc;
  if (flags < 0 || !prelux_is_inode(p->fd, p->mark_dev, p->mark_ino)) return 1;
  rc = place(p, real);
  if (rc >= 0 && (p->flags & STATUS_FLAGS)) rc = prelux_sys(SYS_fcntl, real, F_SETFL, p->flags & STATUS_FLAGS);
  if (rc < 0) return (int)rc;
  do rc = prelux_sys(SYS_dup3, real, p->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
  while (rc == -EBUSY || rc == -EINTR);
  return rc < 0 ? (int)rc : 0;
}

/* Its file is whole. */
static int swap(struct prelux_slot *p, int real)
{
  if (!prelux_slot_becomes(p, SLOT_OPEN, SLOT_MOVING)) return 0;
  int rc = real != p->real || prelux_is_inode(p->real, p->real_dev, p->real_ino) ? put_real(p, real) : -EIO;
  if (rc < 0) {
    if (!p->shared) __atomic_fetch_and(p->offset, PRELUX_OFFSET_MAX, __ATOMIC_SEQ_CST);
    __atomic_store_n(&p->state, SLOT_OPEN, __ATOMIC_SEQ_CST);
    return rc;
  }
  prelux_tree_dev(p->real_dev);
  prelux_slot_end(p);
  return 0;
}

/* What is known of a stream whose slot is not held. */
struct was {
  const struct prelux_stream *map;
  uint64_t version, size, ino;
  int flags;
};

static bool goes_on(const struct prelux_stream *m)
{
  uint32_t state = atomic_load(&m->state);
  return state == PRELUX_STREAM_COMING || state == PRELUX_STREAM_RESTS;
}

/* The stream at `path` follows that of the number. 0: it is the same one, or cannot be had; 1. */
static int follow(int fd, const struct was *was, char *path)
{
  uint64_t old;
  prelux_no_signals(&old);
  struct prelux_slot *next = prelux_slot_take(), *p = next && attach(next, path, was->flags, was->size, was->version) == 0 ? prelux_slot_hold(fd) : NULL;
  bool same = p && next->real_ino == p->real_ino && next->real_dev == p->real_dev && goes_on(p->map);
  bool done = p && !same && p->map == was->map && prelux_slot_inherit(p, next);
  if (next && !done) prelux_slot_end(next);
  if (p) prelux_slot_drop(p);
  prelux_signals(&old);
  return done;
}

/* Another daemon has the file whole: its own descriptor of it. */
static int take_whole(int fd, const struct was *was, const struct prelux_route *r)
{
  struct prelux_attr attr;
  uint64_t old;
  int whole = -1;
  int rc = prelux_ask_open(r, "read", PRELUX_F_WANT_FD, &attr, &whole);
  if (rc < 0) return rc;
  if (whole < 0) return -EIO;
  struct prelux_slot *p = prelux_slot_enter(fd, &old);
  if (p) {
    bool same = prelux_slot_mine(p) && atomic_load(&p->map->state) == PRELUX_STREAM_DONE;
    rc = attr.type == PRELUX_FILE && attr.size == was->size && attr.ino == was->ino ? swap(p, same ? p->real : whole) : -ESTALE;
    prelux_slot_leave(p, &old);
  }
  prelux_fd_let_go(whole);
  return rc < 0 ? rc : 1;
}

/* Somebody reads elsewhere than the fill. 0: they are there. */
static int ask_parts(const struct prelux_route *r, uint64_t version, const struct look *l)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {.op = PRELUX_OP_PARTS, .call = "read", .logical = r->logical, .mapping = r->index, .path = r->rel,
                                   .version = version, .range_from = l->at, .range_to = l->to};
  return prelux_ask(&q, reply, NULL);
}

/* Goes on by another stream, or by the whole file. 0: wait on; 1: look for the slot again. */
static int ask_again(int fd, const struct prelux_route *r, const struct was *was, uint64_t need)
{
  struct prelux_attr attr;
  char path[PATH_MAX];
  uint64_t version;
  int mark = -1, rc = ask(r, "read", need, &attr, &mark, &version, path);
  if (mark >= 0) prelux_sys(SYS_close, mark);
  if (rc == -EMFILE || rc == -ENFILE) return 0; /* no number to ask by: whoever fills may be at it yet */
  if (rc < 0) return rc;
  if (version != was->version) return prelux_fail(ESTALE, "read", r->logical, "the file was replaced on the remote while it was read", NULL);
  return *path ? follow(fd, was, path) : take_whole(fd, was, r);
}

/* Nothing has come for a while, or it failed, or more is needed than is on its way: the daemon is asked, which starts one that has died. 0: wait on; 1:
 * look for the slot again. */
static int revive(int fd, int step, const struct look *l)
{
  struct prelux_route r;
  uint64_t old;
  struct prelux_slot *p = prelux_slot_enter(fd, &old);
  if (!p) return 1;
  const struct was was = {.map = p->map, .version = p->map->version, .size = p->attr.size, .ino = p->attr.ino, .flags = p->flags};
  bool routed = prelux_route(AT_FDCWD, p->logical, 0, &r) == PRELUX_MAPPED;
  prelux_slot_leave(p, &old);
  if (!routed) return -EIO;
  if (step == WHOLE) return take_whole(fd, &was, &r);
  if (step == PARTS && l->tries > TRIES)
    return prelux_fail(EIO, "read", r.logical, "what is fetched of it is evicted again and again", "raise cache.max_size");
  int rc = step == PARTS ? ask_parts(&r, was.version, l) : -EAGAIN;
  return step == PARTS && rc != -EAGAIN ? rc : ask_again(fd, &r, &was, step == ASK ? l->to : 0);
}

/* ---- what hooks ask */

static bool number_of(int fd, struct was *was, struct prelux_route *r)
{
  uint64_t old;
  prelux_no_signals(&old);
  struct prelux_slot *p = prelux_slot_hold(fd);
  bool routed = p && prelux_route(AT_FDCWD, p->logical, 0, r) == PRELUX_MAPPED;
  if (p) *was = (struct was){.size = p->attr.size, .ino = p->attr.ino};
  if (p) prelux_slot_drop(p);
  prelux_signals(&old);
  return routed;
}

/* In a child that shares memory: the slot is its parent's, whose number stays what it is, and this one's becomes the real file. */
static int settle_apart(int fd)
{
  struct was was;
  struct prelux_route r;
  struct prelux_attr attr;
  uint64_t old;
  int whole = -1;
  if (!number_of(fd, &was, &r)) return 0;
  int rc = prelux_ask_open(&r, "read", PRELUX_F_WANT_FD, &attr, &whole);
  if (rc < 0) return rc;
  if (attr.type != PRELUX_FILE || attr.size != was.size || attr.ino != was.ino) rc = -ESTALE;
  prelux_no_signals(&old);
  struct prelux_slot *p = rc == 0 ? prelux_slot_hold(fd) : NULL;
  if (p) {
    p->shared = true;
    bool same = atomic_load(&p->map->state) == PRELUX_STREAM_DONE && prelux_is_inode(p->real, p->real_dev, p->real_ino);
    rc = put_real(p, same ? p->real : whole);
    prelux_slot_drop(p);
  }
  prelux_signals(&old);
  if (whole >= 0) prelux_sys(SYS_close, whole);
  return rc < 0 ? rc : 0;
}

int prelux_pending_settle(int fd)
{
  struct look l = {0};
  uint64_t old;
  if (prelux_in_shared_child()) return settle_apart(fd);
  for (;;) {
    struct prelux_slot *p = prelux_slot_enter(fd, &old);
    if (!p) return 0;
    int rc = prelux_slot_mine(p) ? look(p, 0, 0, true, &l) : -EIO;
    if (rc == SERVED) rc = swap(p, p->real);
    prelux_slot_leave(p, &old);
    rc = go_on(fd, rc, &l);
    if (rc < 0) return rc;
  }
}

static uint64_t bytes_of(const struct iovec *v, int n)
{
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) {
    if (v[i].iov_len > READ_MAX - sum) return READ_MAX;
    sum += v[i].iov_len;
  }
  return sum;
}

/* One try of a read by a held slot: as look(); SERVED: *ret has the bytes. AGAIN: look for the slot again. */
static int serve(struct prelux_slot *p, const struct iovec *v, int n, int64_t at, ssize_t *ret, struct look *l)
{
  uint64_t off = at < 0 ? __atomic_load_n(p->offset, __ATOMIC_SEQ_CST) : (uint64_t)at, size = p->attr.size, want = bytes_of(v, n);
  if (off & PRELUX_FROZEN) return p->shared ? JOIN : AGAIN;
  *ret = 0;
  if (off >= size || want == 0) return SERVED;
  int rc = look(p, off, want < size - off ? off + want : size, false, l);
  if (rc != SERVED) return rc;
  if (!prelux_is_inode(p->real, p->real_dev, p->real_ino))
    return prelux_fail(EIO, "read", p->logical, "a descriptor of the library's was closed", "do not close numbers that were not opened");
  *ret = (ssize_t)prelux_sys(SYS_preadv, p->real, v, n, off, 0L);
  if (*ret == 0) return prelux_fail(EIO, "read", p->logical, "the file that comes in is shorter than it should be", NULL);
  if (*ret > 0) __atomic_store_n(&p->last, off + (uint64_t)*ret, __ATOMIC_RELAXED);
  if (*ret < 0 || at >= 0) return SERVED;
  uint64_t was = off;
  bool moved = __atomic_compare_exchange_n(p->offset, &was, off + (uint64_t)*ret, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return moved ? SERVED : AGAIN;
}

bool prelux_pending_read(int fd, const struct iovec *v, int n, int64_t at, ssize_t *ret)
{
  struct look l = {0};
  uint64_t old;
  for (;;) {
    struct prelux_slot *p = prelux_slot_enter(fd, &old);
    if (!p) return false;
    bool ours = prelux_slot_mine(p);
    int step = ours ? serve(p, v, n, at, ret, &l) : -EIO;
    bool whole = ours && atomic_load(&p->map->state) == PRELUX_STREAM_DONE;
    prelux_slot_leave(p, &old);
    int rc = go_on(fd, step, &l);
    if (rc < 0) *ret = rc;
    if (rc < 0 || step == SERVED) {
      if (whole) prelux_pending_settle(fd);
      return true;
    }
  }
}

/* The kernel copies what has come: a byte at least. The offset is claimed before, since what was copied cannot be copied again. */
static int copy(struct prelux_slot *p, struct prelux_copy *c, ssize_t *ret, struct look *l)
{
  uint64_t off = c->at ? (uint64_t)*c->at : __atomic_load_n(p->offset, __ATOMIC_SEQ_CST), size = p->attr.size;
  if (off & PRELUX_FROZEN) return p->shared ? JOIN : AGAIN;
  *ret = 0;
  if (off >= size || c->n == 0) return SERVED;
  uint64_t want = c->n < COPY_MAX ? c->n : COPY_MAX;
  if (want > size - off) want = size - off;
  int rc = look(p, off, off + 1, false, l);
  if (rc != SERVED) return rc;
  uint64_t end = atomic_load(&p->map->state) == PRELUX_STREAM_DONE ? off + want : prelux_stream_missing(p->map, off, off + want);
  if (end > off) want = end - off;
  uint64_t was = off, to = off + want;
  if (!c->at && !__atomic_compare_exchange_n(p->offset, &was, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return AGAIN;
  int64_t at = (int64_t)off;
  *ret = !prelux_is_inode(p->real, p->real_dev, p->real_ino) ? -EIO
         : c->sendfile ? (ssize_t)prelux_sys(SYS_sendfile, c->to, p->real, &at, want)
                       : (ssize_t)prelux_sys(SYS_copy_file_range, p->real, &at, c->to, c->to_at, want, c->flags);
  uint64_t moved = off + (*ret > 0 ? (uint64_t)*ret : 0);
  __atomic_store_n(&p->last, moved, __ATOMIC_RELAXED);
  if (c->at) *c->at = (int64_t)moved;
  else if (moved != to) __atomic_compare_exchange_n(p->offset, &to, moved, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return SERVED;
}

bool prelux_pending_copy(int fd, struct prelux_copy *c, ssize_t *ret)
{
  struct look l = {0};
  uint64_t old;
  for (;;) {
    struct prelux_slot *p = prelux_slot_enter(fd, &old);
    if (!p) return false;
    bool ours = prelux_slot_mine(p);
    int step = ours ? copy(p, c, ret, &l) : -EIO;
    bool whole = ours && atomic_load(&p->map->state) == PRELUX_STREAM_DONE;
    prelux_slot_leave(p, &old);
    int rc = go_on(fd, step, &l);
    if (rc < 0) *ret = rc;
    if (rc < 0 || step == SERVED) {
      if (whole) prelux_pending_settle(fd);
      return true;
    }
  }
}

static bool close_slots(unsigned first, unsigned last)
{
  bool hidden = false;
  uint64_t old;
  for (int i = 0; i < PRELUX_SLOTS; i++) {
    struct prelux_slot *p = &prelux_slots[i];
    if (prelux_slot_load(&p->state) != SLOT_OPEN && prelux_slot_load(&p->state) != SLOT_MOVING) continue;
    int fd = __atomic_load_n(&p->fd, __ATOMIC_RELAXED), real = __atomic_load_n(&p->real, __ATOMIC_RELAXED);
    bool ends = fd >= 0 && (unsigned)fd >= first && (unsigned)fd <= last, loses = real >= 0 && (unsigned)real >= first && (unsigned)real <= last;
    if (ends) {
      struct prelux_slot *held = prelux_slot_enter(fd, &old);
      if (held && prelux_slot_becomes(held, SLOT_OPEN, SLOT_ENDING) && !held->shared)
        __atomic_fetch_or(held->offset, PRELUX_FROZEN, __ATOMIC_SEQ_CST);
      if (held) prelux_slot_leave(held, &old);
    } else if (loses && first == last) {
      hidden |= prelux_is_inode(real, p->real_dev, p->real_ino);
    } else if (loses) {
      prelux_pending_settle(fd);
    }
  }
  return hidden;
}

bool prelux_pending_close(unsigned first, unsigned last)
{
  int before;
  bool hidden = false;
  if (prelux_in_shared_child()) return false;
  do {
    before = prelux_slot_heirs();
    hidden |= close_slots(first, last);
  } while (before != prelux_slot_heirs());
  return hidden;
}

/* ---- opening */

/* Nothing of the index speaks against it. */
static bool may_come(const struct prelux_route *r, int flags)
{
  struct prelux_attr attr;
  uint64_t above = r->mapping->stream_above;
  if (above == 0 || r->mapping->freshness == PRELUX_FRESH_SKIP || r->must_dir || r->rel_len == 0) return false;
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_PATH | O_CREAT | O_TRUNC | O_DIRECTORY))) return false;
  if ((flags & O_TMPFILE) == O_TMPFILE || prelux_quiet() || prelux_apart() || prelux_in_shared_child()) return false;
  if (!prelux_index_look(r, &attr)) return true;
  return attr.type == PRELUX_FILE && !attr.cached && !(attr.flags & PRELUX_ATTR_LIVE) && attr.size > above;
}

/* The stream at `path` into a slot, for the placeholder fd: 0, or -errno: it is opened as ever. Signals are blocked. */
static int start(const struct prelux_route *r, int fd, int flags, const struct prelux_attr *attr, uint64_t version, char *path)
{
  struct stat st;
  struct prelux_slot *p = prelux_slot_take();
  if (!p) return -EAGAIN;
  int rc = attach(p, path, flags, attr->size, version);
  if (rc == 0) rc = (int)prelux_fstat(fd, &st);
  if (rc < 0) {
    prelux_slot_end(p);
    return rc;
  }
  p->attr = *attr;
  p->mark_dev = st.st_dev;
  p->mark_ino = st.st_ino;
  __atomic_store_n(&p->fd, fd, __ATOMIC_RELAXED);
  p->pid = (int)prelux_sys(SYS_getpid);
  p->flags = (int)prelux_sys(SYS_fcntl, p->real, F_GETFL) | (flags & STATUS_FLAGS);
  p->mapping = r->index;
  size_t n = strlen(r->logical);
  memcpy(p->logical, r->logical, n < PATH_MAX ? n + 1 : PATH_MAX);
  if (!(flags & O_CLOEXEC)) prelux_sys(SYS_fcntl, fd, F_SETFD, 0);
  prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r->index);
  __atomic_store_n(&p->state, SLOT_OPEN, __ATOMIC_SEQ_CST);
  return 0;
}

int prelux_pending_open(const struct prelux_route *r, const char *call, int flags)
{
  char path[PATH_MAX];
  struct prelux_attr attr;
  uint64_t version, old;
  if (!may_come(r, flags) || !prelux_slot_any_free()) return -EAGAIN;
  /* No slot is taken yet: the first byte may be long in coming, and a signal handler may jump away. */
  int fd = -1, rc = ask(r, call, 0, &attr, &fd, &version, path);
  bool stream = rc == 0 && *path && fd >= 0 && attr.type == PRELUX_FILE;
  if (stream) {
    prelux_no_signals(&old);
    if (start(r, fd, flags, &attr, version, path) < 0) rc = -EAGAIN;
    prelux_signals(&old);
  }
  if ((rc < 0 || !stream) && fd >= 0) prelux_sys(SYS_close, fd);
  return rc < 0 ? rc : stream ? fd : prelux_open_told(r, flags, &attr);
}
