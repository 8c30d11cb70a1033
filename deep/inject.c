/* Calls that a program must make itself, with other arguments: chdir into a mapped folder, exec of a mapped program. The filter's answer cannot
 * change arguments, so the thread is traced for a moment: it is stopped behind its call, makes the ones that it is given, by the same
 * instruction, and goes on with their outcome. All its signals are blocked meanwhile. */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deep/deep.h"
#include "deep/inject.h"
#include "lib/base/sys.h"

enum { STOPPED = 128 /* PTRACE_EVENT_STOP */, SIGNALS = 8 /* bytes of the kernel's mask */ };

#if defined(__x86_64__)
#define NUMBER(r) ((r)->rax)
#define RESULT(r) ((r)->rax)
#define PC(r) ((r)->rip)
enum { INSTRUCTION = 2 };
#else
#define NUMBER(r) ((r)->regs[8])
#define RESULT(r) ((r)->regs[0])
#define PC(r) ((r)->pc)
enum { INSTRUCTION = 4 };
#endif

static void set_args(struct user_regs_struct *r, const long a[6])
{
#if defined(__x86_64__)
  r->rdi = (unsigned long)a[0];
  r->rsi = (unsigned long)a[1];
  r->rdx = (unsigned long)a[2];
  r->r10 = (unsigned long)a[3];
  r->r8 = (unsigned long)a[4];
  r->r9 = (unsigned long)a[5];
  r->orig_rax = (unsigned long)-1; /* no call to be begun again */
#else
  for (int i = 0; i < 6; i++)
    r->regs[i] = (unsigned long)a[i];
#endif
}

static int get_regs(pid_t tid, struct user_regs_struct *r)
{
  struct iovec iov = {r, sizeof *r};
  return ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

static int set_regs(pid_t tid, struct user_regs_struct *r)
{
  struct iovec iov = {r, sizeof *r};
  return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

/* Children of this process that ended while a thread traced them: nobody else is told. The last few. */
enum { ENDED = 64 };
static struct {
  pid_t pid;
  int status;
} ended[ENDED];
static unsigned n_ended;
static pthread_mutex_t ended_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_end(pid_t pid, int status)
{
  pthread_mutex_lock(&ended_lock);
  ended[n_ended % ENDED].pid = pid;
  ended[n_ended++ % ENDED].status = status;
  pthread_mutex_unlock(&ended_lock);
  kill(getpid(), SIGCHLD); /* that of its end may have been looked at before */
}

bool prelux_deep_ended(pid_t pid, int *ret_status)
{
  bool found = false;
  pthread_mutex_lock(&ended_lock);
  for (unsigned i = 0; i < ENDED && !found; i++)
    if (ended[i].pid == pid)
    {
      *ret_status = ended[i].status;
      found = true;
    }
  pthread_mutex_unlock(&ended_lock);
  return found;
}

/* This thread's only tracee has stopped: its status. An exec gives it the number of its process. */
static int wait_stop(struct prelux_deep_inject *in, int *ret_status)
{
  pid_t pid;
  do
    pid = waitpid(-1, ret_status, __WALL | __WNOTHREAD);
  while (pid < 0 && errno == EINTR);
  if (pid > 0 && !WIFSTOPPED(*ret_status))
    note_end(pid, *ret_status);
  if (pid < 0 || !WIFSTOPPED(*ret_status))
    return -ESRCH;
  in->tid = pid;
  in->stop |= *ret_status >> 16 == 0 && WSTOPSIG(*ret_status) == SIGSTOP;
  return 0;
}

/* Between begin and end. */
static unsigned under_way;
static bool finished;

static void leave(void)
{
  __atomic_fetch_sub(&under_way, 1, __ATOMIC_SEQ_CST);
}

void prelux_deep_finish(void)
{
  enum { NAP_US = 5000, NAPS = 400 };
  __atomic_store_n(&finished, true, __ATOMIC_SEQ_CST);
  for (int i = 0; i < NAPS && __atomic_load_n(&under_way, __ATOMIC_SEQ_CST) > 0; i++)
    usleep(NAP_US);
}

int prelux_deep_inject_begin(struct prelux_deep_inject *in, pid_t tid)
{
  int rc = -ENOSYS; /* as of what is asked when nobody is there any more */
  in->tid = tid;
  in->exec = in->stop = false;
  __atomic_fetch_add(&under_way, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&finished, __ATOMIC_SEQ_CST))
    rc = ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL) < 0 ? -errno : 0;
  if (rc < 0)
    leave();
  return rc;
}

void prelux_deep_inject_interrupt(struct prelux_deep_inject *in)
{
  ptrace(PTRACE_INTERRUPT, in->tid, NULL, NULL); /* fails when it is dead */
}

int prelux_deep_inject_stopped(struct prelux_deep_inject *in)
{
  int status;
  uint64_t all = ~(uint64_t)0;
  int rc = wait_stop(in, &status);
  while (rc == 0 && status >> 16 != STOPPED)
  {
    ptrace(PTRACE_CONT, in->tid, NULL, (void *)(intptr_t)(WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status)));
    rc = wait_stop(in, &status);
  }
  if (rc < 0)
  {
    leave();
    return rc;
  }
  rc = get_regs(in->tid, &in->saved);
  if (rc == 0 && ptrace(PTRACE_GETSIGMASK, in->tid, (void *)SIGNALS, &in->mask) < 0)
    rc = -errno;
  if (rc == 0 && ptrace(PTRACE_SETSIGMASK, in->tid, (void *)SIGNALS, &all) < 0)
    rc = -errno;
  if (rc < 0)
  {
    ptrace(PTRACE_DETACH, in->tid, NULL, NULL);
    leave();
  }
  return rc;
}

long prelux_deep_inject_call(struct prelux_deep_inject *in, long nr, const long a[6])
{
  struct user_regs_struct r = in->saved;
  int status, stops = 0;
  set_args(&r, a);
  NUMBER(&r) = (unsigned long)nr;
  PC(&r) -= INSTRUCTION;
  int rc = set_regs(in->tid, &r);
  while (rc == 0 && stops < 2)
  {
    if (ptrace(PTRACE_SYSCALL, in->tid, NULL, NULL) < 0)
      return -errno;
    rc = wait_stop(in, &status);
    if (rc < 0)
      return rc;
    if (status >> 16 == PTRACE_EVENT_EXEC)
    {
      in->exec = true;
      return 0;
    }
    if (WSTOPSIG(status) == (SIGTRAP | 0x80))
      stops++;
  }
  if (rc == 0)
    rc = get_regs(in->tid, &r);
  return rc < 0 ? rc : (long)RESULT(&r);
}

void prelux_deep_inject_end(struct prelux_deep_inject *in, long result)
{
  if (!in->exec)
  {
    RESULT(&in->saved) = (unsigned long)result;
#if defined(__x86_64__)
    in->saved.orig_rax = (unsigned long)-1;
#endif
    set_regs(in->tid, &in->saved);
  }
  ptrace(PTRACE_SETSIGMASK, in->tid, (void *)SIGNALS, &in->mask);
  ptrace(PTRACE_DETACH, in->tid, NULL, NULL);
  leave();
  if (in->stop)
    kill(in->tid, SIGSTOP);
}
