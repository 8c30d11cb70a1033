#include "tests/fault/gate.h"

#ifdef __x86_64__

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

struct board gate;
static char blocked; /* of the dispatch: 0 lets all pass, 1 tells */

/* Calls made from these instructions are not told of. */
long gate_call(long n, long a, long b, long c, long d, long e, long f);
void gate_return(void);
extern char gate_from[], gate_to[];
__asm__(".text\n"
        ".balign 64\n"
        "gate_from:\n"
        "gate_call:\n"
        "  mov %rdi, %rax\n"
        "  mov %rsi, %rdi\n"
        "  mov %rdx, %rsi\n"
        "  mov %rcx, %rdx\n"
        "  mov %r8, %r10\n"
        "  mov %r9, %r8\n"
        "  mov 8(%rsp), %r9\n"
        "  syscall\n"
        "  ret\n"
        "gate_return:\n"
        "  mov $15, %eax\n"
        "  syscall\n"
        "  hlt\n" /* the kernel looks at the instruction behind */
        "gate_to:\n");

static unsigned of_fd(int fd, unsigned kinds)
{
  struct stat st;
  if (gate_call(SYS_fstat, fd, (long)&st, 0, 0, 0, 0) < 0)
    return 0;
  if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
    return kinds & ~SOCKET;
  return S_ISSOCK(st.st_mode) ? kinds & (SOCKET | NEW_FD | SLOW) : 0;
}

static unsigned of_flags(long flags)
{
  return NEW_FD | SLOW | ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? CHANGE | ROOM : LOOK);
}

static unsigned kinds_of(long n, const greg_t *r)
{
  switch (n)
  {
  case SYS_open:
    return of_flags(r[REG_RSI]);
  case SYS_openat:
    return of_flags(r[REG_RDX]);
  case SYS_openat2:
    return NEW_FD | LOOK;
  case SYS_read:
  case SYS_pread64:
  case SYS_getdents64:
    return of_fd((int)r[REG_RDI], LOOK | SLOW);
  case SYS_write:
  case SYS_pwrite64:
    return of_fd((int)r[REG_RDI], CHANGE | ROOM | SLOW);
  case SYS_fstat:
  case SYS_flock:
    return of_fd((int)r[REG_RDI], LOOK);
  case SYS_ftruncate:
  case SYS_fchmod:
    return of_fd((int)r[REG_RDI], CHANGE);
  case SYS_fsync:
  case SYS_fdatasync:
    return of_fd((int)r[REG_RDI], SYNC);
  case SYS_close:
    return of_fd((int)r[REG_RDI], CLOSE);
  case SYS_stat:
  case SYS_lstat:
  case SYS_newfstatat:
  case SYS_statx:
  case SYS_readlink:
  case SYS_readlinkat:
  case SYS_faccessat:
  case SYS_statfs:
    return LOOK;
  case SYS_linkat:
  case SYS_symlinkat:
  case SYS_mkdirat:
  case SYS_renameat2:
    return CHANGE | ROOM;
  case SYS_unlinkat:
  case SYS_utimensat:
    return CHANGE;
  case SYS_socket:
  case SYS_memfd_create:
  case SYS_dup:
    return NEW_FD;
  case SYS_fcntl:
    return r[REG_RSI] == F_DUPFD || r[REG_RSI] == F_DUPFD_CLOEXEC ? NEW_FD : 0;
  case SYS_connect:
  case SYS_sendmsg:
  case SYS_recvmsg:
  case SYS_sendto:
  case SYS_recvfrom:
    return SOCKET | SLOW;
  case SYS_poll:
  case SYS_ppoll:
    return SLOW;
  case SYS_mmap:
  case SYS_mremap:
    return MAP;
  default:
    return 0;
  }
}

static bool fails(long n, const greg_t *r)
{
  if (!gate.armed || !(kinds_of(n, r) & gate.kinds))
    return false;
  gate.seen++;
  if (gate.at == 0 || gate.seen < gate.at || (gate.seen > gate.at && !gate.again))
    return false;
  if (gate.failed++ == 0)
  {
    gate.stack[0] = (uint64_t)r[REG_RIP];
    gate.depth = (uint64_t)n; /* the number says more than a name */
  }
  return true;
}

/* The handler runs with all signals blocked, so masks are changed where they are put back from. SIGSYS stays open. */
static long mask(ucontext_t *at, long how, const uint64_t *set, uint64_t *old)
{
  uint64_t *now = (uint64_t *)&at->uc_sigmask;
  if (old)
    *old = *now;
  if (set)
    *now = how == SIG_BLOCK ? *now | *set : how == SIG_UNBLOCK ? *now & ~*set : *set;
  *now &= ~(1ull << (SIGSYS - 1));
  return 0;
}

static void told(int number, siginfo_t *info, void *context)
{
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  long n = info->si_syscall;
  blocked = 0; /* this handler's own calls, should the compiler make any */
  if (fails(n, r))
  {
    if (n == SYS_close)
      gate_call(n, r[REG_RDI], 0, 0, 0, 0, 0);
    r[REG_RAX] = -(long)gate.err;
  }
  else if (n == SYS_clone || n == SYS_clone3 || n == SYS_vfork || n == SYS_fork)
    r[REG_RAX] = -EAGAIN; /* a child would return into this handler */
  else if (n == SYS_rt_sigprocmask)
    r[REG_RAX] = mask(context, r[REG_RDI], (const uint64_t *)r[REG_RSI], (uint64_t *)r[REG_RDX]);
  else
    r[REG_RAX] = gate_call(n, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
  blocked = 1;
}

bool gate_begin(void)
{
  struct
  {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
  } act = {told, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, gate_return, ~0ull};
  if (gate_call(SYS_rt_sigaction, SIGSYS, (long)&act, 0, 8, 0, 0) < 0 ||
      gate_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, 1, (long)gate_from, gate_to - gate_from, (long)&blocked, 0) < 0)
    return false;
  blocked = 1;
  return true;
}

#else

struct board gate;

bool gate_begin(void)
{
  return false;
}

#endif
