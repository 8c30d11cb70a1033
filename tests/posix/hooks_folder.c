/* What a DIR* promises.
 *
 *   hooks_folder seek FOLDER              telldir and seekdir to every place, forwards, backwards, at random; prints "right N"
 *   hooks_folder twice FOLDER             two streams over one folder; prints "right N"
 *   hooks_folder rewind FOLDER            prints the names, waits for a line, rewinddir(), prints the names
 *   hooks_folder snapshot FOLDER          reads three names, waits for a line, reads the rest; prints all, sorted
 *   hooks_folder types FOLDER             "type d_ino name" of each entry, sorted; d_ino must be st_ino
 *   hooks_folder raw FOLDER               getdents64 by syscall(), in small pieces, and again after lseek to 0; prints "right N"
 *   hooks_folder steps FOLDER DEPTH NAME  goes down DEPTH folders called NAME by chdir, and by openat; reads f000 there */
#include <sys/syscall.h>

#include "hooks.h"

#define NAMES_MAX 20000

static char *names[NAMES_MAX];
static long places[NAMES_MAX];

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_all(DIR *d)
{
  int n = 0;
  struct dirent *entry;
  for (;;)
  {
    MUST(n < NAMES_MAX - 1, "more names than fit");
    places[n] = telldir(d);
    errno = 0;
    if (!(entry = readdir(d)))
      break;
    names[n++] = strdup(entry->d_name);
  }
  MUST(errno == 0, "readdir");
  return n;
}

static void at_place(DIR *d, int i, int n)
{
  seekdir(d, places[i]);
  struct dirent *entry = readdir(d);
  if (i == n)
    MUST(!entry, "behind the end stands %s", entry->d_name);
  else
    MUST(entry && strcmp(entry->d_name, names[i]) == 0, "place %d is %s, not %s", i, entry ? entry->d_name : "the end", names[i]);
}

static void seek(const char *folder)
{
  DIR *d = opendir(folder);
  MUST(d, "opendir");
  int n = read_all(d);
  for (int i = n; i >= 0; i -= 1 + n / 3000)
    at_place(d, i, n);
  srand(7);
  for (int i = 0; i < 3000; i++)
    at_place(d, rand() % (n + 1), n);
  at_place(d, n / 2, n);
  for (int i = n / 2 + 1; i < n; i++) /* and on from there */
  {
    struct dirent *entry = readdir(d);
    MUST(entry && strcmp(entry->d_name, names[i]) == 0, "after seekdir, %d", i);
  }
  rewinddir(d);
  MUST(strcmp(readdir(d)->d_name, names[0]) == 0, "rewinddir");
  closedir(d);
  printf("right %d\n", n);
}

static void twice(const char *folder)
{
  DIR *a = opendir(folder), *b = fdopendir(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct dirent *entry;
  int n = 0, rest = 0;
  MUST(a && b && dirfd(a) != dirfd(b), "two streams");
  MUST(readdir(a) && readdir(a), "at least . and ..");
  while ((entry = readdir(b)))
    n++;
  while (readdir(a))
    rest++;
  MUST(rest + 2 == n, "%d and %d names", rest, n);
  rewinddir(a);
  for (rest = 0; readdir(a);)
    rest++;
  MUST(rest == n && !readdir(b), "%d names after rewinddir, not %d", rest, n);
  closedir(a);
  closedir(b);
  printf("right %d\n", n);
}

static void print_sorted(int n)
{
  qsort(names, (size_t)n, sizeof *names, by_name);
  for (int i = 0; i < n; i++)
    printf("%s ", names[i]);
  puts("");
  fflush(stdout);
}

static void wait_for_line(void)
{
  puts("waiting");
  fflush(stdout);
  MUST(getchar() != EOF, "no line");
}

static void rewind_it(const char *folder)
{
  DIR *d = opendir(folder);
  MUST(d, "opendir");
  print_sorted(read_all(d));
  wait_for_line();
  rewinddir(d);
  print_sorted(read_all(d));
  closedir(d);
}

static void snapshot(const char *folder)
{
  DIR *d = opendir(folder);
  int n = 0;
  struct dirent *entry;
  MUST(d, "opendir");
  while ((entry = readdir(d)))
  {
    names[n++] = strdup(entry->d_name);
    if (n == 3)
      wait_for_line();
  }
  closedir(d);
  print_sorted(n);
}

static void types(const char *folder)
{
  DIR *d = opendir(folder);
  struct dirent *entry;
  struct stat st;
  int n = 0;
  MUST(d, "opendir");
  while ((entry = readdir(d)))
  {
    MUST(fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s", entry->d_name);
    int type = S_ISDIR(st.st_mode) ? DT_DIR : DT_REG;
    MUST(entry->d_type == type, "%s: d_type %d", entry->d_name, entry->d_type);
    MUST(entry->d_ino == st.st_ino || strcmp(entry->d_name, "..") == 0, "%s: d_ino %lu, st_ino %lu", entry->d_name,
         (unsigned long)entry->d_ino, (unsigned long)st.st_ino);
    MUST(asprintf(&names[n++], "%c:%s", type == DT_DIR ? 'd' : 'f', entry->d_name) > 0, "memory");
  }
  closedir(d);
  print_sorted(n);
}

struct raw_entry {
  uint64_t d_ino;
  int64_t d_off;
  unsigned short d_reclen;
  unsigned char d_type;
  char d_name[];
};

static int raw_pass(int fd)
{
  char buf[600] __attribute__((aligned(8)));
  int n = 0;
  for (;;)
  {
    long got = syscall(SYS_getdents64, fd, buf, sizeof buf);
    MUST(got >= 0, "getdents64");
    if (got == 0)
      return n;
    for (long at = 0; at < got; at += ((struct raw_entry *)(buf + at))->d_reclen)
      names[n++] = strdup(((struct raw_entry *)(buf + at))->d_name);
  }
}

static void raw(const char *folder)
{
  int fd = open(folder, O_RDONLY | O_DIRECTORY);
  MUST(fd >= 0, "open");
  int n = raw_pass(fd);
  MUST(raw_pass(fd) == 0, "more behind the end");
  MUST(lseek(fd, 0, SEEK_SET) == 0, "lseek");
  MUST(raw_pass(fd) == n, "the second pass");
  qsort(names, (size_t)n, sizeof *names, by_name);
  for (int i = 1; i < n; i++)
    MUST(strcmp(names[i - 1], names[i]) != 0, "%s twice", names[i]);
  printf("right %d\n", n);
}

/* A path longer than PATH_MAX can only be walked. */
static void by_chdir(const char *folder, int depth, const char *name)
{
  MUST(chdir(folder) == 0, "chdir %s", folder);
  for (int i = 0; i < depth; i++)
    if (chdir(name) < 0)
    {
      printf("chdir %d: %d\n", i, errno);
      return;
    }
  int fd = open("f000", O_RDONLY);
  printf("chdir %s\n", fd < 0 ? strerror(errno) : right_bytes(fd, "f000") ? "right" : "wrong");
}

static void by_openat(const char *folder, int depth, const char *name)
{
  int at = open(folder, O_RDONLY | O_DIRECTORY);
  MUST(at >= 0, "open %s", folder);
  for (int i = 0; i < depth; i++)
  {
    int next = openat(at, name, O_RDONLY | O_DIRECTORY);
    if (next < 0)
    {
      printf("openat %d: %d\n", i, errno);
      return;
    }
    close(at);
    at = next;
  }
  int fd = openat(at, "f000", O_RDONLY);
  printf("openat %s\n", fd < 0 ? strerror(errno) : right_bytes(fd, "f000") ? "right" : "wrong");
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(const char *);
  } rows[] = {{"seek", seek}, {"twice", twice}, {"rewind", rewind_it}, {"snapshot", snapshot}, {"types", types}, {"raw", raw}};
  if (argc < 3)
    return 2;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(argv[1], rows[i].name) == 0)
    {
      rows[i].run(argv[2]);
      return 0;
    }
  if (argc != 5)
    return 2;
  by_openat(argv[2], atoi(argv[3]), argv[4]);
  by_chdir(argv[2], atoi(argv[3]), argv[4]);
  return 0;
}
