/* A lease is used by one thread at a time, for as long as it takes to draw a number: who finds it in use asks the daemon instead, be it another
 * thread, or a signal handler that has interrupted one. */
#include "shim/lease.h"

#include <sys/mman.h>
#include <time.h>

#include "shim/stats.h"
#include "shim/umask.h"

enum { HOW = O_EXCL | O_TRUNC, PLAIN = O_ACCMODE | O_CREAT | HOW | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_LARGEFILE | O_NOCTTY };
enum { NUMBER_BYTES = 24 };
#define LEASES "/../lease/"
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct lease {
  uint32_t busy;                    /* atomic: somebody draws, or puts a new one here */
  const struct prelux_table *table; /* NULL: there is none; atomic, to be looked at first */
  uint32_t mapping;
  long pid;
  uint64_t until_ns;
  mode_t mode;
  int how;
  struct prelux_grant_heard grant;
  unsigned next;
  size_t folder_len;
  char folder[PATH_MAX]; /* below the mapping's root */
};

/* In pages that fork wipes, whatever number the child has: the lease is its parent's. Made with the first grant. */
static struct lease *lease;

static bool have_pages(void)
{
  struct lease *none = NULL;
  if (__atomic_load_n(&lease, __ATOMIC_ACQUIRE)) return true;
  long pages = prelux_sys(SYS_mmap, NULL, sizeof(*lease), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (pages < 0 && pages > -4096) return false;
  if (prelux_sys(SYS_madvise, pages, sizeof(*lease), MADV_WIPEONFORK) == 0 &&
      __atomic_compare_exchange_n(&lease, &none, (struct lease *)pages, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return true;
  prelux_sys(SYS_munmap, pages, sizeof(*lease));
  return __atomic_load_n(&lease, __ATOMIC_ACQUIRE) != NULL;
}

static bool take(void)
{
  return __atomic_exchange_n(&lease->busy, 1, __ATOMIC_ACQUIRE) == 0;
}

static void leave(void)
{
  __atomic_store_n(&lease->busy, 0, __ATOMIC_RELEASE);
}

static void drop(void)
{
  __atomic_store_n(&lease->table, NULL, __ATOMIC_RELAXED);
}

static uint64_t now_ns(void)
{
  struct timespec t;
  if (prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC, &t) < 0) return UINT64_MAX;
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Length of the folder in r->rel; the name begins behind it and its slash. */
static size_t folder_of(const struct prelux_route *r)
{
  size_t n = r->rel_len;
  while (n > 0 && r->rel[n] != '/') n--;
  return n;
}

static const char *name_in(const struct prelux_route *r, size_t folder)
{
  return r->rel + folder + (folder > 0);
}

/* One that every remote takes, and no rule of ours is about. */
static bool plain_name(const char *name)
{
  size_t n = 0;
  for (; name[n]; n++) {
    bool letter = (name[n] >= 'a' && name[n] <= 'z') || (name[n] >= 'A' && name[n] <= 'Z') || (name[n] >= '0' && name[n] <= '9');
    if (!letter && name[n] != '.' && name[n] != '-' && name[n] != '_') return false;
  }
  return n > 0 && n <= PRELUX_LEASE_NAME_MAX && name[0] != '.' && name[n - 1] != '.';
}

static bool fits(const struct prelux_route *r, int flags, mode_t mode)
{
  size_t folder = folder_of(r);
  return lease->table == prelux_state.table && lease->mapping == r->index && lease->pid == prelux_sys(SYS_getpid) && lease->how == (flags & HOW) &&
         lease->folder_len == folder && memcmp(lease->folder, r->rel, folder) == 0 && lease->mode == (mode & 07777 & ~prelux_umask()) &&
         now_ns() < lease->until_ns;
}

static bool more(const struct prelux_route *r, const char *call)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {
    .op = PRELUX_OP_LEASE, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel, .lease = lease->grant.number};
  if (prelux_ask(&q, reply, NULL) < 0 || !prelux_grant_read(reply, &lease->grant)) return false;
  lease->next = 0;
  lease->until_ns = now_ns() + PRELUX_LEASE_MS * 1000000ull;
  return true;
}

/* The number of a file, and its lease's; false: there is none to be had. */
static bool draw(const struct prelux_route *r, const char *call, int flags, mode_t mode, uint64_t *ret_ino, int64_t *ret_number)
{
  if (!take()) return false;
  bool ok = fits(r, flags, mode) && (lease->next < lease->grant.n || more(r, call));
  if (ok) {
    *ret_ino = lease->grant.files[lease->next++];
    *ret_number = lease->grant.number;
  } else {
    drop();
  }
  leave();
  return ok;
}

static bool put(char *out, size_t cap, size_t *at, const char *text, size_t n)
{
  if (*at + n + 1 > cap) return false;
  memcpy(out + *at, text, n);
  out[*at += n] = '\0';
  return true;
}

static bool put_number(char *out, size_t cap, size_t *at, uint64_t v)
{
  char digits[NUMBER_BYTES];
  size_t n = sizeof(digits);
  do digits[--n] = (char)('0' + v % 10);
  while (v /= 10);
  return put(out, cap, at, digits + n, sizeof(digits) - n);
}

/* Opens the file and gives it its name: -EEXIST, or what else keeps it from that. */
static int make(const struct prelux_route *r, int flags, uint64_t ino, int64_t number, const char *name)
{
  char source[PATH_MAX], target[PATH_MAX];
  const struct prelux_str *staging = &r->mapping->staging;
  size_t at = 0;
  if (prelux_staging_path(r->mapping, ino, source, sizeof(source)) < 0 || staging->len == 0) return -ENAMETOOLONG;
  if (!put(target, sizeof(target), &at, prelux_table_str(prelux_state.table, *staging), staging->len) ||
      !put(target, sizeof(target), &at, LEASES, sizeof(LEASES) - 1) || !put_number(target, sizeof(target), &at, (uint64_t)number) ||
      !put(target, sizeof(target), &at, "/", 1) || !put(target, sizeof(target), &at, name, strlen(name)))
    return -ENAMETOOLONG;
  long fd = prelux_sys(SYS_openat, AT_FDCWD, source, (flags & (O_ACCMODE | O_APPEND | O_NONBLOCK)) | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0) return (int)fd;
  long rc = prelux_sys(SYS_linkat, AT_FDCWD, source, AT_FDCWD, target, 0);
  if (rc == 0) {
    prelux_sys(SYS_utimensat, fd, NULL, NULL, 0); /* it was made before; behind the link, for that says that the number is ours yet */
    if (!(flags & O_CLOEXEC)) prelux_sys(SYS_fcntl, fd, F_SETFD, 0);
    return (int)fd;
  }
  prelux_sys(SYS_close, fd);
  return (int)rc;
}

static void give_up(int64_t number)
{
  if (!take()) return;
  if (lease->grant.number == number) drop();
  leave();
}

int prelux_lease_open(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  uint64_t ino;
  int64_t number;
  struct prelux_attr attr;
  const struct lease *l = __atomic_load_n(&lease, __ATOMIC_ACQUIRE);
  if (!l || !__atomic_load_n(&l->table, __ATOMIC_RELAXED) || !(flags & O_CREAT) || (flags & ~PLAIN) || r->must_dir || r->slash || prelux_quiet() ||
      prelux_in_shared_child())
    return -EAGAIN;
  const char *name = name_in(r, folder_of(r));
  if (!plain_name(name) || (prelux_index_look(r, &attr) && attr.type != PRELUX_NONE) || !draw(r, call, flags, mode, &ino, &number)) return -EAGAIN;
  int fd = make(r, flags, ino, number, name);
  if (fd < 0) {
    if (fd != -EEXIST) give_up(number);
    return -EAGAIN;
  }
  /* Whoever looks there would be told what was before: nobody is, once somebody has asked. */
  if (prelux_index_look(r, &attr)) prelux_ask_anew(r, call, &attr);
  return fd;
}

void prelux_lease_granted(const struct prelux_route *r, int flags, mode_t mode, const struct prelux_grant_heard *g)
{
  size_t folder = folder_of(r);
  if (g->n == 0 || folder >= sizeof(lease->folder) || prelux_in_shared_child() || !have_pages() || !take()) return;
  lease->mapping = r->index;
  lease->pid = prelux_sys(SYS_getpid);
  lease->until_ns = now_ns() + PRELUX_LEASE_MS * 1000000ull;
  lease->mode = mode & 07777 & ~prelux_umask();
  lease->how = flags & HOW;
  lease->grant = *g;
  lease->next = 0;
  lease->folder_len = folder;
  memcpy(lease->folder, r->rel, folder);
  __atomic_store_n(&lease->table, prelux_state.table, __ATOMIC_RELAXED);
  leave();
}
