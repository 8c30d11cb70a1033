/* Calls after which the library must behave otherwise: children that share memory, and seccomp filters.
 *
 * A vfork child runs our hooks in its parent's memory. It is told from its parent by the pid that stands in a page of
 * its own: fork wipes the page (MADV_WIPEONFORK), vfork does not. So: page wiped -> a fork child, it takes the page
 * over; page holds another pid -> a child that shares memory. The page is made at the first vfork; programs that
 * never call it pay one load a question. */
#include <stdarg.h>
#include <linux/nsfs.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "shim/fds.h"
#include "shim/init.h"
#include "shim/pending.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static _Atomic(pid_t) *owner; /* atomic pointer; NULL until the first vfork */
static unsigned children, before_filter; /* that were noted, atomic; and until the filter was set */

void prelux_note_shared_child(void)
{
  __atomic_fetch_add(&children, 1, __ATOMIC_RELAXED);
  if (__atomic_load_n(&prelux_state.shared_child, __ATOMIC_RELAXED)) {
    prelux_in_shared_child(); /* a forked child takes the wiped page over before a child of its own does */
    return;
  }
  long page = prelux_sys(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (page < 0 && page > -4096) return;
  if (prelux_sys(SYS_madvise, page, 4096, MADV_WIPEONFORK) < 0) {
    prelux_sys(SYS_munmap, page, 4096);
    return;
  }
  _Atomic(pid_t) *mine = (_Atomic(pid_t) *)page, *none = NULL;
  *mine = (pid_t)prelux_sys(SYS_getpid);
  if (!__atomic_compare_exchange_n(&owner, &none, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    prelux_sys(SYS_munmap, page, 4096); /* another thread was first */
  __atomic_store_n(&prelux_state.shared_child, 1, __ATOMIC_RELEASE);
}

bool prelux_in_shared_child(void)
{
  if (__builtin_expect(!__atomic_load_n(&prelux_state.shared_child, __ATOMIC_ACQUIRE), 1)) return false;
  /* Nobody can be such a child, and a filter may punish the question. */
  if (prelux_quiet() && __atomic_load_n(&children, __ATOMIC_RELAXED) == before_filter) return false;
  _Atomic(pid_t) *page = __atomic_load_n(&owner, __ATOMIC_ACQUIRE);
  pid_t me = (pid_t)prelux_sys(SYS_getpid), is = *page;
  if (is == 0) { /* wiped: this is a forked child */
    *page = me;
    return false;
  }
  return is != me;
}

void prelux_note_unshare(unsigned long flags)
{
  /* A new mount or user namespace takes the working directory along. */
  if (flags & (CLONE_FS | CLONE_FILES | CLONE_NEWNS | CLONE_NEWUSER)) __atomic_store_n(&prelux_state.apart, 1, __ATOMIC_SEQ_CST);
}

PRELUX_EXPORT int unshare(int flags)
{
  if (!prelux_idle()) {
    prelux_settle_all();
    prelux_note_unshare((unsigned)flags);
  }
  return prelux_real.unshare(flags);
}

/* With kind 0 the descriptor says which. */
static unsigned long kinds_of(int fd, int kind)
{
  long is = kind ? kind : prelux_sys(SYS_ioctl, fd, NS_GET_NSTYPE);
  return is > 0 ? (unsigned long)is : CLONE_NEWNS;
}

PRELUX_EXPORT int setns(int fd, int kind)
{
  if (prelux_idle()) return prelux_real.setns(fd, kind);
  unsigned long kinds = kinds_of(fd, kind);
  prelux_settle_all();
  prelux_note_unshare(kinds);
  prelux_fd_names_end();
  int rc = prelux_real.setns(fd, kind);
  if (rc == 0 && (kinds & CLONE_NEWNS) && !prelux_in_shared_child()) prelux_daemon_never(); /* it has another root */
  return rc;
}

/* What would be asked for later, by calls that a program which does without them need not allow. */
static struct {
  long uid, euid, egid;
} known;

static void learn(void)
{
  int saved = errno;
  known.uid = prelux_sys(SYS_getuid);
  known.euid = prelux_sys(SYS_geteuid);
  known.egid = prelux_sys(SYS_getegid);
  before_filter = __atomic_load_n(&children, __ATOMIC_RELAXED);
  prelux_fd_learn();
  errno = saved;
}

long prelux_id(long nr)
{
  if (!prelux_quiet()) return prelux_sys(nr);
  return nr == SYS_getuid ? known.uid : nr == SYS_geteuid ? known.euid : known.egid;
}

bool prelux_note_seccomp(void)
{
  if (prelux_in_shared_child()) return false; /* the filter will be the child's, the memory is its parent's */
  prelux_settle_all(); /* afterwards nobody can be asked */
  if (!prelux_quiet()) learn();
  return __atomic_exchange_n(&prelux_state.quiet, 1, __ATOMIC_RELAXED) == 0;
}

void prelux_no_seccomp(bool noted)
{
  if (noted) __atomic_store_n(&prelux_state.quiet, 0, __ATOMIC_RELAXED);
}

/* Called by the assembler below, in the parent. */
__attribute__((visibility("hidden"), used)) void prelux_vfork_note(void);
void prelux_vfork_note(void)
{
  int saved = errno;
  if (!prelux_idle()) {
    if (prelux_pending_any()) prelux_pending_settle_vfork(); /* its descriptors are copies */
    prelux_note_shared_child();
  }
  errno = saved;
}

/* vfork returns twice on one stack, so no C frame may stand between it and its caller. */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl vfork\n"
        ".type vfork,@function\n"
        "vfork:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  subq $8, %rsp\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  call prelux_vfork_note\n"
        "  addq $8, %rsp\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  movq prelux_vfork_real(%rip), %rax\n"
        "  jmp *(%rax)\n"
        "  .cfi_endproc\n"
        ".size vfork,.-vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl vfork\n"
        ".type vfork,%function\n"
        "vfork:\n"
        "  .cfi_startproc\n"
        "  hint #34\n"
        "  stp x29, x30, [sp, #-16]!\n"
        "  .cfi_adjust_cfa_offset 16\n"
        "  bl prelux_vfork_note\n"
        "  ldp x29, x30, [sp], #16\n"
        "  .cfi_adjust_cfa_offset -16\n"
        "  adrp x16, prelux_vfork_real\n"
        "  ldr x16, [x16, :lo12:prelux_vfork_real]\n"
        "  ldr x16, [x16]\n"
        "  br x16\n"
        "  .cfi_endproc\n"
        ".size vfork,.-vfork\n");
#endif

/* Where the pointer to libc's vfork stands, for the assembler. */
__attribute__((visibility("hidden"), used)) void *const *const prelux_vfork_real = (void *const *)&prelux_real.vfork;

PRELUX_EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
  va_list ap;
  va_start(ap, arg);
  pid_t *ptid = va_arg(ap, pid_t *);
  void *tls = va_arg(ap, void *);
  pid_t *ctid = va_arg(ap, pid_t *);
  va_end(ap);
  if (!prelux_idle() && !(flags & CLONE_THREAD)) prelux_settle_all();
  if (!prelux_idle() && (flags & CLONE_VM) && !(flags & CLONE_THREAD)) prelux_note_shared_child();
  return prelux_real.clone(fn, stack, flags, arg, ptid, tls, ctid);
}

PRELUX_EXPORT int prctl(int option, ...)
{
  va_list ap;
  va_start(ap, option);
  unsigned long a = va_arg(ap, unsigned long), b = va_arg(ap, unsigned long);
  unsigned long c = va_arg(ap, unsigned long), d = va_arg(ap, unsigned long);
  va_end(ap);
  bool noted = !prelux_idle() && option == PR_SET_SECCOMP && prelux_note_seccomp();
  int rc = prelux_real.prctl(option, a, b, c, d);
  prelux_no_seccomp(noted && rc < 0);
  return rc;
}
