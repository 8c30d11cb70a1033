/* From the program that was asked for to the file that the kernel is given. */
#include "shim/exec.h"

#include <sys/mman.h>

#include "shim/aside.h"
#include "shim/tell.h"

enum { SCRIPTS_MAX = 4 };

void *prelux_room_take(struct prelux_room *room, size_t bytes)
{
  bytes = (bytes + 15) & ~(size_t)15;
  if (bytes <= sizeof(room->bytes) - room->used) {
    void *p = room->bytes + room->used;
    room->used += bytes;
    return p;
  }
  if (room->n_maps == sizeof(room->maps) / sizeof(room->maps[0])) return NULL;
  long at = prelux_sys(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (at < 0 && at > -4096) return NULL;
  room->maps[room->n_maps].at = (void *)at;
  room->maps[room->n_maps++].len = bytes;
  return (void *)at;
}

void prelux_room_release(struct prelux_room *room)
{
  while (room->n_maps > 0) {
    room->n_maps--;
    prelux_sys(SYS_munmap, room->maps[room->n_maps].at, room->maps[room->n_maps].len);
  }
  room->used = 0;
}

struct head {
  int at;
  const char *path;
  char *out;
};

static long read_head(void *arg)
{
  const struct head *h = arg;
  long fd = *h->path ? prelux_sys(SYS_openat, h->at, h->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : h->at;
  if (fd < 0) return fd;
  long n = prelux_sys(SYS_pread64, fd, h->out, PRELUX_HEAD, 0L);
  if (*h->path) prelux_sys(SYS_close, fd);
  return n;
}

long prelux_exec_head(int at, const char *path, char head[PRELUX_HEAD + 1])
{
  struct head h = {.at = at, .path = path, .out = head};
  if (prelux_no_pointer(path)) return -EFAULT;
  long n = *path ? prelux_aside(read_head, &h) : read_head(&h);
  if (n >= 0) head[n] = 0;
  return n;
}

static bool is_blank(char c)
{
  return c == ' ' || c == '\t';
}

/* As the kernel's load_script(). */
bool prelux_exec_script(char *head, long n, char **ret_interpreter, char **ret_argument)
{
  if (n < 3 || head[0] != '#' || head[1] != '!') return false;
  char *p = head + 2, *end = memchr(p, '\n', (size_t)n - 2);
  bool cut = !end && n == PRELUX_HEAD;
  if (!end) end = head + n;
  while (p < end && is_blank(*p)) p++;
  while (end > p && is_blank(end[-1])) end--;
  *end = 0;
  if (p == end) return false;
  *ret_interpreter = p;
  while (*p && !is_blank(*p)) p++;
  if (!*p && cut) return false; /* the interpreter's name may go on */
  if (*p) *p++ = 0;
  while (is_blank(*p)) p++;
  *ret_argument = *p ? p : NULL;
  return true;
}

static char *keep(struct prelux_room *room, const char *text)
{
  size_t n = strlen(text) + 1;
  char *p = prelux_room_take(room, n);

  return p ? memcpy(p, text, n) : NULL;
}

/* argv of the interpreter: itself, its argument, the script, the script's arguments. */
static int script_argv(struct prelux_target *t, const char *script, const char *interpreter, const char *argument)
{
  size_t n = 0, at = 0;

  while (t->argv && t->argv[n]) n++;
  char **argv = prelux_room_take(t->room, (n + 4) * sizeof(*argv));
  if (!argv) return -ENOMEM;
  argv[at++] = keep(t->room, interpreter);
  if (argument) argv[at++] = keep(t->room, argument);
  argv[at++] = keep(t->room, script);
  for (size_t i = 0; i < at; i++)
    if (!argv[i]) return -ENOMEM;
  for (size_t i = 1; i < n; i++) argv[at++] = t->argv[i];
  argv[at] = NULL;
  t->argv = argv;
  return 0;
}

/* t->r is MAPPED. 0: t is a program in the cache tree; 1: a script, *path is its interpreter; -errno. */
static int take_mapped(struct prelux_target *t, int dirfd, const char **path)
{
  struct prelux_attr attr;
  char head[PRELUX_HEAD + 1], *interpreter, *argument;
  int rc = prelux_real_path(&t->r, "exec", t->cache, sizeof(t->cache), &attr);

  if (rc) return rc;
  if (attr.type == PRELUX_DIR) return -EACCES;
  if (!(t->r.mapping->flags & PRELUX_MAPPING_EXEC) && !(prelux_shown_mode(t->r.mapping, &attr) & 0111)) return -EACCES;
  t->at = AT_FDCWD;
  t->path = t->cache;
  long n = prelux_exec_head(AT_FDCWD, t->cache, head);
  if (n < 0) return (int)n;
  if (prelux_exec_script(head, n, &interpreter, &argument)) {
    bool by_cwd = t->moves || dirfd == AT_FDCWD || **path == '/';
    rc = script_argv(t, by_cwd ? *path : t->r.logical, interpreter, argument);
    *path = t->argv[0];
    return rc ? rc : 1;
  }
  if (n > 4 && memcmp(head, "\177ELF", 4) == 0) prelux_elf_fill(&t->r, t->cache);
  return 0;
}

/* Follows scripts below prefixes from where t->r says `path` leads. */
static int follow(struct prelux_target *t, int dirfd, const char *path, int where)
{
  for (int scripts = 0;; scripts++) {
    if (where < 0) return where;
    if (where != PRELUX_MAPPED) {
      t->at = t->r.at;
      t->path = t->r.use;
      return 0;
    }
    int rc = take_mapped(t, dirfd, &path);
    if (rc <= 0) return rc;
    if (scripts == SCRIPTS_MAX) return -ELOOP;
    dirfd = AT_FDCWD;
    where = prelux_route(dirfd, path, 0, &t->r);
  }
}

int prelux_exec_interpreter(struct prelux_target *t, const char *script)
{
  char head[PRELUX_HEAD + 1], *interpreter, *argument;
  long n = prelux_exec_head(t->at, t->path, head);

  if (n < 0 || !prelux_exec_script(head, n, &interpreter, &argument)) return 0;
  int where = prelux_route(AT_FDCWD, interpreter, 0, &t->r);
  if (where == PRELUX_UNMAPPED && prelux_sys(SYS_faccessat, AT_FDCWD, interpreter, F_OK) == -ENOENT) {
    errno = ENOENT;
    if (prelux_route_again(AT_FDCWD, interpreter, 0, &t->r)) where = t->r.where;
  }
  if (where == PRELUX_UNMAPPED || where == PRELUX_ANCESTOR) return 0;
  if (where < 0) return where;
  int rc = script_argv(t, script, interpreter, argument);
  if (rc == 0) rc = follow(t, AT_FDCWD, t->argv[0], where);
  return rc ? rc : 1;
}

int prelux_exec_resolve(struct prelux_target *t, int dirfd, const char *path, char *const argv[])
{
  t->argv = argv;
  int where = prelux_route(dirfd, path, 0, &t->r);
  int rc = follow(t, dirfd, path, where);
  /* A real folder behind a prefix may hold an interpreter: libc must not get to it. */
  if (rc == 0 && where == PRELUX_UNMAPPED && prelux_state.table && prelux_state.table->n_roots > 0) {
    rc = prelux_exec_interpreter(t, path);
    if (rc == 0) {
      prelux_route(dirfd, path, 0, &t->r);
      rc = follow(t, dirfd, path, t->r.where);
    } else if (rc > 0) {
      rc = 0;
    }
  }
  return rc;
}

/* A file that was written just now: the daemon may not have closed its own copy of the descriptor yet that the writer got from it. It has when
 * it answers. */
__attribute__((noinline)) static bool let_go(const char *cache)
{
  uint64_t ino;
  uint32_t mapping;
  struct prelux_attr attr;
  struct prelux_route r;
  return prelux_staged_path(cache, &ino, &mapping) && prelux_tell_whose(mapping, ino, "exec", &attr, &r) >= 0;
}

int prelux_exec_again(struct prelux_target *t, int dirfd, const char *path, char *const argv[], int err)
{
  if (err == ETXTBSY && t->path == t->cache) return let_go(t->cache);
  if (err != ENOENT && err != ENOTDIR && err != EACCES) return 0;
  if (t->path == t->cache && err == ENOENT && prelux_sys(SYS_faccessat, AT_FDCWD, t->path, F_OK) == -ENOENT) {
    int rc = prelux_exec_resolve(t, dirfd, path, argv); /* what was just written has been sent, and lies elsewhere now */
    return rc ? rc : 1;
  }
  if (t->path == t->cache || t->argv != argv) return 0;
  errno = err;
  if (prelux_route_again(dirfd, path, 0, &t->r)) {
    int rc = follow(t, dirfd, path, t->r.where);
    return rc ? rc : 1;
  }
  return prelux_exec_interpreter(t, path);
}
