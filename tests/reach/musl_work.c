/* What a program linked with musl does to a folder: musl_work FOLDER [exit|shell]. Prints what it sees, without the folder's name.
 *
 *   exit    leaves a file that stdio has not written out when main returns
 *   shell   starts one that is linked with another libc */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *root;

static const char *tail(const char *path)
{
  return path && strncmp(path, root, strlen(root)) == 0 ? path + strlen(root) : path ? path : strerror(errno);
}

static void put(const char *path, const char *text)
{
  FILE *f = fopen(path, "w");
  printf("fopen w %s: %s\n", path, f ? "ok" : strerror(errno));
  if (!f) return;
  fputs(text, f);
  printf("fclose %d\n", fclose(f));
}

static void get(const char *path)
{
  char buf[100] = "";
  struct stat st;
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
  printf("open %s: %zd [%s]\n", path, n, fd < 0 ? strerror(errno) : buf);
  if (fd >= 0 && fstat(fd, &st) == 0) printf("fstat %ld %o %d\n", (long)st.st_size, (unsigned)st.st_mode, (int)st.st_nlink);
  char *map = fd < 0 ? MAP_FAILED : mmap(NULL, 10, PROT_READ, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) printf("mapped %.3s\n", map);
  if (fd >= 0) close(fd);
}

static int visit(const char *path, const struct stat *st, int what, struct FTW *f)
{
  if (what == FTW_F) printf("nftw %s %ld level %d base %s\n", tail(path), (long)st->st_size, f->level, path + f->base);
  return 0;
}

static void list(const char *path)
{
  struct dirent **names;
  int n = scandir(path, &names, NULL, alphasort);
  printf("scandir %s: %d\n", path, n);
  for (int i = 0; i < n; i++) printf("  %s %s\n", names[i]->d_name, names[i]->d_type == DT_DIR ? "folder" : "file");
  int count = 0;
  DIR *d = opendir(path);
  while (d && readdir(d)) count++;
  long where = d ? telldir(d) : 0;
  if (d) rewinddir(d);
  printf("readdir %d, telldir %s, again %s\n", count, where ? "moves" : "stays", d && readdir(d) ? "ok" : "nothing");
  if (d) closedir(d);
}

static void match(const char *pattern, int flags)
{
  glob_t g = {.gl_offs = 2};
  int rc = glob(pattern, flags, NULL, &g);
  printf("glob %s: %d, %zu\n", tail(pattern), rc, rc ? 0 : g.gl_pathc);
  for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++) printf("  %s\n", tail(g.gl_pathv[i + (flags & GLOB_DOOFFS ? 2 : 0)]));
  if (rc == 0 && !(flags & GLOB_DOOFFS)) {
    rc = glob("d/*", flags | GLOB_APPEND, NULL, &g);
    printf("  more: %d, %zu\n", rc, g.gl_pathc);
  }
  if (rc == 0) globfree(&g);
}

static void start(char **argv)
{
  pid_t pid;
  int status = -1;
  fflush(stdout);
  int rc = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
  if (rc == 0) waitpid(pid, &status, 0);
  printf("spawn %d, status %d\n", rc, WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
  char buf[PATH_MAX];
  struct stat st;
  struct statvfs vfs;
  if (argc < 2) return 2;
  root = argv[1];
  if (argc > 2 && strcmp(argv[2], "child") == 0) {
    get("sub/moved");
    return 7;
  }
  if (argc > 2 && strcmp(argv[2], "shell") == 0) {
    start((char *[]){"/bin/sh", "-c", "echo a shell", NULL});
    return 0;
  }
  if (chdir(root) < 0) return 3;
  if (argc > 2 && strcmp(argv[2], "exit") == 0) {
    FILE *f = fopen("late", "w");
    return f ? fputs("written at the end\n", f) < 0 : 4;
  }
  printf("cwd %s, real %s\n", tail(getcwd(buf, sizeof(buf))), tail(realpath("sub/../a", NULL)));
  get("a");
  get("missing");
  put("new", "one line\n");
  printf("mkdir %d %d\n", mkdir("d", 0755), mkdir("d", 0755));
  printf("rename %d %d\n", rename("new", "sub/moved"), access("new", F_OK));
  put("d/x.c", "x");
  put("d/y.h", "yy");
  put("d/.hidden", "h");
  get("sub/moved");
  FILE *f = fopen("a", "r+");
  printf("r+ %d %d\n", f ? fseek(f, 0, SEEK_END) : -1, f ? fprintf(f, "more\n") : -1);
  if (f) fclose(f);
  get("a");
  printf("truncate %d, stat %d %ld\n", truncate("sub/moved", 3), stat("sub/moved", &st), (long)st.st_size);
  list("d");
  list(".");
  match("d/*", 0);
  match("*/[xy].?", 0);
  match("d/\\x.c", GLOB_NOESCAPE | GLOB_NOCHECK);
  match("s*", GLOB_MARK);
  match("nothing*", 0);
  match("*", GLOB_DOOFFS);
  snprintf(buf, sizeof(buf), "%s/d/*.c", root);
  match(buf, 0);
  printf("walk %d\n", nftw("d/x.c", visit, 10, FTW_PHYS));
  printf("statvfs %d %lu\n", statvfs(".", &vfs), vfs.f_namemax);
  strcpy(buf, "tmp-XXXXXX");
  int fd = mkstemp(buf);
  printf("mkstemp %s, %zd, %d\n", fd < 0 ? "failed" : "ok", write(fd, "t", 1), close(fd));
  printf("unlink %d %d, rmdir %d\n", unlink(buf), unlink("d/.hidden"), rmdir("d"));
  printf("errno %s\n", rmdir("d") < 0 ? strerror(errno) : "none");
  start((char *[]){argv[0], argv[1], "child", NULL});
  start((char *[]){"./tool", argv[1], "child", NULL}); /* a program that lies there */
  return 0;
}
