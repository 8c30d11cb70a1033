/* What a start finds of the last owner, and what it leaves for the next.
 *
 * Killed daemon, same boot: everything written is still there. Rows "filling" are decided by the inode they name; fill/ (but
 * for what can be gone on with: partial.h) and held/ are emptied.
 *
 * Power loss (another boot, no clean end): data reaches the disk when the kernel likes. So fills belong to epochs; every 30 s an
 * epoch ends with a syncfs, and only then its number is noted as safe. Rows of later epochs are dropped with their files.
 * Commits of the catalogue itself may be lost as well, and with them rows of files that are there, perhaps of zeros: the time
 * from the last safe epoch to the start is kept as one of distrust (adopt.c). Boot id, clean mark and epoch are durable before
 * the first fill. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/folder_time.h"
#include "lib/store/partial.h"
#include "lib/store/stage.h"

#define BATCH 64
#define CLOCK_SLACK_NS 5000000000ll

/* 0 when there is none; *rc is the first failure. */
static int64_t meta_number(struct prelux_store *s, const char *key, int *rc)
{
  char text[32];
  int err = prelux_catalogue_meta(s->cat, key, text, sizeof text);
  if (*rc == 0 && err < 0 && err != -ENOENT)
    *rc = err;
  return err == 0 ? strtoll(text, NULL, 10) : 0;
}

static int set_number(struct prelux_store *s, const char *key, int64_t value)
{
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  return prelux_catalogue_set_meta(s->cat, key, text);
}

static int remove_one(void *arg, int dirfd, const char *name)
{
  return prelux_os.unlinkat(dirfd, name, 0) == 0 || errno == ENOENT ? 0 : -errno;
}

static struct prelux_tree *tree_by_id(struct prelux_store *s, int64_t id)
{
  char identity[4096];
  struct prelux_tree *t = NULL;
  if (prelux_catalogue_identity(s->cat, id, identity, sizeof identity) == 0)
    prelux_tree_open(s, identity, NULL, &t, NULL);
  return t;
}

static bool lies_there(struct prelux_store *s, const struct prelux_victim *v)
{
  struct stat st;
  int fd;
  struct prelux_tree *t = tree_by_id(s, v->tree);
  if (!t || prelux_disk_open(t, v->path, O_RDONLY | O_NONBLOCK, &fd, &st) < 0)
    return false;
  prelux_os.close(fd);
  return st.st_dev == s->dev && st.st_ino == v->ino && prelux_stat_mtime(&st) == v->file_mtime_ns;
}

static int decide_fills(struct prelux_store *s)
{
  struct prelux_victim rows[BATCH];
  int n;
  while ((n = prelux_catalogue_unfinished(s->cat, rows, BATCH)) > 0)
  {
    int rc = 0;
    for (int i = 0; i < n; i++)
    {
      if (rc == 0 && lies_there(s, &rows[i]))
        rc = prelux_catalogue_promote(s->cat, rows[i].tree, rows[i].path);
      if (rc == 0)
        rc = prelux_catalogue_abort(s->cat, rows[i].tree, rows[i].path);
      free(rows[i].path);
    }
    if (rc < 0)
      return rc;
  }
  return n;
}

static int drop_file(struct prelux_store *s, const struct prelux_victim *v)
{
  const char *base;
  int dir;
  if (lies_there(s, v) && prelux_disk_parent(tree_by_id(s, v->tree), v->path, false, &dir, &base) == 0)
  {
    int rc = prelux_os.unlinkat(dir, base, 0) < 0 && errno != ENOENT ? -errno : 0;
    prelux_os.close(dir);
    if (rc < 0)
      return rc;
  }
  uint64_t bytes;
  int rc = prelux_catalogue_del(s->cat, v->tree, v->path, &bytes);
  return rc == -ENOENT ? 0 : rc;
}

/* The files of epochs that no syncfs has ended. */
static int drop_unsafe(struct prelux_store *s, uint64_t safe)
{
  struct prelux_victim rows[BATCH];
  int n;
  unsigned dropped = 0;
  while ((n = prelux_catalogue_later(s->cat, safe, rows, BATCH)) > 0)
  {
    int rc = 0;
    for (int i = 0; i < n; i++)
    {
      if (rc == 0)
        rc = drop_file(s, &rows[i]);
      free(rows[i].path);
    }
    if (rc < 0)
      return rc;
    dropped += (unsigned)n;
  }
  if (dropped)
    prelux_info("cache folder %s: %u files filled just before an unclean shutdown were dropped", s->dir, dropped);
  return n;
}

static int check_boot(struct prelux_store *s)
{
  char now[40] = "", then[40] = "";
  int rc = prelux_lock_boot(now), err = prelux_catalogue_meta(s->cat, "boot", then, sizeof then);
  if (rc == 0 && err != -ENOENT)
    rc = err;
  bool other = *then && strcmp(now, then) != 0;
  uint64_t safe = (uint64_t)meta_number(s, "safe_epoch", &rc), bytes, files, last;
  s->distrust_from = meta_number(s, "distrust_from", &rc);
  s->distrust_to = meta_number(s, "distrust_to", &rc);
  bool clean = meta_number(s, "clean", &rc);
  int64_t safe_at = meta_number(s, "safe_at", &rc);
  if (rc == 0 && other && !clean)
  {
    int64_t from = safe_at - CLOCK_SLACK_NS;
    if (!s->distrust_to || from < s->distrust_from)
      s->distrust_from = from;
    s->distrust_to = prelux_store_wall() + CLOCK_SLACK_NS;
    rc = drop_unsafe(s, safe);
    if (rc == 0)
      rc = set_number(s, "distrust_from", s->distrust_from);
    if (rc == 0)
      rc = set_number(s, "distrust_to", s->distrust_to);
  }
  if (rc == 0)
    rc = prelux_catalogue_totals(s->cat, &bytes, &files, &last);
  if (rc == 0)
    prelux_catalogue_set_epoch(s->cat, (last > safe ? last : safe) + 1);
  if (rc == 0 && !safe_at)
    rc = set_number(s, "safe_at", prelux_store_wall());
  if (rc == 0)
    rc = set_number(s, "clean", 0);
  if (rc == 0)
    rc = prelux_catalogue_set_meta(s->cat, "boot", now);
  prelux_catalogue_durable(s->cat);
  return rc;
}

int prelux_recover(struct prelux_store *s, struct prelux_problem *why)
{
  int rc = decide_fills(s);
  if (rc == 0)
    rc = prelux_partials_load(s);
  if (rc == 0)
    rc = prelux_dir_each(s->held_fd, remove_one, NULL);
  if (rc == 0)
    rc = check_boot(s);
  return rc < 0 ? prelux_problem(why, -rc, "cache folder %s: cannot recover: %s", s->dir, strerror(-rc)) : 0;
}

/* Ends the current epoch: what it filled is on the disk now. */
static int end_epoch(struct prelux_store *s)
{
  int64_t at = prelux_store_wall();
  uint64_t ended = prelux_catalogue_next_epoch(s->cat);
  int rc = prelux_os.syncfs(s->dir_fd) < 0 ? -errno : 0;
  if (rc == 0 && s->stage)
    prelux_stage_synced(s->stage, at);
  if (rc == 0)
    rc = set_number(s, "safe_epoch", (int64_t)ended);
  return rc < 0 ? rc : set_number(s, "safe_at", at);
}

void prelux_recover_epoch(struct prelux_store *s)
{
  uint64_t now = prelux_store_now();
  pthread_mutex_lock(&s->lock);
  bool due = s->unsynced && now - s->epoch_ns >= PRELUX_EPOCH_NS;
  if (due)
  {
    s->unsynced = false;
    s->epoch_ns = now;
  }
  pthread_mutex_unlock(&s->lock);
  int rc = due ? end_epoch(s) : 0;
  if (rc < 0)
  {
    prelux_warn("cache folder %s: syncfs: %s", s->dir, strerror(-rc));
    pthread_mutex_lock(&s->lock);
    s->unsynced = true;
    pthread_mutex_unlock(&s->lock);
  }
}

void prelux_recover_closed(struct prelux_store *s)
{
  prelux_evict_tick(s);
  prelux_folder_times_save(s);
  if (s->unsynced && end_epoch(s) < 0)
    return;
  if (s->stage)
    prelux_stage_all_safe(s->stage);
  if (set_number(s, "clean", 1) == 0)
    prelux_catalogue_durable(s->cat);
}
