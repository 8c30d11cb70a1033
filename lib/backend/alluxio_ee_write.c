/* Backend `alluxio-ee`, writing.
 *
 * Theory of operation. What a worker does with a body that is cut, and what others see of a file while it comes, nobody has written. So
 * nothing is sent under its own name: POST /v1/chunk (touch for an empty file) goes to a hidden name in the same folder, /v1/info must
 * then say that all bytes are there and that the file is complete, and mv gives it its name (alluxio_ee_swap.c). A hidden name whose
 * outcome is unclear is given up, and the bytes are sent under another one: nobody has seen it.
 *
 * A version is length and time. Where a hidden file comes to have the version of the file that it is to replace (equal length, the same
 * millisecond, or second where the under store tells no more), it is sent again when that time has passed: equal versions must be
 * equal bytes.
 *
 * Not promised: conditions (the API has none, and mv may replace), modes and times, folders renamed in one step (on object stores
 * each file below would be copied), uploads in parts. Nothing is written to the under store behind the workers' back: they would go on
 * telling of the old file. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/backend/alluxio_ee_write.h"

#define SEND_TRIES 4
#define LATE_LOOKS 2

/* The options of the vendor's client that would make copy do more than one file, or give up a check. */
#define COPY_OPTIONS "&recursive=False&recursiveAlias=False&forced=False"

static int ee_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  *ret = (struct prelux_able){.caps = PRELUX_EE_WRITE_CAPS, .put_max = UINT64_MAX};
  return 0;
}

int prelux_ee_no_condition(const struct prelux_condition *cond, struct prelux_problem *why)
{
  if (cond->must == PRELUX_MUST_NOTHING)
    return 0;
  return prelux_problem(why, EOPNOTSUPP, "Alluxio Enterprise AI has no conditions on what is replaced or removed");
}

/* A new file on its way: by bytes of ours, or as a copy. */
struct making
{
  struct prelux_ee *e;
  const char *path;
  int fd;
  uint64_t size;
  const struct prelux_put *how;
  const char *source;      /* copy of this; NULL: the bytes of fd */
  struct prelux_object it; /* of copy: the source */
  struct prelux_ee_move move; /* of the hidden file to its name */
  char *temp;
  int stopped; /* what `progress` said */
};

static int watch(void *arg, uint64_t done)
{
  struct making *w = arg;
  if (!w->how->progress || done >= w->size)
    return 0; /* all of it is with the connection */
  w->stopped = w->how->progress(w->how->arg, done);
  return w->stopped;
}

static int send_bytes(struct making *w, struct prelux_problem *why)
{
  struct prelux_net_upload upload = {.fd = w->fd, .len = w->size, .progress = watch, .arg = w};
  struct prelux_ee_change c = {.action = "touch", .path = w->temp};
  if (w->size)
    c = (struct prelux_ee_change){.action = "chunk", .path = w->temp, .more = "&chunkSize=1048576", .upload = &upload};
  int rc = prelux_ee_change(w->e, &c, why);
  return w->stopped < 0 ? prelux_problem(why, -w->stopped, "stopped") : rc;
}

static int copy_bytes(struct making *w, struct prelux_problem *why)
{
  struct prelux_ee_change c = {.action = "copy", .path = w->source, .to = w->temp, .more = COPY_OPTIONS};
  return prelux_ee_change(w->e, &c, why);
}

/* All of it, complete; -EAGAIN: not so, and another try may go better. */
static int check_hidden(struct making *w, struct prelux_problem *why)
{
  struct prelux_object *it = &w->move.it;
  int rc = -EBUSY;
  for (int n = 0; n < PRELUX_EE_LOOKS && rc == -EBUSY; n++)
  {
    if (n && prelux_net_backoff(w->e->net, n - 1) < 0)
      break;
    rc = prelux_ee_look(w->e, w->temp, it, why);
  }
  if (rc == -EBUSY || rc == -EIO || rc == -EPROTO || rc == -ENOENT)
    return -EAGAIN;
  if (rc < 0)
    return rc;
  if (it->type == PRELUX_FILE && it->size == w->size)
    return 0;
  prelux_problem(why, EIO, "/%.200s: afterwards Alluxio has %" PRIu64 " of %" PRIu64 " bytes", w->path, it->size, w->size);
  return -EAGAIN;
}

/* Does the hidden file look like the one that it is to replace? Then its time must pass. */
static bool too_early(const struct making *w)
{
  bool same = w->move.old.type == PRELUX_FILE && strcmp(w->move.old.version, w->move.it.version) == 0;
  const struct timespec tick = {.tv_sec = w->e->whole_seconds ? 1 : 0, .tv_nsec = 5000000};
  if (same)
    clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL);
  return same;
}

static int make_once(struct making *w, struct prelux_problem *why)
{
  int rc = w->source ? copy_bytes(w, why) : send_bytes(w, why);
  if (rc == -PRELUX_EUNKNOWN || rc == -EIO)
    return -EAGAIN;
  if (rc == 0)
    rc = check_hidden(w, why);
  if (rc == 0 && too_early(w))
    rc = -EAGAIN;
  return rc;
}

static int drop_hidden(const struct making *w)
{
  int rc = prelux_ee_drop(w->e, w->temp, NULL);
  if (rc < 0 && rc != -ENOENT)
    prelux_hidden_leave(w->temp);
  return rc;
}

/* The file of a request that was cut may come when nobody waits for it any more. */
static void give_up(const struct making *w)
{
  int rc = drop_hidden(w);
  for (int n = 0; rc == -ENOENT && n < LATE_LOOKS && prelux_net_backoff(w->e->net, n) == 0; n++)
    rc = drop_hidden(w);
}

static int make_hidden(struct making *w, struct prelux_problem *why)
{
  int rc = -EAGAIN;
  for (int tries = 0; tries < SEND_TRIES && rc == -EAGAIN; tries++)
  {
    if (tries && prelux_net_backoff(w->e->net, tries - 1) < 0)
      break;
    free(w->temp);
    w->temp = prelux_hidden_beside(w->path, "put");
    rc = w->temp ? make_once(w, why) : prelux_problem(why, ENOMEM, "no memory for a name");
    if (rc < 0 && w->temp)
      give_up(w);
  }
  return rc == -EAGAIN ? -EIO : rc;
}

/* What is there, if anything. */
static int look_before(struct making *w, struct prelux_problem *why)
{
  int rc = prelux_ee_look(w->e, w->path, &w->move.old, why);
  if (rc == -ENOENT)
    return prelux_ee_above(w->e, w->path, why);
  if (rc == 0 && w->move.old.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "/%.200s is a folder", w->path);
  return rc;
}

/* Is the source what it was before it was copied? */
static int same_source(const struct making *w, struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = prelux_ee_look(w->e, w->source, &now, why);
  if (rc == -EBUSY || rc == -ENOENT || (rc == 0 && (now.type != PRELUX_FILE || strcmp(now.version, w->it.version) != 0)))
    return prelux_problem(why, ESTALE, "/%.200s: changed while it was copied", w->source);
  return rc;
}

static int make(struct making *w, struct prelux_object *ret, struct prelux_problem *why)
{
  int rc = look_before(w, why);
  if (rc == 0)
    rc = make_hidden(w, why);
  if (rc == 0 && w->source && (rc = same_source(w, why)) < 0)
    drop_hidden(w);
  if (rc == 0)
  {
    w->move.from = w->temp;
    w->move.to = w->path;
    w->move.hidden = true;
    rc = prelux_ee_publish(w->e, &w->move, ret, why);
    if (rc < 0) /* also when that is unclear: what comes late then finds nothing to move */
      drop_hidden(w);
  }
  if (rc == 0)
    prelux_hidden_tidy(&w->e->base, w->path);
  free(w->temp);
  return rc;
}

static int ee_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                  struct prelux_problem *why)
{
  struct making w = {.e = (struct prelux_ee *)b, .path = path, .fd = fd, .size = size, .how = how};
  int rc = path[0] ? prelux_ee_may_make(w.e, path, why) : prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0)
    rc = prelux_ee_no_condition(&how->cond, why);
  return rc == 0 ? make(&w, ret, why) : rc;
}

static int ee_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to, const struct prelux_put *how,
                   struct prelux_object *ret, struct prelux_problem *why)
{
  struct making w = {.e = (struct prelux_ee *)b, .path = to, .fd = -1, .how = how, .source = from};
  int rc = to[0] ? prelux_ee_may_make(w.e, to, why) : prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0)
    rc = prelux_ee_no_condition(&how->cond, why);
  if (rc == 0)
    rc = prelux_hidden(from) ? prelux_problem(why, ENOENT, "/%.200s: a name of unfinished work", from)
                             : prelux_ee_look(w.e, from, &w.it, why);
  if (rc == 0 && w.it.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "/%.200s is a folder", from);
  if (rc == 0 && source_version[0] && strcmp(source_version, w.it.version) != 0)
    rc = prelux_problem(why, ESTALE, "/%.200s: changed (was %.100s, is %.100s)", from, source_version, w.it.version);
  w.size = w.it.size;
  return rc == 0 ? make(&w, ret, why) : rc;
}

static int ee_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                    char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  return prelux_problem(why, EOPNOTSUPP, "%.200s: Alluxio Enterprise AI has no uploads in parts", path);
}

static int ee_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  return prelux_problem(why, EOPNOTSUPP, "%.200s: Alluxio Enterprise AI has no call that sets modes and times", path);
}

const struct prelux_backend_write prelux_ee_write = {
    .able = ee_able,
    .put = ee_put,
    .begin = ee_begin,
    .clean = prelux_ee_clean,
    .remove = prelux_ee_remove,
    .rename = prelux_ee_rename,
    .mkdir = prelux_ee_mkdir,
    .rmdir = prelux_ee_rmdir,
    .set_attr = ee_set_attr,
    .copy = ee_copy,
};
