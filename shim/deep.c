/* `prelux run --deep` (deep/deep.h): an exec of a program that this library cannot get into goes to the launcher, and the supervisor, in
 * which this library is, too, asks what a path is. */
#include "shim/deep.h"

#include <sys/stat.h>

#include "deep/deep.h"
#include "lib/base/sys.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"
#include "shim/fds.h"
#include "shim/init.h"
#include "shim/route.h"
#include "shim/tell.h"

static PRELUX_START_DATA const char *start_value;

PRELUX_AT_START void prelux_deep_remember(char *const envp[])
{
  start_value = prelux_keep(prelux_env_get(envp, PRELUX_DEEP_ENV), PATH_MAX);
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

/* Its filter takes the privileges from a set-uid program: that one is left alone. */
static bool wants(const struct prelux_target *t, bool all)
{
  struct stat st;
  unsigned kind = prelux_exec_kind(t->at, t->path);
  bool foreign = (kind & PRELUX_ELF_FOREIGN) && (kind & PRELUX_ELF_DYNAMIC);
  if (!kind || (!all && !foreign && !(kind & PRELUX_ELF_STATIC) && !prelux_exec_is_go(t->at, t->path))) return false;
  if (prelux_sys(SYS_newfstatat, t->at, t->path, &st, 0) < 0 || (st.st_mode & (S_ISUID | S_ISGID))) return false;
  return prelux_sys(SYS_faccessat, t->at, t->path, X_OK) == 0;
}

int prelux_deep_launch(struct prelux_target *t)
{
  long id;
  bool all;
  if (__builtin_expect(!start_value, 1)) return 0;
  const char *launcher = launcher_of(start_value, &id, &all);
  if (!launcher || !t->path || !*t->path || (t->at != AT_FDCWD && *t->path != '/') || !wants(t, all)) return 0;
  if (prelux_sys(SYS_openat, PRELUX_DEEP_PROBE, NULL, 0, 0) == id) return 0; /* it inherits ours */
  size_t n = 0;
  while (t->argv && t->argv[n]) n++;
  const char **argv = prelux_room_take(t->room, (n + 4) * sizeof(*argv));
  if (!argv) return -ENOMEM;
  argv[0] = launcher;
  argv[1] = "--deep-exec";
  argv[2] = t->path;
  for (size_t i = 0; i <= n; i++) argv[3 + i] = t->argv ? t->argv[i] : NULL;
  t->at = AT_FDCWD;
  t->path = launcher;
  t->argv = (char *const *)argv;
  return 0;
}

/* What is open: in a cache tree, staged, behind a prefix, or a folder whose listing shows one. */
static bool is_ours(const char *real)
{
  static const char gone[] = " (deleted)";
  struct prelux_route r;
  char name[PATH_MAX];
  uint64_t ino;
  uint32_t mapping;
  size_t n = strlen(real), cut = sizeof(gone) - 1;
  if (*real != '/' || n >= sizeof(name)) return false;
  memcpy(name, real, n + 1);
  if (n > cut && memcmp(name + n - cut, gone, cut) == 0) name[n - cut] = '\0';
  if (prelux_logical(name, -1, r.path, sizeof(r.path)) != 0 || prelux_staged_path(name, &ino, &mapping)) return true;
  return !prelux_far(AT_FDCWD, name) && prelux_route(AT_FDCWD, name, 0, &r) != PRELUX_UNMAPPED;
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

long prelux_deep_route(int dirfd, const char *path, unsigned how)
{
  struct prelux_route r;
  struct stat st;
  unsigned why = (how & PRELUX_DEEP_NOFOLLOW ? PRELUX_NOFOLLOW : 0) | (how & PRELUX_DEEP_CHANGE ? PRELUX_CHANGE : 0);
  if (how & PRELUX_DEEP_DAEMON) return wake();
  if (how & PRELUX_DEEP_REAL) return is_ours(path);
  if (why == PRELUX_CHANGE) why |= PRELUX_WRITE;
  bool first = (why & PRELUX_CHANGE) && (prelux_links_first(path) || ((why & PRELUX_WRITE) && prelux_last_is_link(dirfd, path)));
  prelux_route_plain(dirfd, path, &r);
  if (first || !prelux_far(dirfd, path)) {
    if (prelux_route(dirfd, path, why, &r) != PRELUX_UNMAPPED || r.use != path) return 1;
  }
  long rc = prelux_sys(SYS_newfstatat, dirfd, path, &st, how & PRELUX_DEEP_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
  long kernels = prelux_state.table && (prelux_state.table->flags & PRELUX_TABLE_COVERED) && (rc < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) ? 2 : 0;
  if (rc != -ENOENT && rc != -ENOTDIR) return kernels;
  errno = (int)-rc;
  return prelux_route_again(dirfd, path, why, &r) && (r.where != PRELUX_UNMAPPED || r.use != path) ? 1 : kernels;
}
