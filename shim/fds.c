#include "shim/fds.h"

#include <dirent.h>

#include "lib/base/path.h"
#include "lib/ipc/runtime.h"
#include "shim/ask.h"

/* ---- descriptors */
enum { FDS = PRELUX_FDS, CLASS_BITS = PRELUX_CLASS_BITS, CLASS_MASK = 7, WRITER = 8 };
uint32_t prelux_fd_words[FDS];
static int32_t openers[FDS]; /* of writers: the process that opened it */
/* A vfork child made, copied or closed descriptors: in such a child the words are its parent's, not its own. */
static int child_fds;
static int ours_seen; /* some descriptor of this process, or its directory, is or was one of a cache tree */

/* ---- the working directory. `moves` counts changes; `word` is (moves << CLASS_BITS | class) of the moment it was
 * looked at. The path (only for classes other than FAR) is a seqlock, written by whoever looked. */
static uint32_t moves, entered = UINT32_MAX; /* entered: mapping number, UINT32_MAX unknown, UINT32_MAX - 1 plain */
static uint64_t word;
static int child_moved; /* a vfork child changed its directory: see child_fds */
static struct {
  uint32_t seq;
  uint32_t moves;
  bool ours;
  uint64_t moved; /* of ours: folders that were renamed until then. The kernel's directory goes along, its name is another */
  size_t len;
  char path[PATH_MAX];
} cwd;

bool prelux_fd_ours_seen(void)
{
  return __atomic_load_n(&ours_seen, __ATOMIC_RELAXED) != 0;
}

static void note_ours(void)
{
  if (!prelux_fd_ours_seen()) __atomic_store_n(&ours_seen, 1, __ATOMIC_RELAXED);
}

static void set_word(int fd, uint32_t w)
{
  if (fd < 0 || fd >= FDS || __atomic_load_n(&prelux_fd_words[fd], __ATOMIC_RELAXED) == w) return;
  if (prelux_in_shared_child()) {
    __atomic_store_n(&child_fds, 1, __ATOMIC_RELAXED);
    return;
  }
  __atomic_store_n(&prelux_fd_words[fd], w, __ATOMIC_RELAXED);
}

void prelux_fd_set(int fd, enum prelux_class class, uint32_t hint)
{
  if (class == PRELUX_CLASS_SHADOW) note_ours();
  set_word(fd, (uint32_t)class | hint << CLASS_BITS);
}

void prelux_fd_set_writer(int fd, uint32_t hint)
{
  note_ours();
  if (!(prelux_writers() & PRELUX_WRITERS_SEEN) && !prelux_in_shared_child())
    __atomic_fetch_or(&prelux_state.writers, PRELUX_WRITERS_SEEN, __ATOMIC_RELAXED);
  if (fd >= 0 && fd < FDS && !prelux_in_shared_child()) __atomic_store_n(&openers[fd], (int32_t)prelux_sys(SYS_getpid), __ATOMIC_RELAXED);
  if (fd >= FDS) prelux_fd_writes_unseen(fd);
  set_word(fd, (uint32_t)PRELUX_CLASS_SHADOW | WRITER | hint << CLASS_BITS);
}

void prelux_fd_writes_unseen(int fd)
{
  uint32_t hint;
  if (prelux_writers() && (fd >= FDS || prelux_fd_is_writer(fd, &hint))) __atomic_fetch_or(&prelux_state.writers, PRELUX_WRITERS_HIDDEN, __ATOMIC_RELAXED);
}

bool prelux_fd_opened_here(int fd)
{
  return fd >= 0 && fd < FDS && __atomic_load_n(&openers[fd], __ATOMIC_RELAXED) == (int32_t)prelux_sys(SYS_getpid);
}

bool prelux_fd_is_writer(int fd, uint32_t *ret_hint)
{
  if (!(prelux_writers() & PRELUX_WRITERS_SEEN) || prelux_in_shared_child()) return false;
  if (prelux_fd_get(fd, ret_hint) != PRELUX_CLASS_SHADOW) return false;
  return (__atomic_load_n(&prelux_fd_words[fd], __ATOMIC_RELAXED) & WRITER) != 0;
}

int prelux_fd_next_writer(int fd)
{
  uint32_t hint;
  for (; fd >= 0 && fd < FDS; fd++) {
    if ((__atomic_load_n(&prelux_fd_words[fd], __ATOMIC_RELAXED) & WRITER) && prelux_fd_is_writer(fd, &hint)) return fd;
  }
  return -1;
}

enum prelux_class prelux_fd_get(int fd, uint32_t *ret_hint)
{
  *ret_hint = 0;
  if (fd < 0 || fd >= FDS || prelux_apart()) return PRELUX_CLASS_UNKNOWN;
  uint32_t w = __atomic_load_n(&prelux_fd_words[fd], __ATOMIC_RELAXED);
  if (w == 0) return PRELUX_CLASS_UNKNOWN;
  if (__builtin_expect(__atomic_load_n(&child_fds, __ATOMIC_RELAXED), 0) && prelux_in_shared_child())
    return PRELUX_CLASS_UNKNOWN;
  *ret_hint = w >> CLASS_BITS;
  return (enum prelux_class)(w & CLASS_MASK);
}

void prelux_fd_copy(int from, int to)
{
  uint32_t hint;
  if (to >= 0) prelux_fd_unnamed((unsigned)to, (unsigned)to);
  if (prelux_fd_is_writer(from, &hint)) {
    prelux_fd_set_writer(to, hint);
    if (to >= 0 && to < FDS && from < FDS) __atomic_store_n(&openers[to], __atomic_load_n(&openers[from], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    return;
  }
  enum prelux_class class = prelux_fd_get(from, &hint);
  prelux_fd_set(to, class, hint);
}

void prelux_fd_forget(unsigned first, unsigned last)
{
  for (unsigned fd = first; fd < FDS && fd <= last; fd++) prelux_fd_set((int)fd, PRELUX_CLASS_UNKNOWN, 0);
  prelux_dents_forget(first, last);
  prelux_fd_unnamed(first, last);
}

void prelux_fd_let_go(int fd)
{
  struct flock lock = {.l_type = F_WRLCK}; /* of the whole file, by nobody else: the process's own locks are in its way, too */
  bool asked = !prelux_quiet() && prelux_sys(SYS_fcntl, fd, F_OFD_GETLK, &lock) == 0;
  if (asked && lock.l_type != F_UNLCK) prelux_sys(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
  else prelux_sys(SYS_close, fd);
}

/* Class of the folder whose real path is `real`; `out` gets its logical path unless it is FAR. plain: it was reached by
 * an unmapped path, so a cache tree is nothing but a folder. */
static enum prelux_class classify(const char *real, bool plain, int hint, char *out, size_t cap, long *ret_len)
{
  if (!plain) {
    long len = prelux_logical(real, hint, out, cap);
    *ret_len = len;
    if (len != 0) note_ours();
    if (len != 0) return PRELUX_CLASS_SHADOW;
  }
  *ret_len = prelux_path_join(out, cap, NULL, real);
  if (*ret_len < 0 || prelux_state.lost) return PRELUX_CLASS_ANCESTOR; /* no table: every folder is looked at */
  struct prelux_match m;
  prelux_table_match(prelux_state.table, out, false, &m);
  switch (m.kind) {
  case PRELUX_MATCH_NONE:
    /* Magic links lead anywhere. */
    if (strcmp(out, "/dev") == 0 || prelux_path_below(out, "/proc", NULL)) return PRELUX_CLASS_ANCESTOR;
    return prelux_state.table->flags & PRELUX_TABLE_HAS_URI ? PRELUX_CLASS_ANCESTOR : PRELUX_CLASS_FAR;
  case PRELUX_MATCH_MAPPED: return PRELUX_CLASS_SHADOW; /* a real folder behind a prefix */
  default: return PRELUX_CLASS_ANCESTOR;
  }
}

static long fd_path(int fd, char *out, size_t cap, bool *ret_ours)
{
  char real[PATH_MAX];
  uint32_t hint;
  enum prelux_class was = prelux_fd_get(fd, &hint);
  if (was == PRELUX_CLASS_FAR) return 0;
  long len = prelux_fd_name(fd, real, sizeof(real));
  if (len == -ENOENT && prelux_sys(SYS_fcntl, fd, F_GETFD) < 0) return -EBADF;
  if (len < 0 || real[0] != '/') return len == -EBADF ? len : 0; /* no /proc, or no folder: nothing of ours */
  enum prelux_class is =
    classify(real, was == PRELUX_CLASS_PLAIN, was == PRELUX_CLASS_SHADOW ? (int)hint : -1, out, cap, &len);
  if (is == PRELUX_CLASS_FAR) {
    prelux_fd_set(fd, PRELUX_CLASS_FAR, 0);
    return 0;
  }
  *ret_ours = is == PRELUX_CLASS_SHADOW;
  return len;
}

static bool cwd_is_shared(void)
{
  if (prelux_apart()) return true;
  return __builtin_expect(__atomic_load_n(&child_moved, __ATOMIC_RELAXED), 0) && prelux_in_shared_child();
}

/* Takes the remembered path: its length, or 0 when there is none for this moment. */
static long cwd_recall(uint32_t now, char *out, size_t cap, bool *ret_ours)
{
  uint32_t seq = __atomic_load_n(&cwd.seq, __ATOMIC_ACQUIRE);
  size_t len = __atomic_load_n(&cwd.len, __ATOMIC_RELAXED);
  bool ours = __atomic_load_n(&cwd.ours, __ATOMIC_RELAXED);
  bool right = __atomic_load_n(&cwd.moves, __ATOMIC_RELAXED) == now;
  uint64_t moved = __atomic_load_n(&cwd.moved, __ATOMIC_RELAXED);
  if ((seq & 1) || seq == 0 || !right || len + 1 > cap || len + 1 > sizeof(cwd.path)) return 0;
  memcpy(out, cwd.path, len + 1);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&cwd.seq, __ATOMIC_RELAXED) != seq || (ours && moved != prelux_folders_moved())) return 0;
  *ret_ours = ours;
  return (long)len;
}

/* Remembers it unless somebody else is writing: then it is looked up again next time. */
static void cwd_remember(uint32_t now, enum prelux_class class, const char *path, size_t len, bool ours, uint64_t moved)
{
  if (prelux_in_shared_child()) return;
  if (class != PRELUX_CLASS_FAR) {
    uint32_t seq = __atomic_load_n(&cwd.seq, __ATOMIC_RELAXED);
    if ((seq & 1) || !__atomic_compare_exchange_n(&cwd.seq, &seq, seq + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      return;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(cwd.path, path, len + 1);
    __atomic_store_n(&cwd.len, len, __ATOMIC_RELAXED);
    __atomic_store_n(&cwd.ours, ours, __ATOMIC_RELAXED);
    __atomic_store_n(&cwd.moved, moved, __ATOMIC_RELAXED);
    __atomic_store_n(&cwd.moves, now, __ATOMIC_RELAXED);
    __atomic_store_n(&cwd.seq, seq + 2, __ATOMIC_RELEASE);
  }
  __atomic_store_n(&word, (uint64_t)now << CLASS_BITS | (uint64_t)class, __ATOMIC_RELEASE);
}

/* An inherited directory may belong to several mappings of one tree: PWD tells which one the parent meant. */
static int hint_of_pwd(const char *real)
{
  const struct prelux_table *t = prelux_state.table;
  const char *pwd = prelux_env_get(prelux_state.envp, "PWD");
  struct prelux_match m;
  if (!t || !pwd || pwd[0] != '/') return -1;
  prelux_table_match(t, pwd, false, &m);
  const char *rel;
  if (m.kind != PRELUX_MATCH_MAPPED || !prelux_path_below(real, prelux_table_str(t, m.mapping->tree), &rel)) return -1;
  return strcmp(rel, m.rel) == 0 ? (int)m.index : -1;
}

static long cwd_path(char *out, size_t cap, bool *ret_ours)
{
  bool shared = cwd_is_shared();
  uint32_t now = __atomic_load_n(&moves, __ATOMIC_ACQUIRE);
  uint64_t w = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
  if (!shared && w >> CLASS_BITS == now && (w & CLASS_MASK)) {
    if ((w & CLASS_MASK) == PRELUX_CLASS_FAR) return 0;
    long got = cwd_recall(now, out, cap, ret_ours);
    if (got > 0) return got;
  }
  char real[PATH_MAX];
  /* Asked before the name is, once it is known to be ours: others have no use for the index. 0: the name is looked for again. */
  bool known = w >> CLASS_BITS == now && (w & CLASS_MASK) == PRELUX_CLASS_SHADOW;
  uint64_t folders = known ? prelux_folders_moved() : 0;
  long len = prelux_sys(SYS_getcwd, real, sizeof(real));
  if (len < 0 || real[0] != '/') return 0; /* removed or unreachable: libc's answer is the right one */
  int hint = shared ? -1 : prelux_cwd_hint();
  if (hint == -1) hint = hint_of_pwd(real);
  enum prelux_class is = classify(real, hint == -2, hint, out, cap, &len);
  *ret_ours = is == PRELUX_CLASS_SHADOW;
  if (!shared && len >= 0) cwd_remember(now, is, out, (size_t)len, *ret_ours, folders);
  return is == PRELUX_CLASS_FAR ? 0 : len;
}

long prelux_dir_path(int dirfd, char *out, size_t cap, bool *ret_ours)
{
  *ret_ours = false;
  return dirfd == AT_FDCWD ? cwd_path(out, cap, ret_ours) : fd_path(dirfd, out, cap, ret_ours);
}

long prelux_dir_real(int dirfd, char *out, size_t cap)
{
  if (dirfd != AT_FDCWD) return prelux_fd_name(dirfd, out, cap);
  long len = prelux_sys(SYS_getcwd, out, cap);
  return len < 0 ? len : len - 1;
}

static void moved(uint32_t by)
{
  if (prelux_in_shared_child()) {
    __atomic_store_n(&child_moved, 1, __ATOMIC_RELAXED);
    return;
  }
  __atomic_store_n(&entered, by, __ATOMIC_RELAXED);
  __atomic_fetch_add(&moves, 1, __ATOMIC_ACQ_REL);
}

void prelux_cwd_mapped(uint32_t index)
{
  note_ours();
  moved(index);
}

void prelux_cwd_plain(void)
{
  moved(UINT32_MAX - 1);
}

void prelux_cwd_unknown(void)
{
  moved(UINT32_MAX);
}

int prelux_cwd_hint(void)
{
  if (cwd_is_shared()) return -1;
  uint32_t by = __atomic_load_n(&entered, __ATOMIC_RELAXED);
  return by == UINT32_MAX ? -1 : by == UINT32_MAX - 1 ? -2 : (int)by;
}

bool prelux_cwd_far(void)
{
  uint64_t w = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
  uint32_t now = __atomic_load_n(&moves, __ATOMIC_RELAXED);
  if (w == ((uint64_t)now << CLASS_BITS | PRELUX_CLASS_FAR)) return !cwd_is_shared();
  if (w >> CLASS_BITS == now && (w & CLASS_MASK)) return false;
  char path[PATH_MAX]; /* first relative path since the directory changed */
  bool ours;
  return cwd_path(path, sizeof(path), &ours) == 0;
}

/* ---- all of them */

/* The number that a name of /proc/self/fd says, or -1. */
static int number_of(const char *name)
{
  enum { DIGITS = 9 };
  int fd = 0;
  const char *p = name;
  for (; *p >= '0' && *p <= '9' && p < name + DIGITS; p++) fd = fd * 10 + (*p - '0');
  return p > name && !*p ? fd : -1;
}

int prelux_fd_each(int (*of)(int fd, void *arg), void *arg)
{
  enum { BYTES = 4096 };
  char buf[BYTES] __attribute__((aligned(8)));
  long n, dir = prelux_sys(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  int found = 0;
  if (dir < 0) return (int)dir;
  while (!found && (n = prelux_sys(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
    const struct dirent64 *d;
    for (long at = 0; at < n && !found; at += d->d_reclen) {
      d = (const struct dirent64 *)(buf + at);
      int fd = number_of(d->d_name);
      if (fd >= 0 && fd != dir) found = of(fd, arg);
    }
  }
  prelux_sys(SYS_close, dir);
  return found;
}

static int learn(int fd, void *arg)
{
  struct stat st;
  char path[PATH_MAX];
  bool ours;
  (void)arg;
  if (prelux_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) prelux_dir_path(fd, path, sizeof(path), &ours);
  return 0;
}

void prelux_fd_learn(void)
{
  char path[PATH_MAX];
  bool ours;
  prelux_folders_moved(); /* maps the index */
  /* Twice: only of a name that is known to be ours it is known how long it is right. */
  if (!prelux_cwd_far()) prelux_dir_path(AT_FDCWD, path, sizeof(path), &ours);
  prelux_fd_each(learn, NULL);
}
