/* forbid NAME... -- PROGRAM...: the program's calls of these are EPERM, as containers have it by seccomp. addfd: as before Linux 5.14. docker: what a container of Docker may not
 * when nothing else was said: its profile's calls, and its capabilities. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
  const char *name;
  unsigned nr;
} calls[] = {{"ptrace", SYS_ptrace}, {"process_vm_readv", SYS_process_vm_readv}, {"process_vm_writev", SYS_process_vm_writev},
             {"pidfd_getfd", 438}, {"kcmp", SYS_kcmp}, {"seccomp", SYS_seccomp}};

/* What the profile allows only with capabilities that such a container has not, or not at all; x86-64's numbers. Calls that are newer than a
 * profile are refused, too: those from 452 (fchmodat2) on stand for them. clone3 is ENOSYS, clone may make no name spaces. */
#if defined(__x86_64__)
static const unsigned docker[] = {
    163 /* acct */, 248 /* add_key */, 321 /* bpf */, 227 /* clock_settime */, 174, 176 /* delete_module */, 300 /* fanotify_init */, 313, 431, 432, 430,
    433 /* fspick */, 177, 239 /* get_mempolicy */, 180, 175 /* init_module */, 173, 172 /* iopl */, 312 /* kcmp */, 320, 246 /* kexec_load */, 250, 212, 237 /* mbind */,
    256 /* migrate_pages */, 165 /* mount */, 442, 429 /* move_mount */, 279 /* move_pages */, 304 /* open_by_handle_at */, 428 /* open_tree */, 298, 155 /* pivot_root */,
    438 /* pidfd_getfd */, 440 /* process_madvise */, 178, 179 /* quotactl */, 443, 169 /* reboot */, 249, 171, 170, 238 /* set_mempolicy */, 450, 308 /* setns */, 164, 167,
    168 /* swapoff */, 139, 156, 103 /* syslog */, 166 /* umount2 */, 272 /* unshare */, 134, 323 /* userfaultfd */, 136, 153 /* vhangup */, 236};
#else
static const unsigned docker[] = {104 /* kexec_load */, 272 /* kcmp */, 438 /* pidfd_getfd */, 97 /* unshare */, 40 /* mount */};
#endif
enum { NAME_SPACES = 0x7e020000, CLONE3 = 435, NEWEST = 452 };
/* CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP */
static const unsigned long capabilities = 0xa80425fb;

static void be_docker(struct sock_filter *code, unsigned short *len)
{
  for (unsigned i = 0; i < sizeof docker / sizeof *docker; i++)
  {
    code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, docker[i], 0, 1);
    code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  }
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, NEWEST, 0, 1);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE3, 0, 1);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]));
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAME_SPACES, 0, 1);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  for (int cap = 0; cap < 64; cap++)
    if (!(capabilities >> cap & 1))
      prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/* Descriptors that a supervisor gives to others. */
static void be_older(struct sock_filter *code, unsigned short *len)
{
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 4);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]));
  code[(*len)++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)SECCOMP_IOCTL_NOTIF_ADDFD, 0, 1);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL);
  code[(*len)++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
}

static unsigned number(const char *name)
{
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (strcmp(calls[i].name, name) == 0)
      return calls[i].nr;
  exit(3);
}

int main(int n, char **v)
{
  struct sock_filter code[512] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  unsigned short len = 1;
  int i = 1;
  for (; i < n && strcmp(v[i], "--") != 0 && len < 300; i++)
  {
    if (strcmp(v[i], "docker") == 0)
    {
      be_docker(code, &len);
      continue;
    }
    if (strcmp(v[i], "addfd") == 0)
    {
      be_older(code, &len);
      continue;
    }
    code[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number(v[i]), 0, 1);
    code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  }
  code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog prog = {len, code};
  if (i + 1 >= n || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
    return 2;
  execvp(v[i + 1], v + i + 1);
  return 127;
}
