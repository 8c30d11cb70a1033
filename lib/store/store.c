/* Opening and closing a store, its trees and views. */
#include "lib/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/attrs.h"
#include "lib/store/folder_time.h"
#include "lib/store/links.h"
#include "lib/store/partial.h"
#include "lib/store/pin.h"
#include "lib/store/share.h"
#include "lib/store/stage_lease.h"

/* st_dev of trees: device majors that Linux assigns to nobody (dynamic ones end at 511, and 2032 up is unused). */
#define DEV_MAJOR 0x7f0u

static void close_fd(int fd)
{
  if (fd >= 0)
    prelux_os.close(fd);
}

static void tree_free(struct prelux_tree *t)
{
  if (!t)
    return;
  close_fd(t->fd);
  prelux_numbers_release(t);
  prelux_attrs_release(t);
  prelux_folder_times_release(t);
  prelux_links_release(t);
  pthread_mutex_destroy(&t->numbers.learn);
  pthread_mutex_destroy(&t->attrs.lock);
  pthread_mutex_destroy(&t->times.lock);
  pthread_mutex_destroy(&t->links.lock);
  free(t->identity);
  free(t->root);
  free(t->views);
  free(t);
}

static int set_path(struct prelux_store *s, int fd, const char *dir)
{
  char link[32], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n > 0)
    path[n] = 0;
  else if (!realpath(dir, path))
    return -errno;
  s->dir = strdup(path);
  if (asprintf(&s->staging, "%s/.prelux/staging", path) < 0)
    s->staging = NULL;
  return s->dir && s->staging ? 0 : -ENOMEM;
}

static int open_sub(struct prelux_store *s, int at, const char *name, int *ret_fd, struct prelux_problem *why)
{
  int ret = prelux_mkdir_at(at, name);
  int fd = ret < 0 ? ret : prelux_dir_open(at, name);
  if (fd < 0)
    return prelux_problem(why, -fd, "cache folder %s: %s: %s", s->dir, name, strerror(-fd));
  *ret_fd = fd;
  return 0;
}

static int open_folders(struct prelux_store *s, const char *dir, struct prelux_problem *why)
{
  struct stat st;
  int ret = s->dir_fd = prelux_place_open(dir, why);
  if (ret >= 0 && (ret = set_path(s, s->dir_fd, dir)) < 0)
    prelux_problem(why, -ret, "cache folder %s: %s", dir, strerror(-ret));
  if (ret >= 0)
    ret = prelux_place_check(s->dir_fd, s->dir, s->opts.single, why);
  if (ret >= 0)
    ret = open_sub(s, s->dir_fd, ".prelux", &s->meta_fd, why);
  if (ret < 0)
    return ret;
  if (prelux_os.fstat(s->dir_fd, &st) < 0)
    return prelux_problem(why, errno, "cache folder %s: %s", s->dir, strerror(errno));
  s->dev = st.st_dev;
  s->read_bits = st.st_mode & 077 ? 0400 : 0444;
  s->exec_bits = st.st_mode & 077 ? 0100 : 0111;
  if (prelux_os.fstat(s->meta_fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 077))
    return prelux_problem(why, EACCES, "%s/.prelux is not a folder of ours with mode 0700", s->dir);
  if (st.st_dev != s->dev)
    return prelux_problem(why, EXDEV, "%s/.prelux lies on another file system than its folder", s->dir);
  prelux_stamp_open(s);
  return 0;
}

static int open_state(struct prelux_store *s, struct prelux_problem *why)
{
  char path[PATH_MAX];
  int ret = prelux_lock_take(s, why);
  if (ret == 0)
    ret = open_sub(s, s->meta_fd, "fill", &s->fill_fd, why);
  if (ret == 0)
    ret = open_sub(s, s->meta_fd, "held", &s->held_fd, why);
  if (ret == 0)
    ret = open_sub(s, s->meta_fd, "recovered", &s->recovered_fd, why);
  if (ret < 0)
    return ret;
  if (snprintf(path, sizeof path, "%s/.prelux/catalogue.db", s->dir) >= (int)sizeof path)
    return prelux_problem(why, ENAMETOOLONG, "cache folder %s: the name is too long", s->dir);
  ret = prelux_catalogue_open(path, &s->cat, why);
  return ret < 0 ? ret : prelux_recover(s, why);
}

static int set_limits(struct prelux_store *s, struct prelux_problem *why)
{
  struct statfs fs;
  uint64_t epoch;
  if (prelux_os.fstatfs(s->dir_fd, &fs) < 0)
    return prelux_problem(why, errno, "cache folder %s: %s", s->dir, strerror(errno));
  uint64_t total = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
  s->ghosts.apart_ns = 1000000000;
  s->ghosts.young_ns = 2000000000;
  s->max_bytes = s->opts.max_size ? s->opts.max_size : total / 2;
  uint64_t share = (uint64_t)((double)total * s->opts.min_free_share);
  if (share > s->opts.min_free_bytes)
    s->opts.min_free_bytes = share;
  if (!(s->opts.high > 0 && s->opts.high <= 1))
    s->opts.high = 0.9;
  if (!(s->opts.low > 0 && s->opts.low <= s->opts.high))
    s->opts.low = s->opts.high * 0.9;
  int ret = prelux_catalogue_totals(s->cat, &s->used, &s->stats.files, &epoch);
  if (ret == 0)
    ret = prelux_pins_load(s);
  s->used += prelux_partials_bytes(s);
  return ret < 0 ? prelux_problem(why, -ret, "cache catalogue of %s: %s", s->dir, strerror(-ret)) : 0;
}

/* One from before, before all trees: what it names would else be sent behind what is written from now on. */
static int open_journal(struct prelux_store *s, struct prelux_problem *why)
{
  struct stat st;
  if (prelux_os.fstatat(s->meta_fd, "journal.db", &st, AT_SYMLINK_NOFOLLOW) == 0)
    return prelux_store_writable(s, why);
  return errno == ENOENT ? 0 : prelux_problem(why, errno, "cache folder %s: journal.db: %s", s->dir, strerror(errno));
}

static int open_once(const struct prelux_store_opts *opts, struct prelux_index_writer *index, struct prelux_store **ret,
                     struct prelux_problem *why)
{
  struct prelux_store *s = calloc(1, sizeof *s);
  if (!s)
    return prelux_problem(why, ENOMEM, "out of memory");
  uint64_t first;
  s->opts = *opts;
  s->opts.dir = NULL;
  s->index = index;
  s->scratch_fd = s->scratch_held_fd = s->dir_fd = s->meta_fd = s->fill_fd = s->held_fd = s->recovered_fd = s->lock_fd = s->clock_fd = -1;
  pthread_mutex_init(&s->lock, NULL);
  pthread_mutex_init(&s->evict_lock, NULL);
  pthread_mutex_init(&s->pin_lock, NULL);
  pthread_mutex_init(&s->parts_lock, NULL);
  pthread_cond_init(&s->parts_cond, NULL);
  pthread_mutex_init(&s->stage_lock, NULL);
  int result = 0;
  if (getrandom(&s->seed, sizeof s->seed, 0) != sizeof s->seed || getrandom(&first, sizeof first, 0) != sizeof first)
    result = prelux_problem(why, EIO, "no random numbers");
  atomic_init(&s->next_name, first);
  if (result == 0 && (prelux_entries_init(s) < 0 || prelux_folders_init(s) < 0))
    result = prelux_problem(why, ENOMEM, "out of memory");
  if (result == 0)
    result = open_folders(s, opts->dir, why);
  if (result == 0)
    result = open_state(s, why);
  if (result == 0 && !opts->single) /* else `trees` is a folder of the remote. The lock is ours by now */
    prelux_share_shut(s->dir_fd);
  if (result == 0)
    result = set_limits(s, why);
  if (result == 0)
    result = open_journal(s, why);
  s->epoch_ns = prelux_store_now();
  s->opened = result == 0;
  if (result == 0)
    *ret = s;
  else
    prelux_store_close(s);
  return result;
}

int prelux_store_open(const struct prelux_store_opts *opts, struct prelux_index_writer *index, struct prelux_store **ret,
                      struct prelux_problem *why)
{
  int result = open_once(opts, index, ret, why);
  /* Damage in the middle of a catalogue shows when rows are read; closing has put it aside. */
  return result == -EUCLEAN ? open_once(opts, index, ret, why) : result;
}

void prelux_store_close(struct prelux_store *s)
{
  struct prelux_tree *next;
  if (!s)
    return;
  if (s->stage)
    prelux_grow_end(s->stage);
  if (s->opened)
    prelux_recover_closed(s);
  prelux_stage_free(s->stage);
  for (struct prelux_tree *t = s->trees; t; t = next)
  {
    next = t->next;
    tree_free(t);
  }
  for (int i = 0; i < s->n_uses; i++)
    free(s->uses[i].path);
  free(s->uses);
  prelux_partials_release(s);
  prelux_pins_free(s);
  free(s->ghosts.slots);
  if (s->entries.slots)
    prelux_entries_release(s);
  if (s->folders.slots)
    prelux_folders_release(s);
  prelux_catalogue_free(s->cat);
  prelux_lock_release(s);
  close_fd(s->clock_fd);
  close_fd(s->recovered_fd);
  close_fd(s->held_fd);
  close_fd(s->scratch_held_fd);
  close_fd(s->scratch_fd);
  close_fd(s->fill_fd);
  close_fd(s->meta_fd);
  close_fd(s->dir_fd);
  pthread_mutex_destroy(&s->lock);
  pthread_mutex_destroy(&s->evict_lock);
  pthread_mutex_destroy(&s->pin_lock);
  pthread_mutex_destroy(&s->parts_lock);
  pthread_cond_destroy(&s->parts_cond);
  pthread_mutex_destroy(&s->stage_lock);
  free(s->dir);
  free(s->staging);
  free(s->scratch);
  free(s);
}

void prelux_store_account(struct prelux_store *s, int64_t old, int64_t bytes)
{
  uint64_t was = old > 0 ? (uint64_t)old : 0;
  s->used -= was < s->used ? was : s->used;
  s->used += bytes > 0 ? (uint64_t)bytes : 0;
  s->stats.files += bytes >= 0;
  s->stats.files -= old >= 0 && s->stats.files > 0;
}

uint64_t prelux_store_drop_row(struct prelux_tree *t, const char *object)
{
  struct prelux_store *s = t->store;
  uint64_t bytes = 0;
  if (prelux_catalogue_del(s->cat, t->id, object, &bytes) < 0)
    return 0;
  pthread_mutex_lock(&s->lock);
  prelux_store_account(s, (int64_t)bytes, -1);
  pthread_mutex_unlock(&s->lock);
  return bytes;
}

const char *prelux_store_dir(const struct prelux_store *s)
{
  return s->dir;
}

const char *prelux_store_staging(const struct prelux_store *s)
{
  return s->staging;
}

void prelux_store_stats(struct prelux_store *s, struct prelux_store_stats *ret)
{
  pthread_mutex_lock(&s->lock);
  *ret = s->stats;
  ret->used_bytes = s->used;
  ret->max_bytes = s->max_bytes;
  pthread_mutex_unlock(&s->lock);
}

static bool unlinked(int fd)
{
  struct stat st;
  return prelux_os.fstat(fd, &st) == 0 && st.st_nlink == 0;
}

bool prelux_store_lost(struct prelux_store *s)
{
  struct stat now, ours;
  const int fds[] = {s->meta_fd, s->fill_fd, s->held_fd, s->recovered_fd, s->lock_fd};
  int rc = prelux_os.stat(s->dir, &now) < 0 ? errno : 0;
  bool lost = rc == ENOENT || rc == ENOTDIR;
  if (rc == 0 && prelux_os.fstat(s->dir_fd, &ours) == 0)
    lost = now.st_dev != ours.st_dev || now.st_ino != ours.st_ino;
  for (size_t i = 0; !lost && i < sizeof fds / sizeof *fds; i++)
    lost = unlinked(fds[i]);
  pthread_mutex_lock(&s->lock);
  for (const struct prelux_tree *t = s->trees; !lost && t; t = t->next)
    lost = unlinked(t->fd);
  pthread_mutex_unlock(&s->lock);
  return lost;
}

void prelux_store_tick(struct prelux_store *s)
{
  if (s->stage)
  {
    prelux_lease_tick(s->stage);
    prelux_stage_poll(s->stage);
    prelux_spare_drop(s->stage, false);
  }
  prelux_hold_sweep(s);
  prelux_evict_tick(s);
  prelux_folder_times_save(s);
  prelux_recover_epoch(s);
}

/* ---- trees ---- */

/* The file `identity` beside a data folder says whose mirror it is. 0, or -EEXIST: somebody else's. */
static int check_identity(int dirfd, const char *identity, const char *dir, struct prelux_problem *why)
{
  char text[4096] = "";
  size_t len = strlen(identity);
  int fd = prelux_os.openat(dirfd, "identity", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  ssize_t n = fd < 0 ? -1 : prelux_os.pread(fd, text, sizeof text - 1, 0);
  int ret = n < 0 ? -errno : 0;
  if (n == 0)
    ret = prelux_write_all(fd, identity, len);
  if (n == 0 && ret < 0)
    prelux_os.ftruncate(fd, 0); /* half an identity would be another one */
  close_fd(fd);
  if (ret < 0)
    return prelux_problem(why, -ret, "cannot use %s/identity: %s", dir, strerror(-ret));
  if (n <= 0 || ((size_t)n == len && memcmp(text, identity, len) == 0))
    return 0;
  prelux_problem(why, EEXIST, "cache folder %s mirrors %.200s, not %.200s", dir, text, identity);
  if (why)
    snprintf(why->advice, sizeof why->advice, "give each remote its own `cache:` folder");
  return -EEXIST;
}

/* Opens trees/<id>/data, or the store's own folder. */
static int open_data(struct prelux_tree *t, struct prelux_problem *why)
{
  struct prelux_store *s = t->store;
  char name[24], root[PATH_MAX];
  int trees = -1, dir = -1, ret = 0;
  if (s->opts.single)
  {
    ret = check_identity(s->meta_fd, t->identity, s->dir, why);
    if (ret == 0 && (t->fd = prelux_os.fcntl(s->dir_fd, F_DUPFD_CLOEXEC, 3)) < 0)
      ret = prelux_problem(why, errno, "cache folder %s: %s", s->dir, strerror(errno));
    if (ret == 0 && !(t->root = strdup(s->dir)))
      ret = prelux_problem(why, ENOMEM, "out of memory");
    return ret;
  }
  snprintf(name, sizeof name, "%016llx", (unsigned long long)prelux_store_hash(t->identity, strlen(t->identity), 0));
  if (snprintf(root, sizeof root, "%s/trees/%s/data", s->dir, name) >= (int)sizeof root)
    return prelux_problem(why, ENAMETOOLONG, "cache folder %s: the name is too long", s->dir);
  ret = open_sub(s, s->dir_fd, "trees", &trees, why);
  if (ret == 0)
    ret = open_sub(s, trees, name, &dir, why);
  if (ret == 0)
    ret = check_identity(dir, t->identity, root, why);
  if (ret == 0)
    ret = open_sub(s, dir, "data", &t->fd, why);
  if (ret == 0 && !(t->root = strdup(root)))
    ret = prelux_problem(why, ENOMEM, "out of memory");
  close_fd(trees);
  close_fd(dir);
  return ret;
}

static int tree_new(struct prelux_store *s, const char *identity, struct prelux_tree **ret, struct prelux_problem *why)
{
  struct prelux_tree *t = calloc(1, sizeof *t);
  if (!t || !(t->identity = strdup(identity)))
  {
    free(t);
    return prelux_problem(why, ENOMEM, "out of memory");
  }
  t->fd = -1;
  pthread_mutex_init(&t->numbers.learn, NULL);
  pthread_mutex_init(&t->attrs.lock, NULL);
  pthread_mutex_init(&t->times.lock, NULL);
  pthread_mutex_init(&t->links.lock, NULL);
  t->store = s;
  t->base_id = prelux_store_hash(identity, strlen(identity), prelux_store_hash(s->dir, strlen(s->dir), 0));
  t->dev = makedev(DEV_MAJOR + (t->base_id >> 20 & 0xf), t->base_id & 0xfffff);
  int result = open_data(t, why);
  if (result == 0 && getrandom(&t->key, sizeof t->key, 0) != sizeof t->key)
    result = prelux_problem(why, EIO, "no random numbers");
  if (result == 0)
  {
    result = prelux_catalogue_tree(s->cat, identity, &t->id, &t->key, &t->dev);
    if (result == 0)
      result = prelux_numbers_load(t);
    if (result == 0)
      result = prelux_attrs_load(t);
    if (result == 0)
      result = prelux_folder_times_load(t);
    if (result == 0)
      result = prelux_links_load(t);
    if (result < 0)
      prelux_problem(why, -result, "cache catalogue of %s: %s", s->dir, strerror(-result));
  }
  if (result == 0)
    *ret = t;
  else
    tree_free(t);
  return result;
}

static struct prelux_tree *find_tree(struct prelux_store *s, const char *identity)
{
  struct prelux_tree *t = s->trees;
  while (t && strcmp(t->identity, identity) != 0)
    t = t->next;
  return t;
}

int prelux_tree_open(struct prelux_store *s, const char *identity, struct prelux_backend *backend, struct prelux_tree **ret,
                     struct prelux_problem *why)
{
  struct prelux_tree *made = NULL;
  pthread_mutex_lock(&s->lock);
  struct prelux_tree *t = find_tree(s, identity);
  pthread_mutex_unlock(&s->lock);
  if (!t)
  {
    int result = tree_new(s, identity, &made, why);
    if (result < 0)
      return result;
  }
  pthread_mutex_lock(&s->lock);
  t = find_tree(s, identity);
  if (!t)
  {
    made->next = s->trees;
    s->trees = t = made;
    made = NULL;
    prelux_links_count(t);
  }
  struct prelux_backend *before = t->backend;
  if (backend)
    t->backend = backend;
  bool fresh = backend && s->stage && !t->taken_up; /* recovery opens trees before the journal */
  t->taken_up |= fresh;
  pthread_mutex_unlock(&s->lock);
  tree_free(made);
  *ret = t;
  int rc = fresh ? prelux_stage_take_up(s->stage, t, why) : 0;
  if (rc < 0) /* the caller's backend is his again */
  {
    pthread_mutex_lock(&s->lock);
    t->taken_up = false;
    t->backend = before;
    pthread_mutex_unlock(&s->lock);
  }
  return rc;
}

const char *prelux_tree_root(const struct prelux_tree *t)
{
  return t->root;
}

struct prelux_store *prelux_tree_store(const struct prelux_tree *t)
{
  return t->store;
}

uint64_t prelux_tree_dev(const struct prelux_tree *t)
{
  return t->dev;
}

/* True: seen for the first time. */
static bool add_view(struct prelux_tree *t, const struct prelux_view *v)
{
  for (size_t i = 0; i < t->n_views; i++)
    if (t->views[i].id == v->id)
      return false;
  if (t->n_views == PRELUX_VIEWS_MAX)
  {
    prelux_warn("%s: more than %u ways to see one tree; this one is served without the index", t->identity, PRELUX_VIEWS_MAX);
    return false;
  }
  struct prelux_view *grown = realloc(t->views, (t->n_views + 1) * sizeof *grown);
  if (!grown)
    return false;
  grown[t->n_views++] = *v;
  t->views = grown;
  return true;
}

void prelux_view_init(struct prelux_view *v, struct prelux_tree *t, uint32_t freshness, uint64_t max_age_ns,
                      uint64_t negative_age_ns, uint32_t file_mode, uint32_t dir_mode)
{
  uint64_t words[6] = {t->base_id, freshness, max_age_ns, negative_age_ns, file_mode, dir_mode};
  pthread_mutex_lock(&t->store->lock);
  *v = (struct prelux_view){
      .tree = t,
      .backend = t->backend,
      .id = prelux_store_hash(words, sizeof words, 0),
      .freshness = freshness,
      .max_age_ns = max_age_ns,
      .negative_age_ns = negative_age_ns,
      .file_mode = file_mode & 07777,
      .dir_mode = dir_mode & 07777,
  };
  bool first = add_view(t, v);
  pthread_mutex_unlock(&t->store->lock);
  if (first && t->store->index)
  {
    prelux_open_warm(v);
    prelux_live_begin(v);
    prelux_links_begin(v);
  }
}
