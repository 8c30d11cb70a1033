/* Looking into a file that the program may have locked. A process that closes any descriptor of a file loses all POSIX locks that it has on
 * it, so what exec and spawn must know of a file is read by a child that shares the memory but not the descriptors, and is over at once:
 * its exit sends no signal, no wait() of the program sees it, and signals are blocked meanwhile, so that no handler of the program runs in
 * it. Only processes that have locked something pay for that; locks that were there before exec are not known. */
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "shim/aside.h"
#include "shim/decls.h"
#include "shim/pending.h"
#include "shim/state.h"

static int locks; /* atomic: 1: this process has, or had, POSIX locks */

void prelux_note_lock(int cmd)
{
  bool sets = cmd == F_SETLK || cmd == F_SETLKW;
  if (sets && !__atomic_load_n(&locks, __ATOMIC_RELAXED)) __atomic_store_n(&locks, 1, __ATOMIC_RELAXED);
}

#define LOCKF(name, type)                                   \
  PRELUX_EXPORT int name(int fd, int cmd, type len)         \
  {                                                         \
    int rc = prelux_settle(fd);                             \
    if (rc < 0) return (int)prelux_ret(rc);                 \
    prelux_note_lock(F_SETLK);                              \
    return prelux_real.name(fd, cmd, len);                  \
  }
LOCKF(lockf, off_t)
LOCKF(lockf64, off64_t)

struct job {
  long (*fn)(void *arg);
  void *arg;
  long rc;
};

static int child(void *arg)
{
  struct job *j = arg;
  j->rc = j->fn(j->arg);
  return 0;
}

enum { STACK = 65536, MASK = 8 /* bytes of the kernel's signal set */ };

/* False: no child can be made. */
static bool by_child(struct job *j)
{
  uint64_t all = UINT64_MAX, old;
  int saved = errno;
  long stack = prelux_sys(SYS_mmap, NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (stack < 0 && stack > -4096) return false;
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, MASK);
  int pid = prelux_real.clone(child, (char *)stack + STACK, CLONE_VM | CLONE_VFORK, j);
  if (pid > 0) {
    while (prelux_sys(SYS_wait4, pid, NULL, __WCLONE, NULL) == -EINTR) continue;
  }
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, MASK);
  prelux_sys(SYS_munmap, stack, STACK);
  errno = saved;
  return pid > 0;
}

long prelux_aside(long (*fn)(void *arg), void *arg)
{
  struct job j = {.fn = fn, .arg = arg, .rc = -EIO};
  bool here = !__atomic_load_n(&locks, __ATOMIC_RELAXED) || prelux_quiet() || prelux_in_shared_child();
  return !here && by_child(&j) ? j.rc : fn(arg);
}
