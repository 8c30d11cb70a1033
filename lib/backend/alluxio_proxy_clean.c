/* Backend `alluxio-proxy`, writing: hidden names, and what the dead leave.
 *
 * `.prelux~put-OWNER` is a file being sent, `.prelux~old-OWNER` a folder with a file that is being replaced. OWNER is
 * HOST-PID-START-NUMBER, HOST a hash of the boot and the space of process numbers: whether such a process lives can be
 * told by whoever shares them. Of other hosts' what is older than a time that the caller names is nobody's.
 *
 * A dead `put` is removed. The file in a dead `old` goes back to its name if that is free (its owner died before the new
 * one was there), else it is removed: the new one is there. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/alluxio_proxy.h"
#include "lib/base/os.h"

#define PUT PRELUX_PROXY_HIDDEN "put-"
#define OLD PRELUX_PROXY_HIDDEN "old-"
#define NAMES_MAX 100000u /* hidden ones of one folder */

bool prelux_proxy_hidden(const char *path)
{
  for (const char *name = path; name; name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL)
    if (strncmp(name, PRELUX_PROXY_HIDDEN, sizeof(PRELUX_PROXY_HIDDEN) - 1) == 0)
      return true;
  return false;
}

char *prelux_proxy_join(const char *folder, const char *name)
{
  char *path;
  return asprintf(&path, "%s%s%s", folder, folder[0] ? "/" : "", name) < 0 ? NULL : path;
}

/* Owners */

static void read_text(const char *path, char *out, size_t cap)
{
  int fd = prelux_os.open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : prelux_os.read(fd, out, cap - 1);
  if (fd >= 0)
    prelux_os.close(fd);
  out[n > 0 ? n : 0] = 0;
}

static uint64_t this_host(void)
{
  struct stat space = {0};
  char text[128];
  read_text("/proc/sys/kernel/random/boot_id", text, 64);
  if (prelux_os.stat("/proc/self/ns/pid", &space) == 0)
    snprintf(text + strlen(text), 48, "%" PRIu64, (uint64_t)space.st_ino);
  return XXH3_64bits(text, strlen(text));
}

/* When the process began, in ticks since boot; 0: there is none. */
static uint64_t started(unsigned pid)
{
  char path[40], text[1024];
  snprintf(path, sizeof(path), "/proc/%u/stat", pid);
  read_text(path, text, sizeof(text));
  const char *p = strrchr(text, ')'); /* field 2 may hold anything; 22 is wanted */
  for (int field = 2; p && field < 22; field++)
    p = strchr(p + 1, ' ');
  return p ? strtoull(p, NULL, 10) : 0;
}

char *prelux_proxy_beside(const char *path, const char *kind)
{
  static atomic_uint number;
  char *made, owner[96];
  const char *slash = strrchr(path, '/');
  int parent = slash ? (int)(slash - path + 1) : 0;
  unsigned pid = (unsigned)getpid();
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now); /* a backend that is loaded anew counts from 0 again */
  snprintf(owner, sizeof(owner), "%016" PRIx64 "-%x-%" PRIx64 "-%llx.%x", this_host(), pid, started(pid),
           (unsigned long long)now.tv_nsec, atomic_fetch_add(&number, 1));
  return asprintf(&made, "%.*s%s%s-%s", parent, path, PRELUX_PROXY_HIDDEN, kind, owner) < 0 ? NULL : made;
}

static bool is_dead(const char *name, int64_t mtime_ns, uint64_t idle_s)
{
  uint64_t host, start;
  unsigned pid;
  struct timespec now;
  if (sscanf(name + sizeof(PUT) - 1, "%16" SCNx64 "-%x-%16" SCNx64, &host, &pid, &start) == 3 && host == this_host())
    return started(pid) != start;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec - mtime_ns / 1000000000 >= (int64_t)idle_s;
}

/* Sweeping one folder */

struct sweep
{
  struct prelux_proxy *p;
  const char *folder;
  uint64_t idle_s;
  char **names;
  size_t n;
};

static int keep_name(struct sweep *s, const char *name, size_t len)
{
  if (s->n == NAMES_MAX)
    return -E2BIG;
  if ((s->n & (s->n + 1)) == 0)
  {
    char **more = realloc(s->names, (2 * s->n + 2) * sizeof(*more));
    if (!more)
      return -ENOMEM;
    s->names = more;
  }
  s->names[s->n] = strndup(name, len);
  return s->names[s->n] ? (int)(s->n++, 0) : -ENOMEM;
}

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct sweep *s = arg;
  bool ours = strncmp(name, PUT, sizeof(PUT) - 1) == 0 || strncmp(name, OLD, sizeof(OLD) - 1) == 0;
  return ours && is_dead(name, obj->mtime_ns, s->idle_s) ? keep_name(s, name, len) : 0;
}

static int on_any_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return keep_name(arg, name, len);
}

static void names_free(struct sweep *s)
{
  while (s->n)
    free(s->names[--s->n]);
  free(s->names);
  s->names = NULL;
}

static int remove_path(struct prelux_proxy *p, const char *path)
{
  struct prelux_proxy_info it;
  int rc = prelux_proxy_status(p, path, &it, NULL);
  return rc == 0 ? prelux_proxy_drop(p, path, it.id, NULL) : rc;
}

/* Back to its name, or away. */
static int decide(struct prelux_proxy *p, const char *folder, const char *aside, const char *name)
{
  struct prelux_proxy_info it;
  char *from = prelux_proxy_join(aside, name), *to = prelux_proxy_join(folder, name);
  int rc = from && to ? prelux_proxy_status(p, from, &it, NULL) : -ENOMEM;
  if (rc == 0)
    rc = prelux_proxy_move(p, from, it.id, to, NULL);
  if (rc == -EEXIST)
    rc = prelux_proxy_drop(p, from, it.id, NULL);
  free(from);
  free(to);
  return rc;
}

static int sweep_one(const struct sweep *s, const char *name)
{
  char *path = prelux_proxy_join(s->folder, name);
  struct sweep inside = {.p = s->p, .folder = path};
  int rc = path ? 0 : -ENOMEM;
  if (rc == 0 && strncmp(name, OLD, sizeof(OLD) - 1) == 0)
    rc = prelux_proxy_each(s->p, path, on_any_name, &inside, NULL);
  for (size_t i = 0; i < inside.n && rc == 0; i++)
    rc = decide(s->p, s->folder, path, inside.names[i]);
  if (rc == 0)
    rc = remove_path(s->p, path);
  names_free(&inside);
  free(path);
  return rc;
}

static int sweep_folder(struct prelux_proxy *p, const char *folder, uint64_t idle_s, struct prelux_problem *why)
{
  struct sweep s = {.p = p, .folder = folder, .idle_s = idle_s};
  int gone = 0, rc = prelux_proxy_each(p, folder, on_name, &s, why);
  for (size_t i = 0; i < s.n && rc == 0; i++)
    gone += sweep_one(&s, s.names[i]) == 0;
  names_free(&s);
  return rc < 0 ? rc : gone;
}

/* The folders below, deepest last. */
static int on_folder(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return obj->type == PRELUX_DIR && !prelux_proxy_hidden(name) ? keep_name(arg, name, len) : 0;
}

static int sweep_tree(struct prelux_proxy *p, const char *folder, uint64_t idle_s, int depth, struct prelux_problem *why)
{
  struct sweep s = {.p = p, .folder = folder};
  int gone = sweep_folder(p, folder, idle_s, why);
  int rc = gone < 0 ? gone : depth == 0 ? 0 : prelux_proxy_each(p, folder, on_folder, &s, why);
  for (size_t i = 0; i < s.n && rc == 0; i++)
  {
    char *path = prelux_proxy_join(folder, s.names[i]);
    int more = path ? sweep_tree(p, path, idle_s, depth - 1, why) : -ENOMEM;
    gone += more > 0 ? more : 0;
    rc = more < 0 && more != -ENOENT && more != -ENOTDIR ? more : 0;
    free(path);
  }
  names_free(&s);
  return rc < 0 ? rc : gone;
}

int prelux_proxy_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct prelux_proxy *p = (struct prelux_proxy *)b;
  struct prelux_proxy_info it;
  int rc = prelux_proxy_writable(p, why);
  if (rc == 0)
    rc = prelux_proxy_status(p, path, &it, why);
  if (rc == 0 && it.obj.type == PRELUX_DIR)
    return sweep_tree(p, path, idle_s, 64, why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  char *slash, *parent = strdup(path);
  if (!parent)
    return prelux_problem(why, ENOMEM, "no memory for a name");
  slash = strrchr(parent, '/');
  *(slash ? slash : parent) = 0;
  rc = sweep_folder(p, parent, idle_s, why);
  free(parent);
  return rc == -ENOENT ? 0 : rc;
}
