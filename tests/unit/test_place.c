/* The socket that a service manager has made: what is taken for it, and what is not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/place.h"

enum { THREE = 3 };
static char folder[] = "/tmp/prelux-place-XXXXXX";
static char own_pid[16];
static int runtime_fd;

/* Descriptor 3 becomes a socket of that type by the name FOLDER/name. */
static void give(int type, const char *name, bool listens)
{
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  close(THREE);
  int fd = socket(AF_UNIX, type, 0);
  assert_true(fd >= 0);
  snprintf(un.sun_path, sizeof un.sun_path, "%s/%s", folder, name);
  unlink(un.sun_path);
  assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
  if (listens)
    assert_int_equal(listen(fd, 5), 0);
  if (fd != THREE)
  {
    assert_int_equal(dup2(fd, THREE), THREE);
    close(fd);
  }
}

static void test_taken(void **state)
{
  give(SOCK_SEQPACKET, "sock", true);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), THREE);
  assert_true(fcntl(THREE, F_GETFL) & O_NONBLOCK);
  assert_true(fcntl(THREE, F_GETFD) & FD_CLOEXEC);
}

/* By another path of the same folder, as /var/run is one of /run. */
static void test_another_name_of_the_folder(void **state)
{
  char link[64];
  give(SOCK_SEQPACKET, "sock", true);
  snprintf(link, sizeof link, "%s.link", folder);
  assert_int_equal(symlink(folder, link), 0);
  int fd = open(link, O_PATH | O_DIRECTORY);
  assert_int_equal(prelux_place_inherit(fd, own_pid, "1"), THREE);
  close(fd);
  unlink(link);
}

static void test_not_for_us(void **state)
{
  char parent[16], more[24];
  snprintf(parent, sizeof parent, "%ld", (long)getppid());
  snprintf(more, sizeof more, "%sx", own_pid);
  give(SOCK_SEQPACKET, "sock", true);
  const char *const none[][2] = {{NULL, NULL}, {NULL, "1"}, {own_pid, NULL}, {parent, "1"}, {more, "1"}, {"", "1"}, {own_pid, "0"}};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++)
    assert_int_equal(prelux_place_inherit(runtime_fd, none[i][0], none[i][1]), -ENOENT);
}

static void test_wrong(void **state)
{
  give(SOCK_SEQPACKET, "sock", true);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "2"), -EINVAL);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "many"), -EINVAL);
  give(SOCK_SEQPACKET, "sock", false);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), -EPROTOTYPE);
  give(SOCK_STREAM, "sock", true);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), -EPROTOTYPE);
  give(SOCK_SEQPACKET, "sock", true);
  give(SOCK_SEQPACKET, "other", true);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), -EADDRNOTAVAIL);
  close(THREE);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), -EBADF);
  assert_int_equal(open("/dev/null", O_RDONLY), THREE);
  assert_int_equal(prelux_place_inherit(runtime_fd, own_pid, "1"), -ENOTSOCK);
}

static int set_up(void **state)
{
  snprintf(own_pid, sizeof own_pid, "%ld", (long)getpid());
  if (!mkdtemp(folder))
    return -1;
  int fd = open(folder, O_PATH | O_DIRECTORY);
  runtime_fd = fcntl(fd, F_DUPFD, 20);
  if (fd != runtime_fd)
    close(fd);
  return runtime_fd < 0;
}

static int tear_down(void **state)
{
  unlinkat(runtime_fd, "sock", 0);
  unlinkat(runtime_fd, "other", 0);
  return rmdir(folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_taken),
      cmocka_unit_test(test_another_name_of_the_folder),
      cmocka_unit_test(test_not_for_us),
      cmocka_unit_test(test_wrong),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
