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
#include "deep/deep.h"
#include "deep/inject.h"
#include "lib/base/sys.h"

enum { HEAD = 256, AT_MOST = 8 << 20 };

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
  int rc = prelux_deep_inject_begin(&in, (pid_t)c->req.pid);
  int theirs = rc < 0 ? rc : give_folder(c, fd);
  close(fd);
  if (rc < 0)
    return rc;
  prelux_deep_inject_interrupt(&in);
  answered(c);
  if (prelux_deep_inject_stopped(&in) < 0)
    return 1;
  long result = theirs;
  if (theirs >= 0)
  {
    result = prelux_deep_inject_call(&in, SYS_fchdir, (const long[6]){theirs});
    prelux_deep_inject_call(&in, SYS_close, (const long[6]){theirs});
  }
  prelux_deep_inject_end(&in, result);
  return 1;
}

/* ---- exec */

bool prelux_deep_interpreted(const char *path)
{
  char head[HEAD + 1];
  long fd = prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  long n = fd < 0 ? fd : prelux_sys(SYS_pread64, fd, head, HEAD, 0L);
  if (fd >= 0)
    prelux_sys(SYS_close, fd);
  if (n < 3 || memcmp(head, "#!", 2) != 0)
    return false;
  head[n] = 0;
  char *word = head + 2 + strspn(head + 2, " \t");
  word[strcspn(word, " \t\n")] = 0;
  return *word && syscall(PRELUX_DEEP_ROUTE, AT_FDCWD, word, 0) == 1;
}

/* What is executed, as the library would have it executed. Its file is held until it runs: *ret_fd. */
static int find_program(const struct prelux_deep_call *c, struct prelux_deep_program *p, int *ret_fd)
{
  bool named = c->rule->args[0] == 'D' || (int)c->req.data.args[0] == AT_FDCWD;
  long rc = syscall(PRELUX_DEEP_ROUTE, (int)c->args[0], c->texts[0], PRELUX_DEEP_EXEC | (named ? PRELUX_DEEP_NAMED : 0), p);
  if (rc < 0)
    return -errno;
  if (rc == 0)
    rc = *ret_fd = (int)prelux_sys(SYS_openat, AT_FDCWD, p->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  return rc < 0 && rc != -EACCES ? (int)rc : 0; /* what may not be read may yet be executed */
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
static long build(pid_t tid, uint64_t base, uint64_t argv, const struct prelux_deep_program *p, char *block, uint64_t *ret_file)
{
  uint64_t word = 0;
  size_t n = 0, head = 0, texts;
  while (argv && n < AT_MOST / 16 && prelux_deep_read(tid, argv + 8 * n, &word, 8) == 0 && word)
    n++;
  if (n == AT_MOST / 16)
    return -E2BIG;
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

/* Memory that was mapped for an exec in a child that shares its parent's (vfork) is left to the parent, and taken again for its next one. Its last
 * word says that it still is what it was. */
enum { ROOMS = 32, WORD = sizeof(uint64_t) };
static struct room {
  pid_t pid; /* 0: free */
  bool busy;
  uint64_t base, size;
} rooms[ROOMS];
static unsigned next_room;
static pthread_mutex_t rooms_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t mark_of(const struct room *r)
{
  return (r->base + r->size) ^ 0x7072656c75780000;
}

static bool is_there(pid_t pid, const struct room *r)
{
  uint64_t word = 0;
  return prelux_deep_read(pid, r->base + r->size - WORD, &word, WORD) == 0 && word == mark_of(r);
}

static bool take_room(pid_t tid, size_t size, struct room *ret)
{
  pid_t parent = prelux_deep_parent(tid);
  bool found = false;
  pthread_mutex_lock(&rooms_lock);
  for (struct room *r = rooms; r < rooms + ROOMS && !found; r++)
    if (r->pid && r->pid == parent && !r->busy && r->size >= size + WORD)
    {
      found = r->busy = is_there(tid, r);
      r->pid = found ? parent : 0;
      *ret = *r;
    }
  pthread_mutex_unlock(&rooms_lock);
  return found;
}

/* executed: the child has memory of its own now. */
static void leave_room(pid_t parent, const struct room *room, bool was_there, bool executed)
{
  pthread_mutex_lock(&rooms_lock);
  for (struct room *r = rooms; r < rooms + ROOMS && was_there; r++)
    if (r->pid == parent && r->base == room->base)
      r->busy = false;
  struct room *next = &rooms[next_room++ % ROOMS];
  if (!was_there && executed && !next->busy && is_there(parent, room))
    *next = (struct room){.pid = parent, .base = room->base, .size = room->size};
  pthread_mutex_unlock(&rooms_lock);
}

static int map_room(struct prelux_deep_inject *in, size_t size, struct room *ret)
{
  enum { PAGE = 4096 };
  ret->size = (size + WORD + PAGE - 1) & ~(uint64_t)(PAGE - 1);
  long base = prelux_deep_inject_call(in, SYS_mmap, (const long[6]){0, (long)ret->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0});
  if (base < 0 && base > -4096)
    return (int)base;
  ret->base = (uint64_t)base;
  uint64_t mark = mark_of(ret);
  return prelux_deep_write(in->tid, ret->base + ret->size - WORD, &mark, WORD);
}

/* Stopped. The result of its exec. */
static long execute(struct prelux_deep_inject *in, const struct prelux_deep_call *c, const struct prelux_deep_program *p)
{
  const __u64 *a = c->req.data.args + (c->rule->args[0] == 'd' ? 2 : 1);
  char *block = malloc(AT_MOST);
  if (!block)
    return -ENOMEM;
  uint64_t file;
  struct room room;
  pid_t parent = prelux_deep_parent(in->tid);
  long size = build(in->tid, 0, a[0], p, block, &file);
  bool was_there = size >= 0 && take_room(in->tid, (size_t)size, &room);
  long rc = size < 0 ? size : was_there ? 0 : map_room(in, (size_t)size, &room);
  if (rc < 0)
  {
    free(block);
    return rc;
  }
  rc = build(in->tid, room.base, a[0], p, block, &file) == size ? prelux_deep_write(in->tid, room.base, block, (size_t)size) : -EFAULT;
  free(block);
  if (rc == 0)
    rc = prelux_deep_inject_call(in, SYS_execve, (const long[6]){(long)file, (long)room.base, (long)a[1], 0, 0, PRELUX_DEEP_PASS});
  if (!in->exec && !was_there)
    prelux_deep_inject_call(in, SYS_munmap, (const long[6]){(long)room.base, (long)room.size});
  leave_room(parent, &room, was_there, in->exec);
  return rc;
}

long prelux_deep_become(struct prelux_deep_call *c, void (*answered)(struct prelux_deep_call *c))
{
  struct prelux_deep_inject in;
  int fd = -1;
  struct prelux_deep_program *p = malloc(sizeof *p);
  if (!p)
    return -ENOMEM;
  long result = find_program(c, p, &fd);
  if (result == 0)
    result = prelux_deep_inject_begin(&in, (pid_t)c->req.pid);
  if (result == 0)
  {
    prelux_deep_inject_interrupt(&in);
    answered(c);
    result = 1;
    if (prelux_deep_inject_stopped(&in) == 0)
      prelux_deep_inject_end(&in, execute(&in, c, p));
  }
  if (fd >= 0)
    close(fd);
  free(p);
  return result;
}
