/* See include/prelux/names.h. The bytes are written by pwrite, so that the log is page cache and none of the daemon's own memory; room
 * is allocated before it is written: where the disk is full the log goes round earlier. */
#include "lib/index/names_write.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lib/base/os.h"
#include "lib/index/writer.h"

#define STEP (4ull << 20)

struct prelux_names_writer
{
  pthread_mutex_t lock;
  struct prelux_index_writer *index;
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
  w->fd = prelux_os.open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
  if (w->fd < 0)
    return -errno;
  if (prelux_os.rename(temp, path) == 0)
    return 0;
  int err = errno;
  prelux_os.unlink(temp);
  return -err;
}

int prelux_names_writer_create(const char *runtime, struct prelux_index_writer *index, struct prelux_names_writer **ret)
{
  struct prelux_names_writer *w = calloc(1, sizeof *w);
  if (!w)
    return -ENOMEM;
  pthread_mutex_init(&w->lock, NULL);
  w->fd = -1;
  w->index = index;
  int rc = getrandom(&w->generation, sizeof w->generation, 0) == (ssize_t)sizeof w->generation ? make_file(w, runtime) : -EIO;
  w->generation |= 1; /* not 0 */
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
  if (w->fd >= 0)
    prelux_os.close(w->fd);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

int prelux_names_allow(struct prelux_names_writer *w, const struct prelux_allowed *who)
{
  return prelux_acl_set(w->fd, 0400, who, 4);
}

uint64_t prelux_names_generation(const struct prelux_names_writer *w)
{
  return w->generation;
}

/* Bytes up to `end` of the log are on the disk. */
static int allocate(struct prelux_names_writer *w, uint64_t end)
{
  uint64_t to = (end + STEP - 1) / STEP * STEP;
  if (end <= w->allocated)
    return 0;
  if (prelux_os.fallocate(w->fd, 0, (off_t)w->allocated, (off_t)(to - w->allocated)) < 0)
    return -errno;
  w->allocated = to;
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

static int write_at(const struct prelux_names_writer *w, uint64_t position, const void *from, uint64_t bytes)
{
  off_t at = (off_t)(position % PRELUX_NAMES_BYTES);
  while (bytes)
  {
    ssize_t n = prelux_os.pwrite(w->fd, from, bytes, at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    from = (const char *)from + n;
    at += n;
    bytes -= (uint64_t)n;
  }
  return 0;
}

int prelux_names_write(struct prelux_names_writer *w, const struct prelux_listing *l, struct prelux_names_at *ret)
{
  uint64_t bytes = (sizeof(struct prelux_names_head) + l->bytes + 7) & ~7ull;
  if (bytes > PRELUX_NAMES_MAX)
    return -EFBIG;
  pthread_mutex_lock(&w->lock);
  int rc = find_room(w, bytes);
  struct prelux_names_head head = {.generation = w->generation, .position = w->head};
  if (rc == 0 && w->head + bytes > w->tail + PRELUX_NAMES_BYTES)
  {
    w->tail = w->head + bytes - PRELUX_NAMES_BYTES;
    prelux_index_names_tail(w->index, w->tail); /* seen before the bytes that come */
  }
  if (rc == 0)
    rc = write_at(w, w->head, &head, sizeof head);
  if (rc == 0)
    rc = write_at(w, w->head + sizeof head, l, l->bytes);
  if (rc == 0)
    *ret = (struct prelux_names_at){.generation = w->generation, .position = w->head, .bytes = l->bytes};
  if (rc == 0)
    w->head += bytes;
  pthread_mutex_unlock(&w->lock);
  return rc;
}
