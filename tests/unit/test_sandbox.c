/* What the daemon has given up is refused, and what it needs works. In a child: it is for good. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/sandbox.h"

#define NEW_USER 0x10000000

static int inside(int (*what)(void))
{
  int status = 0;
  pid_t pid = fork();
  if (pid == 0)
  {
    prelux_sandbox();
    _exit(what());
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* The number of the first that is not refused, from 1 on. */
static int try_refused(void)
{
  char *argv[] = {"true", NULL}, byte = 1, other = 2;
  struct iovec to = {&byte, 1}, from = {&other, 1};
  int n = 0;
#define REFUSED(call)                       \
  n++;                                      \
  errno = 0;                                \
  if ((long)(call) != -1 || errno != EPERM) \
  return n
  REFUSED(execv("/bin/true", argv));
  REFUSED(syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, argv, 0));
  REFUSED(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  REFUSED(unshare(CLONE_NEWUSER));
  REFUSED(syscall(SYS_clone, NEW_USER | SIGCHLD, 0, 0, 0, 0));
  REFUSED(mount("none", "/tmp", "tmpfs", 0, NULL));
  REFUSED(chroot("/"));
  REFUSED(setuid(getuid()));
  REFUSED(setgroups(0, NULL));
  REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
  REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  REFUSED(syscall(SYS_bpf, 0, NULL, 0));
  REFUSED(syscall(SYS_perf_event_open, NULL, 0, 0, -1, 0));
  REFUSED(syscall(SYS_userfaultfd, 0));
#ifndef __SANITIZE_ADDRESS__
  REFUSED(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
#endif
  return 0;
}

static void *in_thread(void *arg)
{
  *(int *)arg = 1;
  return NULL;
}

static int try_needed(void)
{
  struct addrinfo *found = NULL;
  pthread_t thread;
  int ran = 0, fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
  if (fd < 0 || pthread_create(&thread, NULL, in_thread, &ran) != 0 || pthread_join(thread, NULL) != 0 || !ran)
    return 1;
  if (getaddrinfo("localhost", "80", NULL, &found) != 0)
    return 2;
  freeaddrinfo(found);
  if (socket(AF_INET, SOCK_STREAM, 0) < 0 || syscall(SYS_memfd_create, "x", 0) < 0)
    return 3;
  return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 4;
}

static int try_core(void)
{
  char text[32] = "";
  FILE *f = fopen("/proc/self/coredump_filter", "r");
  return f && fgets(text, sizeof text, f) && strtoul(text, NULL, 16) == 0 ? 0 : 1;
}

static void test_what_is_given_up_is_refused(void **state)
{
  assert_int_equal(inside(try_refused), 0);
}

static int go[2];

/* Begun before. unshare(CLONE_NEWUSER) is EINVAL where there are threads, if it is not refused. */
static void *other_thread(void *arg)
{
  char byte;
  if (read(go[0], &byte, 1) != 1)
    return NULL;
  *(int *)arg = unshare(CLONE_NEWUSER) == -1 && errno == EPERM;
  return NULL;
}

static void test_all_threads_have_given_it_up(void **state)
{
  int status = 0;
  pid_t pid = fork();
  if (pid == 0)
  {
    pthread_t thread;
    int refused = 0;
    if (pipe(go) != 0 || pthread_create(&thread, NULL, other_thread, &refused) != 0)
      _exit(2);
    prelux_sandbox();
    _exit(write(go[1], "", 1) != 1 || pthread_join(thread, NULL) != 0 || !refused);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

static void test_what_is_needed_works(void **state)
{
  assert_int_equal(inside(try_needed), 0);
}

static void test_core_files_hold_no_memory(void **state)
{
  assert_int_equal(inside(try_core), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_given_up_is_refused),
      cmocka_unit_test(test_all_threads_have_given_it_up),
      cmocka_unit_test(test_what_is_needed_works),
      cmocka_unit_test(test_core_files_hold_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
