/* Is what lies in the cache what the remote has? */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/base/os.h"
#include "lib/store/fill_sum.h"

#define BATCH 256
#define PIECE (256u << 10)

int prelux_store_cached(const struct prelux_view *v, const char *object, const char *after, char **ret, int n)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_victim rows[BATCH];
  struct prelux_row row;
  if (!after && *object && prelux_catalogue_get(s->cat, v->tree->id, object, &row) == 0)
    return (*ret = strdup(object)) ? 1 : -ENOMEM;
  if (after && strcmp(after, object) == 0)
    after = NULL;
  n = prelux_catalogue_below(s->cat, v->tree->id, object, after, rows, n < BATCH ? n : BATCH);
  for (int i = 0; i < n; i++)
    ret[i] = rows[i].path;
  return n;
}

struct compare {
  int fd;
  bool differs;
  char *buf;
};

static int compare_sink(void *arg, uint64_t off, const void *bytes, size_t len)
{
  struct compare *c = arg;
  for (size_t done = 0; done < len && !c->differs;)
  {
    ssize_t n = prelux_os.pread(c->fd, c->buf, len - done < PIECE ? len - done : PIECE, (off_t)(off + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    c->differs = n == 0 || memcmp(c->buf, (const char *)bytes + done, (size_t)n) != 0;
    done += (size_t)n;
  }
  return 0;
}

static int compare_data(const struct prelux_view *v, const char *object, const struct prelux_object *obj, int fd, bool *ret, struct prelux_problem *why)
{
  struct compare c = {.fd = fd, .buf = malloc(PIECE)};
  int rc = !c.buf ? -ENOMEM : obj->size == 0 ? 0 : v->backend->ops->read(v->backend, object, obj, 0, obj->size, compare_sink, &c, why);
  free(c.buf);
  *ret = !c.differs;
  return rc;
}

/* False: the bytes are not those of the checksum that the backend tells, or else obj has. */
static int compare_sum(const struct prelux_view *v, const char *object, const struct prelux_object *obj, int fd, bool *ret)
{
  struct prelux_fill_sum sum;
  prelux_fill_sum_begin(&sum, v, object, obj, fd, obj->size);
  sum.insists = true;
  int rc = prelux_fill_sum_end(&sum, NULL);
  prelux_fill_sum_release(&sum);
  *ret = rc == 0;
  return rc == -EPROTO ? 0 : rc;
}

static int judge(const struct prelux_view *v, const char *object, const struct prelux_row *row, int fd, bool data, enum prelux_verdict *ret,
                 struct prelux_problem *why)
{
  struct prelux_object now = {0};
  bool good = true;
  int rc = v->backend->ops->stat(v->backend, object, &now, why);
  if (rc == -ENOENT || rc == -ENOTDIR || (rc == 0 && now.type != PRELUX_FILE))
  {
    *ret = PRELUX_VERDICT_GONE;
    return 0;
  }
  if (rc < 0)
    return rc;
  bool blind = !(row->obj.version[0] && now.version[0]) && !(row->obj.md5[0] && now.md5[0]) &&
               (!row->obj.mtime_ns || !now.mtime_ns || row->obj.mtime_rough || now.mtime_rough);
  bool same = blind ? now.size == row->obj.size : prelux_object_same(&now, &row->obj);
  const struct prelux_object *summed = now.md5[0] ? &now : &row->obj;
  if (same)
    rc = compare_sum(v, object, summed, fd, &good);
  if (rc == 0 && same && good && data)
    rc = compare_data(v, object, &now, fd, &good, why);
  if (rc == 0)
    *ret = !same ? PRELUX_VERDICT_STALE : !good ? PRELUX_VERDICT_DAMAGED : blind && !data ? PRELUX_VERDICT_UNKNOWN : PRELUX_VERDICT_SAME;
  return rc;
}

/* 0: *ret_fd is the file of the row; 1: it is not there, or another file; -ENOENT: there is no row, or it is being evicted. */
static int look(const struct prelux_view *v, const char *object, struct prelux_row *ret_row, int *ret_fd)
{
  struct prelux_store *s = v->tree->store;
  struct stat st;
  int rc = prelux_catalogue_get(s->cat, v->tree->id, object, ret_row);
  if (rc < 0)
    return rc;
  rc = prelux_disk_open(v->tree, object, O_RDONLY | O_NONBLOCK, ret_fd, &st);
  if (rc == -EWOULDBLOCK)
    return -ENOENT;
  if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM)
    return rc;
  if (rc == 0 && prelux_row_matches(s, ret_row, &st))
    return 0;
  if (rc == 0)
    prelux_os.close(*ret_fd);
  return 1;
}

/* The same, while nobody else is at work on the object: who fills, writes or evicts it changes row and file one after the other. */
static int look_alone(const struct prelux_view *v, const char *object, struct prelux_row *ret_row, int *ret_fd)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_flight flight;
  struct prelux_row row;
  if (!prelux_flight_try(&flight, v->tree, PRELUX_FLIGHT_FILL, object))
    return -ENOENT;
  int rc = look(v, object, ret_row, ret_fd);
  /* A folder's files go along with it, their rows after that. In this order: those that are not being moved any more have been. */
  if (rc == 1 && (atomic_load(&v->tree->moving) || prelux_catalogue_get(s->cat, v->tree->id, object, &row) == -ENOENT))
    rc = -ENOENT;
  prelux_flight_end(s, &flight, 0, NULL);
  return rc;
}

/* The bytes were wrong. Of the file of that row, still? Who writes to a cached file takes it as it is, also from under who reads it. */
static int still(const struct prelux_view *v, const char *object, const struct prelux_row *row)
{
  struct prelux_row now;
  int fd, rc = look_alone(v, object, &now, &fd);
  if (rc != 0)
    return rc < 0 ? rc : 0;
  prelux_os.close(fd);
  return now.ino == row->ino && now.file_mtime_ns == row->file_mtime_ns ? 0 : -ENOENT;
}

int prelux_store_verify(const struct prelux_view *v, const char *object, bool data, enum prelux_verdict *ret, struct prelux_problem *why)
{
  struct prelux_row row;
  int fd, rc = prelux_object_check(v->tree->store, object, why);
  if (rc == 0)
    rc = look(v, object, &row, &fd);
  if (rc == 1)
    rc = look_alone(v, object, &row, &fd);
  if (rc == 1)
    *ret = PRELUX_VERDICT_DAMAGED;
  if (rc != 0)
    return rc < 0 ? rc : 0;
  rc = judge(v, object, &row, fd, data, ret, why);
  prelux_os.close(fd);
  return rc == 0 && *ret == PRELUX_VERDICT_DAMAGED ? still(v, object, &row) : rc;
}
