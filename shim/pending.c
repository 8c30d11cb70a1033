#include "shim/pending.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <time.h>

#include "include/prelux/stream.h"
#include "lib/ipc/msg.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"

#define FROZEN ((uint64_t)1 << 63) /* in `offset`: it moves no more */
enum { SLOTS = 32, HIGH_FD = 600, MASK = 8 /* bytes of the kernel's signal set */ };
enum { LOOK_S = 1, SILENT_LOOKS = 2 /* so many seconds without a byte: the daemon is asked */ };
enum { STATUS_FLAGS = O_APPEND | O_NONBLOCK, READ_MAX = 0x7ffff000 /* more the kernel gives at once to nobody */ };
enum { FREE, TAKEN, OPEN, MOVING, ENDING };

struct pending {
  int state;       /* atomic */
  int users;       /* atomic */
  int told;        /* atomic: the error of the stream was given to a read */
  int fd, real;    /* the placeholder, the file */
  int pid, flags;  /* who opened it; F_GETFL */
  uint64_t mark_dev, mark_ino, real_dev, real_ino;
  uint64_t offset; /* atomic */
  const struct prelux_stream *map;
  uint32_t mapping;
  struct prelux_attr attr;
  char logical[PATH_MAX];
};

int prelux_pending_count;
static struct pending slots[SLOTS];

static int load(const int *p)
{
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static bool becomes(struct pending *p, int from, int to)
{
  return __atomic_compare_exchange_n(&p->state, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static bool is_inode(int fd, uint64_t dev, uint64_t ino)
{
  struct stat st;
  return prelux_sys(SYS_fstat, fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* ---- slots */

/* Whoever comes first of those who leave an ended slot closes what it holds. */
static void release(struct pending *p)
{
  if (!becomes(p, ENDING, TAKEN)) return;
  if (p->real >= 0 && is_inode(p->real, p->real_dev, p->real_ino)) prelux_fd_let_go(p->real);
  if (p->map) prelux_sys(SYS_munmap, p->map, PRELUX_STREAM_BYTES);
  p->map = NULL;
  p->real = p->fd = -1;
  __atomic_store_n(&p->state, FREE, __ATOMIC_SEQ_CST);
  __atomic_fetch_sub(&prelux_pending_count, 1, __ATOMIC_SEQ_CST);
}

static void drop(struct pending *p)
{
  if (__atomic_sub_fetch(&p->users, 1, __ATOMIC_SEQ_CST) == 0 && load(&p->state) == ENDING) release(p);
}

/* The slot is over, by a state that only the caller can have set. */
static void end(struct pending *p)
{
  __atomic_store_n(&p->state, ENDING, __ATOMIC_SEQ_CST);
  if (load(&p->users) == 0) release(p);
}

static struct pending *take_slot(void)
{
  for (int i = 0; i < SLOTS; i++) {
    if (load(&slots[i].state) != FREE || load(&slots[i].users) != 0 || !becomes(&slots[i], FREE, TAKEN)) continue;
    __atomic_fetch_add(&prelux_pending_count, 1, __ATOMIC_SEQ_CST);
    return &slots[i];
  }
  return NULL;
}

/* Not to be OPEN. */
static void give_back(struct pending *p)
{
  p->fd = -1;
  __atomic_store_n(&p->state, ENDING, __ATOMIC_SEQ_CST);
  if (load(&p->users) == 0) release(p);
}

static bool moves(const struct pending *p, int fd)
{
  return load(&p->state) == MOVING && __atomic_load_n(&p->fd, __ATOMIC_RELAXED) == fd;
}

/* The slot of a number, counted; NULL. */
static struct pending *hold(int fd)
{
  if (fd < 0 || prelux_in_shared_child()) return NULL;
  for (int i = 0; i < SLOTS; i++) {
    struct pending *p = &slots[i];
    /* Somebody puts the real file there, or another stream: that is a matter of some system calls, made without signals. */
    while (moves(p, fd) && p->pid == (int)prelux_sys(SYS_getpid)) prelux_sys(SYS_sched_yield);
    if (load(&p->state) != OPEN || __atomic_load_n(&p->fd, __ATOMIC_RELAXED) != fd) continue;
    __atomic_fetch_add(&p->users, 1, __ATOMIC_SEQ_CST);
    if (load(&p->state) == OPEN && p->fd == fd && is_inode(fd, p->mark_dev, p->mark_ino)) return p;
    bool again = load(&p->state) == MOVING;
    drop(p);
    if (again) i = -1;
  }
  return NULL;
}

/* ---- the daemon */

/* Asks for the file by a stream, or (version 0: it has none) as ever. A stream: *ret_path. */
static int ask(const struct prelux_route *r, const char *call, struct prelux_attr *ret, int *ret_fd, uint64_t *ret_version, char *ret_path)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {
    .op = PRELUX_OP_OPEN, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel, .flags = PRELUX_F_STREAM};
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
static int open_high(const char *path)
{
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0) return fd;
  int high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_FD);
  if (high == -EINVAL || high == -EMFILE) high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 64);
  prelux_sys(SYS_close, fd);
  return high;
}

/* The stream at `path` into the slot: 0, or -errno: it is over already, or cannot be seen from here. */
static int attach(struct pending *p, char *path, uint64_t size, uint64_t version)
{
  struct stat st;
  size_t n = strlen(path);
  p->real = open_high(path);
  if (p->real < 0) return p->real;
  int rc = (int)prelux_sys(SYS_fstat, p->real, &st);
  p->real_dev = st.st_dev;
  p->real_ino = st.st_ino;
  memcpy(path + n, PRELUX_STREAM_SUFFIX, sizeof(PRELUX_STREAM_SUFFIX));
  int fd = rc == 0 ? (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0) : rc;
  path[n] = '\0';
  if (fd < 0) return fd;
  bool whole = prelux_sys(SYS_fstat, fd, &st) == 0 && st.st_size == PRELUX_STREAM_BYTES;
  long map = whole ? prelux_sys(SYS_mmap, NULL, PRELUX_STREAM_BYTES, PROT_READ, MAP_SHARED, fd, 0L) : -EIO;
  prelux_sys(SYS_close, fd);
  if (map < 0 && map > -4096) return (int)map;
  p->map = (const struct prelux_stream *)map;
  const struct prelux_stream *m = p->map;
  return m->magic == PRELUX_STREAM_MAGIC && m->size == size && m->version == version && m->ino == p->real_ino ? 0 : -ESTALE;
}

/* ---- waiting */

static bool has(const struct prelux_stream *m, uint64_t to, bool whole)
{
  uint32_t state = atomic_load(&m->state);
  if (state == PRELUX_STREAM_DONE) return true;
  return !whole && state != PRELUX_STREAM_WRONG && atomic_load(&m->front) >= to;
}

static int revive(struct pending *p);

/* Until [.., to) is there, or all of it, and in the cache: 0; 1: look for the slot again; or -errno. Signals do not end it: it is a local file. */
static int await(struct pending *p, uint64_t to, bool whole)
{
  const struct prelux_stream *m = p->map;
  uint64_t last = atomic_load(&m->front);
  for (int silent = 0;;) {
    uint32_t seq = atomic_load(&m->seq);
    if (has(m, to, whole)) return 0;
    if (load(&p->state) != OPEN) return 1;
    uint32_t state = atomic_load(&m->state);
    if (state == PRELUX_STREAM_WRONG) return atomic_load(&m->error);
    if (state == PRELUX_STREAM_FAILED) {
      int err = atomic_load(&m->error);
      if (err == -ESTALE || !__atomic_exchange_n(&p->told, 1, __ATOMIC_SEQ_CST)) return err;
      err = revive(p);
      if (err != 0) return err;
    }
    struct timespec ts = {.tv_sec = LOOK_S};
    long rc = prelux_sys(SYS_futex, &m->seq, FUTEX_WAIT, seq, &ts, NULL, 0);
    uint64_t front = atomic_load(&m->front);
    if (front != last) silent = 0;
    else if (rc == -ETIMEDOUT && ++silent >= SILENT_LOOKS) {
      silent = 0;
      rc = revive(p);
      if (rc != 0) return (int)rc;
    }
    last = front;
  }
}

/* ---- replacing */

static void no_signals(uint64_t *old)
{
  uint64_t all = UINT64_MAX;
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, MASK);
}

static void signals(const uint64_t *old)
{
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, MASK);
}

/* The file that `real` is takes the placeholder's number; by whoever made the slot MOVING. 0; 1: the number is somebody else's by now; or -errno. */
static int put_real(struct pending *p, int real)
{
  uint64_t off = __atomic_fetch_or(&p->offset, FROZEN, __ATOMIC_SEQ_CST);
  long flags = prelux_sys(SYS_fcntl, p->fd, F_GETFD), rc;
  if (flags < 0 || !is_inode(p->fd, p->mark_dev, p->mark_ino)) return 1;
  rc = prelux_sys(SYS_lseek, real, (off_t)off, SEEK_SET);
  if (rc >= 0 && (p->flags & STATUS_FLAGS)) rc = prelux_sys(SYS_fcntl, real, F_SETFL, p->flags & STATUS_FLAGS);
  if (rc < 0) return (int)rc;
  do rc = prelux_sys(SYS_dup3, real, p->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
  while (rc == -EBUSY || rc == -EINTR);
  return rc < 0 ? (int)rc : 0;
}

/* The held slot's file is whole. */
static int swap(struct pending *p, int real)
{
  uint64_t old;
  int rc = 0;
  no_signals(&old);
  if (becomes(p, OPEN, MOVING)) {
    rc = is_inode(p->real, p->real_dev, p->real_ino) || real != p->real ? put_real(p, real) : -EIO;
    if (rc < 0) {
      __atomic_fetch_and(&p->offset, ~FROZEN, __ATOMIC_SEQ_CST);
      __atomic_store_n(&p->state, OPEN, __ATOMIC_SEQ_CST);
    } else {
      prelux_tree_dev(p->real_dev);
      end(p);
    }
  }
  signals(&old);
  return rc < 0 ? rc : 0;
}

/* A successor of the stream takes its place, with its offset. */
static int follow(struct pending *p, struct pending *next)
{
  uint64_t old;
  no_signals(&old);
  bool ours = becomes(p, OPEN, MOVING);
  if (ours) {
    next->offset = __atomic_fetch_or(&p->offset, FROZEN, __ATOMIC_SEQ_CST);
    next->fd = p->fd;
    next->pid = p->pid;
    next->flags = p->flags;
    next->mark_dev = p->mark_dev;
    next->mark_ino = p->mark_ino;
    next->mapping = p->mapping;
    next->attr = p->attr;
    memcpy(next->logical, p->logical, sizeof(p->logical));
    __atomic_store_n(&next->state, OPEN, __ATOMIC_SEQ_CST);
    end(p);
  } else {
    give_back(next);
  }
  signals(&old);
  return 1;
}

/* Another daemon has the file whole: its own descriptor of it. */
static int take_whole(struct pending *p, const struct prelux_route *r)
{
  struct prelux_attr attr;
  int fd = -1;
  int rc = prelux_ask_open(r, "read", PRELUX_F_WANT_FD, &attr, &fd);
  if (rc < 0) return rc;
  if (fd < 0) return -EIO;
  rc = attr.type == PRELUX_FILE && attr.size == p->attr.size && attr.ino == p->attr.ino ? swap(p, fd) : -ESTALE;
  prelux_fd_let_go(fd);
  return rc < 0 ? rc : 1;
}

/* Nothing has come for a while, or it failed: the daemon is asked, which starts one that has died. 0: wait on; 1: look for the slot again. */
static int revive(struct pending *p)
{
  struct prelux_route r;
  struct prelux_attr attr;
  char path[PATH_MAX];
  uint64_t version;
  int mark = -1;
  if (prelux_route(AT_FDCWD, p->logical, 0, &r) != PRELUX_MAPPED) return -EIO;
  int rc = ask(&r, "read", &attr, &mark, &version, path);
  if (mark >= 0) prelux_sys(SYS_close, mark);
  if (rc == -EMFILE || rc == -ENFILE) return 0; /* no number to ask by: whoever fills may be at it yet */
  if (rc < 0) return rc;
  if (version != p->map->version) return prelux_fail(ESTALE, "read", p->logical, "the file was replaced on the remote while it was read", NULL);
  if (!*path) return take_whole(p, &r);
  struct pending *next = take_slot();
  if (!next) return 0;
  next->map = NULL;
  next->told = 0;
  rc = attach(next, path, p->attr.size, version);
  bool same = rc == 0 && next->real_ino == p->real_ino && next->real_dev == p->real_dev && atomic_load(&p->map->state) == PRELUX_STREAM_COMING;
  if (rc == 0 && !same) return follow(p, next);
  give_back(next);
  return 0;
}

/* ---- what hooks ask */

int prelux_pending_settle(int fd)
{
  for (;;) {
    struct pending *p = hold(fd);
    if (!p) return 0;
    int rc = p->pid == (int)prelux_sys(SYS_getpid) ? await(p, 0, true) : -EIO;
    if (rc == 0) rc = swap(p, p->real);
    drop(p);
    if (rc < 0) return rc;
  }
}

void prelux_pending_settle_all(bool not_cloexec)
{
  int saved = errno;
  for (int i = 0; i < SLOTS; i++) {
    int fd = __atomic_load_n(&slots[i].fd, __ATOMIC_RELAXED);
    if (load(&slots[i].state) != OPEN && load(&slots[i].state) != MOVING) continue;
    if (not_cloexec && (prelux_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC)) continue;
    prelux_pending_settle(fd);
  }
  errno = saved;
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

/* One try of a read by a held slot: bytes, -errno; false: look for the slot again. */
static bool serve(struct pending *p, const struct iovec *v, int n, int64_t at, ssize_t *ret)
{
  uint64_t off = at < 0 ? __atomic_load_n(&p->offset, __ATOMIC_SEQ_CST) : (uint64_t)at, size = p->attr.size, want = bytes_of(v, n);
  if (off & FROZEN) return false;
  *ret = 0;
  if (off >= size || want == 0) return true;
  int rc = await(p, want < size - off ? off + want : size, false);
  if (rc == 1) return false;
  if (rc < 0) {
    *ret = rc;
    return true;
  }
  if (!is_inode(p->real, p->real_dev, p->real_ino)) {
    *ret = prelux_fail(EIO, "read", p->logical, "a descriptor of the library's was closed", "do not close numbers that were not opened");
    return true;
  }
  *ret = (ssize_t)prelux_sys(SYS_preadv, p->real, v, n, off, 0L);
  if (*ret == 0) *ret = prelux_fail(EIO, "read", p->logical, "the file that comes in is shorter than it should be", NULL);
  if (*ret <= 0 || at >= 0) return true;
  uint64_t was = off;
  return __atomic_compare_exchange_n(&p->offset, &was, off + (uint64_t)*ret, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

bool prelux_pending_read(int fd, const struct iovec *v, int n, int64_t at, ssize_t *ret)
{
  for (;;) {
    struct pending *p = hold(fd);
    if (!p) return false;
    bool mine = p->pid == (int)prelux_sys(SYS_getpid), done = !mine;
    *ret = -EIO;
    if (mine) done = serve(p, v, n, at, ret);
    bool whole = mine && atomic_load(&p->map->state) == PRELUX_STREAM_DONE;
    drop(p);
    if (done) {
      if (whole) prelux_pending_settle(fd);
      return true;
    }
  }
}

bool prelux_pending_seek(int fd, int64_t off, int whence, int64_t *ret)
{
  for (;;) {
    struct pending *p = hold(fd);
    if (!p) return false;
    uint64_t was = __atomic_load_n(&p->offset, __ATOMIC_SEQ_CST);
    int64_t size = (int64_t)p->attr.size, to = -EINVAL;
    if (whence == SEEK_SET) to = off;
    else if (whence == SEEK_CUR && !__builtin_add_overflow((int64_t)(was & ~FROZEN), off, &to)) to = to < 0 ? -EINVAL : to;
    else if (whence == SEEK_END && !__builtin_add_overflow(size, off, &to)) to = to < 0 ? -EINVAL : to;
    else if (whence == SEEK_DATA) to = off < 0 || off >= size ? -ENXIO : off;
    else if (whence == SEEK_HOLE) to = off < 0 || off >= size ? -ENXIO : size;
    if (to < 0 && to != -ENXIO) to = -EINVAL;
    bool done = to < 0 || (!(was & FROZEN) && __atomic_compare_exchange_n(&p->offset, &was, (uint64_t)to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    drop(p);
    *ret = to;
    if (done) return true;
  }
}

bool prelux_pending_stat(int fd, struct stat *st)
{
  struct pending *p = hold(fd);
  if (!p) return false;
  prelux_fill_stat(&prelux_table_mappings(prelux_state.table)[p->mapping], &p->attr, st);
  drop(p);
  return true;
}

bool prelux_pending_flags(int fd, int *ret)
{
  struct pending *p = hold(fd);
  if (!p) return false;
  *ret = p->flags;
  drop(p);
  return true;
}

bool prelux_pending_is(int fd)
{
  struct pending *p = hold(fd);
  if (p) drop(p);
  return p != NULL;
}

bool prelux_pending_close(unsigned first, unsigned last)
{
  bool hidden = false;
  if (prelux_in_shared_child()) return false;
  for (int i = 0; i < SLOTS; i++) {
    struct pending *p = &slots[i];
    if (load(&p->state) != OPEN && load(&p->state) != MOVING) continue;
    int fd = __atomic_load_n(&p->fd, __ATOMIC_RELAXED), real = __atomic_load_n(&p->real, __ATOMIC_RELAXED);
    bool ends = fd >= 0 && (unsigned)fd >= first && (unsigned)fd <= last, loses = real >= 0 && (unsigned)real >= first && (unsigned)real <= last;
    if (ends) {
      struct pending *held = hold(fd);
      if (held && becomes(held, OPEN, ENDING)) __atomic_fetch_or(&held->offset, FROZEN, __ATOMIC_SEQ_CST);
      if (held) drop(held);
    } else if (loses && first == last) {
      hidden = is_inode(real, p->real_dev, p->real_ino);
    } else if (loses) {
      prelux_pending_settle(fd);
    }
  }
  return hidden;
}

/* ---- opening */

/* Nothing of the index speaks against it. */
static bool may_come(const struct prelux_route *r, int flags)
{
  struct prelux_attr attr;
  uint64_t above = r->mapping->stream_above;
  if (above == 0 || r->mapping->freshness == PRELUX_FRESH_SKIP || r->must_dir || r->rel_len == 0) return false;
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_PATH | O_CREAT | O_TRUNC | O_DIRECTORY | O_DIRECT | O_NOATIME))) return false;
  if ((flags & O_TMPFILE) == O_TMPFILE || prelux_quiet() || prelux_apart() || prelux_in_shared_child()) return false;
  if (!prelux_index_look(r, &attr)) return true;
  return attr.type == PRELUX_FILE && !attr.cached && !(attr.flags & PRELUX_ATTR_LIVE) && attr.size > above;
}

int prelux_pending_open(const struct prelux_route *r, const char *call, int flags)
{
  char path[PATH_MAX];
  struct stat st;
  uint64_t version;
  if (!may_come(r, flags)) return -EAGAIN;
  struct pending *p = take_slot();
  if (!p) return -EAGAIN;
  p->map = NULL;
  p->real = -1;
  p->told = 0;
  int fd = -1, rc = ask(r, call, &p->attr, &fd, &version, path);
  bool stream = rc == 0 && *path && fd >= 0 && p->attr.type == PRELUX_FILE;
  if (stream) rc = attach(p, path, p->attr.size, version);
  if (!stream || rc < 0 || prelux_sys(SYS_fstat, fd, &st) < 0) {
    if (fd >= 0) prelux_sys(SYS_close, fd);
    give_back(p);
    return rc < 0 && !stream ? rc : -EAGAIN;
  }
  p->mark_dev = st.st_dev;
  p->mark_ino = st.st_ino;
  p->fd = fd;
  p->pid = (int)prelux_sys(SYS_getpid);
  p->flags = (int)prelux_sys(SYS_fcntl, p->real, F_GETFL) | (flags & STATUS_FLAGS);
  p->offset = 0;
  p->mapping = r->index;
  size_t n = strlen(r->logical);
  memcpy(p->logical, r->logical, n < PATH_MAX ? n + 1 : PATH_MAX);
  if (!(flags & O_CLOEXEC)) prelux_sys(SYS_fcntl, fd, F_SETFD, 0);
  prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r->index);
  __atomic_store_n(&p->state, OPEN, __ATOMIC_SEQ_CST);
  return fd;
}
