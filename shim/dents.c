/* getdents64: the folder is a descriptor, and its position the kernel's own offset, so that it is shared by dup and fork as it should
 * be. It counts entries of the listing that was taken at position 0: that one is kept with the number until it is closed, or read from
 * its beginning again. Who comes by another number, or has closed this one behind our back, gets the listing of the moment. */
#include "shim/dents.h"

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stream.h"

enum { FDS = 4096, KEPT_MAX = 64 };
static struct prelux_stream *kept[FDS]; /* taken out by whoever reads it */
uint32_t prelux_dents_kept;             /* of those that are in */

/* getdents64 on a folder above mappings: extras handed out so far, by fd. */
static uint16_t handed_out[FDS];

/* Copies entries to a caller's buffer until it is full; bytes, 0 at the end, -EINVAL when not even one fits. */
static ssize_t fill(struct prelux_stream *s, int fd, char *buf, size_t size)
{
  size_t used = 0;
  for (;;) {
    uint64_t was = s->pos;
    struct dirent *d = s->listed ? prelux_stream_next(s) : prelux_stream_extra(s, fd);
    if (!d) return (ssize_t)used;
    if (used + d->d_reclen > size) {
      s->pos = was;
      return used ? (ssize_t)used : -EINVAL;
    }
    memcpy(buf + used, d, d->d_reclen);
    used += d->d_reclen;
  }
}

static struct prelux_stream *take_out(int fd)
{
  struct prelux_stream *s = fd < FDS && prelux_dents_any() ? __atomic_exchange_n(&kept[fd], NULL, __ATOMIC_ACQ_REL) : NULL;
  if (s) __atomic_fetch_sub(&prelux_dents_kept, 1, __ATOMIC_RELAXED);
  return s;
}

static void put_back(int fd, struct prelux_stream *s)
{
  struct prelux_stream *none = NULL;
  if (fd < FDS && __atomic_fetch_add(&prelux_dents_kept, 1, __ATOMIC_RELAXED) < KEPT_MAX &&
      __atomic_compare_exchange_n(&kept[fd], &none, s, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
    return;
  if (fd < FDS) __atomic_fetch_sub(&prelux_dents_kept, 1, __ATOMIC_RELAXED);
  prelux_stream_free(s);
}

void prelux_dents_forget(unsigned first, unsigned last)
{
  if (!prelux_dents_any() || prelux_in_shared_child()) return;
  for (unsigned fd = first; fd < FDS && fd <= last; fd++) prelux_stream_free(take_out((int)fd));
}

static struct prelux_stream *stream_at(int fd, const struct prelux_route *r, uint64_t pos)
{
  struct prelux_stream *s = prelux_in_shared_child() ? NULL : take_out(fd);
  if (s && (pos == 0 || strcmp(s->path, r->logical) != 0)) {
    prelux_stream_free(s);
    s = NULL;
  }
  return s ? s : prelux_stream_of(r, "getdents64");
}

static ssize_t getdents_mapped(int fd, const struct prelux_route *r, void *buf, size_t size)
{
  long pos = prelux_sys(SYS_lseek, fd, 0L, SEEK_CUR);
  struct prelux_stream *s = stream_at(fd, r, pos < 0 ? 0 : (uint64_t)pos);
  if (!s) return -1;
  s->pos = pos < 0 ? 0 : (uint64_t)pos;
  ssize_t n = fill(s, fd, buf, size);
  if (n > 0) {
    long rc = prelux_sys(SYS_lseek, fd, (long)s->pos, SEEK_SET);
    if (rc < 0) n = rc;
  }
  if (prelux_in_shared_child()) prelux_stream_free(s);
  else put_back(fd, s);
  return prelux_ret(n);
}

static ssize_t getdents_above(int fd, const char *logical, void *buf, size_t size)
{
  if (fd >= FDS) return prelux_real.getdents64(fd, buf, size);
  if (prelux_sys(SYS_lseek, fd, 0L, SEEK_CUR) == 0) __atomic_store_n(&handed_out[fd], 0, __ATOMIC_RELAXED);
  ssize_t n = prelux_real.getdents64(fd, buf, size);
  if (n != 0) return n;
  struct prelux_stream *s = prelux_stream_new(logical, NULL, false);
  if (!s) return 0;
  s->pos = __atomic_load_n(&handed_out[fd], __ATOMIC_RELAXED);
  n = fill(s, fd, buf, size);
  __atomic_store_n(&handed_out[fd], (uint16_t)s->pos, __ATOMIC_RELAXED);
  prelux_stream_free(s);
  return prelux_ret(n);
}

PRELUX_EXPORT ssize_t getdents64(int fd, void *buf, size_t size)
{
  struct prelux_route r;
  char path[PATH_MAX];
  bool ours;
  if (prelux_idle()) return prelux_real.getdents64(fd, buf, size);
  int where = prelux_route_fd(fd, &r);
  if (where < 0) return prelux_ret(where);
  if (where == PRELUX_MAPPED) return getdents_mapped(fd, &r, buf, size);
  if (where == PRELUX_ANCESTOR) return getdents_above(fd, r.logical, buf, size);
  return prelux_dir_path(fd, path, sizeof(path), &ours) > 0 ? getdents_above(fd, path, buf, size)
                                                            : prelux_real.getdents64(fd, buf, size);
}

/* Records have one length in both forms: the type before the name and a NUL behind it, or the NUL and the type at the end. */
long prelux_getdents_old(int fd, void *buf, size_t size)
{
  enum { NAME = offsetof(struct dirent64, d_type) };
  ssize_t n = getdents64(fd, buf, size);
  for (ssize_t at = 0; at < n;) {
    struct dirent64 *d = (struct dirent64 *)((char *)buf + at);
    unsigned char type = d->d_type;
    memmove((char *)d + NAME, d->d_name, strlen(d->d_name) + 1);
    ((unsigned char *)d)[d->d_reclen - 1] = type;
    at += d->d_reclen;
  }
  return n;
}
