/* syscall(): node, Rust, gcc, java and others call the kernel by number through libc. The numbers that name a path or
 * deal in descriptors of ours go to the hook of the call with that name; all others go to libc untouched.
 *
 * libc's syscall() has no frame of its own, and clone with a new stack relies on that. So the hook is a few
 * instructions that ask prelux_syscall_target() where to go and jump there with registers and stack as they were. */
#include "deep/deep.h"
#include "shim/decls.h"
#include "shim/deep.h"
#include "shim/dents.h"
#include "shim/pending.h"
#include "shim/state.h"

#include <linux/sched.h>
#include <sys/syscall.h>

#define FD(i) ((int)a[i])
#define INT(i) ((int)a[i])
#define SIZE(i) ((size_t)a[i])
#define PATH(i) ((const char *)a[i])
#define BUF(i) ((void *)a[i])
#define MODE(i) ((mode_t)a[i])

/* The kernel's getcwd returns the length with its NUL. */
static long kernel_getcwd(char *buf, size_t size)
{
  const char *cwd = getcwd(buf, size);
  return cwd ? (long)strlen(cwd) + 1 : -1;
}

enum { SET_MODE_STRICT, SET_MODE_FILTER };

static long with_seccomp(long n, bool sets, const long *a)
{
  bool noted = sets && prelux_note_seccomp();
  long rc = prelux_sys(n, a[0], a[1], a[2], a[3], a[4]);
  prelux_no_seccomp(noted && rc < 0);
  return prelux_ret(rc);
}

/* X(name of the number, call of the hook with the arguments a[]). */
#define EVERYWHERE(X)                                                                          \
  X(openat, openat(FD(0), PATH(1), INT(2), MODE(3)))                                           \
  X(close, close(FD(0)))                                                                       \
  X(dup, dup(FD(0)))                                                                           \
  X(dup3, dup3(FD(0), FD(1), INT(2)))                                                          \
  X(fcntl, fcntl(FD(0), INT(1), BUF(2)))                                                       \
  X(fstat, fstat(FD(0), BUF(1)))                                                               \
  X(newfstatat, fstatat(FD(0), PATH(1), BUF(2), INT(3)))                                       \
  X(statx, statx(FD(0), PATH(1), INT(2), (unsigned)a[3], BUF(4)))                              \
  X(faccessat, faccessat(FD(0), PATH(1), INT(2), 0))                                           \
  X(readlinkat, readlinkat(FD(0), PATH(1), BUF(2), SIZE(3)))                                   \
  X(getdents64, getdents64(FD(0), BUF(1), SIZE(2)))                                            \
  X(chdir, chdir(PATH(0)))                                                                     \
  X(fchdir, fchdir(FD(0)))                                                                     \
  X(getcwd, kernel_getcwd(BUF(0), SIZE(1)))                                                    \
  X(umask, umask(MODE(0)))                                                                     \
  X(execve, execve(PATH(0), BUF(1), BUF(2)))                                                   \
  X(execveat, execveat(FD(0), PATH(1), BUF(2), BUF(3), INT(4)))                                \
  X(mkdirat, mkdirat(FD(0), PATH(1), MODE(2)))                                                 \
  X(mknodat, mknodat(FD(0), PATH(1), MODE(2), (dev_t)a[3]))                                    \
  X(unlinkat, unlinkat(FD(0), PATH(1), INT(2)))                                                \
  X(symlinkat, symlinkat(PATH(0), FD(1), PATH(2)))                                             \
  X(linkat, linkat(FD(0), PATH(1), FD(2), PATH(3), INT(4)))                                    \
  X(renameat, renameat(FD(0), PATH(1), FD(2), PATH(3)))                                        \
  X(renameat2, renameat2(FD(0), PATH(1), FD(2), PATH(3), (unsigned)a[4]))                      \
  X(truncate, truncate(PATH(0), a[1]))                                                         \
  X(fsync, fsync(FD(0)))                                                                       \
  X(fdatasync, fdatasync(FD(0)))                                                               \
  X(quotactl, quotactl(INT(0), PATH(1), INT(2), BUF(3)))                                       \
  X(fchmod, fchmod(FD(0), MODE(1)))                                                            \
  X(fchmodat, fchmodat(FD(0), PATH(1), MODE(2), 0))                                            \
  X(fchown, fchown(FD(0), (uid_t)a[1], (gid_t)a[2]))                                           \
  X(fchownat, fchownat(FD(0), PATH(1), (uid_t)a[2], (gid_t)a[3], INT(4)))                      \
  X(utimensat, PATH(1) || INT(3) ? utimensat(FD(0), PATH(1), BUF(2), INT(3)) : futimens(FD(0), BUF(2))) \
  X(statfs, statfs(PATH(0), BUF(1)))                                                           \
  X(fstatfs, fstatfs(FD(0), BUF(1)))                                                           \
  X(getxattr, getxattr(PATH(0), PATH(1), BUF(2), SIZE(3)))                                     \
  X(lgetxattr, lgetxattr(PATH(0), PATH(1), BUF(2), SIZE(3)))                                   \
  X(fgetxattr, fgetxattr(FD(0), PATH(1), BUF(2), SIZE(3)))                                     \
  X(listxattr, listxattr(PATH(0), BUF(1), SIZE(2)))                                            \
  X(llistxattr, llistxattr(PATH(0), BUF(1), SIZE(2)))                                          \
  X(flistxattr, flistxattr(FD(0), BUF(1), SIZE(2)))                                            \
  X(setxattr, setxattr(PATH(0), PATH(1), BUF(2), SIZE(3), INT(4)))                             \
  X(lsetxattr, lsetxattr(PATH(0), PATH(1), BUF(2), SIZE(3), INT(4)))                           \
  X(fsetxattr, fsetxattr(FD(0), PATH(1), BUF(2), SIZE(3), INT(4)))                             \
  X(removexattr, removexattr(PATH(0), PATH(1)))                                                \
  X(lremovexattr, lremovexattr(PATH(0), PATH(1)))                                              \
  X(fremovexattr, fremovexattr(FD(0), PATH(1)))                                                \
  X(inotify_add_watch, inotify_add_watch(FD(0), PATH(1), (uint32_t)a[2]))                      \
  X(fanotify_mark, fanotify_mark(FD(0), (unsigned)a[1], (uint64_t)a[2], FD(3), PATH(4)))       \
  X(name_to_handle_at, name_to_handle_at(FD(0), PATH(1), BUF(2), BUF(3), INT(4)))              \
  X(mount, mount(PATH(0), PATH(1), PATH(2), (unsigned long)a[3], BUF(4)))                      \
  X(umount2, umount2(PATH(0), INT(1)))                                                         \
  X(pivot_root, pivot_root(PATH(0), PATH(1)))                                                  \
  X(setns, setns(INT(0), INT(1)))                                                              \
  X(chroot, chroot(PATH(0)))                                                                   \
  X(prctl, with_seccomp(n, a[0] == PR_SET_SECCOMP, a))                                         \
  X(seccomp, with_seccomp(n, a[0] == SET_MODE_STRICT || a[0] == SET_MODE_FILTER, a))           \
  X(acct, acct(PATH(0)))                                                                       \
  X(swapon, swapon(PATH(0), INT(1)))                                                           \
  X(swapoff, swapoff(PATH(0)))                                                                 \
  X(bind, bind(FD(0), (const struct sockaddr *)a[1], (socklen_t)a[2]))                         \
  X(connect, connect(FD(0), (const struct sockaddr *)a[1], (socklen_t)a[2]))

/* Numbers that only older architectures have. */
#if defined(__x86_64__)
#define OLD(X)                                                          \
  X(open, open(PATH(0), INT(1), MODE(2)))                               \
  X(creat, creat(PATH(0), MODE(1)))                                     \
  X(dup2, dup2(FD(0), FD(1)))                                           \
  X(stat, stat(PATH(0), BUF(1)))                                        \
  X(lstat, lstat(PATH(0), BUF(1)))                                      \
  X(access, access(PATH(0), INT(1)))                                    \
  X(readlink, readlink(PATH(0), BUF(1), SIZE(2)))                       \
  X(mkdir, mkdir(PATH(0), MODE(1)))                                     \
  X(rmdir, rmdir(PATH(0)))                                              \
  X(unlink, unlink(PATH(0)))                                            \
  X(rename, rename(PATH(0), PATH(1)))                                   \
  X(link, link(PATH(0), PATH(1)))                                       \
  X(symlink, symlink(PATH(0), PATH(1)))                                 \
  X(mknod, mknod(PATH(0), MODE(1), (dev_t)a[2]))                        \
  X(chmod, chmod(PATH(0), MODE(1)))                                     \
  X(chown, chown(PATH(0), (uid_t)a[1], (gid_t)a[2]))                    \
  X(lchown, lchown(PATH(0), (uid_t)a[1], (gid_t)a[2]))                  \
  X(utime, utime(PATH(0), BUF(1)))                                      \
  X(utimes, utimes(PATH(0), BUF(1)))                                    \
  X(futimesat, futimesat(FD(0), PATH(1), BUF(2)))                       \
  X(getdents, prelux_getdents_old(FD(0), BUF(1), SIZE(2)))
#else
#define OLD(X)
#endif

/* Numbers that the headers here may not know: the same on every architecture. */
enum {
  NR_open_tree = 428, NR_move_mount = 429, NR_fspick = 433, NR_close_range = 436, NR_openat2 = 437, NR_faccessat2 = 439,
  NR_mount_setattr = 442, NR_fchmodat2 = 452
};
#define NEW(X)                                                          \
  X(open_tree, open_tree(FD(0), PATH(1), (unsigned)a[2]))               \
  X(move_mount, move_mount(FD(0), PATH(1), FD(2), PATH(3), (unsigned)a[4])) \
  X(fspick, fspick(FD(0), PATH(1), (unsigned)a[2]))                     \
  X(mount_setattr, mount_setattr(FD(0), PATH(1), (unsigned)a[2], BUF(3), SIZE(4))) \
  X(close_range, close_range((unsigned)a[0], (unsigned)a[1], INT(2)))   \
  X(openat2, openat2(FD(0), PATH(1), BUF(2), SIZE(3)))                  \
  X(faccessat2, faccessat(FD(0), PATH(1), INT(2), INT(3)))              \
  X(fchmodat2, fchmodat(FD(0), PATH(1), MODE(2), INT(3)))

/* Only while a file is pending (shim/pending.h): else the kernel does them. */
#define READING(X)                                                                             \
  X(read, read(FD(0), BUF(1), SIZE(2)))                                                        \
  X(pread64, pread64(FD(0), BUF(1), SIZE(2), a[3]))                                            \
  X(readv, readv(FD(0), BUF(1), INT(2)))                                                       \
  X(preadv, preadv64(FD(0), BUF(1), INT(2), a[3]))                                             \
  X(preadv2, preadv64v2(FD(0), BUF(1), INT(2), a[3], INT(5)))                                  \
  X(lseek, lseek64(FD(0), a[1], INT(2)))                                                       \
  X(mmap, (long)mmap64(BUF(0), SIZE(1), INT(2), INT(3), FD(4), a[5]))                          \
  X(sendfile, sendfile64(FD(0), FD(1), BUF(2), SIZE(3)))                                       \
  X(splice, splice(FD(0), BUF(1), FD(2), BUF(3), SIZE(4), (unsigned)a[5]))                     \
  X(copy_file_range, copy_file_range(FD(0), BUF(1), FD(2), BUF(3), SIZE(4), (unsigned)a[5]))   \
  X(sendmsg, sendmsg(FD(0), BUF(1), INT(2)))                                                   \
  X(sendmmsg, sendmmsg(FD(0), BUF(1), (unsigned)a[2], INT(3)))                                 \
  X(epoll_ctl, epoll_ctl(FD(0), INT(1), FD(2), BUF(3)))                                        \
  X(ioctl, ioctl(FD(0), (unsigned long)a[1], BUF(2)))

/* Numbers, not pointers: a table of pointers is relocated in each process, at the price of a page. */
#define ROW(name, call) [SYS_##name] = true,
#define NEW_ROW(name, call) [NR_##name] = true,
static const bool handled[] = {EVERYWHERE(ROW) OLD(ROW) NEW(NEW_ROW)}, reading[] = {READING(ROW)};

__attribute__((visibility("hidden"), used)) void *prelux_syscall_target(long n, long a, const void *caller);

static long to_hook(long n, long a0, long a1, long a2, long a3, long a4, long a5)
{
  const long a[6] = {a0, a1, a2, a3, a4, a5};

#define HOOK(name, call) \
  case SYS_##name: return call;
#define NEW_HOOK(name, call) \
  case NR_##name: return call;
  switch (n) {
    EVERYWHERE(HOOK)
    OLD(HOOK)
    NEW(NEW_HOOK)
    READING(HOOK)
  case PRELUX_DEEP_ROUTE: return prelux_ret(prelux_deep_route(FD(0), PATH(1), (unsigned)a[2], BUF(3)));
  default: return -1; /* not handled[] */
  }
}

/* While libc is not bound: no errno is lost, no function is looked up. */
static long to_kernel(long n, long a0, long a1, long a2, long a3, long a4, long a5)
{
  return prelux_ret(prelux_sys(n, a0, a1, a2, a3, a4, a5));
}

/* No ring: what a program puts into one, opens and closes among it, never passes libc, and with the working directory below a
 * prefix its files would be made in the cache, known to nobody. Programs have something else in hand, for containers refuse
 * rings, too. */
static long no_ring(void)
{
  errno = ENOSYS;
  return -1;
}

/* All other numbers: the first argument may be a pending file's number; some copy all descriptors, or deal in several. */
static void settle_for(long n, long a)
{
  static const short several[] = {
    SYS_clone, SYS_unshare, SYS_ppoll, SYS_pselect6, SYS_io_submit, SYS_pidfd_getfd, 425, 426, 427 /* io_uring */, 435 /* clone3 */,
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_poll, SYS_select,
#endif
  };
  for (size_t i = 0; i < sizeof(several) / sizeof(several[0]); i++)
    if (n == several[i] && !(n == SYS_clone && (a & CLONE_THREAD))) prelux_pending_settle_all(false);
  if (a >= 0 && a <= INT_MAX && n != SYS_futex) prelux_pending_settle((int)a);
}

/* Things that the hooks of clone and vfork take note of. */
static void take_note(long n, long a)
{
  if (prelux_pending_any()) settle_for(n, a);
#ifdef SYS_vfork
  if (n == SYS_vfork) prelux_note_shared_child();
#endif
  if (n == SYS_clone && (a & CLONE_VM) && !(a & CLONE_THREAD)) prelux_note_shared_child();
  if (n == SYS_unshare) prelux_note_unshare((unsigned long)a);
}

/* clone3 tells its flags in memory. */
static void take_note_clone3(const struct clone_args *args)
{
  if (args && (args->flags & CLONE_VM) && !(args->flags & CLONE_THREAD)) prelux_note_shared_child();
}

/* Called by the assembler below with the call's first arguments and its return address: where to jump. errno untouched. */
void *prelux_syscall_target(long n, long a, const void *caller)
{
  enum { NR_io_uring_setup = 425, NR_clone3 = 435 };

  if (!prelux_idle()) {
    if (n >= 0 && n < (long)sizeof(handled) && handled[n] && !prelux_real_is_behind(caller)) return (void *)to_hook;
    if (prelux_pending_any() && n >= 0 && n < (long)sizeof(reading) && reading[n]) return (void *)to_hook;
    if (n == NR_io_uring_setup) return (void *)no_ring;
    if (n == PRELUX_DEEP_ROUTE) return (void *)to_hook;
    if (n == NR_clone3) take_note_clone3((const struct clone_args *)a);
    take_note(n, a);
  }
  return prelux_real_has((void *)prelux_real.syscall) ? (void *)prelux_real.syscall : (void *)to_kernel;
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl syscall\n"
        ".type syscall,@function\n"
        "syscall:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  subq $56, %rsp\n"
        "  .cfi_adjust_cfa_offset 56\n"
        "  movq %rdi, 0(%rsp)\n"
        "  movq %rsi, 8(%rsp)\n"
        "  movq %rdx, 16(%rsp)\n"
        "  movq %rcx, 24(%rsp)\n"
        "  movq %r8, 32(%rsp)\n"
        "  movq %r9, 40(%rsp)\n"
        "  movq 56(%rsp), %rdx\n"
        "  call prelux_syscall_target\n"
        "  movq 0(%rsp), %rdi\n"
        "  movq 8(%rsp), %rsi\n"
        "  movq 16(%rsp), %rdx\n"
        "  movq 24(%rsp), %rcx\n"
        "  movq 32(%rsp), %r8\n"
        "  movq 40(%rsp), %r9\n"
        "  addq $56, %rsp\n"
        "  .cfi_adjust_cfa_offset -56\n"
        "  jmp *%rax\n"
        "  .cfi_endproc\n"
        ".size syscall,.-syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl syscall\n"
        ".type syscall,%function\n"
        "syscall:\n"
        "  .cfi_startproc\n"
        "  hint #34\n"
        "  sub sp, sp, #80\n"
        "  .cfi_adjust_cfa_offset 80\n"
        "  stp x0, x1, [sp, #0]\n"
        "  stp x2, x3, [sp, #16]\n"
        "  stp x4, x5, [sp, #32]\n"
        "  stp x6, x7, [sp, #48]\n"
        "  stp x29, x30, [sp, #64]\n"
        "  mov x2, x30\n"
        "  bl prelux_syscall_target\n"
        "  mov x16, x0\n"
        "  ldp x0, x1, [sp, #0]\n"
        "  ldp x2, x3, [sp, #16]\n"
        "  ldp x4, x5, [sp, #32]\n"
        "  ldp x6, x7, [sp, #48]\n"
        "  ldp x29, x30, [sp, #64]\n"
        "  add sp, sp, #80\n"
        "  .cfi_adjust_cfa_offset -80\n"
        "  br x16\n"
        "  .cfi_endproc\n"
        ".size syscall,.-syscall\n");
#endif
