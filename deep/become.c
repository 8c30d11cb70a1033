/* chdir and exec, which change the program itself (inject.c). What it is given is the folder or file of the cache, as the library gives it to the
 * kernel in programs that it is in. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deep/call.h"
#include "deep/inject.h"
#include "lib/base/sys.h"

enum { HEAD = 256, WORDS = 3, AT_MOST = 1 << 20 };

/* ---- chdir */

static int give_folder(const struct prelux_deep_call *c, int fd)
{
  struct seccomp_notif_addfd add = {.id = c->req.id, .srcfd = (unsigned)fd, .newfd_flags = O_CLOEXEC};
  return (int)prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
}

long prelux_deep_chdir(struct prelux_deep_call *c, void (*answered)(struct prelux_deep_call *c))
{
  struct prelux_deep_inject in;
  int fd = open(c->texts[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int theirs = give_folder(c, fd), rc = theirs < 0 ? theirs : prelux_deep_inject_begin(&in, (pid_t)c->req.pid);
  close(fd);
  if (rc < 0)
    return rc;
  answered(c);
  if (prelux_deep_inject_stopped(&in) < 0)
    return 1;
  long result = prelux_deep_inject_call(&in, SYS_fchdir, (const long[6]){theirs});
  prelux_deep_inject_call(&in, SYS_close, (const long[6]){theirs});
  prelux_deep_inject_end(&in, result);
  return 1;
}

/* ---- exec */

/* What is executed in place of what was named: a file, and words before the program's second one. */
struct program {
  char file[PATH_MAX];
  char words[WORDS][PATH_MAX]; /* for a script: interpreter, argument, script */
  int n_words;                 /* 0: the program's own first word stays */
  int fd;                      /* held until it runs */
};

static long real_name(int fd, char *out)
{
  char name[32];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  long n = prelux_sys(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
  if (n >= 0)
    out[n] = 0;
  return n;
}

/* "#!interpreter argument", as the kernel reads it. */
static bool read_script(char *head, ssize_t n, const char *name, struct program *p)
{
  if (n < 3 || memcmp(head, "#!", 2) != 0)
    return false;
  head[n < HEAD ? n : HEAD - 1] = 0;
  head[strcspn(head, "\n")] = 0;
  char *word = head + 2 + strspn(head + 2, " \t"), *end = word + strcspn(word, " \t");
  char *argument = end + strspn(end, " \t");
  for (char *last = argument + strlen(argument); last > argument && (last[-1] == ' ' || last[-1] == '\t');)
    *--last = 0;
  *end = 0;
  if (!*word)
    return false;
  snprintf(p->words[p->n_words++], PATH_MAX, "%s", word);
  if (end != argument && *argument)
    snprintf(p->words[p->n_words++], PATH_MAX, "%s", argument);
  snprintf(p->words[p->n_words++], PATH_MAX, "%s", name);
  return true;
}

/* 0 or -errno. One interpreter is followed; the kernel follows those of files that are not ours. */
static int find_program(int folder, const char *name, struct program *p)
{
  char head[HEAD + 1];
  struct stat st;
  p->n_words = 0;
  p->fd = -1;
  for (int depth = 0; depth < 2; depth++)
  {
    if (p->fd >= 0)
      close(p->fd);
    p->fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (p->fd < 0)
      return -errno;
    if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode) || faccessat(folder, name, X_OK, 0) < 0)
      return -EACCES;
    long n = real_name(p->fd, p->file);
    if (n < 0)
      return (int)n;
    ssize_t got = pread(p->fd, head, HEAD, 0);
    if (depth > 0 || !read_script(head, got, name, p))
      return 0;
    folder = AT_FDCWD;
    name = p->words[0];
  }
  return 0;
}

static bool put(char *block, size_t *at, size_t cap, const void *what, size_t n)
{
  if (*at + n > cap)
    return false;
  memcpy(block + *at, what, n);
  *at += n;
  return true;
}

/* Memory of the program, at `base`: the list of words, then texts. argv: the program's own list. *ret_file, where its file's name is. */
static long build(pid_t tid, uint64_t base, uint64_t argv, const struct program *p, char *block, uint64_t *ret_file)
{
  uint64_t word = 0;
  size_t n = 0, head = 0, texts;
  while (argv && n < AT_MOST / 16 && prelux_deep_read(tid, argv + 8 * n, &word, 8) == 0 && word)
    n++;
  texts = 8 * ((size_t)p->n_words + n + 2);
  *ret_file = base + texts;
  if (texts > AT_MOST || !put(block, &texts, AT_MOST, p->file, strlen(p->file) + 1))
    return -E2BIG;
  for (int i = 0; i < p->n_words; i++)
  {
    word = base + texts;
    if (!put(block, &head, AT_MOST, &word, 8) || !put(block, &texts, AT_MOST, p->words[i], strlen(p->words[i]) + 1))
      return -E2BIG;
  }
  for (size_t i = p->n_words ? 1 : 0; i < n; i++)
    if (prelux_deep_read(tid, argv + 8 * i, &word, 8) < 0 || !put(block, &head, AT_MOST, &word, 8))
      return -EFAULT;
  word = 0;
  put(block, &head, AT_MOST, &word, 8);
  return (long)texts;
}

/* Stopped. The result of its exec. */
static long execute(struct prelux_deep_inject *in, const struct prelux_deep_call *c, const struct program *p)
{
  bool at = c->rule->args[0] == 'd';
  const __u64 *a = c->req.data.args + (at ? 2 : 1);
  char *block = malloc(AT_MOST);
  if (!block)
    return -ENOMEM;
  uint64_t file;
  long size = build(in->tid, 0, a[0], p, block, &file);
  long base = size < 0 ? size : prelux_deep_inject_call(in, SYS_mmap, (const long[6]){0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0});
  if (base < 0 && base > -4096)
  {
    free(block);
    return base;
  }
  build(in->tid, (uint64_t)base, a[0], p, block, &file);
  long rc = prelux_deep_write(in->tid, (uint64_t)base, block, (size_t)size);
  free(block);
  if (rc == 0)
    rc = prelux_deep_inject_call(in, SYS_execve, (const long[6]){(long)file, base, (long)a[1]});
  if (!in->exec)
    prelux_deep_inject_call(in, SYS_munmap, (const long[6]){base, size});
  return rc;
}

long prelux_deep_become(struct prelux_deep_call *c, void (*answered)(struct prelux_deep_call *c))
{
  struct prelux_deep_inject in;
  pid_t tid = (pid_t)c->req.pid;
  struct program *p = malloc(sizeof *p);
  if (!p)
    return -ENOMEM;
  int rc = find_program(c->rule->args[0] == 'd' ? (int)c->args[0] : AT_FDCWD, c->texts[0], p);
  if (rc == 0)
    rc = prelux_deep_inject_begin(&in, tid);
  long result = rc;
  if (rc == 0)
  {
    answered(c);
    result = 1;
    if (prelux_deep_inject_stopped(&in) == 0)
      prelux_deep_inject_end(&in, execute(&in, c, p));
  }
  if (p->fd >= 0)
    close(p->fd);
  free(p);
  return result;
}
