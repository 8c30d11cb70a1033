/* Names of open descriptors. /proc has them, at the price of some microseconds; walks ask for that of one folder again and again. So
 * those of a few folders of ours are remembered, each with what fstat says of it, which is asked each time: a number that was closed
 * behind our back and is another's by now shows. What it does not show is that the folder itself was renamed: the daemon, who alone
 * renames folders of a tree, counts that in the index. */
#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"

enum { NAMES = PRELUX_NAMED, LETTERS = 472 };
static struct {
  uint32_t seq; /* odd: somebody writes it */
  uint64_t dev, ino, moved;
  size_t len;
  char path[LETTERS];
} names[NAMES];
int prelux_fd_named_now[NAMES]; /* at first 0: whoever looks sees that nothing was ever written there */
static int off; /* the process's root is another since: what was remembered is no name any more */

static long ask_kernel(int fd, char *out, size_t cap)
{
  static const char gone[] = " (deleted)";
  char link[40];
  const char *head = prelux_apart() ? "/proc/thread-self/fd/" : "/proc/self/fd/";
  size_t at = strlen(head);
  memcpy(link, head, at);
  if (fd < 0) return -EBADF;
  prelux_path_number(link + at, (unsigned)fd);
  long len = prelux_sys(SYS_readlinkat, AT_FDCWD, link, out, cap - 1);
  if (len < 0) return len;
  if ((size_t)len > sizeof(gone) && memcmp(out + len - (sizeof(gone) - 1), gone, sizeof(gone) - 1) == 0)
    len -= sizeof(gone) - 1;
  out[len] = '\0';
  return len;
}

static bool usable(int fd)
{
  return fd >= 0 && !prelux_apart() && !__atomic_load_n(&off, __ATOMIC_RELAXED);
}

/* A length, or 0: it is not known. */
static long recall(int fd, char *out, size_t cap)
{
  typeof(&names[0]) n = &names[(unsigned)fd % NAMES];
  uint32_t seq = __atomic_load_n(&n->seq, __ATOMIC_ACQUIRE);
  struct stat st;
  if ((seq & 1) || seq == 0 || __atomic_load_n(&prelux_fd_named_now[(unsigned)fd % NAMES], __ATOMIC_RELAXED) != fd || !usable(fd)) return 0;
  size_t len = __atomic_load_n(&n->len, __ATOMIC_RELAXED);
  uint64_t dev = __atomic_load_n(&n->dev, __ATOMIC_RELAXED), ino = __atomic_load_n(&n->ino, __ATOMIC_RELAXED);
  uint64_t moved = __atomic_load_n(&n->moved, __ATOMIC_RELAXED);
  if (len + 1 > cap || len + 1 > sizeof(n->path)) return 0;
  memcpy(out, n->path, len + 1);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&n->seq, __ATOMIC_RELAXED) != seq) return 0;
  if (prelux_fstat(fd, &st) < 0 || st.st_dev != dev || st.st_ino != ino) return 0;
  return prelux_folders_moved() == moved ? (long)len : 0;
}

void prelux_fd_named(int fd, const struct stat *st, const char *path, size_t len, uint64_t moved)
{
  if (!usable(fd) || moved == 0 || len + 1 > LETTERS || prelux_in_shared_child()) return;
  typeof(&names[0]) n = &names[(unsigned)fd % NAMES];
  uint32_t seq = __atomic_load_n(&n->seq, __ATOMIC_RELAXED);
  if ((seq & 1) || !__atomic_compare_exchange_n(&n->seq, &seq, seq + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
  __atomic_thread_fence(__ATOMIC_RELEASE);
  memcpy(n->path, path, len);
  n->path[len] = '\0';
  __atomic_store_n(&prelux_fd_named_now[(unsigned)fd % NAMES], fd, __ATOMIC_RELAXED);
  __atomic_store_n(&n->len, len, __ATOMIC_RELAXED);
  __atomic_store_n(&n->dev, st->st_dev, __ATOMIC_RELAXED);
  __atomic_store_n(&n->ino, st->st_ino, __ATOMIC_RELAXED);
  __atomic_store_n(&n->moved, moved, __ATOMIC_RELAXED);
  __atomic_store_n(&n->seq, seq + 2, __ATOMIC_RELEASE);
}

void prelux_fd_unnamed(unsigned first, unsigned last)
{
  if (prelux_in_shared_child()) return;
  for (unsigned i = 0; i < NAMES; i++) {
    int *at = &prelux_fd_named_now[first == last ? first % NAMES : i], fd = __atomic_load_n(at, __ATOMIC_RELAXED);
    if (fd >= 0 && (unsigned)fd >= first && (unsigned)fd <= last) __atomic_store_n(at, -1, __ATOMIC_RELAXED);
    if (first == last) return;
  }
}

void prelux_fd_names_end(void)
{
  __atomic_store_n(&off, 1, __ATOMIC_RELAXED);
}

long prelux_fd_name(int fd, char *out, size_t cap)
{
  struct stat st;
  uint32_t hint;
  long len = recall(fd, out, cap);
  if (len > 0) return len;
  uint64_t moved = prelux_fd_get(fd, &hint) == PRELUX_CLASS_SHADOW ? prelux_folders_moved() : 0; /* before the name is asked for */
  len = ask_kernel(fd, out, cap);
  if (len > 0 && moved && prelux_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) prelux_fd_named(fd, &st, out, (size_t)len, moved);
  return len;
}

int prelux_fd_of_link(const char *path)
{
  static const char *const heads[] = {"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"};
  const char *number = NULL, *p;
  long pid = 0, fd = 0;
  for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]) && !number; i++)
    if (strncmp(path, heads[i], strlen(heads[i])) == 0) number = path + strlen(heads[i]);
  if (!number && strncmp(path, "/proc/", 6) == 0) {
    for (p = path + 6; *p >= '0' && *p <= '9' && pid < INT32_MAX / 10 - 1; p++) pid = pid * 10 + (*p - '0');
    if (p > path + 6 && strncmp(p, "/fd/", 4) == 0 && pid == prelux_sys(SYS_getpid)) number = p + 4;
  }
  for (p = number; p && *p >= '0' && *p <= '9' && fd < INT32_MAX / 10 - 1; p++) fd = fd * 10 + (*p - '0');
  return p > number && !*p ? (int)fd : -1;
}
