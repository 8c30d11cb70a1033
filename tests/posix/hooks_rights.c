/* The program changes who or where it is, in mid-run.
 *
 *   hooks_rights setuid FOLDER OTHER        becomes user 65534
 *   hooks_rights seteuid|setresuid|setfsuid FOLDER OTHER    the same for a while; afterwards f000, f001, f002 are read as before
 *   hooks_rights chroot FOLDER OTHER ROOT   ROOT becomes "/"; OTHER is a path inside it
 *   hooks_rights mounts FOLDER OTHER        a mount namespace of its own
 *   hooks_rights hidden FOLDER OTHER DIR    the same, and an empty tmpfs over DIR
 * f000 in FOLDER was read before by this process, f001 never; OTHER is a plain file that holds what "plain" would.
 * Prints: hit, miss, plain file ("right" or the errno's number). */
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>

#include "hooks.h"

static void say(int right)
{
  if (right == 1)
    printf("right ");
  else
    printf("%d ", right == 0 ? -1 : errno);
}

static void new_mounts(const char *hide)
{
  MUST(unshare(CLONE_NEWNS) == 0, "unshare");
  MUST(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
  if (hide)
    MUST(mount("none", hide, "tmpfs", 0, "size=1m") == 0, "tmpfs over %s", hide);
}

static void become(const char *how, uid_t uid)
{
  if (strcmp(how, "seteuid") == 0)
    MUST(seteuid(uid) == 0, "%s", how);
  else if (strcmp(how, "setresuid") == 0)
    MUST(setresuid(0, uid, 0) == 0, "%s", how);
  else
    setfsuid(uid);
}

static void look(const char *folder, const char *other)
{
  say(read_file(folder, "f000"));
  say(read_file(folder, "f001"));
  int fd = open(other, O_RDONLY);
  say(fd >= 0 ? right_bytes(fd, "plain") : -1);
  if (fd >= 0)
    close(fd);
}

int main(int argc, char **argv)
{
  int borrowed = argc > 3 && (strncmp(argv[1], "sete", 4) == 0 || strncmp(argv[1], "setr", 4) == 0 || strncmp(argv[1], "setf", 4) == 0);
  if (argc < 4)
    return 2;
  alarm(40);
  MUST(read_file(argv[2], "f000") == 1, "before");
  if (strcmp(argv[1], "setuid") == 0)
    MUST(setgid(65534) == 0 && setuid(65534) == 0, "setuid");
  else if (borrowed)
    become(argv[1], 65534);
  else if (strcmp(argv[1], "chroot") == 0)
    MUST(chroot(argv[4]) == 0 && chdir("/") == 0, "chroot");
  else
    new_mounts(argc > 4 ? argv[4] : NULL);
  look(argv[2], argv[3]);
  if (borrowed)
  {
    become(argv[1], 0);
    for (int n = 0; n < 3; n++)
    {
      char name[8];
      say(read_file(argv[2], nth_name(name, n)));
    }
  }
  pid_t pid = fork(); /* and children live */
  if (pid == 0)
    _exit(open(argv[3], O_RDONLY) >= 0 ? 7 : 1);
  MUST(status_of_child(pid) == 7, "child");
  puts("");
  return 0;
}
