/* Closes that nobody waits for. What a close of an `async` mapping promises was done when the file was opened, so the library leaves a mark and
 * goes on: left/INO.PID, INO the staging file's number and PID the process that has closed it, one more name of the empty file left/0. No daemon is needed
 * for that, and it outlives the death of all.
 *
 * The kernel tells of the close itself (daemon/watch.c), a moment later; and who wants to know what is owed has the marks looked at first. A
 * process that was killed after it had left its mark has closed its file in order (stage_crash.c), and so has one that a daemon before did not hear.
 *
 * A mark stays as long as it may be wanted: until its file is not WRITING any more, and while it is, if the process is one of its writers. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/base/os.h"
#include "lib/store/stage_lease.h"

struct mark
{
  uint64_t ino;
  int pid;
};

struct marks
{
  struct mark *list;
  size_t n, cap;
};

static void name_of(uint64_t ino, int pid, char ret[48])
{
  snprintf(ret, 48, "%" PRIu64 ".%d", ino, pid);
}

static int note(void *arg, int dirfd, const char *name)
{
  struct marks *m = arg;
  struct mark e;
  char *end;
  e.ino = strtoull(name, &end, 10);
  e.pid = *end == '.' ? atoi(end + 1) : 0;
  if (e.ino == 0 || e.pid <= 0)
    return 0;
  if (m->n == m->cap)
  {
    size_t cap = m->cap ? m->cap * 2 : 64;
    struct mark *more = realloc(m->list, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    m->list = more;
    m->cap = cap;
  }
  m->list[m->n++] = e;
  return 0;
}

static int by_ino(const void *a, const void *b)
{
  const struct mark *x = a, *y = b;
  return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* malloc'd, by number; those that could be read. */
static int read_marks(struct prelux_stage *g, struct marks *ret)
{
  *ret = (struct marks){0};
  int rc = g->left_fd > 0 ? prelux_dir_each(g->left_fd, note, ret) : 0;
  if (ret->n)
    qsort(ret->list, ret->n, sizeof *ret->list, by_ino);
  return rc;
}

static void wipe(struct prelux_stage *g, const struct mark *m)
{
  char name[48];
  name_of(m->ino, m->pid, name);
  prelux_os.unlinkat(g->left_fd, name, 0);
}

bool prelux_left_marked(struct prelux_stage *g, uint64_t ino, int pid)
{
  struct stat st;
  char name[48];
  name_of(ino, pid, name);
  return g->left_fd > 0 && prelux_os.fstatat(g->left_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Other processes than those that are known as writers have closed nothing that is theirs to close. */
bool prelux_left_by_writer(struct prelux_stage *g, const struct prelux_dirty *d)
{
  int pids[PRELUX_FILE_WRITERS];
  pthread_mutex_lock(&g->lock);
  unsigned n = prelux_crash_writers(d, pids);
  pthread_mutex_unlock(&g->lock);
  for (unsigned i = 0; i < n; i++)
    if (prelux_left_marked(g, d->row.ino, pids[i]))
      return true;
  return d->resumed && prelux_left_before(g, d->row.ino);
}

void prelux_left_again(struct prelux_stage *g, uint64_t ino, int pid)
{
  if (g->left_fd > 0)
    wipe(g, &(struct mark){.ino = ino, .pid = pid});
}

/* The file may be asked about this process yet. */
static bool wanted(struct prelux_stage *g, const struct mark *m)
{
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_ino(g, m->ino);
  bool yes = d ? d->row.state == PRELUX_PENDING_WRITING && (d->busy || prelux_crash_is_writer(d, m->pid)) : prelux_left_before(g, m->ino);
  pthread_mutex_unlock(&g->lock);
  return yes || (!d && prelux_lease_has(g, m->ino));
}

void prelux_left_settle(struct prelux_stage *g)
{
  struct marks m;
  read_marks(g, &m);
  prelux_lease_adopt(g); /* behind that: whose marks were read has its row then */
  for (size_t i = 0; i < m.n; i++)
    if (i == 0 || m.list[i].ino != m.list[i - 1].ino)
      prelux_stage_left(g, m.list[i].ino);
  for (size_t i = 0; i < m.n; i++)
    if (!wanted(g, &m.list[i]))
      wipe(g, &m.list[i]);
  free(m.list);
}

/* ---- what a daemon before has left ---- */

bool prelux_left_before(const struct prelux_stage *g, uint64_t ino)
{
  size_t low = 0, high = g->n_left;
  while (low < high)
  {
    size_t middle = low + (high - low) / 2;
    if (g->left[middle] < ino)
      low = middle + 1;
    else
      high = middle;
  }
  return low < g->n_left && g->left[low] == ino;
}

int prelux_left_begin(struct prelux_stage *g)
{
  struct marks m;
  int rc = prelux_mkdir_at(g->store->meta_fd, PRELUX_LEFT_FOLDER);
  int fd = rc < 0 ? rc : prelux_dir_open(g->store->meta_fd, PRELUX_LEFT_FOLDER);
  if (fd < 0)
    return fd;
  g->left_fd = fd;
  int source = prelux_os.openat(fd, "0", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (source < 0)
    return -errno;
  prelux_os.close(source);
  int read = read_marks(g, &m); /* else who has closed would count as killed */
  g->left = m.n ? malloc(m.n * sizeof *g->left) : NULL;
  for (size_t i = 0; i < m.n && g->left; i++)
    g->left[g->n_left++] = m.list[i].ino;
  free(m.list);
  return read < 0 ? read : m.n && !g->left ? -ENOMEM : 0;
}

void prelux_left_keep(struct prelux_stage *g, bool (*owed)(void *arg, uint64_t ino), void *arg)
{
  struct marks m;
  read_marks(g, &m);
  for (size_t i = 0; i < m.n; i++)
    if (!owed(arg, m.list[i].ino))
      wipe(g, &m.list[i]);
  free(m.list);
}

void prelux_left_end(struct prelux_stage *g)
{
  if (g->left_fd > 0)
    prelux_os.close(g->left_fd);
  free(g->left);
}
