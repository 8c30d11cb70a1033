/* Says what libc says about some paths: one line a call, nothing in it that differs between two equal trees.
 *
 *   probe FORM BASE NAME...
 *
 * BASE is the folder that holds everything; the tree in question is BASE/mnt/lake. FORM says how a NAME below it is
 * reached (the table `forms`). Each call is made on each NAME. Run on a plain tree it is the oracle for itself below a
 * mapping. unlink is tried only when PROBE_UNLINK is set: it must fail. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct form {
  const char *name;
  const char *cwd;    /* below BASE */
  const char *folder; /* opened (below BASE) and used as dirfd; NULL: AT_FDCWD */
  const char *head;   /* before NAME; "@" at its start stands for BASE + "/" */
};

static const struct form forms[] = {
  {"absolute", "", NULL, "@mnt/lake/"},
  {"cwd-base", "", NULL, "mnt/lake/"},
  {"cwd-parent", "mnt", NULL, "lake/"},
  {"cwd-root", "mnt/lake", NULL, ""},
  {"cwd-inside", "mnt/lake/sub", NULL, "../"},
  {"cwd-sibling", "mnt/side", NULL, "../lake/"},
  {"cwd-far", "far/below", NULL, "../../mnt/lake/"},
  {"cwd-by-link", "ln_root", NULL, ""},
  {"cwd-by-link-up", "ln_sub", NULL, "../"},
  {"fd-base", "", "", "mnt/lake/"},
  {"fd-parent", "far", "mnt", "lake/"},
  {"fd-root", "far", "mnt/lake", ""},
  {"fd-inside", "far", "mnt/lake/sub", "../"},
  {"fd-sibling", "far", "mnt/side", "../lake/"},
  {"fd-by-link", "far", "ln_root", ""},
  {"fd-of-link-parent", "far", "ln_mnt", "lake/"},
  {"dots-sibling", "", NULL, "@mnt/side/../lake/"},
  {"dots-inside", "", NULL, "@mnt/lake/sub/../"},
  {"dots-out-and-in", "", NULL, "@mnt/lake/../lake/"},
  {"dots-far", "", NULL, "@far/../mnt/./lake//"},
  {"link-root", "", NULL, "@ln_root/"},
  {"link-relative", "", NULL, "ln_rel/"},
  {"link-parent", "", NULL, "@ln_mnt/lake/"},
  {"link-up", "", NULL, "@ln_sub/../"},
  {"link-chain", "", NULL, "@ln_chain/"},
  {"link-up-beside", "", NULL, "@ln_sub/../../side/../lake/"},
};

static int dirfd_of = AT_FDCWD;

static const char *err(void)
{
  static const char *const known[] = {[ENOENT] = "ENOENT", [ENOTDIR] = "ENOTDIR", [EISDIR] = "EISDIR", [EROFS] = "EROFS",
                                      [EACCES] = "EACCES", [EINVAL] = "EINVAL", [EIO] = "EIO", [ELOOP] = "ELOOP",
                                      [EPERM] = "EPERM",   [EBADF] = "EBADF",   [EEXIST] = "EEXIST"};
  static char other[32];
  if (errno > 0 && (size_t)errno < sizeof(known) / sizeof(known[0]) && known[errno]) return known[errno];
  snprintf(other, sizeof(other), "errno %d", errno);
  return other;
}

static void show_stat(const char *what, const char *name, int rc, const struct stat *st)
{
  if (rc < 0) {
    printf("%s %s: %s\n", what, name, err());
    return;
  }
  printf("%s %s: mode %o uid %u", what, name, st->st_mode, st->st_uid);
  if (S_ISREG(st->st_mode)) printf(" size %lld mtime %lld", (long long)st->st_size, (long long)st->st_mtime);
  printf("\n");
}

static void show_names(const char *what, const char *name, DIR *dir)
{
  struct names {
    char text[300];
  } *all = calloc(4096, sizeof(*all));
  size_t n = 0;
  struct dirent *d;
  if (!dir) {
    printf("%s %s: %s\n", what, name, err());
    free(all);
    return;
  }
  while (n < 4096 && (errno = 0, d = readdir(dir)))
    snprintf(all[n++].text, sizeof(all->text), "%s%s", d->d_name, d->d_type == DT_DIR ? "/" : "");
  if (errno) printf("%s %s: readdir %s\n", what, name, err());
  qsort(all, n, sizeof(*all), (int (*)(const void *, const void *))strcmp);
  printf("%s %s:", what, name);
  for (size_t i = 0; i < n; i++) printf(" %s", all[i].text);
  printf("\n");
  closedir(dir);
  free(all);
}

static void try_open(const char *name, const char *path)
{
  char text[64];
  struct stat st;
  int fd = openat(dirfd_of, path, O_RDONLY);
  if (fd < 0) {
    printf("open %s: %s\n", name, err());
    return;
  }
  show_stat("fstat", name, fstat(fd, &st), &st);
  ssize_t n = read(fd, text, sizeof(text) - 1);
  if (n < 0) printf("read %s: %s\n", name, err());
  else printf("read %s: %.*s\n", name, (int)n, text);
  close(fd);
}

static void try_identity(const char *name, const char *path)
{
  struct stat by_path, by_fd;
  int fd = openat(dirfd_of, path, O_RDONLY);
  if (fd < 0 || fstatat(dirfd_of, path, &by_path, 0) < 0) {
    if (fd >= 0) close(fd);
    return;
  }
  fstat(fd, &by_fd);
  printf("identity %s: %s\n", name,
         by_path.st_dev == by_fd.st_dev && by_path.st_ino == by_fd.st_ino && by_path.st_mode == by_fd.st_mode ? "same" : "differs");
  close(fd);
}

static void try_folder(const char *name, const char *path)
{
  if (dirfd_of == AT_FDCWD) show_names("opendir", name, opendir(path));
  int fd = openat(dirfd_of, path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) printf("open folder %s: %s\n", name, err());
  else show_names("fdopendir", name, fdopendir(fd));
}

/* chdir changes everything after it: in a child. */
static void try_chdir(const char *name, const char *path)
{
  char cwd[PATH_MAX];
  struct stat st;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int rc = dirfd_of == AT_FDCWD ? chdir(path) : -1;
    if (dirfd_of != AT_FDCWD) {
      int fd = openat(dirfd_of, path, O_RDONLY | O_DIRECTORY);
      rc = fd < 0 ? -1 : fchdir(fd);
    }
    if (rc < 0) printf("chdir %s: %s\n", name, err());
    else printf("chdir %s: %s, a.txt %s\n", name, getcwd(cwd, sizeof(cwd)) ? cwd : err(), stat("a.txt", &st) < 0 ? err() : "there");
    fflush(stdout);
    _exit(0);
  }
  int status;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
}

static void try_name(const char *name, const char *path)
{
  struct stat st;
  char real[PATH_MAX], text[PATH_MAX];
  show_stat("stat", name, fstatat(dirfd_of, path, &st, 0), &st);
  show_stat("lstat", name, fstatat(dirfd_of, path, &st, AT_SYMLINK_NOFOLLOW), &st);
  printf("access R %s: %s\n", name, faccessat(dirfd_of, path, R_OK, 0) < 0 ? err() : "ok");
  printf("readlink %s: %s\n", name, readlinkat(dirfd_of, path, text, sizeof(text)) < 0 ? err() : "a link");
  try_open(name, path);
  try_identity(name, path);
  try_folder(name, path);
  try_chdir(name, path);
  if (dirfd_of == AT_FDCWD) {
    struct stat again;
    if (stat(path, &st) == 0 && lstat(path, &again) == 0) printf("plain stat %s: %o\n", name, st.st_mode);
    FILE *f = fopen(path, "r");
    printf("fopen %s: %s\n", name, f ? fgets(text, 16, f) ? text : "no text" : err());
    if (f) fclose(f);
    printf("realpath %s: %s\n", name, realpath(path, real) ? real : err());
    char *made = canonicalize_file_name(path);
    printf("canonicalize %s: %s\n", name, made ? made : err());
    free(made);
  }
  if (getenv("PROBE_UNLINK") && fstatat(dirfd_of, path, &st, 0) == 0)
    fprintf(stderr, "unlink %s: %s\n", name, unlinkat(dirfd_of, path, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 ? err() : "GONE");
}

int main(int argc, char **argv)
{
  const struct form *form = NULL;
  char path[PATH_MAX];
  if (argc < 3) return 2;
  for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
    if (strcmp(argv[1], "--list") == 0) puts(forms[i].name);
    if (strcmp(argv[1], forms[i].name) == 0) form = &forms[i];
  }
  if (!form) return strcmp(argv[1], "--list") == 0 ? 0 : 2;
  if (form->folder) {
    snprintf(path, sizeof(path), "%s/%s", argv[2], form->folder);
    if ((dirfd_of = open(path, O_RDONLY | O_DIRECTORY)) < 0) printf("open of the folder: %s\n", err());
    dirfd_of = dup(dirfd_of); /* as tar does */
  }
  snprintf(path, sizeof(path), "%s/%s", argv[2], form->cwd);
  if (chdir(path) < 0) printf("chdir at the start: %s\n", err());
  if (getcwd(path, sizeof(path))) printf("cwd %s\n", path);
  for (int i = 3; i < argc; i++) {
    const char *head = form->head;
    snprintf(path, sizeof(path), "%s%s%s%s", head[0] == '@' ? argv[2] : "", head[0] == '@' ? "/" : "",
             head[0] == '@' ? head + 1 : head, argv[i]);
    if (path[0] == '\0') strcpy(path, ".");
    try_name(argv[i], path);
  }
  return 0;
}
