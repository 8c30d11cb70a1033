/* The one writer. A slot is written as a seqlock: seq odd, release fence, words, seq even (release). The lock below only
 * serialises the daemon's own threads; readers never wait for it.
 *
 * Growth: a new file with the same seed gets the entries that are still valid, is renamed over RUNTIME/index, then the old
 * header is marked retired, so that a reader who sees the mark always finds the newer file. At the limit an entry of the
 * probe window gives way; inode entries stay as long as there is an object entry to drop, because fstat has nobody to ask.
 *
 * Programs of the user can write to the file. Nothing in it is believed that could lead out of it: its size, seed and generation
 * are kept here. */
#include "lib/index/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "include/prelux/version.h"
#include "lib/base/os.h"
#include "lib/index/reader.h"

#define READ 4u
#define FLAG_INODE 0x80u /* kind_mode: an inode entry */

struct prelux_index_writer
{
  pthread_mutex_t lock;
  struct prelux_index *map;
  uint32_t mask; /* of map: slots - 1 */
  uint64_t generation;
  uint64_t seed; /* of every map this writer makes */
  uint32_t used; /* slots that are not empty (deleted ones count: they lengthen probes) */
  int64_t links; /* symbolic links of this node */
  uint32_t max_slots;
  struct prelux_names_writer *names; /* NULL: there is no room for it */
  uint64_t names_tail;
  uint64_t moved;
  struct prelux_allowed allowed; /* others who may read it; its lists are ours */
  char path[1024], temp[1040];
};

static uint64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void retire(struct prelux_index *x)
{
  atomic_store_explicit(&x->retired, 1, memory_order_release);
}

static size_t bytes_of(uint32_t mask)
{
  return sizeof(struct prelux_index) + ((size_t)mask + 1) * sizeof(struct prelux_index_slot);
}

static int make_file(struct prelux_index_writer *w, uint32_t mask, uint64_t generation, struct prelux_index **ret)
{
  size_t bytes = bytes_of(mask);
  prelux_os.unlink(w->temp);
  int fd = prelux_os.open(w->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
  if (fd < 0)
    return -errno;
  if (w->allowed.all || w->allowed.n_uids + w->allowed.n_gids > 0)
    prelux_acl_set(fd, 0400, &w->allowed, READ); /* where that fails nobody else can read it */
  /* Blocks are there before anyone maps it: a full disk is an error here, not a SIGBUS in a program. */
  if (prelux_os.fallocate(fd, 0, 0, (off_t)bytes) < 0)
  {
    int err = errno;
    prelux_os.close(fd);
    prelux_os.unlink(w->temp);
    return -err;
  }
  struct prelux_index *x = prelux_os.mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int err = errno;
  prelux_os.close(fd);
  if (x == MAP_FAILED)
    return -err;
  x->magic = PRELUX_INDEX_MAGIC;
  x->major = PRELUX_INDEX_MAJOR;
  x->mask = mask;
  x->bytes = bytes;
  x->seed = w->seed;
  x->generation = generation;
  x->names = w->names ? prelux_names_generation(w->names) : 0;
  prelux_boot_id(x->boot);
  atomic_store(&x->names_tail, w->names_tail);
  atomic_store(&x->moved, w->moved);
  atomic_store(&x->links, (uint64_t)w->links);
  atomic_store(&x->writer_pid, (uint32_t)getpid());
  *ret = x;
  return 0;
}

/* Nobody but its writer may open it for writing: so that is allowed for a moment. */
static int open_predecessor(const char *path)
{
  int old = prelux_os.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (old < 0)
    return -1;
  prelux_os.fchmod(old, 0600);
  int fd = prelux_os.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  prelux_os.fchmod(old, 0400);
  prelux_os.close(old);
  return fd;
}

/* Marks what an earlier daemon left, so that its readers come over. */
static void retire_predecessor(const char *path)
{
  struct stat st;
  int fd = open_predecessor(path);
  if (fd < 0)
    return;
  if (prelux_os.fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(struct prelux_index))
  {
    struct prelux_index *old = prelux_os.mmap(NULL, sizeof *old, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (old != MAP_FAILED)
    {
      if (old->magic == PRELUX_INDEX_MAGIC)
        retire(old);
      prelux_os.munmap(old, sizeof *old);
    }
  }
  prelux_os.close(fd);
}

int prelux_index_writer_create(const char *runtime, uint32_t slots, uint32_t max_slots, struct prelux_index_writer **ret)
{
  uint64_t random[3] = {0, 0, 0};
  if (slots < PRELUX_INDEX_PROBES || (slots & (slots - 1)) || max_slots < slots)
    return -EINVAL;
  struct prelux_index_writer *w = calloc(1, sizeof *w);
  if (!w)
    return -ENOMEM;
  int result = -ENAMETOOLONG;
  w->max_slots = max_slots;
  pthread_mutex_init(&w->lock, NULL);
  if (snprintf(w->path, sizeof w->path, "%s/index", runtime) < (int)sizeof w->path &&
      snprintf(w->temp, sizeof w->temp, "%s/index.new", runtime) < (int)sizeof w->temp)
    result = getrandom(random, sizeof random, 0) == (ssize_t)sizeof random ? 0 : -EIO;
  w->seed = random[0];
  w->generation = random[1];
  w->moved = random[2] >> 1 | 1;
  w->mask = slots - 1;
  /* Before the index: readers of the one before know by the records' heads that this is another log. */
  if (result == 0 && prelux_names_writer_create(runtime, w, &w->names) < 0)
    w->names = NULL; /* folders are asked for, then */
  if (result == 0)
    result = make_file(w, w->mask, w->generation, &w->map);
  if (result == 0)
  {
    /* The old file must be opened before the rename hides it, and marked after: see the top. */
    char aside[1056];
    snprintf(aside, sizeof aside, "%s.old", w->path);
    prelux_os.unlink(aside);
    prelux_os.linkat(AT_FDCWD, w->path, AT_FDCWD, aside, 0);
    result = prelux_os.rename(w->temp, w->path) < 0 ? -errno : 0;
    retire_predecessor(aside);
    prelux_os.unlink(aside);
  }
  if (result == 0)
    *ret = w;
  else
    prelux_index_writer_free(w);
  return result;
}

static int copy_list(const uint32_t *from, unsigned n, const uint32_t **ret)
{
  uint32_t *list = n ? malloc(n * sizeof *list) : NULL;
  if (n && !list)
    return -ENOMEM;
  if (n)
    memcpy(list, from, n * sizeof *list);
  *ret = list;
  return 0;
}

static void forget_allowed(struct prelux_index_writer *w)
{
  free((void *)w->allowed.uids);
  free((void *)w->allowed.gids);
  w->allowed = (struct prelux_allowed){0};
}

static int remember_allowed(struct prelux_index_writer *w, const struct prelux_allowed *who)
{
  forget_allowed(w);
  if (!who)
    return 0;
  int ret = copy_list(who->uids, who->n_uids, &w->allowed.uids);
  if (ret == 0)
    ret = copy_list(who->gids, who->n_gids, &w->allowed.gids);
  if (ret < 0)
  {
    forget_allowed(w);
    return ret;
  }
  w->allowed.all = who->all;
  w->allowed.n_uids = who->n_uids;
  w->allowed.n_gids = who->n_gids;
  return 0;
}

int prelux_index_allow(struct prelux_index_writer *w, const struct prelux_allowed *who)
{
  pthread_mutex_lock(&w->lock);
  int ret = remember_allowed(w, who);
  int fd = prelux_os.open(w->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  int err = fd < 0 ? -errno : prelux_acl_set(fd, 0400, &w->allowed, READ);
  if (fd >= 0)
    prelux_os.close(fd);
  if (w->names && err == 0)
    err = prelux_names_allow(w->names, &w->allowed);
  pthread_mutex_unlock(&w->lock);
  return ret < 0 ? ret : err;
}

void prelux_index_writer_free(struct prelux_index_writer *w)
{
  if (!w)
    return;
  forget_allowed(w);
  if (w->map)
  {
    retire(w->map);
    prelux_os.munmap(w->map, bytes_of(w->mask));
  }
  prelux_names_writer_free(w->names);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

static uint64_t get(const _Atomic uint64_t *word)
{
  return atomic_load_explicit(word, memory_order_relaxed);
}

static void set(_Atomic uint64_t *word, uint64_t v)
{
  atomic_store_explicit(word, v, memory_order_relaxed);
}

struct words
{
  uint64_t key[2], size, mtime_ns, ino, cache_ino, valid_ns;
  uint32_t kind_mode;
};

static void write_slot(struct prelux_index_slot *s, const struct words *v)
{
  uint32_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed) & ~1u;
  atomic_store_explicit(&s->seq, seq + 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(&s->kind_mode, v->kind_mode, memory_order_relaxed);
  set(&s->key_lo, v->key[0]);
  set(&s->key_hi, v->key[1]);
  set(&s->size, v->size);
  set(&s->mtime_ns, v->mtime_ns);
  set(&s->ino, v->ino);
  set(&s->cache_ino, v->cache_ino);
  set(&s->valid_ns, v->valid_ns);
  atomic_store_explicit(&s->seq, seq + 2, memory_order_release);
}

static void read_slot(const struct prelux_index_slot *s, struct words *v)
{
  *v = (struct words){.key = {get(&s->key_lo), get(&s->key_hi)},
                      .size = get(&s->size),
                      .mtime_ns = get(&s->mtime_ns),
                      .ino = get(&s->ino),
                      .cache_ino = get(&s->cache_ino),
                      .valid_ns = get(&s->valid_ns),
                      .kind_mode = atomic_load_explicit(&s->kind_mode, memory_order_relaxed)};
}

static struct prelux_index_slot *find(const struct prelux_index_writer *w, const uint64_t key[2])
{
  for (uint32_t probe = 0; probe < PRELUX_INDEX_PROBES; probe++)
  {
    struct prelux_index_slot *s = &w->map->slots[(key[0] + probe) & w->mask];
    if (get(&s->key_lo) == key[0] && get(&s->key_hi) == key[1])
      return s;
    if (get(&s->key_lo) == 0 && get(&s->key_hi) == 0)
      return NULL;
  }
  return NULL;
}

/* An empty or deleted slot for the key, or NULL. */
static struct prelux_index_slot *vacant(struct prelux_index *x, uint32_t mask, const uint64_t key[2])
{
  for (uint32_t probe = 0; probe < PRELUX_INDEX_PROBES; probe++)
  {
    struct prelux_index_slot *s = &x->slots[(key[0] + probe) & mask];
    if (get(&s->key_lo) == 0)
      return s;
  }
  return NULL;
}

static bool is_link(uint32_t kind_mode)
{
  return PRELUX_SLOT_TYPE(kind_mode) == PRELUX_LINK && !(kind_mode & FLAG_INODE);
}

static bool worth_keeping(const struct words *v, uint64_t now)
{
  return v->key[0] != 0 && (v->valid_ns == UINT64_MAX || v->valid_ns > now);
}

/* How many entries found a place. */
static uint32_t take_over(const struct prelux_index_writer *w, struct prelux_index *x, uint32_t mask, bool links)
{
  uint64_t now = now_ns();
  uint32_t used = 0;
  for (uint32_t i = 0; i <= w->mask; i++)
  {
    struct words v;
    read_slot(&w->map->slots[i], &v);
    struct prelux_index_slot *to = is_link(v.kind_mode) == links && worth_keeping(&v, now) ? vacant(x, mask, v.key) : NULL;
    if (to)
      write_slot(to, &v);
    used += to != NULL;
  }
  return used;
}

/* A new file with what is still valid. Entries that find no place are dropped: they will be asked for again. */
static int rebuild(struct prelux_index_writer *w, uint32_t mask)
{
  struct prelux_index *old = w->map, *x;
  int ret = make_file(w, mask, w->generation + 1, &x);
  if (ret < 0)
    return ret;
  /* Links first: they must find a place. */
  uint32_t used = take_over(w, x, mask, true);
  used += take_over(w, x, mask, false);
  if (prelux_os.rename(w->temp, w->path) < 0)
  {
    ret = -errno;
    prelux_os.munmap(x, bytes_of(mask));
    return ret;
  }
  retire(old);
  prelux_os.munmap(old, bytes_of(w->mask));
  w->map = x;
  w->mask = mask;
  w->generation++;
  w->used = used;
  return 0;
}

/* The slot of the probe window that is easiest to do without; NULL: there are links in all of it. */
static struct prelux_index_slot *victim(const struct prelux_index_writer *w, const uint64_t key[2])
{
  struct prelux_index_slot *best = NULL, *inode = NULL;
  uint64_t best_valid = 0, now = now_ns();
  for (uint32_t probe = 0; probe < PRELUX_INDEX_PROBES; probe++)
  {
    struct prelux_index_slot *s = &w->map->slots[(key[0] + probe) & w->mask];
    uint32_t kind_mode = atomic_load_explicit(&s->kind_mode, memory_order_relaxed);
    uint64_t valid = get(&s->valid_ns);
    if (is_link(kind_mode))
      continue;
    if (kind_mode & FLAG_INODE)
      inode = inode ? inode : s;
    else if (valid <= now)
      return s;
    else if (!best || valid < best_valid)
    {
      best = s;
      best_valid = valid;
    }
  }
  return best ? best : inode;
}

static void put(struct prelux_index_writer *w, const struct words *v)
{
  struct prelux_index_slot *s = find(w, v->key);
  if (!s)
  {
    s = vacant(w->map, w->mask, v->key);
    if (!s || w->used > w->mask / 8 * 5)
    {
      uint32_t slots = w->mask + 1;
      if (slots <= w->max_slots / 2 && rebuild(w, slots * 2 - 1) == 0)
        s = vacant(w->map, w->mask, v->key);
    }
    if (!s)
      s = victim(w, v->key); /* many links are far fewer than slots: there is one */
    else if (get(&s->key_hi) == 0)
      w->used++;
  }
  if (s)
    write_slot(s, v);
}

static void drop(struct prelux_index_writer *w, const uint64_t key[2])
{
  static const struct words deleted = {.key = {0, 1}};
  pthread_mutex_lock(&w->lock);
  struct prelux_index_slot *s = find(w, key);
  if (s)
    write_slot(s, &deleted);
  pthread_mutex_unlock(&w->lock);
}

static struct words words_of(const struct prelux_attr *attr)
{
  return (struct words){.size = attr->size,
                        .mtime_ns = (uint64_t)attr->mtime_ns,
                        .ino = attr->ino,
                        .cache_ino = attr->cached || (attr->flags & PRELUX_ATTR_LIVE) ? attr->cache_ino : 0,
                        .valid_ns = attr->valid_ns,
                        .kind_mode = PRELUX_SLOT_KM(attr->type, attr->mode) | (attr->flags & PRELUX_ATTR_LIVE ? PRELUX_SLOT_LIVE : 0) |
                                     (attr->flags & PRELUX_ATTR_OWNED ? PRELUX_SLOT_OWNED : 0)};
}

static void put_inode(struct prelux_index_writer *w, const struct prelux_attr *attr, uint64_t dev_seen)
{
  struct words inode = words_of(attr);
  if (!inode.cache_ino)
    return;
  prelux_index_inode_key(w->seed, attr->cache_dev, PRELUX_INO(attr->cache_ino), inode.key);
  inode.cache_ino = dev_seen;
  inode.valid_ns = UINT64_MAX;
  inode.kind_mode |= FLAG_INODE;
  put(w, &inode);
}

void prelux_index_put(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len,
                      const struct prelux_attr *attr, uint64_t dev_seen)
{
  struct words v = words_of(attr);
  prelux_index_key(w->seed, tree_id, object, len, v.key);
  pthread_mutex_lock(&w->lock);
  put_inode(w, attr, dev_seen); /* first: whoever is sent to the cache file by its name must find it */
  put(w, &v);
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_put_inode(struct prelux_index_writer *w, const struct prelux_attr *attr, uint64_t dev_seen)
{
  pthread_mutex_lock(&w->lock);
  put_inode(w, attr, dev_seen);
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_drop(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len)
{
  uint64_t key[2];
  prelux_index_key(w->seed, tree_id, object, len, key);
  drop(w, key);
}

void prelux_index_put_names(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len,
                            const struct prelux_names_at *at, uint64_t valid_ns)
{
  struct words v = {.size = at->bytes, .mtime_ns = at->position, .ino = at->generation, .valid_ns = valid_ns, .kind_mode = PRELUX_DIR};
  prelux_index_names_key(w->seed, tree_id, object, len, v.key);
  pthread_mutex_lock(&w->lock);
  put(w, &v);
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_drop_names(struct prelux_index_writer *w, uint64_t tree_id, const char *object, size_t len)
{
  uint64_t key[2];
  prelux_index_names_key(w->seed, tree_id, object, len, key);
  drop(w, key);
}

struct prelux_names_writer *prelux_index_names(struct prelux_index_writer *w)
{
  return w->names;
}

void prelux_index_names_tail(struct prelux_index_writer *w, uint64_t position)
{
  pthread_mutex_lock(&w->lock);
  w->names_tail = position;
  atomic_store(&w->map->names_tail, position);
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_move(struct prelux_index_writer *w)
{
  pthread_mutex_lock(&w->lock);
  atomic_store(&w->map->moved, ++w->moved);
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_gone(struct prelux_index_writer *w, uint64_t dev, uint64_t ino, bool gone)
{
  uint64_t key[2];
  prelux_index_inode_key(w->seed, dev, ino, key);
  pthread_mutex_lock(&w->lock);
  struct prelux_index_slot *s = find(w, key);
  if (s)
  {
    struct words v;
    read_slot(s, &v);
    v.kind_mode = (v.kind_mode & ~PRELUX_SLOT_GONE) | (gone ? PRELUX_SLOT_GONE : 0);
    write_slot(s, &v);
  }
  pthread_mutex_unlock(&w->lock);
}

void prelux_index_drop_inode(struct prelux_index_writer *w, uint64_t dev, uint64_t ino)
{
  uint64_t key[2];
  prelux_index_inode_key(w->seed, dev, ino, key);
  drop(w, key);
}

void prelux_index_count_links(struct prelux_index_writer *w, int64_t n)
{
  pthread_mutex_lock(&w->lock);
  w->links += n;
  atomic_store(&w->map->links, (uint64_t)w->links);
  pthread_mutex_unlock(&w->lock);
}
