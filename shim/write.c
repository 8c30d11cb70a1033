#include "shim/write.h"

#include <dirent.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/ipc/client.h"
#include "shim/ask.h"
#include "shim/change.h"
#include "shim/fds.h"
#include "shim/lease.h"
#include "shim/stats.h"
#include "shim/umask.h"

/* What the daemon is told of open's flags. */
enum { SENT = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NONBLOCK | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME | O_TMPFILE };

enum { NUMBER_BYTES = 24 };

#define LEFT "/../left"
#define LATELY_NS 20000000u

static uint64_t opened_ns; /* when the daemon answered the last WRITE */
static uint32_t asker;     /* this process, as the daemon sees it; 0: it does not */

static uint64_t now_ns(void)
{
  struct timespec t;
  if (prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC, &t) < 0) return 0;
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool is_tmpfile(int flags)
{
  return (flags & O_TMPFILE) == O_TMPFILE;
}

bool prelux_writable(const struct prelux_route *r)
{
  return (r->mapping->flags & PRELUX_MAPPING_WRITE) != 0;
}

/* ---- opening */

__attribute__((noinline)) static int judge_slash(const struct prelux_route *r, const char *call)
{
  struct prelux_route own = *r;
  own.logical = own.path + (r->logical - r->path);
  own.rel = own.path + (r->rel - r->path);
  int rc = prelux_change_folder(&own, call);
  return rc ? rc : -EISDIR;
}

/* What open(2) says of the path before it makes or changes anything: -errno; 0 go on; 1 nothing is changed, so open it for reading. */
static int judge(const struct prelux_route *r, const char *call, int flags)
{
  struct prelux_attr attr;
  if (is_tmpfile(flags)) {
    int rc = prelux_ask_attr(r, call, &attr);
    return rc < 0 ? rc : attr.type == PRELUX_DIR ? 0 : -ENOTDIR;
  }
  if ((flags & O_CREAT) && (flags & O_DIRECTORY)) return -EINVAL;
  if ((flags & O_CREAT) && r->slash) return judge_slash(r, call);
  /* The daemon looks, too: it is asked before only where its answer to WRITE would not tell. */
  bool told = (flags & O_CREAT) && (flags & O_ACCMODE) != O_RDONLY && !r->must_dir && r->rel_len > 0;
  if (told && !prelux_index_look(r, &attr)) return 0;
  int rc = prelux_ask_attr(r, call, &attr);
  if (rc == -ENOENT && (flags & O_CREAT) && !r->must_dir) return 0;
  if (rc < 0) return rc;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return -EEXIST;
  if (attr.type == PRELUX_DIR) return -EISDIR;
  if (flags & O_DIRECTORY) return -ENOTDIR;
  if (attr.type == PRELUX_LINK) return -ELOOP;
  if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC)) return 1;
  if (!(attr.mode & 0222) && attr.mode && prelux_sys(SYS_geteuid) != 0) return -EACCES;
  return 0;
}

/* Of an open that fails when the file is there: the answer may be lost with the daemon, when the file has just been made, and the next one is asked. */
static uint64_t once(int flags)
{
  uint64_t number = 0;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) && prelux_sys(SYS_getrandom, &number, sizeof(number), GRND_NONBLOCK) != sizeof(number)) number = 0;
  return number;
}

/* What comes with the answer to an open. */
struct opened {
  uint32_t asker;
  struct prelux_grant_heard grant;
};

/* ret_fd gets a descriptor, or, when it is NULL, ret_held the socket in which it waits. */
static int ask_to_write(const struct prelux_route *r, const char *call, int flags, mode_t mode, struct prelux_attr *attr, int *ret_fd,
                        int *ret_held, struct opened *ret)
{
  bool makes = (flags & O_CREAT) || is_tmpfile(flags);
  const struct prelux_request q = {.op = PRELUX_OP_WRITE,
                                   .call = call,
                                   .logical = r->logical,
                                   .mapping = r->index,
                                   .path = r->rel,
                                   .flags = (uint32_t)(flags & SENT),
                                   .has_mode = makes,
                                   .mode = makes ? mode & 07777 & ~prelux_umask() : 0,
                                   .once = once(flags),
                                   .ret_held = ret_held,
                                   .ret_asker = ret ? &ret->asker : NULL,
                                   .ret_grant = ret ? &ret->grant : NULL};
  int rc = prelux_ask_for_attr(&q, attr, ret_fd);
  if (rc < 0) return rc;
  return (ret_fd ? *ret_fd : *ret_held) < 0 ? prelux_fail(EIO, call, r->logical, "the daemon passed no file", NULL) : 0;
}

static int open_to_write(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  struct prelux_attr attr;
  struct stat st;
  struct opened o = {0};
  int fd = -1, rc = ask_to_write(r, call, flags, mode, &attr, &fd, NULL, &o);
  if (rc < 0) return rc;
  if (!(flags & O_CLOEXEC)) prelux_sys(SYS_fcntl, fd, F_SETFD, 0);
  if (prelux_fstat(fd, &st) == 0) prelux_tree_dev(st.st_dev);
  prelux_fd_set_writer(fd, r->index);
  if (!prelux_in_shared_child()) {
    __atomic_store_n(&asker, o.asker, __ATOMIC_RELAXED);
    __atomic_store_n(&opened_ns, now_ns(), __ATOMIC_RELAXED);
    prelux_lease_granted(r, flags, mode, &o.grant);
  }
  return fd;
}

/* As if the daemon had answered: it has, at most PRELUX_LEASE_MS ago. */
static int open_leased(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  if (!(r->mapping->flags & PRELUX_MAPPING_LEAVES)) return -EAGAIN;
  int fd = prelux_lease_open(r, call, flags, mode);
  if (fd < 0) return fd;
  prelux_fd_set_writer(fd, r->index);
  __atomic_store_n(&opened_ns, now_ns(), __ATOMIC_RELAXED);
  return fd;
}

int prelux_write_open(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  int fd = open_leased(r, call, flags, mode);
  if (fd >= 0) return fd;
  int rc = judge(r, call, flags);
  if (rc < 0) return rc;
  return rc ? prelux_open_mapped(r, call, flags & ~(O_CREAT | O_EXCL), 0) : open_to_write(r, call, flags, mode);
}

/* ---- without a descriptor */

int prelux_hold(const struct prelux_route *r, const char *call, int flags, mode_t mode, struct prelux_hold *ret)
{
  struct prelux_attr attr;
  int rc = judge(r, call, flags);
  if (rc < 0) return rc;
  rc = ask_to_write(r, call, flags, mode, &attr, NULL, &ret->socket, NULL);
  if (rc < 0) return rc;
  ret->mapping = r->index;
  ret->ino = attr.cache_ino;
  return 0;
}

bool prelux_hold_again(int socket, uint32_t mapping, struct prelux_hold *ret)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  struct prelux_attr attr;
  if (prelux_client_held(socket, reply, sizeof(reply)) < 0 || prelux_msg_attr(reply, &attr) < 0) return false;
  *ret = (struct prelux_hold){.socket = socket, .mapping = mapping, .ino = attr.cache_ino};
  return true;
}

/* While the file is held nothing else can have its number. */
long prelux_hold_path(const struct prelux_hold *h, char *out, size_t cap)
{
  struct stat st;
  long n = prelux_staging_path(&prelux_table_mappings(prelux_state.table)[h->mapping], h->ino, out, cap);
  long rc = n < 0 ? n : prelux_sys(SYS_newfstatat, AT_FDCWD, out, &st, AT_SYMLINK_NOFOLLOW);
  if (rc < 0) return rc;
  if (st.st_ino != PRELUX_INO(h->ino) || !S_ISREG(st.st_mode)) return -ENOENT;
  prelux_tree_dev(st.st_dev);
  return n;
}

/* The answer is taken, and the descriptor in it is no more: a child of another thread's fork may have the socket, too. */
void prelux_hold_drop(const struct prelux_hold *h)
{
  char none;
  prelux_sys(SYS_recvfrom, h->socket, &none, sizeof(none), MSG_DONTWAIT, NULL, NULL);
  prelux_sys(SYS_close, h->socket);
}

int prelux_hold_close(const struct prelux_hold *h, const char *call)
{
  const struct prelux_leaving l = {.tell = true, .mapping = h->mapping, .ino = h->ino};
  prelux_hold_drop(h);
  return prelux_left(&l, call);
}

/* ---- closing */

static bool inherited(void)
{
  return (prelux_writers() & PRELUX_WRITERS_INHERITED) != 0;
}

bool prelux_has_writers(void)
{
  if (prelux_in_shared_child()) return prelux_writers() != 0; /* its numbers are not known */
  return inherited() || (prelux_writers() && prelux_fd_next_writer(0) >= 0);
}

uint64_t prelux_staging_number(uint32_t mapping, const struct stat *st)
{
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *m = t && mapping < t->n_mappings ? &prelux_table_mappings(t)[mapping] : NULL;
  return m && m->scratch.len && st->st_dev == m->scratch_dev ? st->st_ino | PRELUX_INO_SCRATCH : st->st_ino;
}

/* A number that the library knows nothing of may be a copy of one that it knows. */
static void look_at(int fd, struct prelux_leaving *l)
{
  struct stat st;
  struct prelux_attr attr;
  if (prelux_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !prelux_is_tree_dev(st.st_dev)) return;
  if (!prelux_index_look_inode(st.st_dev, st.st_ino, &attr) || !(attr.flags & PRELUX_ATTR_LIVE)) return;
  long status = prelux_sys(SYS_fcntl, fd, F_GETFL);
  const struct prelux_table_mapping *m = prelux_mapping_of_dev(attr.cache_dev, UINT32_MAX);
  if (status < 0 || (status & O_PATH) || (status & O_ACCMODE) == O_RDONLY || !m) return;
  uint32_t mapping = (uint32_t)(m - prelux_table_mappings(prelux_state.table));
  *l = (struct prelux_leaving){.tell = true, .mapping = mapping, .ino = prelux_staging_number(mapping, &st)};
}

static bool waits(int fd, uint32_t mapping)
{
  const struct prelux_table *t = prelux_state.table;
  return mapping < t->n_mappings && (prelux_table_mappings(t)[mapping].flags & PRELUX_MAPPING_HELD_WAIT) && prelux_fd_opened_here(fd);
}

void prelux_leaving(int fd, struct prelux_leaving *l)
{
  uint32_t hint;
  l->tell = l->wait = l->alone = false;
  if (fd < 0) return;
  if (prelux_writers() && !prelux_in_shared_child() && !prelux_quiet() && prelux_state.table) {
    struct stat st;
    if (prelux_fd_is_writer(fd, &hint)) {
      /* libc may have put something else there inside itself (login_tty, daemon). */
      if (prelux_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && prelux_is_tree_dev(st.st_dev))
        *l = (struct prelux_leaving){.tell = true,
                                     .wait = waits(fd, hint),
                                     .alone = prelux_fd_opened_here(fd) && !inherited(),
                                     .mapping = hint,
                                     .ino = prelux_staging_number(hint, &st)};
    } else if (prelux_fd_get(fd, &hint) == PRELUX_CLASS_UNKNOWN) {
      look_at(fd, l);
    }
  }
  prelux_fd_forget((unsigned)fd, (unsigned)fd);
  l->alone = l->alone && prelux_fd_next_writer(0) < 0;
}

static bool put_number(char *out, size_t cap, size_t *at, char before, uint64_t v)
{
  char digits[NUMBER_BYTES];
  size_t n = 0;
  do digits[n++] = (char)('0' + v % 10);
  while (v /= 10);
  if (*at + n + 2 > cap) return false;
  out[(*at)++] = before;
  while (n) out[(*at)++] = digits[--n];
  out[*at] = '\0';
  return true;
}

/* What its close promises was done when the file was opened, unless somebody in here wanted more of it: a mark says that it was closed. Not when
 * the daemon may be gone since: somebody has to send the file. Nor when this process can write to it yet: the mark would speak for what comes. */
static bool just_leave(const struct prelux_leaving *l)
{
  if (!l->alone || __atomic_load_n(&asker, __ATOMIC_RELAXED) == 0 || now_ns() - __atomic_load_n(&opened_ns, __ATOMIC_RELAXED) > LATELY_NS) return false;
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *m = l->mapping < t->n_mappings ? &prelux_table_mappings(t)[l->mapping] : NULL;
  if (!m || !(m->flags & PRELUX_MAPPING_LEAVES) || prelux_synced() || (prelux_writers() & PRELUX_WRITERS_HIDDEN)) return false;
  size_t len = m->staging.len, at = len + sizeof(LEFT) - 1;
  char source[PATH_MAX], mark[PATH_MAX];
  if (len == 0 || at + 2 * NUMBER_BYTES > sizeof(mark)) return false;
  memcpy(mark, prelux_table_str(t, m->staging), len);
  memcpy(mark + len, LEFT, sizeof(LEFT) - 1);
  memcpy(source, mark, at);
  memcpy(source + at, "/0", 3);
  put_number(mark, sizeof(mark), &at, '/', l->ino);
  put_number(mark, sizeof(mark), &at, '.', __atomic_load_n(&asker, __ATOMIC_RELAXED));
  long rc = prelux_sys(SYS_linkat, AT_FDCWD, source, AT_FDCWD, mark, 0);
  return rc == 0 || rc == -EEXIST;
}

/* -EAGAIN: somebody else can write yet. */
static int tell_closed(const struct prelux_leaving *l, const char *call)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {.op = PRELUX_OP_CLOSED, .call = call, .logical = "", .mapping = l->mapping, .path = "", .ino = l->ino};
  return prelux_ask(&q, reply, NULL);
}

int prelux_left(const struct prelux_leaving *l, const char *call)
{
  int rc = l->tell ? tell_closed(l, call) : 0;
  return rc == -EAGAIN ? 0 : rc;
}

int prelux_left_by_close(const struct prelux_leaving *l, const char *call)
{
  int rc = l->tell && !just_leave(l) ? tell_closed(l, call) : 0;
  if (rc == -EAGAIN && l->wait) rc = prelux_held_wait(l, tell_closed, call);
  return rc == -EAGAIN ? 0 : rc;
}

/* ---- exec: what it closes is told by the program that comes */

size_t prelux_writers_format(char *out, size_t cap, bool exec)
{
  struct stat st;
  uint32_t hint;
  size_t at = 0;
  if (!prelux_has_writers()) return 0;
  out[at++] = '1';
  out[at] = '\0';
  if (!exec || prelux_in_shared_child() || prelux_quiet()) return at; /* a filter outlives exec: nothing is sent unasked */
  for (int fd = 0; (fd = prelux_fd_next_writer(fd)) >= 0; fd++) {
    long flags = prelux_sys(SYS_fcntl, fd, F_GETFD);
    if (flags < 0 || !(flags & FD_CLOEXEC) || !prelux_fd_is_writer(fd, &hint)) continue;
    if (prelux_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) continue;
    size_t was = at;
    if (put_number(out, cap, &at, ' ', hint) && put_number(out, cap, &at, ':', prelux_staging_number(hint, &st))) continue;
    out[at = was] = '\0'; /* the daemon finds the others by itself */
    break;
  }
  return at;
}

static const char *take_number(const char *p, uint64_t *ret)
{
  for (*ret = 0; *p >= '0' && *p <= '9'; p++) *ret = *ret * 10 + (uint64_t)(*p - '0');
  return p;
}

void prelux_writers_left(const char *value)
{
  const struct prelux_table *t = prelux_state.table;
  uint64_t mapping, ino;
  for (const char *p = value; *p;) {
    if (*p++ != ' ') continue;
    p = take_number(p, &mapping);
    if (*p != ':') continue;
    p = take_number(p + 1, &ino);
    if (!t || mapping >= t->n_mappings || ino == 0) continue;
    const struct prelux_leaving l = {.tell = true, .mapping = (uint32_t)mapping, .ino = ino};
    prelux_left(&l, "exec");
  }
}

/* ---- the end of the process */

/* The number stays taken: another thread may be about to use it, and must not meet a file that a third one has just opened. */
static void end_one(int fd, long *null)
{
  struct prelux_leaving l;
  prelux_leaving(fd, &l);
  if (!l.tell) return;
  if (*null < 0) *null = prelux_sys(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY | O_CLOEXEC, 0);
  if (*null >= 0 && prelux_sys(SYS_dup3, *null, fd, O_CLOEXEC) >= 0) prelux_left(&l, "exit");
}

static int end_each(int fd, void *null)
{
  end_one(fd, null);
  return 0;
}

/* Those that were inherited may have any number; without /proc those that shells give are looked at. */
static void end_inherited(long *null)
{
  enum { FROM_SHELLS = 64 };
  bool listed = prelux_fd_each(end_each, null) == 0;
  for (int fd = 0; !listed && fd < FROM_SHELLS; fd++) end_one(fd, null);
}

void prelux_writers_end(void)
{
  if (prelux_idle() || prelux_in_shared_child() || !prelux_writers()) return;
  long null = -1;
  if (inherited()) end_inherited(&null);
  for (int fd = 0; (fd = prelux_fd_next_writer(fd)) >= 0; fd++) end_one(fd, &null);
}
