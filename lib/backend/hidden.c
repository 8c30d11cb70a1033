#include "lib/backend/hidden.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/os.h"

#define PUT PRELUX_HIDDEN "put-"
#define OLD PRELUX_HIDDEN "old-"
#define NAMES_MAX 100000u /* hidden ones of one folder */
#define DEPTH_MAX 64
#define LEFT_MAX 1024u

bool prelux_hidden(const char *path)
{
  for (const char *name = path; name; name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL)
    if (strncmp(name, PRELUX_HIDDEN, sizeof(PRELUX_HIDDEN) - 1) == 0)
      return true;
  return false;
}

char *prelux_hidden_join(const char *folder, const char *name)
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

char *prelux_hidden_beside(const char *path, const char *kind)
{
  static atomic_uint number;
  char *ret, owner[96];
  const char *slash = strrchr(path, '/');
  int parent = slash ? (int)(slash - path + 1) : 0;
  unsigned pid = (unsigned)getpid();
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now); /* a backend that is loaded anew counts from 0 again; and see newest_first */
  snprintf(owner, sizeof(owner), "%016" PRIx64 "-%x-%" PRIx64 "-%llx.%x", this_host(), pid, started(pid),
           (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec, atomic_fetch_add(&number, 1));
  return asprintf(&ret, "%.*s%s%s-%s", parent, path, PRELUX_HIDDEN, kind, owner) < 0 ? NULL : ret;
}

/* Left by this process, which lives on */

static struct
{
  pthread_mutex_t lock;
  struct
  {
    uint64_t name, folder; /* hashes; 0: none */
  } rows[LEFT_MAX];
  unsigned next;
  atomic_uint n; /* rows that were ever taken */
} left = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *last_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static uint64_t folder_of(const char *path)
{
  return XXH3_64bits(path, (size_t)(last_name(path) - path)) | 1;
}

void prelux_hidden_leave(const char *path)
{
  const char *name = last_name(path);
  pthread_mutex_lock(&left.lock);
  left.rows[left.next].name = XXH3_64bits(name, strlen(name)) | 1;
  left.rows[left.next].folder = folder_of(path);
  left.next = (left.next + 1) % LEFT_MAX;
  atomic_fetch_add(&left.n, 1);
  pthread_mutex_unlock(&left.lock);
}

/* By the name, if there is one, else by the folder; forget: they are taken out. */
static bool look_up(const char *name, uint64_t folder, bool forget)
{
  uint64_t wanted = name ? XXH3_64bits(name, strlen(name)) | 1 : 0;
  bool found = false;
  if (atomic_load(&left.n) == 0)
    return false;
  pthread_mutex_lock(&left.lock);
  for (unsigned i = 0; i < LEFT_MAX; i++)
    if (name ? left.rows[i].name == wanted : left.rows[i].folder == folder)
    {
      found = true;
      if (forget)
        left.rows[i].name = left.rows[i].folder = 0;
    }
  pthread_mutex_unlock(&left.lock);
  return found;
}

/* While others put files there a free name may be one that is just being replaced: nothing old may come into that gap. */
static __thread enum { ALL, TAKEN_ONLY, SKIPPED } tidying;

void prelux_hidden_tidy(struct prelux_backend *b, const char *path)
{
  if (!look_up(NULL, folder_of(path), false))
    return;
  tidying = TAKEN_ONLY;
  bool all = b->ops->write->clean(b, path, PRELUX_HIDDEN_IDLE_S, NULL) >= 0 && tidying != SKIPPED;
  tidying = ALL;
  if (all)
    look_up(NULL, folder_of(path), true);
}

/* When it was made, in ns since the epoch; 0: it does not say. */
static uint64_t made(const char *name)
{
  uint64_t ns;
  return sscanf(name + sizeof(PUT) - 1, "%*16[0-9a-f]-%*[0-9a-f]-%*[0-9a-f]-%16" SCNx64, &ns) == 1 ? ns : 0;
}

bool prelux_hidden_dead(const char *name, int64_t mtime_ns, uint64_t idle_s)
{
  uint64_t host, start;
  unsigned pid;
  struct timespec now;
  if (sscanf(name + sizeof(PUT) - 1, "%16" SCNx64 "-%x-%16" SCNx64, &host, &pid, &start) == 3 && host == this_host())
    return started(pid) != start || (pid == (unsigned)getpid() && look_up(name, 0, false));
  clock_gettime(CLOCK_REALTIME, &now);
  if (mtime_ns == 0) /* folders of object stores have none */
    mtime_ns = (int64_t)made(name);
  return (int64_t)now.tv_sec - mtime_ns / 1000000000 >= (int64_t)idle_s;
}

/* Sweeping one folder */

struct sweep
{
  const struct prelux_hidden_ops *ops;
  void *arg; /* of ops */
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
  return ours && prelux_hidden_dead(name, obj->mtime_ns, s->idle_s) ? keep_name(s, name, len) : 0;
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

/* Back to its name, or away. */
static int decide(const struct sweep *s, const char *aside, const char *name)
{
  char *from = prelux_hidden_join(aside, name), *to = prelux_hidden_join(s->folder, name);
  uint8_t type;
  int rc = from && to ? 0 : -ENOMEM;
  if (rc == 0 && tidying != ALL)
  {
    rc = s->ops->type(s->arg, to, &type, NULL);
    rc = rc == 0 ? -EEXIST : rc;
    if (rc != -EEXIST)
      tidying = SKIPPED;
  }
  else if (rc == 0)
    rc = s->ops->move(s->arg, from, to);
  if (rc == -EEXIST)
    rc = s->ops->drop(s->arg, from);
  free(from);
  free(to);
  return rc;
}

static int sweep_one(const struct sweep *s, const char *name)
{
  char *path = prelux_hidden_join(s->folder, name);
  struct sweep inside = {.folder = path};
  int rc = path ? 0 : -ENOMEM;
  if (rc == 0 && strncmp(name, OLD, sizeof(OLD) - 1) == 0)
    rc = s->ops->each(s->arg, path, on_any_name, &inside, NULL);
  for (size_t i = 0; i < inside.n && rc == 0; i++)
    rc = decide(s, path, inside.names[i]);
  if (rc == 0)
    rc = s->ops->drop(s->arg, path);
  names_free(&inside);
  free(path);
  return rc;
}

/* Of several who died while they replaced one file, only the last one's old file is the one that was there last. */
static int newest_first(const void *a, const void *b)
{
  uint64_t x = made(*(char *const *)a), y = made(*(char *const *)b);
  return x < y ? 1 : x > y ? -1 : 0;
}

static int sweep_folder(const struct sweep *of, const char *folder, struct prelux_problem *why)
{
  struct sweep s = {.ops = of->ops, .arg = of->arg, .folder = folder, .idle_s = of->idle_s};
  int gone = 0, rc = s.ops->each(s.arg, folder, on_name, &s, why);
  if (s.n)
    qsort(s.names, s.n, sizeof(*s.names), newest_first);
  for (size_t i = 0; i < s.n && rc == 0; i++)
    gone += sweep_one(&s, s.names[i]) == 0;
  names_free(&s);
  return rc < 0 ? rc : gone;
}

/* The folders below, deepest last. */
static int on_folder(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return obj->type == PRELUX_DIR && !prelux_hidden(name) ? keep_name(arg, name, len) : 0;
}

static int sweep_tree(const struct sweep *of, const char *folder, int depth, struct prelux_problem *why)
{
  struct sweep s = {.folder = folder};
  int gone = sweep_folder(of, folder, why);
  int rc = gone < 0 ? gone : depth == 0 ? 0 : of->ops->each(of->arg, folder, on_folder, &s, why);
  for (size_t i = 0; i < s.n && rc == 0; i++)
  {
    char *path = prelux_hidden_join(folder, s.names[i]);
    int more = path ? sweep_tree(of, path, depth - 1, why) : -ENOMEM;
    gone += more > 0 ? more : 0;
    rc = more < 0 && more != -ENOENT && more != -ENOTDIR ? more : 0;
    free(path);
  }
  names_free(&s);
  return rc < 0 ? rc : gone;
}

int prelux_hidden_clean(const struct prelux_hidden_ops *ops, void *arg, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  const struct sweep s = {.ops = ops, .arg = arg, .idle_s = idle_s};
  uint8_t type = PRELUX_FILE;
  int rc = ops->type(arg, path, &type, why);
  if (rc == 0 && type == PRELUX_DIR)
    return sweep_tree(&s, path, DEPTH_MAX, why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  char *slash, *parent = strdup(path);
  if (!parent)
    return prelux_problem(why, ENOMEM, "no memory for a name");
  slash = strrchr(parent, '/');
  *(slash ? slash : parent) = 0;
  rc = sweep_folder(&s, parent, why);
  free(parent);
  return rc == -ENOENT ? 0 : rc;
}
