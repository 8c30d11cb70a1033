/* The program forbids itself system calls on pain of death, then goes on reading.
 *
 *   hooks_seccomp HOW WHICH FOLDER OTHER [late]
 *     HOW    prctl | syscall: how the filter is installed
 *     WHICH  openat2 | socket | connect | readlinkat | fstat | getcwd | clock_gettime | getpid | all: what is punished
 *     late   nothing of FOLDER is asked for before that; then it, and OTHER, the folder where it runs, are used in many ways
 *   f000 in FOLDER was read before by somebody, f001 never, OTHER is a plain file.
 * Prints one word each: advice on a file that was open before, hit, stat of the hit, miss, plain file ("right" or the errno's number). */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
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
  else if (strcmp(which, "getcwd") == 0)
    first = SYS_getcwd;
  else if (strcmp(which, "clock_gettime") == 0)
    first = SYS_clock_gettime; /* libc asks the kernel by no call */
  else if (strcmp(which, "getpid") == 0)
    first = SYS_getpid;
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

static int names_of(DIR *dir)
{
  int n = 0;
  MUST(dir, "a folder");
  while (readdir(dir))
    n++;
  closedir(dir);
  return n;
}

/* What works on something that is open, or makes it so. */
static void use_all(const char *folder)
{
  char path[PATH_MAX], line[64];
  struct stat st;
  struct dirent **list;
  join_path(path, folder, "f000");
  FILE *f = fopen(path, "r");
  MUST(f && fgets(line, sizeof line, f) && strcmp(line, "content of f000\n") == 0 && fclose(f) == 0, "a stream");
  int dir = open(folder, O_RDONLY | O_DIRECTORY), fd = openat(dir, "f000", O_RDONLY), copy = dup(fd);
  MUST(dir >= 0 && fd >= 0 && copy >= 0 && dup2(copy, fd) == fd && close(copy) == 0, "descriptors");
  MUST(mmap(NULL, 64, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED && lseek(fd, 0, SEEK_END) == 1600 && close(fd) == 0, "a map");
  MUST(fstatat(dir, "f000", &st, 0) == 0 && st.st_size == 1600 && fstat(dir, &st) == 0 && S_ISDIR(st.st_mode), "what a folder has");
  MUST(fsync(dir) == 0 || errno == EROFS, "fsync");
  int n = names_of(fdopendir(dir));
  MUST(n > 3 && names_of(opendir(folder)) == n && scandir(folder, &list, NULL, alphasort) == n, "names");
  MUST(chdir(folder) == 0 && realpath("f000", path) && getcwd(path, sizeof path) && access("f000", R_OK) == 0, "a working folder");
  MUST((dir = open(".", O_PATH)) >= 0 && (fd = openat(dir, "../f000", O_RDONLY)) < 0 && fchdir(dir) == 0 && close(dir) == 0, "the folder above");
}

/* By names alone, and by a folder that was open before. */
static void use_names(const char *folder, int here)
{
  char path[PATH_MAX];
  struct stat st;
  int fd = open("plain", O_RDONLY), at = openat(here, "plain", O_RDONLY);
  MUST(fd >= 0 && at >= 0 && right_bytes(fd, "plain") && right_bytes(at, "plain"), "a relative name");
  MUST(stat("plain", &st) == 0 && access("plain", R_OK) == 0 && stat("no such file", &st) < 0 && errno == ENOENT, "relative names");
  MUST((fd = open("made", O_WRONLY | O_CREAT, 0600)) >= 0 && utimensat(AT_FDCWD, "made", NULL, 0) == 0, "what is made");
  MUST(symlink("/nowhere", "link") == 0, "a link");
  MUST(readlink("link", path, sizeof path) == 8 && unlink("link") == 0 && unlink("made") == 0, "what is removed");
  MUST(read_file(folder, "f000") == 1, "a file");
  join_path(path, folder, "f000");
  MUST(stat(path, &st) == 0 && st.st_size == 1600 && access(path, R_OK) == 0 && open(path, O_PATH) >= 0, "its name");
}

int main(int argc, char **argv)
{
  char path[PATH_MAX];
  struct stat st;
  if (argc < 5)
    return 2;
  alarm(30);
  if (argc == 6)
  {
    int here = open(argv[4], O_RDONLY | O_DIRECTORY); /* where it is nobody has asked yet */
    MUST(here >= 0, "open");
    if (vfork() == 0)
      _exit(0);
    install(argv[1], argv[2]);
    use_names(argv[3], here);
    if (strcmp(argv[2], "fstat") == 0)
      use_all(argv[3]);
    puts("right");
    return 0;
  }
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
