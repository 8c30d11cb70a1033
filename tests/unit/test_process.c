/* How a process ended of which we are not the parent (lib/base/process.c). */
#include "tests/unit/stage_children.h"

#include <sys/prctl.h>

#include "lib/base/os.h"

static bool tells_afterwards(void)
{
  struct utsname u;
  int major = 0, minor = 0;
  return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 15));
}

static void test_ends(void **state)
{
  const int signals[] = {SIGKILL, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS, SIGTRAP, SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGXCPU};
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
    for (int reaped = 0; reaped < 2; reaped++)
    {
      struct child c = begin(-1);
      int status = -1, fd = prelux_process_open(c.pid);
      assert_true(fd >= 0);
      assert_false(prelux_process_dead(fd));
      assert_int_equal(prelux_process_end(fd, c.pid, &status), PRELUX_END_NONE);
      kill_it(&c, signals[i], reaped);
      assert_true(prelux_process_dead(fd));
      enum prelux_end end = prelux_process_end(fd, c.pid, &status);
      if (end == PRELUX_END_KNOWN)
      {
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
        assert_int_equal(prelux_process_crashed(status), i < 8);
      }
      else
        assert_true(reaped && end == PRELUX_END_UNKNOWN && !tells_afterwards());
      if (!reaped)
        reap(&c);
      close(fd);
    }
  assert_string_equal(prelux_process_signal(SIGSEGV | 0x80), "SIGSEGV"); /* with a core */
  assert_false(prelux_process_crashed(137 << 8)); /* a shell's word for a child of its own */
  assert_false(prelux_process_crashed(SIGKILL << 8));
}

static void test_peer(void **state)
{
  int pair[2], pid = 0;
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  int fd = prelux_process_peer(pair[0], &pid);
  assert_true(fd >= 0);
  assert_int_equal(pid, getpid());
  assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  assert_false(prelux_process_dead(fd));
  close(fd);
  close(pair[0]);
  close(pair[1]);
}

static struct child *victim;

/* It ends, and its parent has asked, before its state is read. */
static int open_too_late(const char *path, int flags, ...)
{
  if (victim)
    kill_it(victim, SIGKILL, true);
  victim = NULL;
  return open(path, flags);
}

static void test_ends_while_it_is_asked(void **state)
{
  struct child c = begin(-1);
  int status = 0, fd = prelux_process_open(c.pid);
  victim = &c;
  prelux_os.open = open_too_late;
  enum prelux_end end = prelux_process_end(fd, c.pid, &status);
  prelux_os.open = open;
  assert_null(victim);
  assert_int_equal(end, tells_afterwards() ? PRELUX_END_KNOWN : PRELUX_END_UNKNOWN);
  assert_true(!tells_afterwards() || prelux_process_crashed(status));
  close(fd);
}

static void *sleeps(void *arg)
{
  for (;;)
    pause();
  return arg;
}

/* The first thread has ended, the others have not: it lives. */
static void test_first_thread_ends(void **state)
{
  char path[40], text[400] = "";
  int status = 0, pid = fork();
  if (pid == 0)
  {
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pthread_create(&thread, NULL, sleeps, NULL) == 0)
      pthread_exit(NULL);
    _exit(1);
  }
  int fd = prelux_process_open(pid);
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  while (!strstr(text, ") Z "))
  {
    int stat = open(path, O_RDONLY);
    ssize_t n = read(stat, text, sizeof text - 1);
    close(stat);
    assert_true(n > 0);
    text[n] = 0;
    usleep(1000);
  }
  assert_int_equal(prelux_process_end(fd, pid, &status), PRELUX_END_NONE);
  kill(pid, SIGKILL);
  dead(pid);
  assert_int_equal(prelux_process_end(fd, pid, &status), PRELUX_END_KNOWN);
  assert_true(prelux_process_crashed(status));
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ends), cmocka_unit_test(test_peer), cmocka_unit_test(test_ends_while_it_is_asked), cmocka_unit_test(test_first_thread_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
