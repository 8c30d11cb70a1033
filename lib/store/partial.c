#include "lib/store/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/store/parts.h"

static void front_name(const char *name, char ret[48])
{
  snprintf(ret, 48, "%s" PRELUX_STREAM_SUFFIX, name);
}

static void free_one(struct prelux_partial *p)
{
  free(p->path);
  free(p);
}

/* Out of no list: its files and its row go. */
static void destroy(struct prelux_store *s, struct prelux_partial *p)
{
  char front[48];
  front_name(p->name, front);
  prelux_os.unlinkat(s->fill_fd, p->name, 0);
  prelux_os.unlinkat(s->fill_fd, front, 0);
  prelux_catalogue_drop_partial(s->cat, p);
  free_one(p);
}

struct prelux_stream *prelux_partial_map(struct prelux_store *s, const char *name, const struct prelux_object *obj, const struct stat *st)
{
  char front[48];
  struct stat page;
  size_t bytes = prelux_stream_bytes(obj->size);
  front_name(name, front);
  int fd = prelux_os.openat(s->fill_fd, front, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return NULL;
  struct prelux_stream *m = prelux_os.fstat(fd, &page) == 0 && (size_t)page.st_size == bytes
                                ? prelux_os.mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                : MAP_FAILED;
  prelux_os.close(fd);
  if (m == MAP_FAILED)
    return NULL;
  uint64_t came = atomic_load(&m->front);
  if (m->magic == PRELUX_STREAM_MAGIC && m->size == obj->size && m->version == prelux_flow_version(obj) && m->ino == st->st_ino &&
      came <= obj->size && came <= (uint64_t)st->st_size && atomic_load(&m->state) != PRELUX_STREAM_WRONG)
    return m;
  prelux_os.munmap(m, bytes);
  return NULL;
}

bool prelux_partial_trim(int fd, struct prelux_stream *m)
{
  uint64_t came = atomic_load(&m->front), end = m->size > PRELUX_STREAM_LARGE ? prelux_parts_end(m) : 0;
  if (came < PRELUX_PARTIAL_LEAST || prelux_os.ftruncate(fd, (off_t)(came > end ? came : end)) < 0)
    return false;
  if (end > came)
    prelux_parts_trim(fd, m);
  return true;
}

/* Trimmed to what has come: more may have been allocated. Whoever waits for its daemon asks this one. */
static bool usable(struct prelux_store *s, struct prelux_partial *p)
{
  struct stat st;
  int fd = prelux_os.openat(s->fill_fd, p->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return false;
  struct prelux_stream *m = prelux_os.fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? prelux_partial_map(s, p->name, &p->obj, &st) : NULL;
  bool good = m && (m->size <= PRELUX_STREAM_LARGE || prelux_parts_end(m) <= (uint64_t)st.st_size) && prelux_partial_trim(fd, m) &&
              prelux_os.fstat(fd, &st) == 0;
  if (good)
    p->bytes = (uint64_t)st.st_blocks * 512;
  if (good && m->size > PRELUX_STREAM_LARGE)
    prelux_flow_rest(m);
  if (m)
    prelux_os.munmap(m, prelux_stream_bytes(p->obj.size));
  prelux_os.close(fd);
  return good;
}

static int add_row(void *arg, const struct prelux_partial *row)
{
  struct prelux_store *s = arg;
  struct prelux_partial *p = malloc(sizeof *p);
  if (!p)
    return -ENOMEM;
  *p = *row;
  p->path = strdup(row->path);
  p->next = s->partials;
  s->partials = p;
  return p->path ? 0 : -ENOMEM;
}

/* What no row names. */
static int drop_unknown(void *arg, int dirfd, const char *name)
{
  struct prelux_store *s = arg;
  size_t n = strcspn(name, ".");
  for (const struct prelux_partial *p = s->partials; p; p = p->next)
    if (strlen(p->name) == n && strncmp(name, p->name, n) == 0 && (!name[n] || strcmp(name + n, PRELUX_STREAM_SUFFIX) == 0))
      return 0;
  return prelux_os.unlinkat(dirfd, name, 0) == 0 || errno == ENOENT ? 0 : -errno;
}

int prelux_partials_load(struct prelux_store *s)
{
  char now[40] = "", then[40] = "";
  int rc = prelux_lock_boot(now), err = prelux_catalogue_meta(s->cat, "boot", then, sizeof then);
  if (rc == 0 && err != -ENOENT)
    rc = err;
  if (rc == 0)
    rc = prelux_catalogue_partials(s->cat, add_row, s);
  struct prelux_partial **at = &s->partials, *p;
  while (rc == 0 && (p = *at))
  {
    if (strcmp(now, then) == 0 && usable(s, p))
    {
      at = &p->next;
      continue;
    }
    *at = p->next;
    destroy(s, p);
  }
  return rc < 0 ? rc : prelux_dir_each(s->fill_fd, drop_unknown, s);
}

uint64_t prelux_partials_bytes(struct prelux_store *s)
{
  uint64_t sum = 0;
  for (const struct prelux_partial *p = s->partials; p; p = p->next)
    sum += p->bytes;
  return sum;
}

void prelux_partials_release(struct prelux_store *s)
{
  for (struct prelux_partial *p = s->partials, *next; p; p = next)
  {
    next = p->next;
    free_one(p);
  }
  s->partials = NULL;
}

/* Taken out of the list; store.lock held. */
static struct prelux_partial *pull(struct prelux_store *s, struct prelux_partial **at)
{
  struct prelux_partial *p = *at;
  *at = p->next;
  s->used -= p->bytes < s->used ? p->bytes : s->used;
  return p;
}

static struct prelux_partial **find(struct prelux_tree *t, const char *object)
{
  struct prelux_partial **at = &t->store->partials;
  while (*at && ((*at)->tree != t->id || strcmp((*at)->path, object) != 0))
    at = &(*at)->next;
  return at;
}

bool prelux_partial_there(struct prelux_tree *t, const char *object)
{
  pthread_mutex_lock(&t->store->lock);
  bool there = *find(t, object) != NULL;
  pthread_mutex_unlock(&t->store->lock);
  return there;
}

void prelux_partial_note(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const char *name)
{
  struct prelux_partial p = {.tree = t->id, .path = (char *)object, .obj = *obj, .used_ns = prelux_store_wall()};
  snprintf(p.name, sizeof p.name, "%s", name);
  prelux_catalogue_set_partial(t->store->cat, &p); /* where it fails the file is not known by the next daemon */
}

bool prelux_partial_take(struct prelux_tree *t, const char *object, const struct prelux_object *obj, bool in_use, char ret_name[32],
                         uint64_t *ret_bytes)
{
  struct prelux_store *s = t->store;
  pthread_mutex_lock(&s->lock);
  struct prelux_partial **at = find(t, object), *p = *at ? pull(s, at) : NULL;
  bool same = p && obj->version[0] && p->obj.size == obj->size && strcmp(p->obj.version, obj->version) == 0;
  if (same)
  {
    memcpy(ret_name, p->name, sizeof p->name);
    *ret_bytes = p->bytes;
    p->next = s->taken;
    s->taken = p;
  }
  if (same && !in_use)
    prelux_partial_untake(s, ret_name);
  pthread_mutex_unlock(&s->lock);
  if (p && !same)
    destroy(s, p);
  return same;
}

uint64_t prelux_partial_untake(struct prelux_store *s, const char *name)
{
  struct prelux_partial **at = &s->taken, *p;
  while ((p = *at) && strcmp(p->name, name) != 0)
    at = &p->next;
  if (!p)
    return 0;
  uint64_t reserved = p->reserved;
  *at = p->next;
  free_one(p);
  return reserved;
}

static bool keep(struct prelux_store *s, struct prelux_partial *p, int fd, struct prelux_stream *m)
{
  struct stat st;
  if (!prelux_partial_trim(fd, m) || prelux_os.fstat(fd, &st) < 0)
    return false;
  p->bytes = (uint64_t)st.st_blocks * 512;
  pthread_mutex_lock(&s->lock);
  p->next = s->partials;
  s->partials = p;
  s->used += p->bytes;
  pthread_mutex_unlock(&s->lock);
  return true;
}

bool prelux_partial_keep(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const char *name, int fd,
                         struct prelux_stream *m)
{
  struct prelux_store *s = t->store;
  struct prelux_partial *p = calloc(1, sizeof *p);
  bool kept = p && (p->path = strdup(object));
  if (kept)
  {
    p->tree = t->id;
    p->obj = *obj;
    p->used_ns = prelux_store_wall();
    snprintf(p->name, sizeof p->name, "%s", name);
    pthread_mutex_lock(&s->parts_lock); /* no part comes between its being counted and its being known */
    kept = keep(s, p, fd, m);
    pthread_mutex_unlock(&s->parts_lock);
  }
  if (!kept && p)
    free_one(p);
  return kept;
}

void prelux_partial_forget(struct prelux_tree *t, const char *object, const char *name)
{
  struct prelux_partial p = {.tree = t->id, .path = (char *)object};
  snprintf(p.name, sizeof p.name, "%s", name);
  prelux_catalogue_drop_partial(t->store->cat, &p);
}

/* store.lock held. */
static struct prelux_partial **oldest(struct prelux_store *s)
{
  struct prelux_partial **ret = &s->partials;
  for (struct prelux_partial **at = &s->partials; *at; at = &(*at)->next)
    if ((*at)->used_ns < (*ret)->used_ns)
      ret = at;
  return ret;
}

/* What is read there does not come to us, but the kernel notes it (as far as the mount options let it). store.lock held. */
static bool read_since(struct prelux_store *s, struct prelux_partial *p)
{
  struct stat st;
  if (prelux_os.fstatat(s->fill_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return false;
  int64_t atime = (int64_t)st.st_atim.tv_sec * 1000000000 + st.st_atim.tv_nsec;
  if (atime <= p->used_ns)
    return false;
  p->used_ns = atime;
  return true;
}

uint64_t prelux_partials_evict(struct prelux_store *s, uint64_t bytes, int64_t before_ns)
{
  uint64_t freed = 0;
  while (freed < bytes)
  {
    struct prelux_partial **at, *p = NULL;
    pthread_mutex_lock(&s->lock);
    do
      at = oldest(s);
    while (*at && (*at)->used_ns < before_ns && before_ns != INT64_MAX && read_since(s, *at));
    if (*at && (*at)->used_ns < before_ns)
      p = pull(s, at);
    s->stats.evictions += p != NULL;
    pthread_mutex_unlock(&s->lock);
    if (!p)
      break;
    freed += p->bytes;
    destroy(s, p);
  }
  return freed;
}

void prelux_partials_drop(struct prelux_tree *t, const char *object, uint64_t *files, uint64_t *bytes)
{
  struct prelux_store *s = t->store;
  size_t len = strlen(object);
  struct prelux_partial *gone = NULL, *p;
  pthread_mutex_lock(&s->lock);
  for (struct prelux_partial **at = &s->partials; (p = *at);)
  {
    bool below = p->tree == t->id && strncmp(p->path, object, len) == 0 && (len == 0 || p->path[len] == 0 || p->path[len] == '/');
    if (!below)
    {
      at = &p->next;
      continue;
    }
    p = pull(s, at);
    p->next = gone;
    gone = p;
  }
  pthread_mutex_unlock(&s->lock);
  while ((p = gone))
  {
    gone = p->next;
    ++*files;
    *bytes += p->bytes;
    destroy(s, p);
  }
}
