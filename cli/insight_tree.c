/* The process tree of a run, by looks at /proc: no privilege, nothing that a program could notice.
 *
 * A program that the library is in says so itself, and one that such a program executes is noted before (shim/report.c). What is left are the
 * children of programs that were not reached: a static shell's, say. Those that live through a look are found here by their parents' lists of
 * children; a process stays known when its parent dies. What lives shorter is seen by nobody, and the report says so. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/insight.h"

#define SURE_AFTER 3       /* looks: a program that has just been executed may not have loaded the library yet */
#define LOOKS_AT_MAPS 64u  /* then once in so many */
#define IMAGES_MAX 65536u
#define ENVIRONMENT_MAX (1u << 20)

int64_t prelux_tree_clock(void)
{
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* A file of /proc, NUL-terminated: its length, or -1. */
static ssize_t slurp(pid_t pid, const char *name, char *out, size_t cap)
{
  char path[64];
  ssize_t n = -1, got = 0;
  snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  while ((size_t)got < cap - 1 && (n = read(fd, out + got, cap - 1 - (size_t)got)) > 0)
    got += n;
  close(fd);
  out[got] = 0;
  return n < 0 ? -1 : got;
}

/* When it was started, on CLOCK_BOOTTIME, and by whom; -1: it is gone, or dead. */
static int64_t began(pid_t pid, int *ret_parent)
{
  char text[1024], state;
  unsigned long long ticks;
  if (slurp(pid, "stat", text, sizeof text) <= 0 || !strrchr(text, ')'))
    return -1;
  if (sscanf(strrchr(text, ')') + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, ret_parent, &ticks) != 3)
    return -1;
  return state == 'Z' || state == 'X' ? -1 : (int64_t)(ticks * (1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK)));
}

/* 32-bit programs may have an empty library of the same name, by $LIB. */
static bool is_narrow(pid_t pid)
{
  char head[8] = "";
  return slurp(pid, "exe", head, 6) == 5 && head[4] == ELFCLASS32;
}

enum look { ABSENT, PRESENT, HIDDEN, DYING };

/* Is the library in its memory? One that is about to end has none any more. */
static enum look has_library(pid_t pid)
{
  char path[64], *line = NULL;
  size_t cap = 0;
  bool found = false, any = false;
  snprintf(path, sizeof path, "/proc/%ld/maps", (long)pid);
  FILE *f = fopen(path, "re");
  if (!f)
    return errno == EACCES || errno == EPERM ? HIDDEN : DYING;
  while (!found && getline(&line, &cap, f) > 0)
  {
    any = true;
    found = strstr(line, "/libprelux.so") != NULL;
  }
  free(line);
  fclose(f);
  return found ? PRESENT : any ? ABSENT : DYING;
}

/* What its environment has to do with it; "": nothing that can be seen. */
static const char *by_environment(pid_t pid)
{
  static char text[ENVIRONMENT_MAX];
  ssize_t n = slurp(pid, "environ", text, sizeof text);
  bool preload = false, off = false;
  if (n < 0)
    return "";
  for (const char *p = text; p < text + n; p += strlen(p) + 1)
  {
    preload |= strncmp(p, "LD_PRELOAD=", 11) == 0 && strstr(p, "libprelux.so");
    off |= strncmp(p, "PRELUX_OFF=", 11) == 0 && p[11] && strcmp(p + 11, "0") != 0;
  }
  if (off)
    return "PRELUX_OFF is set in its environment";
  return preload ? "" : "LD_PRELOAD is not in its environment: a program that the library is not in has started it without (env -i, a static shell, ...)";
}

static void say_why(struct prelux_tree_image *i)
{
  struct prelux_cli_finding finding;
  char exe[64];
  snprintf(exe, sizeof exe, "/proc/%ld/exe", (long)i->pid);
  prelux_cli_inspect_as("", exe, &finding);
  if (!finding.ok)
    snprintf(i->why, sizeof i->why, "%s", finding.text + strspn(finding.text, " "));
  else
    snprintf(i->why, sizeof i->why, "%s", i->looks > 1 ? by_environment(i->pid) : ""); /* it may not have one yet */
}

static struct prelux_tree_image *add(struct prelux_tree *t, pid_t pid, pid_t parent, int64_t began_ns, const char *exe)
{
  if (t->n == IMAGES_MAX)
    return NULL;
  if (t->n == t->cap)
  {
    size_t cap = t->cap ? t->cap * 2 : 64;
    struct prelux_tree_image *more = realloc(t->images, cap * sizeof *more);
    if (!more)
      return NULL;
    t->images = more;
    t->cap = cap;
  }
  struct prelux_tree_image *i = &t->images[t->n++];
  *i = (struct prelux_tree_image){.pid = pid, .parent = parent, .began_ns = began_ns, .seen_ns = prelux_tree_clock()};
  memcpy(i->exe, exe, strlen(exe) + 1);
  return i;
}

static struct prelux_tree_image *find(struct prelux_tree *t, pid_t pid)
{
  for (size_t k = t->n; k > 0; k--)
    if (t->images[k - 1].pid == pid && !t->images[k - 1].gone)
      return &t->images[k - 1];
  return NULL;
}

/* What is read of a process that ends meanwhile means nothing. */
static bool judge(struct prelux_tree_image *i)
{
  struct prelux_tree_image was = *i;
  enum look in = has_library(i->pid);
  i->reached = in == PRESENT && !is_narrow(i->pid);
  if (i->reached)
    return true;
  if (in != DYING)
    say_why(i);
  if (in != DYING && has_library(i->pid) != DYING)
    return true;
  *i = was;
  i->gone = true;
  return false;
}

/* One look at one process. False: it is gone. */
static bool look(struct prelux_tree *t, pid_t pid)
{
  char link[64], path[PATH_MAX];
  struct prelux_tree_image *i = find(t, pid);
  int parent = 0;
  int64_t when = began(pid, &parent);
  snprintf(link, sizeof link, "/proc/%ld/exe", (long)pid);
  ssize_t n = when < 0 ? -1 : readlink(link, path, sizeof path - 1);
  const char *exe = "(another user's, or set-uid)";
  if (n < 0 && errno != EACCES && errno != EPERM)
    when = -1; /* it is about to end */
  if (n > 0)
  {
    path[n] = 0;
    exe = n < PRELUX_TREE_EXE ? path : path + n - PRELUX_TREE_EXE + 1;
  }
  if (i && (when < 0 || when != i->began_ns))
  {
    i->gone = true;
    i = NULL;
  }
  if (when < 0)
    return false;
  if (i && strcmp(i->exe, exe) != 0)
  {
    i->gone = true;
    i = NULL;
  }
  if (!i && !(i = add(t, pid, parent, when, exe)))
    return true;
  i->looks++;
  if (i->reached || (t->own && strcmp(exe, t->own) == 0) || (i->looks > SURE_AFTER && i->looks % LOOKS_AT_MAPS != 0))
    return true;
  return judge(i);
}

static void look_below(struct prelux_tree *t, pid_t pid, int depth);

static void children(struct prelux_tree *t, pid_t pid, const char *thread, int depth)
{
  char name[64], text[32768];
  snprintf(name, sizeof name, "task/%.20s/children", thread);
  if (slurp(pid, name, text, sizeof text) <= 0)
    return;
  for (char *p = text, *end; *p; p = end)
  {
    long child = strtol(p, &end, 10);
    if (end == p)
      break;
    if (!find(t, (pid_t)child))
      look_below(t, (pid_t)child, depth + 1);
    while (*end == ' ')
      end++;
  }
}

static void threads(struct prelux_tree *t, pid_t pid, int depth)
{
  char path[64];
  snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
  DIR *d = opendir(path);
  const struct dirent *e;
  while (d && (e = readdir(d)))
    if (e->d_name[0] != '.')
      children(t, pid, e->d_name, depth);
  if (d)
    closedir(d);
}

static void look_below(struct prelux_tree *t, pid_t pid, int depth)
{
  if (depth < 64 && look(t, pid))
    threads(t, pid, depth);
}

/* What is gone and was reached is in the library's own counters. */
static void forget(struct prelux_tree *t)
{
  size_t kept = 0;
  for (size_t k = 0; k < t->n; k++)
    if (!t->images[k].gone || !(t->images[k].reached || (t->own && strcmp(t->images[k].exe, t->own) == 0)))
      t->images[kept++] = t->images[k];
  t->n = kept;
}

void prelux_tree_look(struct prelux_tree *t, pid_t root)
{
  forget(t);
  size_t n = t->n;
  if (n == 0)
    look_below(t, root, 0);
  for (size_t k = 0; k < n; k++)
    if (!t->images[k].gone)
      look_below(t, t->images[k].pid, 0);
}

size_t prelux_tree_alive(const struct prelux_tree *t)
{
  size_t alive = 0;
  for (size_t k = 0; k < t->n; k++)
    alive += !t->images[k].gone;
  return alive;
}

void prelux_tree_release(struct prelux_tree *t)
{
  free(t->images);
  *t = (struct prelux_tree){.own = t->own};
}
