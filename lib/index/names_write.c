/* See include/prelux/names.h. The bytes are written by pwrite, so that the log is page cache and none of the daemon's own memory; room
 * is allocated before it is written, and before any slot speaks of it: a full disk is an error here, not a SIGBUS in a program.
 *
 * Programs of the user can write to the file: where the log begins and ends is kept here. */
#include "lib/index/names_write.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "lib/base/os.h"

#define STEP (4ull << 20)

struct prelux_names_writer
{
  pthread_mutex_t lock;
  struct prelux_names *map; /* the head alone */
  int fd;
  uint64_t generation, head, tail, allocated;
};

static int make_file(struct prelux_names_writer *w, const char *runtime)
{
  char path[1024], temp[1040];
  if (snprintf(path, sizeof path, "%s/names", runtime) >= (int)sizeof path)
    return -ENAMETOOLONG;
  snprintf(temp, sizeof temp, "%s.new", path);
  prelux_os.unlink(temp);
  w->fd = prelux_os.open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (w->fd < 0)
    return -errno;
  if (prelux_os.fallocate(w->fd, 0, 0, PRELUX_NAMES_HEAD) == 0)
    w->map = prelux_os.mmap(NULL, PRELUX_NAMES_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
  if (w->map && w->map != MAP_FAILED)
  {
    w->map->magic = PRELUX_NAMES_MAGIC;
    w->map->generation = w->generation;
    if (prelux_os.rename(temp, path) == 0)
      return 0;
  }
  int err = errno;
  prelux_os.unlink(temp);
  return -err;
}

int prelux_names_writer_create(const char *runtime, struct prelux_names_writer **ret)
{
  struct prelux_names_writer *w = calloc(1, sizeof *w);
  if (!w)
    return -ENOMEM;
  pthread_mutex_init(&w->lock, NULL);
  w->fd = -1;
  int rc = getrandom(&w->generation, sizeof w->generation, 0) == (ssize_t)sizeof w->generation ? make_file(w, runtime) : -EIO;
  if (rc == 0)
    *ret = w;
  else
    prelux_names_writer_free(w);
  return rc;
}

void prelux_names_writer_free(struct prelux_names_writer *w)
{
  if (!w)
    return;
  if (w->map && w->map != MAP_FAILED)
    prelux_os.munmap(w->map, PRELUX_NAMES_HEAD);
  if (w->fd >= 0)
    prelux_os.close(w->fd);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

/* Bytes up to `end` of the log are on the disk. */
static int allocate(struct prelux_names_writer *w, uint64_t end)
{
  uint64_t to = (end + STEP - 1) / STEP * STEP;
  if (end <= w->allocated)
    return 0;
  if (prelux_os.fallocate(w->fd, 0, (off_t)(PRELUX_NAMES_HEAD + w->allocated), (off_t)(to - w->allocated)) < 0)
    return -errno;
  w->allocated = to;
  atomic_store_explicit(&w->map->allocated, to, memory_order_release);
  return 0;
}

/* Moves the head to a place where so many bytes lie in one piece. */
static int find_room(struct prelux_names_writer *w, uint64_t bytes)
{
  uint64_t place = w->head % PRELUX_NAMES_BYTES, left = PRELUX_NAMES_BYTES - place;
  int rc = bytes <= left ? allocate(w, place + bytes) : -ENOSPC;
  if (rc < 0 && place > 0) /* the next lap; what lies at its start is the oldest */
  {
    rc = allocate(w, bytes);
    if (rc == 0)
      w->head += left;
  }
  return rc;
}

static int write_at(const struct prelux_names_writer *w, const char *from, uint64_t bytes)
{
  off_t at = (off_t)(PRELUX_NAMES_HEAD + w->head % PRELUX_NAMES_BYTES);
  while (bytes)
  {
    ssize_t n = prelux_os.pwrite(w->fd, from, bytes, at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    from += n;
    at += n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

int prelux_names_write(struct prelux_names_writer *w, const struct prelux_listing *l, struct prelux_names_at *ret)
{
  uint64_t bytes = (l->bytes + 7) & ~7ull;
  if (bytes > PRELUX_NAMES_MAX)
    return -EFBIG;
  pthread_mutex_lock(&w->lock);
  int rc = find_room(w, bytes);
  if (rc == 0 && w->head + bytes > w->tail + PRELUX_NAMES_BYTES)
  {
    w->tail = w->head + bytes - PRELUX_NAMES_BYTES;
    atomic_store_explicit(&w->map->tail, w->tail, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* seen before the bytes that come */
  }
  if (rc == 0)
    rc = write_at(w, (const char *)l, l->bytes);
  if (rc == 0)
    *ret = (struct prelux_names_at){.generation = w->generation, .position = w->head, .bytes = l->bytes};
  if (rc == 0)
    w->head += bytes;
  pthread_mutex_unlock(&w->lock);
  return rc;
}
