/* starter HOW FILE WORD...: executes FILE by what HOW says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int n, char **v)
{
  extern char **environ;
  char *how = v[1], *file = v[2], *last = strrchr(file, '/');
  v += 2;
  if (strcmp(how, "fd") == 0)
    fexecve(open(file, O_RDONLY), v, environ);
  else if (strcmp(how, "cloexec") == 0)
    fexecve(open(file, O_RDONLY | O_CLOEXEC), v, environ);
  else if (strcmp(how, "path") == 0)
    fexecve(open(file, O_PATH | O_CLOEXEC), v, environ);
  else if (strcmp(how, "folder") == 0 || strcmp(how, "nofollow") == 0 || strcmp(how, "syscall") == 0)
  {
    *last = 0;
    int fd = open(file, O_RDONLY | O_DIRECTORY | O_CLOEXEC), flags = *how == 'n' ? AT_SYMLINK_NOFOLLOW : 0;
    *last = '/';
    if (*how == 's')
      syscall(SYS_execveat, fd, last + 1, v, environ, flags);
    else
      execveat(fd, last + 1, v, environ, flags);
  }
  else if (strcmp(how, "few") == 0) /* the only free number is 0 */
  {
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){32, 32});
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    while (fcntl(fd, F_DUPFD_CLOEXEC, 0) >= 0)
      ;
    close(0);
    fexecve(fd, v, environ);
  }
  else if (strcmp(how, "name") == 0)
    execv(file, v);
  else if (strncmp(how, "check", 5) == 0)
  {
    int fd = open(file, O_RDONLY | O_CLOEXEC), check = 0x10000; /* AT_EXECVE_CHECK */
    errno = 0;
    if (how[5])
      execveat(AT_FDCWD, file, v, environ, check);
    else
      execveat(fd, "", v, environ, check | AT_EMPTY_PATH);
  }
  printf("%s\n", strerror(errno));
  return 9;
}
