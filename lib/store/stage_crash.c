/* What a killed writer leaves (on_crash).
 *
 * The last one who has a file open for writing decides. If he says that he closed it, it is sent, and close() speaks for all; a process that
 * ends in order says so at its end. If he goes without a word, what he died of decides: of a signal that means a crash (lib/base/process.c), and
 * the file is RECOVERED: its path shows the remote's object again, its bytes wait for a person. Of any other end, or one that the kernel
 * does not tell, it is sent, as a local file would survive. A writer that was killed before others were done is not the end of the file;
 * nor is one who was dead when a later one got it, who has closed it since (a mark says so), however late all that is looked at.
 *
 * Who may be the last: the daemon remembers of each file the processes that got it from the daemon (children that inherited it are not
 * known), by pidfd, so that their numbers may be used again. Nobody waits for their deaths. When nobody can write any more it is looked which
 * of them are dead; a dying process has lost its files a moment before anybody is told that it is dead, and why, so that is waited for, once.
 *
 * What had been closed before, was not sent yet, and is all in the file still, was acknowledged: it is sent with what a killed writer has put behind it.
 *
 * A daemon that died, too: the next one finds who has the files that are WRITING in /proc. Those that nobody has, and nobody tells of
 * for PRELUX_ORPHAN_NS, are RECOVERED: who ends in order, or waits in close(), asks until a daemon has heard him. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/base/process.h"
#include "lib/store/stage.h"

struct prelux_writer { /* under stage.lock, but for pid and pidfd, which stay */
  struct prelux_writer *next;
  int pid, pidfd;
  unsigned refs; /* of files, and of who looks */
};

/* ---- who it is ---- */

static void unref(struct prelux_stage *g, struct prelux_writer *w)
{
  if (--w->refs > 0)
    return;
  struct prelux_writer **at = &g->writers;
  while (*at != w)
    at = &(*at)->next;
  *at = w->next;
  g->n_writers--;
  prelux_os.close(w->pidfd);
  free(w);
}

/* The one of d's list at i. */
static void leave(struct prelux_stage *g, struct prelux_dirty *d, unsigned i)
{
  unref(g, d->writers[i]);
  unsigned older = (1u << i) - 1;
  d->gone_before = (d->gone_before & older) | (d->gone_before >> 1 & ~older);
  d->n_writers--;
  memmove(&d->writers[i], &d->writers[i + 1], (d->n_writers - i) * sizeof d->writers[0]);
}

/* The process, with a reference more; takes pidfd. NULL: there are too many. */
static struct prelux_writer *get(struct prelux_stage *g, int pid, int pidfd)
{
  struct prelux_writer *w = g->writers;
  while (w && (w->pid != pid || prelux_process_dead(w->pidfd)))
    w = w->next;
  if (!w && g->n_writers < PRELUX_WRITERS_MAX && (w = malloc(sizeof *w)))
  {
    *w = (struct prelux_writer){.next = g->writers, .pid = pid, .pidfd = pidfd};
    g->writers = w;
    g->n_writers++;
    pidfd = -1;
  }
  if (w)
    w->refs++;
  if (pidfd >= 0)
    prelux_os.close(pidfd);
  return w;
}

/* w may have written to the file; takes a reference to it, unless nobody wants to know. stage.lock held. */
static void add(struct prelux_stage *g, uint64_t ino, struct prelux_writer *w)
{
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (!d || d->row.state != PRELUX_PENDING_WRITING || (d->row.flags & PRELUX_PENDING_PUBLISH))
    return;
  for (unsigned i = 0; i < d->n_writers; i++)
    if (d->writers[i] == w)
    {
      w->refs++;
      leave(g, d, i); /* it is the youngest now */
      w->refs--;
    }
  if (d->n_writers == PRELUX_FILE_WRITERS)
    leave(g, d, 0);
  for (unsigned i = 0; i < d->n_writers; i++)
    d->gone_before |= prelux_process_dead(d->writers[i]->pidfd) ? 1u << i : 0;
  w->refs++;
  d->writers[d->n_writers++] = w;
}

struct prelux_writer *prelux_crash_hold(struct prelux_stage *g, int pid, int pidfd)
{
  if (pidfd < 0)
    return NULL;
  pthread_mutex_lock(&g->lock);
  struct prelux_writer *w = get(g, pid, pidfd);
  pthread_mutex_unlock(&g->lock);
  return w;
}

void prelux_crash_let_go(struct prelux_stage *g, struct prelux_writer *w)
{
  if (!w)
    return;
  pthread_mutex_lock(&g->lock);
  unref(g, w);
  pthread_mutex_unlock(&g->lock);
}

void prelux_crash_was_writer(struct prelux_stage *g, uint64_t ino, struct prelux_writer *w)
{
  pthread_mutex_lock(&g->lock);
  add(g, ino, w);
  pthread_mutex_unlock(&g->lock);
}

void prelux_crash_writer(struct prelux_stage *g, uint64_t ino, int pid, int pidfd)
{
  struct prelux_writer *w = prelux_crash_hold(g, pid, pidfd);
  if (w)
    prelux_crash_was_writer(g, ino, w);
  prelux_crash_let_go(g, w);
  if (pidfd >= 0)
    prelux_left_again(g, ino, pid);
}

unsigned prelux_crash_writers(const struct prelux_dirty *d, int ret[PRELUX_FILE_WRITERS])
{
  for (unsigned i = 0; i < d->n_writers; i++)
    ret[i] = d->writers[i]->pid;
  return d->n_writers;
}

bool prelux_crash_is_writer(const struct prelux_dirty *d, int pid)
{
  for (unsigned i = 0; i < d->n_writers; i++)
    if (d->writers[i]->pid == pid)
      return true;
  return false;
}

void prelux_crash_forget(struct prelux_stage *g, struct prelux_dirty *d)
{
  while (d->n_writers)
    leave(g, d, d->n_writers - 1);
  d->orphan_ns = 0;
}

unsigned prelux_crash_dead(struct prelux_stage *g, const struct prelux_dirty *d, struct prelux_writer *ret[PRELUX_FILE_WRITERS])
{
  unsigned n = 0;
  pthread_mutex_lock(&g->lock);
  /* While the daemon itself has it, nobody need have outlived who was killed before he got it. */
  for (unsigned i = d->handing ? d->n_writers : 0; i < d->n_writers; i++)
    if (prelux_process_dead(d->writers[i]->pidfd))
    {
      ret[n] = d->writers[i];
      ret[n++]->refs++;
    }
  pthread_mutex_unlock(&g->lock);
  return n;
}

void prelux_crash_outlived(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_writer *const *dead, unsigned n, bool outlived)
{
  pthread_mutex_lock(&g->lock);
  for (unsigned k = 0; k < n; k++)
  {
    for (unsigned i = d && outlived ? d->n_writers : 0; i-- > 0;)
      if (d->writers[i] == dead[k])
        leave(g, d, i);
    unref(g, dead[k]);
  }
  pthread_mutex_unlock(&g->lock);
}

void prelux_crash_closing(struct prelux_stage *g, uint64_t ino, bool begins)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (d && begins)
    d->closing++;
  else if (d && d->closing) /* else it is another of that number by now */
    d->closing--;
  pthread_mutex_unlock(&g->lock);
}

void prelux_crash_handing(struct prelux_stage *g, uint64_t ino, bool begins)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (d && begins)
    d->handing++;
  else if (d && d->handing)
    d->handing--;
  pthread_mutex_unlock(&g->lock);
}

void prelux_crash_wait(struct prelux_stage *g, struct prelux_writer *w)
{
  prelux_process_wait(w->pidfd, PRELUX_DYING_MS);
  pthread_mutex_lock(&g->lock);
  unref(g, w);
  pthread_mutex_unlock(&g->lock);
}

/* ---- what it means ---- */

/* d is the caller's. PRELUX_KEPT, or why not. */
static int keep(struct prelux_stage *g, struct prelux_dirty *d, const struct stat *st, const char *cause, struct prelux_problem *why)
{
  int rc = d->row.to ? prelux_dirty_decide(g, d, why) : 0;
  struct prelux_pending next = d->row;
  char *old = d->row.cause;
  if (rc < 0)
    return rc;
  next.state = PRELUX_PENDING_RECOVERED;
  next.size = (uint64_t)st->st_size;
  next.mtime_ns = prelux_stat_mtime(st);
  next.flags |= PRELUX_PENDING_MTIME;
  next.err = 0;
  next.cause = strdup(cause);
  rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  if (rc < 0)
  {
    free(next.cause);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  prelux_dirty_becomes(g, d, &next); /* an upload that grew with it the next round finds and aborts */
  free(old);
  prelux_live_end(g, d);
  prelux_problem(why, EIO, "%.200s: %s; what it had written is kept, not sent", d->row.path, cause);
  if (g->store->refused_fn)
    g->store->refused_fn(g->store->refused_arg, d->tree, PRELUX_INTENT_PUT, d->row.path, -EIO, why);
  return PRELUX_KEPT;
}

struct verdict
{
  char cause[96];             /* one was killed; else "" */
  int unknown;                /* one that nobody can tell of; else 0 */
  struct prelux_writer *wait; /* one about whom it is too early to tell, or NULL; referenced */
};

static void ask_all(struct prelux_stage *g, struct prelux_dirty *d, struct verdict *v)
{
  struct prelux_writer *list[PRELUX_FILE_WRITERS];
  pthread_mutex_lock(&g->lock);
  unsigned n = d->n_writers, gone_before = d->gone_before;
  for (unsigned i = 0; i < n; i++)
  {
    list[i] = d->writers[i];
    list[i]->refs++;
  }
  pthread_mutex_unlock(&g->lock);
  bool closed = false; /* by a younger one */
  for (unsigned i = n; i-- > 0;)
  {
    int status = 0;
    bool marked = prelux_left_marked(g, d->row.ino, list[i]->pid); /* whatever became of it since */
    closed |= marked;
    if (marked || (closed && gone_before & 1u << i))
      continue;
    enum prelux_end end = prelux_process_end(list[i]->pidfd, list[i]->pid, &status);
    if (end == PRELUX_END_DYING)
      v->wait = v->wait ? v->wait : list[i];
    else if (end == PRELUX_END_UNKNOWN)
      v->unknown = list[i]->pid;
    else if (end == PRELUX_END_KNOWN && prelux_process_crashed(status) && !v->cause[0])
      snprintf(v->cause, sizeof v->cause, "its writer, process %d, was killed by %s", list[i]->pid, prelux_process_signal(status));
  }
  pthread_mutex_lock(&g->lock);
  for (unsigned i = 0; i < n; i++)
    if (list[i] != v->wait)
      unref(g, list[i]);
  pthread_mutex_unlock(&g->lock);
}

int prelux_crash_judge(struct prelux_stage *g, struct prelux_dirty *d, const struct stat *st, bool waited, struct prelux_writer **ret_wait,
                       struct prelux_problem *why)
{
  struct verdict v = {.unknown = 0};
  if (d->row.flags & (PRELUX_PENDING_PUBLISH | PRELUX_PENDING_TOLD))
    return 0;
  if (d->orphan_ns)
    return prelux_store_now() < d->orphan_ns ? -EINPROGRESS : keep(g, d, st, "its writer was gone when the daemon began", why);
  ask_all(g, d, &v);
  if (v.wait && !waited && !v.cause[0])
  {
    *ret_wait = v.wait;
    return -EINPROGRESS;
  }
  if (v.wait)
  {
    pthread_mutex_lock(&g->lock);
    unref(g, v.wait);
    pthread_mutex_unlock(&g->lock);
    if (!v.cause[0]) /* it does not get on with it: the next poll asks again */
      return -EINPROGRESS;
  }
  if (v.cause[0])
    return keep(g, d, st, v.cause, why);
  if (v.unknown)
    prelux_warn("%.200s: process %d has ended and this kernel does not tell how: what it wrote is sent", d->row.path, v.unknown);
  return 0;
}

/* ---- after the death of a daemon ---- */

/* Nobody has written to it since it was as the remote has it; or ever: the answer to the open may have been lost, and the remote had no such file. */
static bool untouched(const struct prelux_pending *row, const struct stat *st)
{
  if (row->base[0] && !(row->flags & (PRELUX_PENDING_NEW | PRELUX_PENDING_OVER | PRELUX_PENDING_MTIME)))
    return (uint64_t)st->st_size == row->size && prelux_stat_mtime(st) == row->mtime_ns;
  return (row->flags & PRELUX_PENDING_FRESH) && st->st_size == 0;
}

bool prelux_crash_orphan(struct prelux_stage *g, uint64_t ino)
{
  struct prelux_dirty *d = prelux_dirty_take_ino(g, ino);
  struct stat st;
  if (!d)
    return true;
  int fd = prelux_stage_reopen(g, ino, O_RDONLY | O_NONBLOCK), rc = fd < 0 ? fd : prelux_stage_last_gone(fd);
  bool sent = !d->row.path || (d->row.flags & (PRELUX_PENDING_PUBLISH | PRELUX_PENDING_TOLD)) || prelux_left_before(g, ino);
  bool is = rc == -EAGAIN || (rc == 0 && !sent && prelux_os.fstat(fd, &st) == 0 && !untouched(&d->row, &st));
  pthread_mutex_lock(&g->lock);
  if (is && rc == 0)
    d->orphan_ns = prelux_store_now() + g->orphan_len_ns;
  pthread_mutex_unlock(&g->lock);
  if (fd >= 0)
    prelux_os.close(fd);
  prelux_dirty_give(g, d);
  return is;
}

struct looking
{
  struct prelux_stage *g;
  char folders[2][4300]; /* staging/, and the one on another file system; "": there is none. With a slash at the end */
  size_t left;           /* files whose writers are looked for */
};

static void name_folder(int fd, char *ret, size_t cap)
{
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = fd < 0 ? -1 : readlink(link, ret, cap - 2);
  ret[n < 0 ? 0 : n] = 0;
  if (n > 0)
    strcat(ret, "/");
}

static uint64_t number_in(const struct looking *l, const char *path)
{
  for (int i = 0; i < 2; i++)
  {
    size_t len = strlen(l->folders[i]);
    char *end;
    if (len == 0 || strncmp(path, l->folders[i], len) != 0 || !isdigit((unsigned char)path[len]))
      continue;
    uint64_t ino = strtoull(path + len, &end, 10);
    return *end ? 0 : ino | (i ? PRELUX_INO_SCRATCH : 0);
  }
  return 0;
}

/* The staging file that a descriptor of /proc/PID/fd can write to; 0: it is none. */
static uint64_t staged(const struct looking *l, int dir, const char *name)
{
  char path[4400];
  struct stat st;
  if (prelux_os.fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !(st.st_mode & 0200))
    return 0;
  ssize_t n = readlinkat(dir, name, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  return number_in(l, path);
}

static void look_at(struct looking *l, const char *pid)
{
  char path[300];
  const struct dirent *e;
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *dir = prelux_os.opendir(path);
  while (dir && (e = readdir(dir)))
  {
    uint64_t ino = isdigit((unsigned char)e->d_name[0]) ? staged(l, dirfd(dir), e->d_name) : 0;
    int pidfd = ino ? prelux_process_open(atoi(pid)) : -1;
    if (pidfd >= 0 && staged(l, dirfd(dir), e->d_name) == ino) /* the process had that number all the while */
      prelux_crash_writer(l->g, ino, atoi(pid), pidfd);
    else if (pidfd >= 0)
      prelux_os.close(pidfd);
  }
  if (dir)
    closedir(dir);
}

void prelux_crash_find_writers(struct prelux_stage *g)
{
  struct looking l = {.g = g};
  const struct dirent *e;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots; i++)
    for (const struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      l.left += d->row.state == PRELUX_PENDING_WRITING && !d->orphan_ns && d->n_writers == 0;
  pthread_mutex_unlock(&g->lock);
  DIR *dir = l.left ? prelux_os.opendir("/proc") : NULL;
  name_folder(g->fd, l.folders[0], sizeof l.folders[0]);
  name_folder(g->store->scratch_fd, l.folders[1], sizeof l.folders[1]);
  while (dir && (e = readdir(dir)))
    if (isdigit((unsigned char)e->d_name[0]) && atoi(e->d_name) != getpid())
      look_at(&l, e->d_name);
  if (dir)
    closedir(dir);
}
