/* `staging: DIR`: new files that are written are staged on another file system than the cache's, /dev/shm above all.
 *
 *   DIR/prelux-UID/ID/files/   staging files, each named by its inode number
 *   DIR/prelux-UID/ID/held/    those that have lost their name and are open yet, as `held` of the cache
 *
 * ID is a random number that the journal keeps: another store's folder is never taken for ours. Rows call such a file by its inode number
 * and PRELUX_INO_SCRATCH. Only what is made anew lies there: a cached file that is opened for writing is its own inode, in the cache.
 *
 * A tmpfs is empty after a restart of the machine, and others may empty it sooner. So a file there gets its name before its row, and the row is
 * marked SENT before the name goes: a row that is neither, and whose file is not there, has lost its bytes. It stays, as RECOVERED, for a person to
 * hear of. A DIR that is not there, or that is of another file system than it was and was none in memory (a disk that is not mounted yet), says
 * nothing of what was in it: the store takes no writes, nor tells what its files are, until it is back. A file of DIR that nobody has in a row
 * was never passed to a program unless it has bytes; those are told of and left.
 *
 * What is sent from here does not move into the cache: it is copied (stage_drop.c), or dropped. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/stage.h"

#define ROOM_SHARE 4u /* a new file goes there while this part of it is free: those there may grow */
#define COPY_PIECE (1u << 20)
#define TMPFS_MAGIC 0x01021994u
#define RAMFS_MAGIC 0x858458f6u

/* ---- the folder */

/* Ours, and nobody else gets in. A descriptor, or -errno. */
static int own_folder(int at, const char *name, bool make, const char *dir, struct prelux_problem *why)
{
  struct stat st;
  int rc = make ? prelux_mkdir_at(at, name) : 0, fd = rc < 0 ? rc : prelux_dir_open(at, name);
  if (fd < 0)
    return fd == -ENOENT && !make ? fd : prelux_problem(why, -fd, "staging folder %s/%s: %s", dir, name, strerror(-fd));
  if (prelux_os.fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 077))
    return fd;
  prelux_os.close(fd);
  return prelux_problem(why, EACCES, "staging folder %s/%s: not a folder of ours with mode 0700", dir, name);
}

/* DIR/prelux-UID. 1: it is on the cache's file system. */
static int open_top(const struct prelux_store *s, const char *dir, bool make, int *ret, struct prelux_problem *why)
{
  struct stat st;
  char name[32];
  int at = prelux_os.open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0)
    return prelux_problem(why, errno == ENOENT ? ENODEV : errno, "staging folder %s: %s", dir, strerror(errno));
  snprintf(name, sizeof name, "prelux-%u", (unsigned)geteuid());
  int rc = prelux_os.fstat(at, &st) < 0 ? -errno : st.st_dev == s->dev ? 1 : own_folder(at, name, make, dir, why);
  prelux_os.close(at);
  if (rc < 0 || (rc == 1 && st.st_dev == s->dev))
    return rc;
  *ret = rc;
  rc = prelux_place_check(*ret, dir, false, why);
  if (rc < 0)
    prelux_os.close(*ret);
  if (rc < 0 && why)
    snprintf(why->advice, sizeof why->advice, "set `staging` to a folder of this machine");
  return rc;
}

static int remove_one(void *arg, int dirfd, const char *name)
{
  prelux_os.unlinkat(dirfd, name, 0);
  return 0;
}

static int real_path(int fd, char ret[PATH_MAX])
{
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, ret, PATH_MAX - 1);
  if (n < 0)
    return -errno;
  ret[n] = 0;
  return 0;
}

/* Files and held, below our own folder. From here on the store has it. */
static int take_folders(struct prelux_store *s, int own, const char *dir, bool make, struct prelux_problem *why)
{
  struct stat st;
  char path[PATH_MAX];
  char *copy = NULL;
  int files = own_folder(own, "files", make, dir, why), held = files < 0 ? files : own_folder(own, "held", make, dir, why);
  int rc = held < 0 ? held : prelux_os.fstat(files, &st) < 0 ? -errno : real_path(files, path);
  if (rc == 0 && !(copy = strdup(path)))
    rc = -ENOMEM;
  if (rc < 0)
  {
    if (files >= 0)
      prelux_os.close(files);
    if (held >= 0)
      prelux_os.close(held);
    return rc;
  }
  prelux_dir_each(held, remove_one, NULL);
  s->scratch_fd = files;
  s->scratch_held_fd = held;
  s->scratch_dev = st.st_dev;
  atomic_store(&s->scratch, copy);
  return 0;
}

/* What DIR is a folder of: "memory", which may be another after each restart; else a name that its file system keeps; "" where it has none. */
static void name_of_fs(const char *dir, char ret[40])
{
  struct statfs fs;
  uint32_t id[2] = {0};
  int fd = prelux_os.open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  *ret = 0;
  if (fd >= 0 && prelux_os.fstatfs(fd, &fs) == 0)
  {
    memcpy(id, &fs.f_fsid, sizeof id);
    if ((uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC)
      snprintf(ret, 40, "memory");
    else if (id[0] || id[1])
      snprintf(ret, 40, "%08x%08x", id[0], id[1]);
  }
  if (fd >= 0)
    prelux_os.close(fd);
}

/* Another file system is mounted there now, or none any more. */
static bool is_another(struct prelux_stage *g, const char *dir)
{
  char was[40] = "", now[40];
  if (prelux_journal_meta(g->journal, "scratch_fs", was, sizeof was) < 0)
    return true; /* nothing is lost because it cannot be read now */
  name_of_fs(dir, now);
  return was[0] && strcmp(was, "memory") != 0 && strcmp(was, now) != 0;
}

/* 0; 1: not needed; -ENOENT: !make, and it is not there. */
static int open_scratch(struct prelux_stage *g, const char *dir, bool make, struct prelux_problem *why)
{
  char id[40] = "", fs[40];
  uint64_t random;
  int top = -1, rc = open_top(g->store, dir, make, &top, why);
  if (rc != 0)
    return rc;
  rc = prelux_journal_meta(g->journal, "scratch_id", id, sizeof id);
  if (rc == 0 && !id[0])
  {
    if (getrandom(&random, sizeof random, 0) != sizeof random)
      rc = -EIO;
    snprintf(id, sizeof id, "%016" PRIx64, random);
    rc = rc == 0 ? prelux_journal_set_meta(g->journal, "scratch_id", id) : rc;
  }
  if (rc == 0 && make && (rc = prelux_journal_set_meta(g->journal, "scratch", dir)) == 0)
  {
    name_of_fs(dir, fs);
    rc = prelux_journal_set_meta(g->journal, "scratch_fs", fs);
  }
  int own = rc < 0 ? rc : own_folder(top, id, make, dir, why);
  rc = own < 0 ? own : take_folders(g->store, own, dir, make, why);
  if (own >= 0)
    prelux_os.close(own);
  prelux_os.close(top);
  return rc;
}

int prelux_store_stage_in(struct prelux_store *s, const char *dir, struct prelux_problem *why)
{
  char is[PATH_MAX] = "";
  int rc = prelux_store_writable(s, why);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&s->stage_lock);
  if (s->scratch)
    rc = prelux_journal_meta(s->stage->journal, "scratch", is, sizeof is);
  if (rc < 0)
    prelux_problem(why, -rc, "journal of %s: %s", s->dir, strerror(-rc));
  else if (!s->scratch)
    rc = open_scratch(s->stage, dir, true, why);
  else if (strcmp(is, dir) != 0)
    rc = prelux_problem(why, EBUSY, "cache folder %s has its staging folder in %s until its daemon ends", s->dir, is);
  pthread_mutex_unlock(&s->stage_lock);
  return rc;
}

const char *prelux_store_scratch(const struct prelux_store *s, uint64_t *ret_dev)
{
  const char *dir = s->scratch;
  *ret_dev = dir ? s->scratch_dev : 0;
  return dir;
}

bool prelux_scratch_room(const struct prelux_store *s)
{
  struct statfs fs;
  return s->scratch && prelux_os.fstatfs(s->scratch_fd, &fs) == 0 && fs.f_bavail > fs.f_blocks / ROOM_SHARE;
}

int prelux_stage_durable(struct prelux_stage *g, uint64_t ino, uint64_t mark)
{
  if ((ino & PRELUX_INO_SCRATCH) && g->store->scratch_fd >= 0 && prelux_os.fsync(g->store->scratch_fd) < 0)
    return -errno;
  return prelux_journal_durable(g->journal, mark);
}

/* ---- what a daemon before has left */

static int any(void *arg, const struct prelux_pending *row)
{
  *(bool *)arg |= row->intent == PRELUX_INTENT_PUT && (row->ino & PRELUX_INO_SCRATCH);
  return 0;
}

/* A row whose bytes are gone: it stays, without a file. One that nobody could ever have sent goes. */
static int lost(struct prelux_stage *g, const struct prelux_pending *row, const char *dir)
{
  char cause[PATH_MAX + 200];
  struct prelux_pending next = *row;
  if (!row->path || (row->flags & PRELUX_PENDING_SENT))
    return prelux_stage_journal(g, PRELUX_EDIT_DROP, &next);
  snprintf(cause, sizeof cause, "lost: its bytes were in %.*s, which was emptied before they were sent (a restart of the machine?)", PATH_MAX - 1, dir);
  prelux_error("%s: %s", row->path, cause);
  next.state = PRELUX_PENDING_RECOVERED;
  next.ino = 0;
  next.err = EIO;
  next.cause = cause;
  return prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
}

struct looking
{
  struct prelux_stage *g;
  char dir[PATH_MAX];
};

static int look(void *arg, const struct prelux_pending *row)
{
  struct looking *l = arg;
  struct stat st;
  char name[24];
  if (row->intent != PRELUX_INTENT_PUT || !(row->ino & PRELUX_INO_SCRATCH))
    return 0;
  int folder = prelux_stage_name(l->g, row->ino, name); /* -1: it went with all that was in it */
  bool there = folder >= 0 && prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (folder >= 0 && !there && errno != ENOENT)
    return -errno;
  return there && st.st_ino == PRELUX_INO(row->ino) ? 0 : lost(l->g, row, l->dir);
}

int prelux_scratch_begin(struct prelux_stage *g, struct prelux_problem *why)
{
  struct looking l = {.g = g};
  bool used = false;
  int rc = prelux_journal_each(g->journal, any, &used);
  if (rc == 0 && used)
    rc = prelux_journal_meta(g->journal, "scratch", l.dir, sizeof l.dir);
  if (rc < 0 || !used)
    return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
  rc = open_scratch(g, l.dir, false, why);
  if (rc == 1 || (rc == -ENOENT && is_another(g, l.dir)))
    rc = prelux_problem(why, ENODEV, "staging folder %s: what was staged there was on another file system", l.dir);
  if (rc < 0 && rc != -ENOENT)
    return rc; /* nothing is lost because it cannot be looked at now */
  rc = prelux_journal_each(g->journal, look, &l);
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
}

/* ---- into the cache */

static int copy_bytes(int from, int to, uint64_t size)
{
  char *buf = malloc(COPY_PIECE);
  int rc = buf ? 0 : -ENOMEM;
  for (uint64_t at = 0; rc == 0 && at < size;)
  {
    ssize_t n = prelux_os.pread(from, buf, COPY_PIECE, (off_t)at);
    rc = n < 0 ? -errno : n == 0 ? -EIO : prelux_pwrite_all(to, buf, (size_t)n, at);
    at += n > 0 ? (uint64_t)n : 0;
  }
  free(buf);
  return rc;
}

static int finish_copy(const struct prelux_store *s, const struct prelux_dirty *d, int to, struct stat *ret)
{
  const struct timespec mtime = {.tv_sec = d->row.mtime_ns / 1000000000, .tv_nsec = d->row.mtime_ns % 1000000000};
  const struct timespec times[2] = {mtime, mtime};
  mode_t mode = s->read_bits | (d->row.mode & 0111 ? s->exec_bits : 0);
  return prelux_os.futimens(to, times) < 0 || prelux_os.fchmod(to, mode) < 0 || prelux_os.fstat(to, ret) < 0 ? -errno : 0;
}

int prelux_scratch_copy(struct prelux_stage *g, const struct prelux_dirty *d, const struct prelux_object *obj, char name[32], struct prelux_row *ret)
{
  struct prelux_store *s = g->store;
  struct prelux_problem why = {0};
  struct stat st;
  int from = prelux_stage_reopen(g, d->row.ino, O_RDONLY), to = -1, rc = from < 0 ? from : prelux_room_take(s, d->row.size, &why);
  bool room = rc == 0;
  snprintf(name, 32, "%016llx", (unsigned long long)atomic_fetch_add(&s->next_name, 1));
  if (rc == 0 && (to = prelux_os.openat(s->fill_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
    rc = -errno;
  if (rc == 0)
    rc = copy_bytes(from, to, d->row.size);
  if (rc == 0)
    rc = finish_copy(s, d, to, &st);
  if (to >= 0)
    prelux_os.close(to);
  if (to >= 0 && rc < 0)
    prelux_os.unlinkat(s->fill_fd, name, 0);
  if (from >= 0)
    prelux_os.close(from);
  if (room)
    prelux_room_return(s, d->row.size);
  if (rc == 0)
    *ret = (struct prelux_row){.obj = *obj, .ino = st.st_ino, .bytes = (uint64_t)st.st_blocks * 512,
                               .file_mtime_ns = prelux_stat_mtime(&st), .used_ns = prelux_store_wall()};
  return rc;
}
