/* `prelux run --deep` (deep/deep.h): an exec of a program that this library cannot get into goes to the launcher, and the supervisor, in
 * which this library is, too, asks what a path is. */
#include "shim/deep.h"

#include <sys/stat.h>
#include <sys/statfs.h>

#include "deep/deep.h"
#include "lib/base/path.h"
#include "lib/base/sys.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"
#include "shim/fds.h"
#include "shim/init.h"
#include "shim/report.h"
#include "shim/route.h"
#include "shim/tell.h"

static PRELUX_START_DATA const char *start_value;

PRELUX_AT_START void prelux_deep_remember(char *const envp[])
{
  if (!start_value) start_value = prelux_keep(prelux_env_get(envp, PRELUX_DEEP_ENV), PATH_MAX);
}

const char *prelux_deep_value(void)
{
  return start_value;
}

/* "ID:LAUNCHER" or "ID:+LAUNCHER" */
static const char *launcher_of(const char *value, long *ret_id, bool *ret_all)
{
  *ret_id = 0;
  for (; *value && *value != ':'; value++) {
    int digit = *value <= '9' ? *value - '0' : *value - 'a' + 10;
    *ret_id = *ret_id << 4 | (digit & 15);
  }
  *ret_all = *value && value[1] == *PRELUX_DEEP_ALL;
  if (*ret_all) value++;
  return *value && value[1] == '/' ? value + 1 : NULL;
}

/* Its filter takes the privileges from a program that has some: that one is left alone. closed: by exec, what it was named by is. */
static bool wants(const struct prelux_target *t, bool all, bool closed)
{
  struct stat st;
  char name[32] = "/proc/self/fd/", head[PRELUX_HEAD + 1];
  if (!*t->path) prelux_path_number(name + strlen(name), (unsigned)t->at);
  const char *path = *t->path ? t->path : name; /* what is open for its path alone cannot be read */
  unsigned kind = prelux_exec_kind(AT_FDCWD, path);
  bool foreign = (kind & PRELUX_ELF_FOREIGN) && (kind & PRELUX_ELF_DYNAMIC);
  if (!kind || (!all && !foreign && !(kind & PRELUX_ELF_STATIC) && !prelux_exec_is_go(AT_FDCWD, path))) return false;
  /* The interpreter could not open a script that exec closes: the program is told so. */
  if (closed && prelux_exec_head(AT_FDCWD, path, head) > 1 && memcmp(head, "#!", 2) == 0) return false;
  if (prelux_sys(SYS_newfstatat, AT_FDCWD, path, &st, 0) < 0 || (st.st_mode & (S_ISUID | S_ISGID))) return false;
  if (prelux_sys(SYS_getxattr, path, "security.capability", NULL, 0) > 0) return false;
  return prelux_sys(SYS_faccessat, AT_FDCWD, path, X_OK) == 0;
}

/* t is named by itself then: a name relative to an open folder gets the folder's in front. */
static bool is_named(struct prelux_target *t, int flags)
{
  char folder[PATH_MAX];
  struct stat st;
  if ((flags & AT_SYMLINK_NOFOLLOW) && (prelux_sys(SYS_newfstatat, t->at, t->path, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISLNK(st.st_mode))) return false;
  if (!*t->path) return t->at >= 0;
  if (t->at == AT_FDCWD || *t->path == '/') return true;
  long n = prelux_dir_real(t->at, folder, sizeof(folder));
  size_t len = strlen(t->path) + 1;
  char *whole = n < 0 ? NULL : prelux_room_take(t->room, (size_t)n + 1 + len);
  if (!whole) return false;
  memcpy(whole, folder, (size_t)n);
  whole[n] = '/';
  memcpy(whole + n + 1, t->path, len);
  t->path = whole;
  t->at = AT_FDCWD;
  return true;
}

/* What the launcher is told to execute. What is open, and closed by exec, is handed over by a number that is not. NULL: it cannot be. */
static const char *file_of(struct prelux_target *t, int *ret_fd)
{
  if (*t->path == PRELUX_DEEP_OPEN) { /* a name as any other */
    char *same = prelux_room_take(t->room, 2 + strlen(t->path) + 1);
    if (same) memcpy(same, "./", 2), memcpy(same + 2, t->path, strlen(t->path) + 1);
    return same;
  }
  if (*t->path) return t->path;
  bool closed = prelux_sys(SYS_fcntl, t->at, F_GETFD) & FD_CLOEXEC;
  int fd = closed ? *ret_fd = (int)prelux_sys(SYS_fcntl, t->at, F_DUPFD, 3) : t->at;
  char *name = fd < 0 ? NULL : prelux_room_take(t->room, 16);
  if (!name) return NULL;
  name[0] = PRELUX_DEEP_OPEN;
  char *end = prelux_path_number(name + 1, (unsigned)fd);
  end[0] = closed ? PRELUX_DEEP_CLOSED : '\0';
  end[1] = '\0';
  return name;
}

__attribute__((noinline)) static int launch(struct prelux_target *t, int flags, int *ret_fd)
{
  long id;
  bool all;
  const char *launcher = launcher_of(start_value, &id, &all);
  if (!launcher || !t->path) return 0;
  bool closed = t->at >= 0 && *t->path != '/' && (prelux_sys(SYS_fcntl, t->at, F_GETFD) & FD_CLOEXEC);
  if (!is_named(t, flags) || !wants(t, all, closed)) return 0;
  if (prelux_sys(SYS_faccessat, AT_FDCWD, launcher, X_OK) < 0) return 0; /* another root */
  if (prelux_sys(SYS_openat, PRELUX_DEEP_PROBE, NULL, 0, 0) == id) return 0; /* it inherits ours */
  size_t n = 0;
  while (t->argv && t->argv[n]) n++;
  const char **argv = prelux_room_take(t->room, (n + 6) * sizeof(*argv));
  if (!argv) return -ENOMEM;
  const char *file = file_of(t, ret_fd);
  if (!file) return 0; /* no free number */
  argv[0] = launcher;
  argv[1] = "--deep-exec";
  argv[2] = file;
  argv[3] = t->path == t->cache ? t->r.logical : "";
  argv[4] = ""; /* as the kernel has it where there is none */
  for (size_t i = 0; i < n; i++) argv[4 + i] = t->argv[i];
  argv[n ? n + 4 : 5] = NULL;
  t->at = AT_FDCWD;
  t->path = launcher;
  t->argv = (char *const *)argv;
  return 1;
}

int prelux_deep_launch(struct prelux_target *t, int flags, int *ret_fd)
{
  *ret_fd = -1;
  if (__builtin_expect(!start_value, 1)) return 0;
  int at = t->at;
  const char *path = t->path;
  int rc = launch(t, flags, ret_fd);
  if (rc == 0) {
    t->at = at;
    t->path = path;
  }
  return rc;
}

void prelux_deep_launched(int fd)
{
  if (fd >= 0) prelux_sys(SYS_close, fd);
}

/* What is open: 2 in a cache tree or staged; 1 behind a prefix, or a folder whose listing shows one. */
static int is_ours(const char *real)
{
  static const char gone[] = " (deleted)";
  struct prelux_route r;
  char name[PATH_MAX];
  uint64_t ino;
  uint32_t mapping;
  size_t n = strlen(real), cut = sizeof(gone) - 1;
  if (*real != '/' || n >= sizeof(name)) return 0;
  memcpy(name, real, n + 1);
  if (n > cut && memcmp(name + n - cut, gone, cut) == 0) name[n - cut] = '\0';
  if (prelux_logical(name, -1, r.path, sizeof(r.path)) != 0 || prelux_staged_path(name, &ino, &mapping)) return 2;
  return !prelux_far(AT_FDCWD, name) && prelux_route(AT_FDCWD, name, 0, &r) != PRELUX_UNMAPPED;
}

/* What exec would give to the kernel. A file that is none of ours has its own name. */
static long program(int dirfd, const char *path, bool named, struct prelux_deep_program *ret)
{
  struct prelux_room room;
  char *argv[] = {(char *)path, NULL};
  struct prelux_target t = {.room = &room, .moves = named};
  char folder[PATH_MAX];
  prelux_room_init(&room);
  long rc = prelux_exec_resolve(&t, dirfd, path, argv);
  if (rc == 0 && t.argv == argv && t.path != t.cache) rc = prelux_exec_interpreter(&t, path);
  ret->n_words = 0;
  for (char *const *word = t.argv == argv ? NULL : t.argv; rc >= 0 && word && *word; word++) {
    size_t n = strlen(*word);
    if (ret->n_words == PRELUX_DEEP_WORDS || n >= PATH_MAX) rc = -E2BIG;
    else memcpy(ret->words[ret->n_words++], *word, n + 1);
  }
  if (rc >= 0 && *t.path == '/') memcpy(ret->file, t.path, strlen(t.path) + 1);
  else if (rc >= 0 && (rc = prelux_dir_real(t.at, folder, sizeof(folder))) >= 0) rc = prelux_path_join(ret->file, sizeof(ret->file), folder, t.path);
  prelux_room_release(&room);
  return rc < 0 ? rc : 0;
}

static long wake(void)
{
  const struct prelux_client_opts opts = {.runtime = prelux_state.runtime, .daemon = prelux_daemon_path(), .envp = prelux_state.envp, .timeout_ms = 15000};
  int fd = prelux_client_connect(&opts);
  if (fd >= 0) prelux_sys(SYS_close, fd);
  return fd < 0 ? fd : 0;
}

int prelux_deep_start(const struct prelux_client_opts *opts)
{
  long id;
  bool all;
  if (start_value && launcher_of(start_value, &id, &all) && prelux_sys(SYS_openat, PRELUX_DEEP_PROBE, NULL, 1, 0) == id) return 0;
  return prelux_daemon_start(opts);
}

/* What /proc says depends on who asks. */
static long of_kernel(const char *path, unsigned how)
{
  enum { PROC = 0x9fa0 };
  struct stat st;
  struct statfs fs;
  long rc = prelux_sys(SYS_newfstatat, AT_FDCWD, path, &st, how & PRELUX_DEEP_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
  if (rc == 0 && ((!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) || (prelux_sys(SYS_statfs, path, &fs) == 0 && fs.f_type == PROC))) return 0;
  return rc < 0 ? rc : 2;
}

long prelux_deep_route(int dirfd, const char *path, unsigned how, void *more)
{
  struct prelux_route r;
  unsigned why = (how & PRELUX_DEEP_NOFOLLOW ? PRELUX_NOFOLLOW : 0) | (how & PRELUX_DEEP_CHANGE ? PRELUX_CHANGE : 0);
  if (!prelux_deep_value() || !*prelux_deep_value()) return -ENOSYS;
  if (how & PRELUX_DEEP_DAEMON) return wake();
  if (how & PRELUX_DEEP_EVENT)
    return prelux_report_other(dirfd, how & PRELUX_DEEP_EXECUTES ? PRELUX_REPORT_EXECUTES : how & PRELUX_DEEP_OURS ? PRELUX_REPORT_OURS : PRELUX_REPORT_KERNELS);
  if (how & PRELUX_DEEP_COUNT) return prelux_report_count_for((uint32_t)dirfd), 0;
  if (prelux_no_pointer(path)) return -EFAULT;
  if (how & PRELUX_DEEP_EXEC) return program(dirfd, path, how & PRELUX_DEEP_NAMED, more);
  if (how & PRELUX_DEEP_REAL) return is_ours(path);
  if (why == PRELUX_CHANGE) why |= PRELUX_WRITE;
  bool first = (why & PRELUX_CHANGE) && (prelux_links_first(path) || ((why & PRELUX_WRITE) && prelux_last_is_link(dirfd, path)));
  prelux_route_plain(dirfd, path, &r);
  if (first || !prelux_far(dirfd, path)) {
    if (prelux_route(dirfd, path, why, &r) != PRELUX_UNMAPPED || r.use != path) return 1;
  }
  bool covered = prelux_state.table && (prelux_state.table->flags & PRELUX_TABLE_COVERED);
  long rc = of_kernel(path, how), kernels = covered && rc != 0 ? 2 : 0;
  if (rc != -ENOENT && rc != -ENOTDIR) return kernels;
  errno = (int)-rc;
  return prelux_route_again(dirfd, path, why, &r) && (r.where != PRELUX_UNMAPPED || r.use != path) ? 1 : kernels;
}
