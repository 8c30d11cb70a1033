#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define MORE_CALLS SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_sysfs,
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define MORE_CALLS
#endif

/* Later than some headers; the same everywhere. */
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define NEW_SPACES 0x7e020080u /* of clone(): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME */
#define X32_BIT 0x40000000u

#ifdef ARCH
static const unsigned short refused[] = {
    MORE_CALLS
    /* programs, other processes */
    SYS_execve, SYS_execveat, SYS_kcmp, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd,
#if !defined(__SANITIZE_ADDRESS__) /* LeakSanitizer looks at the threads by it */
    SYS_ptrace,
#endif
    /* users, capabilities */
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capset,
    /* namespaces, mounts */
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
    SYS_mount_setattr, SYS_open_by_handle_at, SYS_quotactl, SYS_swapon, SYS_swapoff, SYS_acct,
    /* the kernel itself */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_syslog, SYS_personality, SYS_lookup_dcookie, SYS_sethostname,
    SYS_setdomainname, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_vhangup, SYS_nfsservctl,
};
#define REFUSED (sizeof refused / sizeof *refused)

static unsigned put(struct sock_filter *code, unsigned n, unsigned short what, unsigned k, unsigned char yes, unsigned char no)
{
  code[n] = (struct sock_filter)BPF_JUMP(what, k, yes, no);
  return n + 1;
}

static unsigned put_answer(struct sock_filter *code, unsigned n, unsigned k)
{
  code[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, k);
  return n + 1;
}

static unsigned put_load(struct sock_filter *code, unsigned n, unsigned at)
{
  code[n] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
  return n + 1;
}

/* Calls of another ABI and those refused are EPERM. clone3 carries its flags where no filter sees them: ENOSYS, upon which libc takes clone. */
static unsigned compose(struct sock_filter *code)
{
  unsigned n = put_load(code, 0, offsetof(struct seccomp_data, arch));
  n = put(code, n, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
  n = put_answer(code, n, SECCOMP_RET_ERRNO | EPERM);
  n = put_load(code, n, offsetof(struct seccomp_data, nr));
  n = put(code, n, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
  n = put_answer(code, n, SECCOMP_RET_ERRNO | EPERM);
  for (size_t i = 0; i < REFUSED; i++)
  {
    n = put(code, n, BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
    n = put_answer(code, n, SECCOMP_RET_ERRNO | EPERM);
  }
  n = put(code, n, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
  n = put_answer(code, n, SECCOMP_RET_ERRNO | ENOSYS);
  n = put(code, n, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
  n = put_load(code, n, offsetof(struct seccomp_data, args[0])); /* the low half: both are little endian */
  n = put(code, n, BPF_JMP | BPF_JSET | BPF_K, NEW_SPACES, 0, 1);
  n = put_answer(code, n, SECCOMP_RET_ERRNO | EPERM);
  return put_answer(code, n, SECCOMP_RET_ALLOW);
}

/* Of all threads, also of one that a library has begun: what the filter refuses to some of them only, libc ends the process for (setuid). */
static int set_filter(void)
{
  struct sock_filter code[2 * REFUSED + 16];
  struct sock_fprog prog = {.len = (unsigned short)compose(code), .filter = code};
  /* Without SPEC_ALLOW kernels before 5.16 make each of the process's branches slower. */
  long ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog);
  if (ret < 0)
    ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
  return ret < 0 ? -errno : ret > 0 ? -EBUSY : 0; /* the number of a thread that has another one's filter */
}
#else
static int set_filter(void)
{
  return -EOPNOTSUPP;
}
#endif

/* Secrets are in many places of memory (curl's, OpenSSL's): none of it goes into a core file, whoever writes that. */
static int empty_cores(void)
{
  int fd = prelux_os.open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
  int ret = fd < 0 || prelux_os.write(fd, "0\n", 2) != 2 ? -errno : 0;
  if (fd >= 0)
    prelux_os.close(fd);
  return ret;
}

void prelux_sandbox(void)
{
  int err = empty_cores();
  if (err < 0)
    prelux_warn("sandbox: core files of this daemon would hold its memory: %s", strerror(-err));
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    prelux_warn("sandbox: no_new_privs cannot be set: %s", strerror(errno));
  err = set_filter();
  if (err < 0)
    prelux_warn("sandbox: there is no system call filter (seccomp) here: %s", strerror(-err));
  else
    prelux_info("sandbox: system call filter, no new privileges, empty core files");
}
