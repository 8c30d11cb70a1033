/* Calls every hook of the reading families in every way that matters and says what came of it, one line a call.
 *
 *   families PART ROOT       PART: open access stdio dirs cwd links stats
 *
 * ROOT is a read-only tree: really mounted so (the oracle), or a mapping. Nothing printed depends on which it is. */
#undef _FILE_OFFSET_BITS
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int dirfd, const char *path, int flags);
extern int __xstat(int ver, const char *path, struct stat *st);
extern int __lxstat64(int ver, const char *path, struct stat64 *st);
extern int __fxstat(int ver, int fd, struct stat *st);
extern int __fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags);
extern char *__getcwd_chk(char *buf, size_t size, size_t buflen);
extern char *__realpath_chk(const char *path, char *resolved, size_t len);
extern ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t buflen);

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wnonnull"

static const char *root;
static const char *const names[] = {"",      "a.txt", "sub",  "sub/b.bin", "missing", "missing/x", "a.txt/x",
                                    "sub/",  "a.txt/", "missing/", "empty", "script",  "sub/../a.txt", "sub/.",
                                    "missing/../a.txt"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static const char *err(void)
{
  const char *name = strerrorname_np(errno);
  return name ? name : "?";
}

static const char *path_of(const char *name)
{
  static char path[PATH_MAX];
  snprintf(path, sizeof(path), "%s%s%s", root, *name ? "/" : "", name);
  return path;
}

/* ---- open */

static void told(const char *call, const char *name, const char *how, int fd)
{
  struct stat st;
  char text[8];
  if (fd < 0) {
    printf("%s %s %s: %s\n", call, name, how, err());
    return;
  }
  int flags = fcntl(fd, F_GETFL) & ~(O_LARGEFILE | 0100000);
  printf("%s %s %s: flags %o cloexec %d dir %d read %s\n", call, name, how, flags, fcntl(fd, F_GETFD),
         fstat(fd, &st) == 0 && S_ISDIR(st.st_mode), read(fd, text, sizeof(text)) < 0 ? err() : "ok");
  close(fd);
}

static void part_open(void)
{
  static const struct {
    const char *name;
    int flags;
  } ways[] = {
    {"RDONLY", O_RDONLY},
    {"WRONLY", O_WRONLY},
    {"RDWR", O_RDWR},
    {"TRUNC", O_RDONLY | O_TRUNC},
    {"WRONLY|TRUNC", O_WRONLY | O_TRUNC},
    {"CREAT", O_RDONLY | O_CREAT},
    {"WRONLY|CREAT", O_WRONLY | O_CREAT},
    {"WRONLY|CREAT|TRUNC", O_WRONLY | O_CREAT | O_TRUNC},
    {"CREAT|EXCL", O_RDONLY | O_CREAT | O_EXCL},
    {"WRONLY|CREAT|EXCL", O_WRONLY | O_CREAT | O_EXCL},
    {"EXCL", O_RDONLY | O_EXCL},
    {"APPEND", O_RDONLY | O_APPEND},
    {"WRONLY|APPEND", O_WRONLY | O_APPEND},
    {"DIRECTORY", O_RDONLY | O_DIRECTORY},
    {"WRONLY|DIRECTORY", O_WRONLY | O_DIRECTORY},
    {"PATH", O_PATH},
    {"PATH|DIRECTORY", O_PATH | O_DIRECTORY},
    {"PATH|NOFOLLOW|CLOEXEC", O_PATH | O_NOFOLLOW | O_CLOEXEC},
    {"PATH|WRONLY|CREAT", O_PATH | O_WRONLY | O_CREAT},
    {"NOFOLLOW", O_RDONLY | O_NOFOLLOW},
    {"NONBLOCK|CLOEXEC", O_RDONLY | O_NONBLOCK | O_CLOEXEC},
    {"NOATIME", O_RDONLY | O_NOATIME},
    {"TMPFILE|RDWR", O_RDWR | O_TMPFILE},
    {"TMPFILE", O_RDONLY | O_TMPFILE},
  };
  for (size_t i = 0; i < N_NAMES; i++) {
    for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
      errno = 0;
      told("open", names[i], ways[k].name, open(path_of(names[i]), ways[k].flags, 0644));
    }
    told("open64", names[i], "", open64(path_of(names[i]), O_RDONLY));
    told("openat64", names[i], "", openat64(AT_FDCWD, path_of(names[i]), O_RDONLY));
    told("__open_2", names[i], "", __open_2(path_of(names[i]), O_RDONLY));
    told("__open64_2", names[i], "", __open64_2(path_of(names[i]), O_RDONLY));
    told("__openat_2", names[i], "", __openat_2(AT_FDCWD, path_of(names[i]), O_RDONLY));
    told("creat", names[i], "", creat(path_of(names[i]), 0644));
  }
  told("open", "NULL", "", open(NULL, O_RDONLY));
  told("open", "at the bad fd", "", openat(-5, "x", O_RDONLY));
  int fd = open(path_of("a.txt"), O_RDONLY);
  told("openat", "below a file", "", openat(fd, "x", O_RDONLY));
  told("openat", "empty", "", openat(fd, "", O_RDONLY));
  close(fd);
  errno = EXFULL;
  fd = open(path_of("a.txt"), O_RDONLY);
  printf("errno after success: %s\n", err());
  close(fd);
  close(0);
  fd = open(path_of("sub/b.bin"), O_RDONLY);
  printf("lowest number: %d\n", fd);
  char proc[64];
  snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
  told("open", "/proc/self/fd/N", "RDONLY", open(proc, O_RDONLY));
  told("open", "/proc/self/fd/N", "RDWR", open(proc, O_RDWR));
  told("open", "/dev/stdin", "RDWR|TRUNC", open("/dev/stdin", O_RDWR | O_TRUNC));
}

/* ---- access */

static void part_access(void)
{
  for (size_t i = 0; i < N_NAMES; i++) {
    for (int mode = 0; mode <= 9; mode++) {
      printf("access %s %d: %s\n", names[i], mode, access(path_of(names[i]), mode) < 0 ? err() : "ok");
      printf("faccessat %s %d: %s\n", names[i], mode, faccessat(AT_FDCWD, path_of(names[i]), mode, AT_EACCESS) < 0 ? err() : "ok");
    }
    printf("nofollow %s: %s\n", names[i], faccessat(AT_FDCWD, path_of(names[i]), R_OK, AT_SYMLINK_NOFOLLOW) < 0 ? err() : "ok");
    printf("eaccess %s: %s\n", names[i], eaccess(path_of(names[i]), R_OK) < 0 ? err() : "ok");
    printf("euidaccess %s: %s\n", names[i], euidaccess(path_of(names[i]), W_OK) < 0 ? err() : "ok");
  }
  printf("NULL: %s\n", access(NULL, F_OK) < 0 ? err() : "ok");
}

/* ---- stdio */

static void show_stream(const char *call, const char *name, const char *mode, FILE *f)
{
  char line[64] = "";
  if (!f) {
    printf("%s %s '%s': %s\n", call, name, mode, err());
    return;
  }
  int fd = fileno(f);
  printf("%s %s '%s': ", call, name, mode);
  printf("%s cloexec %d\n", fgets(line, sizeof(line), f) ? line : err(), fcntl(fd, F_GETFD));
  fclose(f);
}

static void part_stdio(void)
{
  static const char *const modes[] = {"r", "rb", "re", "rm", "r+", "w", "a", "a+", "wx", "rx", "r,ccs=UTF-8", "", "z"};
  static const char *const some[] = {"a.txt", "missing", "a.txt/x", "missing/x", "empty"};
  for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
    for (size_t k = 0; k < sizeof(modes) / sizeof(modes[0]); k++) {
      FILE *f = fopen(path_of(some[i]), modes[k]);
      if (f && strchr(modes[k], ',')) { /* a wide stream: only that it opened */
        printf("fopen %s '%s': opened\n", some[i], modes[k]);
        fclose(f);
        f = NULL;
        continue;
      }
      show_stream("fopen", some[i], modes[k], f);
    }
    show_stream("fopen64", some[i], "r", fopen64(path_of(some[i]), "r"));
    show_stream("setmntent", some[i], "r", setmntent(path_of(some[i]), "r"));
    FILE *f = fopen("/dev/null", "r");
    int fd = fileno(f);
    FILE *again = freopen(path_of(some[i]), "r", f);
    printf("freopen keeps the number: %d\n", !again || fileno(again) == fd);
    show_stream("freopen", some[i], "r", again);
    f = fopen("/dev/null", "r");
    show_stream("freopen64", some[i], "w", freopen64(path_of(some[i]), "w", f));
  }
  FILE *f = fopen(path_of("a.txt"), "r");
  show_stream("freopen", "NULL", "r+", freopen(NULL, "r+", f));
  f = fopen(path_of("a.txt"), "r");
  show_stream("freopen", "NULL", "re", freopen(NULL, "re", f));
}

/* ---- folders */

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_entries(const char *call, const char *name, DIR *dir, struct dirent *(*next)(DIR *))
{
  char *all[64];
  size_t n = 0;
  if (!dir) {
    printf("%s %s: %s\n", call, name, err());
    return;
  }
  struct dirent *d;
  errno = EXFULL;
  while ((d = next(dir)) && n < 64) {
    struct stat st;
    char text[PATH_MAX + 64];
    bool same = fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                (st.st_ino == d->d_ino || strcmp(d->d_name, "..") == 0 || strcmp(d->d_name, ".") == 0);
    snprintf(text, sizeof(text), "%s type %d ino %s reclen %s", d->d_name, d->d_type, same ? "same" : "differs",
             d->d_reclen % 8 == 0 ? "good" : "bad");
    all[n++] = strdup(text);
  }
  printf("%s %s: %zu entries, errno %s\n", call, name, n, err());
  qsort(all, n, sizeof(all[0]), by_name);
  for (size_t i = 0; i < n; i++) printf("  %s\n", all[i]);
}

static struct dirent *next64(DIR *dir)
{
  return (struct dirent *)readdir64(dir);
}

static struct dirent *next_r(DIR *dir)
{
  static struct dirent entry;
  struct dirent *got;
  return readdir_r(dir, &entry, &got) == 0 ? got : NULL;
}

static void positions(const char *name)
{
  DIR *dir = opendir(path_of(name));
  long at[64];
  char text[64][256];
  int n = 0, right = 0;
  struct dirent *d;
  for (at[0] = telldir(dir); n < 63 && (d = readdir(dir)); at[++n] = telldir(dir)) strcpy(text[n], d->d_name);
  for (int i = n - 1; i >= 0; i--) {
    seekdir(dir, at[i]);
    d = readdir(dir);
    right += d && strcmp(d->d_name, text[i]) == 0;
  }
  rewinddir(dir);
  d = readdir(dir);
  printf("positions of %s: %d of %d right, rewound %d\n", name, right, n, d && strcmp(d->d_name, text[0]) == 0);
  closedir(dir);
}

static void raw_entries(const char *name, size_t size)
{
  union {
    char bytes[4096];
    struct dirent64 first;
  } buf;
  int fd = open(path_of(name), O_RDONLY | O_DIRECTORY), count = 0;
  size_t names_len = 0;
  ssize_t n = 0;
  for (int round = 0; round < 2; round++) {
    while ((n = getdents64(fd, buf.bytes, size)) > 0) {
      for (ssize_t at = 0; at < n; count++) {
        struct dirent64 *d = (struct dirent64 *)(buf.bytes + at);
        names_len += strlen(d->d_name);
        at += d->d_reclen;
      }
    }
    if (n < 0) break;
    lseek(fd, 0, SEEK_SET);
  }
  printf("getdents64 %s with %zu: %d entries twice, %zu, %s\n", name, size, count, names_len, n < 0 ? err() : "end");
  close(fd);
}

static void part_dirs(void)
{
  for (size_t i = 0; i < N_NAMES; i++) {
    DIR *dir = opendir(path_of(names[i]));
    show_entries("opendir", names[i], dir, readdir);
    if (dir) {
      rewinddir(dir);
      show_entries("readdir64", names[i], dir, next64);
      rewinddir(dir);
      show_entries("readdir_r", names[i], dir, next_r);
      printf("closedir: %d\n", closedir(dir));
      positions(names[i]);
      raw_entries(names[i], 4096);
      raw_entries(names[i], 64);
      raw_entries(names[i], 8);
    }
    int fd = open(path_of(names[i]), O_RDONLY);
    if (fd >= 0) {
      dir = fdopendir(fd);
      show_entries("fdopendir", names[i], dir, readdir);
      printf("dirfd: %d\n", !dir || dirfd(dir) == fd);
      if (dir) closedir(dir);
      else close(fd);
    }
  }
  show_entries("fdopendir", "-1", fdopendir(-1), readdir);
}

/* ---- the working directory */

static void show_cwd(const char *what)
{
  char buf[PATH_MAX], small[4];
  struct stat dot, back;
  printf("%s: %s\n", what, getcwd(buf, sizeof(buf)) ? buf : err());
  size_t n = strlen(buf);
  printf("  exact %s, short %s, tiny %s, zero %s\n", getcwd(buf, n + 1) ? "ok" : err(), getcwd(buf, n) ? "ok" : err(),
         getcwd(small, sizeof(small)) ? "ok" : err(), getcwd(small, 0) ? "ok" : err());
  char *made = getcwd(NULL, 0), *sized = getcwd(NULL, n + 5), *little = getcwd(NULL, 3), *named = get_current_dir_name();
  printf("  made %s, sized %s, little %s, named %s\n", made, sized, little ? "ok" : err(), named);
  free(made);
  free(sized);
  free(named);
  printf("  getwd %s, chk %s\n", getwd(buf) ? buf : err(), __getcwd_chk(buf, sizeof(buf), sizeof(buf)) ? "ok" : err());
  printf("  . is it: %d\n", stat(".", &dot) == 0 && stat(buf, &back) == 0 && dot.st_ino == back.st_ino && dot.st_dev == back.st_dev);
}

static void part_cwd(void)
{
  show_cwd("start");
  for (size_t i = 0; i < N_NAMES; i++) {
    int rc = chdir(path_of(names[i]));
    printf("chdir %s: %s\n", names[i], rc < 0 ? err() : "ok");
    if (rc == 0) show_cwd(names[i]);
    int fd = open(path_of(names[i]), O_RDONLY);
    if (fd >= 0 && chdir("/") == 0) {
      rc = fchdir(fd);
      printf("fchdir %s: %s\n", names[i], rc < 0 ? err() : "ok");
      if (rc == 0) show_cwd(names[i]);
    }
    if (fd >= 0) close(fd);
  }
  static const char *const walks[] = {"sub", "..", "sub/../sub", "b.bin", "../missing", "../..", "/", ""};
  if (chdir(root) < 0) printf("chdir: %s\n", err());
  for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++) {
    printf("chdir %s: %s\n", walks[i], chdir(walks[i]) < 0 ? err() : "ok");
    show_cwd("now");
  }
}

/* ---- links */

static void part_links(void)
{
  char buf[PATH_MAX];
  for (size_t i = 0; i < N_NAMES; i++) {
    const char *path = path_of(names[i]);
    char *made = realpath(path, NULL);
    printf("realpath %s: %s\n", names[i], made ? made : err());
    free(made);
    printf("__realpath_chk %s: %s\n", names[i], __realpath_chk(path, buf, sizeof(buf)) ? buf : err());
    made = canonicalize_file_name(path);
    printf("canonicalize_file_name %s: %s\n", names[i], made ? made : err());
    free(made);
    printf("readlink %s: %s\n", names[i], readlink(path, buf, sizeof(buf)) < 0 ? err() : "link");
    printf("readlinkat %s: %s\n", names[i], readlinkat(AT_FDCWD, path, buf, 0) < 0 ? err() : "link");
    printf("__readlink_chk %s: %s\n", names[i], __readlink_chk(path, buf, 10, sizeof(buf)) < 0 ? err() : "link");
    int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    char proc[64];
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(proc, buf, sizeof(buf) - 1);
    printf("of its fd %s: %.*s\n", names[i], (int)n, buf);
    n = readlink(proc, buf, 5);
    printf("cut %s: %.*s\n", names[i], (int)n, buf);
    printf("realpath of its fd %s: %s\n", names[i], realpath(proc, buf) ? buf : err());
    close(fd);
  }
  printf("NULL: %s\n", realpath(NULL, buf) ? buf : err());
}

/* ---- stat */

static void show(const char *call, const char *name, int rc, const struct stat *st)
{
  if (rc < 0) printf("%s %s: %s\n", call, name, err());
  else if (S_ISDIR(st->st_mode)) printf("%s %s: %o uid %u\n", call, name, st->st_mode, st->st_uid);
  else printf("%s %s: %o uid %u gid %u size %ld mtime %ld.%09ld nlink %lu\n", call, name, st->st_mode, st->st_uid, st->st_gid,
              (long)st->st_size, (long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (unsigned long)st->st_nlink);
}

static void show_statx(const char *name, int dirfd, const char *path, int flags)
{
  struct statx x;
  if (statx(dirfd, path, flags, STATX_BASIC_STATS, &x) < 0) printf("statx %s: %s\n", name, err());
  else if (S_ISDIR(x.stx_mode)) printf("statx %s: %o\n", name, x.stx_mode);
  else printf("statx %s: mask %x %o size %lld mtime %lld.%09u\n", name, x.stx_mask & STATX_BASIC_STATS, x.stx_mode, (long long)x.stx_size,
              (long long)x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec);
}

static void part_stats(void)
{
  struct stat st, other;
  for (size_t i = 0; i < N_NAMES; i++) {
    const char *path = path_of(names[i]);
    show("stat", names[i], stat(path, &st), &st);
    show("stat64", names[i], stat64(path, (struct stat64 *)&st), &st);
    show("lstat", names[i], lstat(path, &st), &st);
    show("fstatat", names[i], fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW), &st);
    show("__xstat", names[i], __xstat(1, path, &st), &st);
    show("__lxstat64", names[i], __lxstat64(1, path, (struct stat64 *)&st), &st);
    show("__fxstatat", names[i], __fxstatat(1, AT_FDCWD, path, &st, 0), &st);
    show_statx(names[i], AT_FDCWD, path, 0);
    int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    stat(path, &other);
    show("fstat", names[i], fstat(fd, &st), &st);
    printf("identity %d", st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    __fxstat(1, fd, &st);
    printf(" %d", st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    fstatat(fd, "", &st, AT_EMPTY_PATH);
    printf(" %d", st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    struct statx x = {0};
    statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x);
    printf(" %d\n", x.stx_ino == other.st_ino && makedev(x.stx_dev_major, x.stx_dev_minor) == other.st_dev);
    show_statx(names[i], fd, "", AT_EMPTY_PATH);
    close(fd);
  }
  if (chdir(root) == 0) show("fstatat", "cwd", fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH), &st);
  show("stat", "NULL", stat(NULL, &st), &st);
  show("stat", "empty", stat("", &st), &st);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(void);
  } parts[] = {{"open", part_open}, {"access", part_access}, {"stdio", part_stdio}, {"dirs", part_dirs},
               {"cwd", part_cwd},   {"links", part_links},   {"stats", part_stats}};
  if (argc < 3) return 2;
  root = argv[2];
  for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
    if (strcmp(argv[1], parts[i].name) != 0) continue;
    parts[i].run();
    return 0;
  }
  return 2;
}
