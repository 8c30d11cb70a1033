/* The calls that the filter asks about, and how each is done: its arguments are copied once, what is behind them is looked at, and then either
 * the kernel goes on (the path is none of ours) or the copy is what the library's call is made with, in this process.
 *
 * A thread that changes the path meanwhile changes nothing of what is done here. Where the kernel goes on it reads the path again: what it
 * finds there is what it finds without prelux, which knows nothing of prefixes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "deep/call.h"
#include "deep/deep.h"
#include "lib/base/sys.h"

enum { NOFOLLOW = PRELUX_DEEP_NOFOLLOW, CHANGE = PRELUX_DEEP_CHANGE, STAT = sizeof(struct stat), STATX = 256, NR_FACCESSAT2 = 439, NR_FCHMODAT2 = 452 };
#define NAME (NOFOLLOW | CHANGE)

const struct prelux_deep_rule prelux_deep_rules[] = {
    {.nr = SYS_openat, .as = SYS_openat, .args = "dpFm", .kind = PRELUX_DEEP_FD},
    {.nr = SYS_openat2, .as = SYS_openat2, .args = "dpo.", .kind = PRELUX_DEEP_FD},
    {.nr = SYS_newfstatat, .as = SYS_newfstatat, .args = "dpS.", .size = STAT},
    {.nr = SYS_statx, .as = SYS_statx, .args = "dp..S", .size = STATX},
    {.nr = SYS_fstat, .as = SYS_fstat, .args = "fS", .size = STAT},
    {.nr = SYS_statfs, .as = SYS_statfs, .args = "pS", .size = sizeof(struct statfs)},
    {.nr = SYS_fstatfs, .as = SYS_fstatfs, .args = "fS", .size = sizeof(struct statfs)},
    {.nr = SYS_faccessat, .as = SYS_faccessat, .args = "dp."},
    {.nr = NR_FACCESSAT2, .as = NR_FACCESSAT2, .args = "dp.."},
    {.nr = SYS_readlinkat, .as = SYS_readlinkat, .args = "dpb.", .how = NOFOLLOW},
    {.nr = SYS_getdents64, .as = SYS_getdents64, .args = "fb.", .kind = PRELUX_DEEP_DENTS},
    {.nr = SYS_mkdirat, .as = SYS_mkdirat, .args = "dpm", .how = NAME},
    {.nr = SYS_mknodat, .as = SYS_mknodat, .args = "dpm.", .how = NAME},
    {.nr = SYS_unlinkat, .as = SYS_unlinkat, .args = "dp.", .how = NAME},
    {.nr = SYS_symlinkat, .as = SYS_symlinkat, .args = "tdp", .how = NAME},
    {.nr = SYS_linkat, .as = SYS_linkat, .args = "dpdp.", .how = NAME},
    {.nr = SYS_renameat2, .as = SYS_renameat2, .args = "dpdp.", .how = NAME},
    {.nr = SYS_renameat, .as = SYS_renameat2, .args = "dpdp0", .how = NAME},
    {.nr = SYS_truncate, .as = SYS_truncate, .args = "p.", .how = CHANGE},
    {.nr = SYS_fchmod, .as = SYS_fchmod, .args = "f."},
    {.nr = SYS_fchmodat, .as = SYS_fchmodat, .args = "dp.", .how = CHANGE},
    {.nr = NR_FCHMODAT2, .as = NR_FCHMODAT2, .args = "dp..", .how = CHANGE},
    {.nr = SYS_fchown, .as = SYS_fchown, .args = "f.."},
    {.nr = SYS_fchownat, .as = SYS_fchownat, .args = "dp...", .how = CHANGE},
    {.nr = SYS_utimensat, .as = SYS_utimensat, .args = "dpi.", .size = 2 * sizeof(struct timespec), .how = CHANGE},
    {.nr = SYS_fsync, .as = SYS_fsync, .args = "f"},
    {.nr = SYS_fdatasync, .as = SYS_fdatasync, .args = "f"},
    {.nr = SYS_inotify_add_watch, .as = SYS_inotify_add_watch, .args = "fp."},
    {.nr = SYS_getxattr, .as = SYS_getxattr, .args = "ptb."},
    {.nr = SYS_lgetxattr, .as = SYS_lgetxattr, .args = "ptb.", .how = NOFOLLOW},
    {.nr = SYS_fgetxattr, .as = SYS_fgetxattr, .args = "ftb."},
    {.nr = SYS_listxattr, .as = SYS_listxattr, .args = "pb."},
    {.nr = SYS_llistxattr, .as = SYS_llistxattr, .args = "pb.", .how = NOFOLLOW},
    {.nr = SYS_flistxattr, .as = SYS_flistxattr, .args = "fb."},
    {.nr = SYS_chdir, .as = SYS_chdir, .args = "p", .kind = PRELUX_DEEP_CHDIR},
    {.nr = SYS_getcwd, .as = SYS_getcwd, .args = "", .kind = PRELUX_DEEP_GETCWD},
    {.nr = SYS_execve, .as = SYS_execve, .args = "Dp", .kind = PRELUX_DEEP_EXEC},
    {.nr = SYS_execveat, .as = SYS_execveat, .args = "dp", .kind = PRELUX_DEEP_EXEC},
#if defined(__x86_64__)
    {.nr = SYS_open, .as = SYS_openat, .args = "DpFm", .kind = PRELUX_DEEP_FD},
    {.nr = SYS_creat, .as = SYS_openat, .args = "DpCm", .kind = PRELUX_DEEP_FD, .how = CHANGE},
    {.nr = SYS_stat, .as = SYS_newfstatat, .args = "DpS0", .size = STAT},
    {.nr = SYS_lstat, .as = SYS_newfstatat, .args = "DpSN", .size = STAT, .how = NOFOLLOW},
    {.nr = SYS_access, .as = SYS_faccessat, .args = "Dp."},
    {.nr = SYS_readlink, .as = SYS_readlinkat, .args = "Dpb.", .how = NOFOLLOW},
    {.nr = SYS_getdents, .as = SYS_getdents, .args = "fb.", .kind = PRELUX_DEEP_DENTS},
    {.nr = SYS_mkdir, .as = SYS_mkdirat, .args = "Dpm", .how = NAME},
    {.nr = SYS_mknod, .as = SYS_mknodat, .args = "Dpm.", .how = NAME},
    {.nr = SYS_rmdir, .as = SYS_unlinkat, .args = "DpR", .how = NAME},
    {.nr = SYS_unlink, .as = SYS_unlinkat, .args = "Dp0", .how = NAME},
    {.nr = SYS_symlink, .as = SYS_symlinkat, .args = "tDp", .how = NAME},
    {.nr = SYS_link, .as = SYS_linkat, .args = "DpDp0", .how = NAME},
    {.nr = SYS_rename, .as = SYS_renameat2, .args = "DpDp0", .how = NAME},
    {.nr = SYS_chmod, .as = SYS_fchmodat, .args = "Dp.", .how = CHANGE},
    {.nr = SYS_chown, .as = SYS_fchownat, .args = "Dp..0", .how = CHANGE},
    {.nr = SYS_lchown, .as = SYS_fchownat, .args = "Dp..N", .how = NAME},
    {.nr = SYS_utime, .as = SYS_utime, .args = "pi", .size = 2 * sizeof(long), .how = CHANGE},
    {.nr = SYS_utimes, .as = SYS_utimes, .args = "pi", .size = 2 * sizeof(struct timeval), .how = CHANGE},
    {.nr = SYS_futimesat, .as = SYS_futimesat, .args = "dpi", .size = 2 * sizeof(struct timeval), .how = CHANGE},
#endif
};
/* Of a descriptor: there is no path. */
static const struct prelux_deep_rule futimens_rule = {.nr = SYS_utimensat, .as = SYS_utimensat, .args = "f_i.", .size = 2 * sizeof(struct timespec)};
static const struct prelux_deep_rule wake_rule = {.nr = SYS_openat, .as = PRELUX_DEEP_ROUTE, .args = "", .kind = PRELUX_DEEP_WAKE};
const size_t prelux_deep_n_rules = sizeof prelux_deep_rules / sizeof *prelux_deep_rules;

/* ---- answers */

static void answer(const struct prelux_deep_call *c, long rc, unsigned flags)
{
  struct seccomp_notif_resp resp = {.id = c->req.id, .val = rc < 0 ? 0 : rc, .error = rc < 0 ? (int)rc : 0, .flags = flags};
  prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp); /* ENOENT: the program was killed */
}

static void hand_over(const struct prelux_deep_call *c, int fd)
{
  struct seccomp_notif_addfd add = {.id = c->req.id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (unsigned)fd,
                                    .newfd_flags = c->open_flags & O_CLOEXEC ? O_CLOEXEC : 0};
  struct stat st;
  bool folder = prelux_sys(SYS_fstat, fd, &st) == 0 && S_ISDIR(st.st_mode);
  long rc = folder ? prelux_deep_dents_hand_over(prelux_deep_process((pid_t)c->req.pid), c->listener, &add)
                   : prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  if (rc < 0 && rc != -ENOENT)
    answer(c, rc, 0); /* EMFILE */
}

static bool still_waits(const struct prelux_deep_call *c)
{
  return prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &c->req.id) == 0;
}

/* ---- arguments */

static long keep_fd(struct prelux_deep_call *c, int fd)
{
  if (fd >= 0)
    c->fds[c->n_fds++] = fd;
  return fd;
}

static void drop_fds(struct prelux_deep_call *c)
{
  while (c->n_fds > 0)
    close(c->fds[--c->n_fds]);
}

/* The folder for the path in text `t`. */
static long folder(struct prelux_deep_call *c, long at, const char *path)
{
  char name[32];
  if (path[0] == '/')
    return AT_FDCWD;
  if ((int)at == AT_FDCWD)
    return keep_fd(c, prelux_deep_open_proc((pid_t)c->req.pid, "cwd", O_PATH));
  if ((int)at < 0)
    return -EBADF;
  snprintf(name, sizeof name, "fd/%d", (int)at);
  long fd = keep_fd(c, prelux_deep_open_proc((pid_t)c->req.pid, name, O_PATH));
  return fd == -ENOENT ? -EBADF : fd;
}

/* What /proc and /dev call the caller's own is another process's in here. */
static void name_theirs(pid_t tid, char *path)
{
  static const struct {
    const char *own, *theirs;
  } names[] = {{"/proc/self", ""},       {"/proc/thread-self", ""}, {"/dev/fd", "/fd"},
               {"/dev/stdin", "/fd/0"}, {"/dev/stdout", "/fd/1"},  {"/dev/stderr", "/fd/2"}};
  char whole[PATH_MAX];
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
  {
    size_t n = strlen(names[i].own);
    if (strncmp(path, names[i].own, n) != 0 || (path[n] && path[n] != '/'))
      continue;
    if (snprintf(whole, sizeof whole, "/proc/%d%s%s", (int)tid, names[i].theirs, path + n) < (int)sizeof whole)
      memcpy(path, whole, strlen(whole) + 1);
    return;
  }
}

static long take_text(struct prelux_deep_call *c, uint64_t at, bool is_path)
{
  char *text = c->texts[c->n_texts++];
  long n = prelux_deep_text((pid_t)c->req.pid, at, text, PATH_MAX);
  if (n >= 0 && is_path && (strncmp(text, "/proc/", 6) == 0 || strncmp(text, "/dev/", 5) == 0))
    name_theirs((pid_t)c->req.pid, text);
  return n < 0 ? n : (long)(intptr_t)text;
}

static long take_in(struct prelux_deep_call *c, uint64_t at, uint64_t size)
{
  if (at == 0)
    return 0;
  if (size > sizeof c->in)
    return -E2BIG;
  memset(c->in, 0, sizeof c->in);
  int rc = prelux_deep_read((pid_t)c->req.pid, at, c->in, size);
  return rc < 0 ? rc : (long)(intptr_t)c->in;
}

/* A descriptor of O_PATH cannot be handed over: it is one for reading instead. */
static uint64_t open_with(int flags)
{
  if (flags & O_PATH)
    flags = (flags & (O_DIRECTORY | O_NOFOLLOW)) | O_NONBLOCK;
  return (unsigned)((flags & ~O_PATH) | O_CLOEXEC | O_NOCTTY);
}

static long take_how(struct prelux_deep_call *c, uint64_t at, uint64_t size)
{
  struct open_how *how = (struct open_how *)c->in;
  if (size < sizeof *how)
    return -EINVAL;
  long rc = take_in(c, at, size);
  if (rc < 0 || at == 0)
    return rc < 0 ? rc : -EFAULT;
  c->open_flags = (int)how->flags;
  how->flags = open_with(c->open_flags);
  if (how->mode)
    how->mode &= ~prelux_deep_umask((pid_t)c->req.pid);
  return rc;
}

static long take_out(struct prelux_deep_call *c, uint64_t at, uint64_t size)
{
  c->out_at = at;
  c->out_len = size < sizeof c->out ? size : sizeof c->out;
  return (long)(intptr_t)c->out;
}

/* One argument; *next: of the program's. */
static long take(struct prelux_deep_call *c, char what, const __u64 *theirs, int *next)
{
  const struct prelux_deep_rule *rule = c->rule;
  uint64_t value = strchr("D0NRC", what) ? 0 : theirs[(*next)++];
  switch (what)
  {
  case 'D': return AT_FDCWD;
  case 'N': return AT_SYMLINK_NOFOLLOW;
  case 'R': return AT_REMOVEDIR;
  case 'C': return O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY;
  case 'p':
  case 't': return take_text(c, value, what == 'p');
  case 'S': return take_out(c, value, rule->size);
  case 'b': return take_out(c, value, theirs[*next]);
  case 'i': return take_in(c, value, rule->size);
  case 'o': return take_how(c, value, theirs[*next]);
  case 'F': c->open_flags = (int)value; return (long)open_with(c->open_flags);
  case '_': return 0;
  default: return (long)value;
  }
}

/* All arguments but folders and modes, which may not be needed. */
static long take_all(struct prelux_deep_call *c)
{
  int next = 0;
  for (int i = 0; c->rule->args[i]; i++)
  {
    char what = c->rule->args[i];
    c->args[i] = take(c, what, c->req.data.args, &next);
    if (c->args[i] < 0 && c->args[i] > -4096 && strchr("ptio", what))
      return c->args[i];
    if (i > 0 && c->rule->args[i - 1] == 'b' && (size_t)c->args[i] > sizeof c->out)
      c->args[i] = sizeof c->out;
  }
  return 0;
}

static long take_fds(struct prelux_deep_call *c)
{
  for (int i = 0; c->rule->args[i]; i++)
  {
    if (c->rule->args[i] == 'f' && (c->args[i] = keep_fd(c, prelux_deep_get_fd((pid_t)c->req.pid, (int)c->args[i]))) < 0)
      return c->args[i];
    if (c->rule->args[i] == 'd' || c->rule->args[i] == 'D')
    {
      c->args[i] = folder(c, c->args[i], (const char *)(intptr_t)c->args[i + 1]);
      if (c->args[i] < 0 && c->args[i] != AT_FDCWD)
        return c->args[i];
    }
  }
  return 0;
}

static void take_modes(struct prelux_deep_call *c)
{
  for (int i = 0; c->rule->args[i]; i++)
    if (c->rule->args[i] == 'm' && c->args[i])
      c->args[i] &= ~(long)prelux_deep_umask((pid_t)c->req.pid);
}

/* ---- whose is it */

static unsigned how_of(const struct prelux_deep_call *c)
{
  unsigned how = c->rule->how;
  if (c->rule->kind == PRELUX_DEEP_FD && !(c->open_flags & O_PATH) &&
      ((c->open_flags & O_ACCMODE) != O_RDONLY || (c->open_flags & (O_CREAT | O_TRUNC))))
    how |= CHANGE;
  if (c->rule->kind == PRELUX_DEEP_FD && (c->open_flags & O_NOFOLLOW))
    how |= NOFOLLOW;
  return how;
}

/* What /proc calls a descriptor of the program, or its folder (AT_FDCWD). Length or -errno. */
static long real_name(const struct prelux_deep_call *c, long fd, char out[PATH_MAX])
{
  char name[48];
  if ((int)fd == AT_FDCWD)
    snprintf(name, sizeof name, "/proc/%d/cwd", (int)c->req.pid);
  else
    snprintf(name, sizeof name, "/proc/%d/fd/%d", (int)c->req.pid, (int)fd);
  long n = prelux_sys(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
  if (n >= 0)
    out[n] = 0;
  return n;
}

static bool is_ours(const char *real)
{
  return syscall(PRELUX_DEEP_ROUTE, AT_FDCWD, real, PRELUX_DEEP_REAL) > 0;
}

static long route(const struct prelux_deep_call *c, const char *path, unsigned how)
{
  long is = syscall(PRELUX_DEEP_ROUTE, AT_FDCWD, path, how);
  if (c->rule->kind != PRELUX_DEEP_EXEC)
    return is;
  return is == 1 || prelux_deep_interpreted(path);
}

/* What /proc shows of a program that is mapped, its folder, or a file that it has open. */
static bool shows_ours(const struct prelux_deep_call *c, const char *path)
{
  char real[PATH_MAX];
  long n = c->rule->as == SYS_readlinkat && strncmp(path, "/proc/", 6) == 0 ? prelux_sys(SYS_readlinkat, AT_FDCWD, path, real, sizeof real - 1) : -1;
  if (n < 0)
    return false;
  real[n] = 0;
  return is_ours(real);
}

/* As PRELUX_DEEP_ROUTE. */
static long whose_path(const struct prelux_deep_call *c, long folder_fd, const char *path, unsigned how)
{
  char whole[2 * PATH_MAX];
  if (shows_ours(c, path))
    return 1;
  if (*path == '/')
    return route(c, path, how);
  long n = real_name(c, folder_fd, whole);
  if (n < 0)
    return 0;
  if (!*path || is_ours(whole))
    return *path || is_ours(whole);
  snprintf(whole + n, sizeof whole - (size_t)n, "/%s", path);
  return strlen(whole) < PATH_MAX ? route(c, whole, how) : 0;
}

/* Where something stands behind a prefix, a path that is changed meanwhile could lead there: then the kernel's calls of paths are done here, too. */
static bool whose(struct prelux_deep_call *c)
{
  char real[PATH_MAX];
  unsigned how = how_of(c);
  const char *args = c->rule->args;
  long is = 0;
  for (int i = 0; args[i] && is != 1; i++)
  {
    bool has_folder = i > 0 && strchr("dD", args[i - 1]);
    long one = 0;
    if (args[i] == 'f')
      one = real_name(c, c->args[i], real) >= 0 && is_ours(real);
    if (args[i] == 'p')
      one = whose_path(c, has_folder ? c->args[i - 1] : AT_FDCWD, (const char *)(intptr_t)c->args[i], how);
    is = one == 1 || is == 0 ? one : is;
  }
  c->is_kernels = is == 2;
  return is != 0;
}

/* Rules without a folder, for relative paths: there is no such call that takes one. The path becomes absolute. */
static long make_absolute(struct prelux_deep_call *c)
{
  const char *p = strchr(c->rule->args, 'p');
  if (!p || c->n_texts == 0 || (p > c->rule->args && strchr("dDt", p[-1])))
    return 0;
  char name[32], *path = c->texts[0], whole[PATH_MAX];
  if (*path == '/' || !*path)
    return 0;
  long fd = folder(c, AT_FDCWD, path);
  if (fd < 0)
    return fd;
  snprintf(name, sizeof name, "/proc/self/fd/%ld", fd);
  ssize_t n = readlink(name, whole, sizeof whole);
  size_t len = strlen(path);
  if (n < 0 || (size_t)n + len + 2 > sizeof whole)
    return n < 0 ? -errno : -ENAMETOOLONG;
  whole[n] = '/';
  memcpy(whole + n + 1, path, len + 1);
  memcpy(path, whole, (size_t)n + len + 2);
  return 0;
}

static bool go_on(struct prelux_deep_call *c)
{
  drop_fds(c);
  answer(c, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
  return true;
}

static bool decide_cwd(struct prelux_deep_call *c)
{
  char real[PATH_MAX];
  return real_name(c, AT_FDCWD, real) < 0 || !is_ours(real) ? go_on(c) : false;
}

static bool is_probe(const struct prelux_deep_call *c)
{
  return c->req.data.nr == SYS_openat && (int)c->req.data.args[0] == PRELUX_DEEP_PROBE && c->req.data.args[1] == 0;
}

static const struct prelux_deep_rule *rule_of(const struct prelux_deep_call *c)
{
  unsigned nr = (unsigned)c->req.data.nr;
  if (nr == SYS_utimensat && c->req.data.args[1] == 0)
    return &futimens_rule;
  for (const struct prelux_deep_rule *r = prelux_deep_rules; r < prelux_deep_rules + prelux_deep_n_rules; r++)
    if (r->nr == nr)
      return r;
  return NULL;
}

/* In another root, or with another user's rights for files, nothing is mapped. */
static bool is_alike(const struct prelux_deep_call *c)
{
  pid_t tid = (pid_t)c->req.pid;
  return prelux_deep_same_root(tid) && prelux_deep_same_user(tid) && (!c->is_kernels || prelux_deep_same_view(tid));
}

bool prelux_deep_reports;

static int count(const struct prelux_deep_call *c, unsigned event)
{
  return (int)syscall(PRELUX_DEEP_ROUTE, prelux_deep_process((pid_t)c->req.pid), NULL, PRELUX_DEEP_EVENT | event);
}

/* Ours: not yet. Whoever the library is in counts by himself. */
static bool goes_on(struct prelux_deep_call *c, bool reached, bool ours)
{
  bool exec = c->rule->kind == PRELUX_DEEP_EXEC;
  if (prelux_deep_reports && (ours || (!exec && !reached && !prelux_deep_may_be_reached((pid_t)c->req.pid))))
    c->counts = count(c, ours ? PRELUX_DEEP_OURS : 0);
  if (prelux_deep_reports && exec)
    count(c, PRELUX_DEEP_EXECUTES);
  return ours ? false : go_on(c);
}

/* Of an open file, which is executed as it is; or nothing is executed (AT_EXECVE_CHECK). */
static bool is_kernels_exec(const struct prelux_deep_call *c)
{
  bool knows = c->rule->nr != SYS_execveat || !((int)c->req.data.args[4] & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
  return c->rule->kind == PRELUX_DEEP_EXEC && (!c->texts[0][0] || !knows);
}

bool prelux_deep_decide(struct prelux_deep_call *c, uint32_t id)
{
  c->n_fds = c->n_texts = c->open_flags = c->counts = 0;
  c->out_at = c->out_len = 0;
  if (is_probe(c))
  {
    c->rule = &wake_rule;
    c->args[0] = (long)id;
    if (c->req.data.args[2] == 0)
      answer(c, (long)id, 0);
    return c->req.data.args[2] == 0;
  }
  c->rule = rule_of(c);
  if (!c->rule)
    return go_on(c);
  bool reached = prelux_deep_is_reached((pid_t)c->req.pid, c->req.data.instruction_pointer);
  if (c->rule->kind == PRELUX_DEEP_EXEC)
    prelux_deep_forget((pid_t)c->req.pid);
  if (reached)
    return goes_on(c, true, false);
  if (c->rule->kind == PRELUX_DEEP_GETCWD)
    return decide_cwd(c);
  /* What cannot be read the kernel says better. */
  if (take_all(c) < 0 || is_kernels_exec(c))
    return goes_on(c, false, false);
  return goes_on(c, false, whose(c) && is_alike(c));
}

/* ---- doing it */

static long call(struct prelux_deep_call *c)
{
  take_modes(c);
  long rc = syscall(c->rule->as, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4], c->args[5]);
  if (rc < 0)
    return -errno;
  size_t n = c->rule->size ? c->rule->size : (size_t)rc;
  if (c->out_len > 0 && n > 0)
  {
    if (!still_waits(c))
      return -ESRCH;
    int bad = prelux_deep_write((pid_t)c->req.pid, c->out_at, c->out, n < c->out_len ? n : c->out_len);
    if (bad < 0)
      return -EFAULT;
  }
  return rc;
}

static long current_folder(struct prelux_deep_call *c)
{
  char name[32];
  long fd = folder(c, AT_FDCWD, "");
  if (fd < 0)
    return fd;
  uint64_t size = c->req.data.args[1];
  snprintf(name, sizeof name, "/proc/self/fd/%ld", fd);
  ssize_t n = readlink(name, c->out, PATH_MAX - 1);
  if (n < 0)
    return -errno;
  c->out[n] = 0;
  if ((uint64_t)n + 1 > size)
    return -ERANGE;
  return still_waits(c) && prelux_deep_write((pid_t)c->req.pid, c->req.data.args[0], c->out, (size_t)n + 1) == 0 ? n + 1 : -EFAULT;
}

static void answered(struct prelux_deep_call *c)
{
  answer(c, 0, 0);
}

static long list(struct prelux_deep_call *c)
{
  int number = (int)c->req.data.args[0], fd = prelux_deep_dents_take(prelux_deep_process((pid_t)c->req.pid), number, c->fds[0]);
  char real[PATH_MAX];
  c->n_fds = 0;
  c->args[0] = fd;
  long rc = call(c);
  /* At its end the descriptor's own position says enough, but for folders above a prefix. */
  bool ended = rc == 0 && prelux_deep_shares_fds() && real_name(c, number, real) >= 0 &&
               syscall(PRELUX_DEEP_ROUTE, AT_FDCWD, real, PRELUX_DEEP_REAL) == 2;
  if (!prelux_deep_dents_give(fd, ended))
    close(fd);
  return rc;
}

static void count_for(int slot)
{
  if (prelux_deep_reports)
    syscall(PRELUX_DEEP_ROUTE, slot, NULL, PRELUX_DEEP_COUNT);
}

void prelux_deep_perform(struct prelux_deep_call *c)
{
  count_for(c->counts);
  long rc = make_absolute(c);
  if (rc == 0)
    rc = take_fds(c);
  if (rc < 0)
    ;
  else if (!still_waits(c))
    rc = -ESRCH;
  else if (c->rule->kind == PRELUX_DEEP_GETCWD)
    rc = current_folder(c);
  else if (c->rule->kind == PRELUX_DEEP_WAKE)
  {
    syscall(PRELUX_DEEP_ROUTE, AT_FDCWD, NULL, PRELUX_DEEP_DAEMON);
    rc = c->args[0];
  }
  else if (c->rule->kind == PRELUX_DEEP_DENTS)
    rc = list(c);
  else if (c->rule->kind == PRELUX_DEEP_CHDIR)
    rc = prelux_deep_chdir(c, answered);
  else if (c->rule->kind == PRELUX_DEEP_EXEC)
    rc = prelux_deep_become(c, answered);
  else
    rc = call(c);
  if (rc >= 0 && c->rule->kind == PRELUX_DEEP_FD)
  {
    syscall(SYS_readahead, (int)rc, 0, 0); /* a file that comes in while it is read (stream_above) is waited for */
    hand_over(c, (int)rc);
    close((int)rc);
  }
  else if (rc < 0 || (c->rule->kind != PRELUX_DEEP_CHDIR && c->rule->kind != PRELUX_DEEP_EXEC))
    answer(c, rc, 0);
  drop_fds(c);
  count_for(0);
}
