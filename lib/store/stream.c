/* Files handed out while they come in (`stream_above`; include/prelux/stream.h). A flow is the fill of such a file: it lies on the stack of
 * who fills, and in a list, by which others who open the object meanwhile find it.
 *
 * Who opens gets no descriptor of the file itself, but one on the inode of a socket that nobody listens on, opened by O_PATH: whatever reads it by
 * the kernel fails, also after it was inherited, sent, or opened again by /proc (ENXIO). So a program that the library does not see reads
 * nothing, and never a hole. The file itself has the length of what was written: there are no zeros in it either.
 *
 * Only bytes of which it is sure that they are of one version are shown: from backends whose reads are conditional on it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/store/attrs.h"
#include "lib/store/partial.h"

#define SECOND (4u << 20) /* bytes from the beginning that a reader gets who needs more than the first ones */

static void front_name(const char *name, char ret[48])
{
  snprintf(ret, 48, "%s" PRELUX_STREAM_SUFFIX, name);
}

static void tell(struct prelux_stream *m)
{
  atomic_fetch_add(&m->seq, 1);
  syscall(SYS_futex, &m->seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* A descriptor by which nothing can be read. */
static int make_mark(struct prelux_store *s)
{
  char name[48];
  snprintf(name, sizeof name, "%016llx.mark", (unsigned long long)atomic_fetch_add(&s->next_name, 1));
  if (prelux_os.mknodat(s->fill_fd, name, S_IFSOCK | 0600, 0) < 0)
    return -errno;
  int fd = prelux_os.openat(s->fill_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  int rc = fd < 0 ? -errno : fd;
  prelux_os.unlinkat(s->fill_fd, name, 0);
  return rc;
}

uint64_t prelux_flow_version(const struct prelux_object *obj)
{
  uint64_t hash = obj->version[0] ? prelux_store_hash(obj->version, strlen(obj->version), obj->size) : 0;
  return obj->version[0] && !hash ? 1 : hash;
}

/* Answers who asked by the file that is coming in. */
static int answer(const struct prelux_view *v, const char *object, const struct prelux_known *known, const char *name, uint64_t version)
{
  struct prelux_early *e = v->early;
  struct prelux_store *s = v->tree->store;
  struct prelux_known k = *known;
  char path[PATH_MAX];
  int fd = make_mark(s);
  if (fd < 0)
    return fd;
  if (snprintf(path, sizeof path, "%s/.prelux/fill/%s", s->dir, name) >= (int)sizeof path)
  {
    prelux_os.close(fd);
    return -ENAMETOOLONG;
  }
  prelux_attrs_show(v->tree, object, strlen(object), &k);
  k.cache_ino = 0;
  prelux_view_attr(v, &k, &e->attr);
  e->attr.cached = 0;
  e->version = version;
  e->path = path;
  e->fd = fd;
  e->done = true;
  e->ready(e);
  e->path = NULL;
  return 0;
}

static struct prelux_stream *make_map(struct prelux_store *s, const char *front, uint64_t size)
{
  size_t bytes = prelux_stream_bytes(size);
  int fd = prelux_os.openat(s->fill_fd, front, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return NULL;
  /* Allocated before it is shared: a hole on a full disk would be a fault. */
  void *map = prelux_os.fallocate(fd, 0, 0, (off_t)bytes) == 0 || prelux_os.ftruncate(fd, (off_t)bytes) == 0
                  ? prelux_os.mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                  : MAP_FAILED;
  prelux_os.close(fd);
  if (map != MAP_FAILED)
    return map;
  prelux_os.unlinkat(s->fill_fd, front, 0);
  return NULL;
}

bool prelux_flow_wanted(const struct prelux_view *v, const struct prelux_object *obj)
{
  return v->early && !v->early->done && obj->size > v->early->above;
}

/* Whether the remote has this version still can be said at any time (backend.h: versions with something random in them). */
static bool sure(const struct prelux_view *v, const char *version)
{
  return (v->backend->ops->caps & PRELUX_CAP_CONDITIONAL) && version[0] && strncmp(version, "n:", 2) != 0 && !strchr(version, '~');
}

/* A page for the flow, and who asked is answered. NULL: it cannot be. */
static struct prelux_stream *make_front(const struct prelux_flow *w, const struct prelux_view *v, const struct prelux_known *k, int fd)
{
  struct prelux_store *s = v->tree->store;
  char front[48];
  struct stat st;
  if (!sure(v, k->obj.version) || !prelux_flow_wanted(v, &k->obj) || prelux_os.fstat(fd, &st) < 0)
    return NULL;
  front_name(w->name, front);
  struct prelux_stream *m = make_map(s, front, k->obj.size);
  if (!m)
    return NULL;
  m->size = k->obj.size;
  m->version = w->version;
  m->ino = st.st_ino;
  m->magic = PRELUX_STREAM_MAGIC;
  if (answer(v, w->object, k, w->name, w->version) == 0)
    return m;
  prelux_os.unlinkat(s->fill_fd, front, 0);
  prelux_os.munmap(m, prelux_stream_bytes(k->obj.size));
  return NULL;
}

bool prelux_flow_begin(struct prelux_flow *w, const struct prelux_view *v, const char *object, const struct prelux_known *k,
                       const char *name, int fd, struct prelux_stream *front)
{
  struct prelux_store *s = v->tree->store;
  *w = (struct prelux_flow){.tree = v->tree, .object = object, .name = name, .obj = k->obj, .map = front, .version = prelux_flow_version(&k->obj)};
  if (!front && !(w->map = make_front(w, v, k, fd)))
    return false;
  if (front)
  {
    atomic_store(&front->error, 0);
    atomic_store(&front->state, PRELUX_STREAM_COMING);
    tell(front);
  }
  if (front && prelux_flow_wanted(v, &k->obj))
    answer(v, object, k, name, w->version); /* where that fails he waits for the whole */
  pthread_mutex_lock(&s->lock);
  w->reserved = prelux_partial_untake(s, name);
  w->next = s->flows;
  s->flows = w;
  prelux_flight_wake(v->tree, object);
  pthread_mutex_unlock(&s->lock);
  if (!front)
    prelux_partial_note(v->tree, object, &k->obj, name);
  return true;
}

/* Who reads on from the beginning gets the fill further each time, who does not gets parts (parts.h), and few bytes that he has not asked for. An open
 * of what rests asks for a little, so that the remote says that it has this version still. */
uint64_t prelux_flow_limit(const struct prelux_view *v, const struct prelux_object *obj, uint64_t front)
{
  uint64_t to, need = v->early ? v->early->need : 0;
  if (!prelux_flow_wanted(v, obj) || obj->size <= PRELUX_STREAM_LARGE || !(v->backend->ops->caps & PRELUX_CAP_RANGE) || !sure(v, obj->version))
    return obj->size;
  if (front == 0)
    to = PRELUX_PARTIAL_LEAST;
  else if (need <= front)
    to = front + (1u << PRELUX_STREAM_PART_BITS);
  else
    to = 4 * front > SECOND ? 4 * front : SECOND;
  to = to < need ? need : to;
  return to < obj->size ? to : obj->size;
}

void prelux_flow_advance(struct prelux_flow *w, uint64_t front)
{
  if (atomic_load(&w->map->front) >= front)
    return;
  atomic_store(&w->map->front, front);
  tell(w->map);
}

void prelux_flow_rest(struct prelux_stream *m)
{
  atomic_store(&m->state, PRELUX_STREAM_RESTS);
  tell(m);
}

/* What a read of a program may give. */
static int read_error(int rc)
{
  return rc == -EKEYEXPIRED ? -EACCES : rc == -ESTALE || rc == -EACCES ? rc : rc < 0 ? -EIO : 0;
}

void prelux_flow_end(struct prelux_flow *w, int rc, bool wrong, bool kept)
{
  struct prelux_store *s = w->tree->store;
  char front[48];
  pthread_mutex_lock(&s->lock);
  struct prelux_flow **p = &s->flows;
  while (*p != w)
    p = &(*p)->next;
  *p = w->next;
  s->reserved -= w->reserved;
  prelux_flight_tell(w->tree, w->object);
  pthread_mutex_unlock(&s->lock);
  atomic_store(&w->map->error, read_error(rc));
  atomic_store(&w->map->state, rc == 0 ? PRELUX_STREAM_DONE : wrong ? PRELUX_STREAM_WRONG : rc == -ECANCELED && kept ? PRELUX_STREAM_RESTS : PRELUX_STREAM_FAILED);
  tell(w->map);
  front_name(w->name, front);
  if (!kept)
  {
    prelux_os.unlinkat(s->fill_fd, front, 0);
    prelux_partial_forget(w->tree, w->object, w->name);
  }
  prelux_os.munmap(w->map, prelux_stream_bytes(w->obj.size));
}

bool prelux_flow_join(const struct prelux_view *v, const char *object, const struct prelux_known *k)
{
  struct prelux_store *s = v->tree->store;
  char name[32] = "";
  uint64_t version = prelux_flow_version(&k->obj);
  if (!v->early || v->early->done || !version || k->obj.size <= v->early->above)
    return false;
  pthread_mutex_lock(&s->lock);
  for (const struct prelux_flow *w = s->flows; w; w = w->next)
    if (w->tree == v->tree && w->version == version && strcmp(w->object, object) == 0)
      snprintf(name, sizeof name, "%s", w->name);
  pthread_mutex_unlock(&s->lock);
  return name[0] && answer(v, object, k, name, version) == 0;
}
