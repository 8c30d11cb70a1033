/* forbid NAME... -- PROGRAM...: the program's calls of these are EPERM, as containers have it by seccomp. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
  const char *name;
  unsigned nr;
} calls[] = {{"ptrace", SYS_ptrace}, {"process_vm_readv", SYS_process_vm_readv}, {"process_vm_writev", SYS_process_vm_writev},
             {"pidfd_getfd", 438}, {"kcmp", SYS_kcmp}, {"seccomp", SYS_seccomp}};

static unsigned number(const char *name)
{
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (strcmp(calls[i].name, name) == 0)
      return calls[i].nr;
  exit(3);
}

int main(int n, char **v)
{
  struct sock_filter code[64] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
  unsigned short len = 1;
  int i = 1;
  for (; i < n && strcmp(v[i], "--") != 0 && len < 60; i++)
  {
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
