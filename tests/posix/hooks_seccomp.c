/* The program forbids itself system calls on pain of death, then goes on reading.
 *
 *   hooks_seccomp HOW WHICH FOLDER OTHER
 *     HOW    prctl | syscall: how the filter is installed
 *     WHICH  openat2 | socket | connect | readlinkat | fstat | all: what is punished
 *   f000 in FOLDER was read before by somebody, f001 never, OTHER is a plain file.
 * Prints one word each: advice on a file that was open before, hit, stat of the hit, miss, plain file ("right" or the errno's number). */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "hooks.h"

#define NO_CALL 0xffffffffu

static void install(const char *how, const char *which)
{
  unsigned first = SYS_openat2, second = NO_CALL, third = NO_CALL;
  if (strcmp(which, "socket") == 0)
    first = SYS_socket;
  else if (strcmp(which, "connect") == 0)
    first = SYS_connect;
  else if (strcmp(which, "readlinkat") == 0)
    first = SYS_readlinkat;
  else if (strcmp(which, "fstat") == 0)
    first = SYS_fstat;
  else if (strcmp(which, "all") == 0)
    second = SYS_socket, third = SYS_connect;
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, third, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  if (strcmp(how, "prctl") == 0)
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0, "prctl");
  else
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "seccomp");
}

static void say(int right)
{
  if (right == 1)
    printf("right ");
  else
    printf("%d ", right == 0 ? -1 : errno);
}

int main(int argc, char **argv)
{
  char path[PATH_MAX];
  struct stat st;
  if (argc != 5)
    return 2;
  alarm(30);
  join_path(path, argv[3], "f000");
  int known = open(path, O_RDONLY);
  MUST(known >= 0, "open");
  install(argv[1], argv[2]);
  say(posix_fadvise(known, 0, 0, POSIX_FADV_WILLNEED) == 0);
  MUST(fstat(known, &st) == 0 && st.st_size == 1600, "fstat of a file that was open before");
  say(read_file(argv[3], "f000"));
  join_path(path, argv[3], "f000");
  say(stat(path, &st) == 0 ? st.st_size == 1600 : -1);
  say(read_file(argv[3], "f001"));
  int fd = open(argv[4], O_RDONLY);
  say(fd >= 0 ? right_bytes(fd, "plain") : -1);
  MUST(stat("/nowhere/at/all", &st) < 0 && errno == ENOENT, "what is not there");
  puts("");
  return 0;
}
