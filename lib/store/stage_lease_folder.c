/* The folders of leases on the disk, and what a daemon that died has left in them. See stage_lease.h. */
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
#include "lib/store/stage_lease.h"

#define OF ".of"

static void folder_name(int64_t number, const char *end, char ret[40])
{
  snprintf(ret, 40, "%" PRId64 "%s", number, end);
}

/* Does a listing of the folder tell the number that fstat tells? Some stacked file systems do not. */
static bool tells_numbers(int fd, uint64_t ino)
{
  int copy = prelux_dir_open(fd, ".");
  DIR *d = copy < 0 ? NULL : prelux_os.fdopendir(copy);
  const struct dirent *e;
  bool same = false;
  while (d && !same && (e = readdir(d)))
    same = strcmp(e->d_name, PRELUX_LEASE_PLACEHOLDER) == 0 && e->d_ino == ino;
  if (d)
    closedir(d);
  return same;
}

static int begin(struct prelux_stage *g)
{
  struct stat st;
  int fd = prelux_dir_open(g->store->meta_fd, PRELUX_LEASE_FOLDER);
  if (fd < 0)
    return fd;
  g->leases.fd = fd;
  int source = prelux_os.openat(fd, PRELUX_LEASE_PLACEHOLDER, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  int rc = source < 0 || prelux_os.fstat(source, &st) < 0 ? -errno : 0;
  if (source >= 0)
    prelux_os.close(source);
  if (rc == 0)
    rc = prelux_lease_recover(g);
  g->leases.off = rc < 0 || !tells_numbers(fd, st.st_ino);
  return rc;
}

int prelux_lease_begin(struct prelux_stage *g, struct prelux_problem *why)
{
  int made = prelux_mkdir_at(g->store->meta_fd, PRELUX_LEASE_FOLDER), rc = made < 0 ? made : begin(g);
  if (rc == 0)
    return 0;
  g->leases.off = true;
  if (made != -ENOSPC && made != -EDQUOT) /* it may be there, with files in it */
    return prelux_problem(why, -rc, "cache folder %s: staging: %s", g->store->dir, strerror(-rc));
  prelux_error("%s/.prelux/" PRELUX_LEASE_FOLDER ": %s", g->store->dir, strerror(-rc));
  return 0;
}

int prelux_lease_make_folder(struct prelux_stage *g, const struct prelux_lease_what *w)
{
  char name[40], of[40], text[PRELUX_OBJECT_MAX + 80];
  folder_name(w->number, "", name);
  folder_name(w->number, OF, of);
  snprintf(text, sizeof text, "%" PRId64 " %" PRIx32 " %" PRIo32 " %s", w->tree, w->flags, w->mode, w->folder);
  if (prelux_os.symlinkat(text, g->leases.fd, of) < 0)
    return -errno;
  int rc = prelux_mkdir_at(g->leases.fd, name), fd = rc < 0 ? rc : prelux_dir_open(g->leases.fd, name);
  if (fd < 0)
    prelux_os.unlinkat(g->leases.fd, of, 0);
  return fd;
}

void prelux_lease_remove_folder(struct prelux_stage *g, int64_t number, int fd)
{
  char name[40];
  const struct dirent *e;
  int copy = prelux_dir_open(fd, ".");
  DIR *d = copy < 0 ? NULL : prelux_os.fdopendir(copy);
  while (d && (e = readdir(d)))
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      prelux_os.unlinkat(fd, e->d_name, 0);
  if (d)
    closedir(d);
  folder_name(number, "", name);
  prelux_os.unlinkat(g->leases.fd, name, AT_REMOVEDIR);
  folder_name(number, PRELUX_LEASE_CLOSED, name);
  prelux_os.unlinkat(g->leases.fd, name, AT_REMOVEDIR);
  folder_name(number, OF, name); /* last: a folder without it tells nothing */
  prelux_os.unlinkat(g->leases.fd, name, 0);
}

/* ---- left by a daemon that died ---- */

struct numbers
{
  uint64_t *list;
  size_t n, cap;
};

struct left
{
  struct prelux_stage *g;
  struct numbers known, named; /* sorted: files that have rows; those that have names in folders of leases */
  uint64_t placeholder;
};

static int add(struct numbers *to, uint64_t ino)
{
  if (to->n == to->cap)
  {
    size_t cap = to->cap ? to->cap * 2 : 256;
    uint64_t *more = realloc(to->list, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    to->list = more;
    to->cap = cap;
  }
  to->list[to->n++] = ino;
  return 0;
}

static int note_row(void *arg, const struct prelux_pending *row)
{
  return add(&((struct left *)arg)->known, row->ino);
}

static int by_number(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static void sort(struct numbers *x)
{
  if (x->n)
    qsort(x->list, x->n, sizeof *x->list, by_number);
}

static bool has(const struct numbers *x, uint64_t ino)
{
  return x->n && bsearch(&ino, x->list, x->n, sizeof ino, by_number);
}

/* False: it is not one of ours. */
static bool parse(const char *text, struct prelux_lease_what *ret)
{
  int at = 0;
  if (sscanf(text, "%" SCNd64 " %" SCNx32 " %" SCNo32 "%n", &ret->tree, &ret->flags, &ret->mode, &at) != 3 || text[at] != ' ')
    return false;
  ret->folder = text + at + 1;
  return true;
}

/* The row that the open would have made. The file has its name in staging/ unless the lease was just ending. */
static int make_row(struct left *r, const struct prelux_lease_what *w, int dirfd, const char *name, const struct stat *st)
{
  char path[PRELUX_OBJECT_MAX + NAME_MAX + 2], staging[24];
  struct prelux_pending row = {.tree = w->tree, .intent = PRELUX_INTENT_PUT, .state = PRELUX_PENDING_WRITING, .flags = w->flags, .path = path,
                               .ino = st->st_ino, .mode = w->mode, .made_ns = w->number};
  snprintf(path, sizeof path, "%s%s%s", w->folder, *w->folder ? "/" : "", name);
  snprintf(staging, sizeof staging, "%" PRIu64, (uint64_t)st->st_ino);
  if (prelux_os.linkat(dirfd, name, r->g->fd, staging, 0) < 0 && errno != EEXIST)
    return -errno;
  return prelux_stage_journal(r->g, PRELUX_EDIT_ADD, &row);
}

static int make_rows(struct left *r, const struct prelux_lease_what *w, int dirfd)
{
  int rc = 0, copy = prelux_dir_open(dirfd, ".");
  DIR *d = copy < 0 ? NULL : prelux_os.fdopendir(copy);
  const struct dirent *e;
  struct stat st;
  if (!d)
    return copy < 0 ? copy : -ENOMEM;
  while (rc == 0 && (errno = 0, e = readdir(d)))
  {
    if (*e->d_name == '.')
      continue;
    if (prelux_os.fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      rc = errno == ENOENT ? 0 : -errno;
    else if (S_ISREG(st.st_mode) && st.st_ino != r->placeholder && !has(&r->known, st.st_ino))
      rc = make_row(r, w, dirfd, e->d_name, &st);
  }
  if (rc == 0)
    rc = -errno;
  closedir(d);
  return rc;
}

static int take_up(struct left *r, const char *name)
{
  char of[64], text[PRELUX_OBJECT_MAX + 80];
  struct prelux_lease_what w = {.number = strtoll(name, NULL, 10)};
  struct prelux_stage *g = r->g;
  folder_name(w.number, OF, of);
  ssize_t n = prelux_os.readlinkat(g->leases.fd, of, text, sizeof text - 1);
  int rc = n < 0 && errno != ENOENT ? -errno : 0, fd = rc < 0 ? rc : prelux_dir_open(g->leases.fd, name);
  if (fd < 0)
    return fd;
  text[n > 0 ? n : 0] = 0;
  if (parse(text, &w))
    rc = make_rows(r, &w, fd);
  if (rc == 0)
    prelux_lease_remove_folder(g, w.number, fd);
  prelux_os.close(fd);
  return rc;
}

/* 1, 0, or -errno. */
static int is_folder(int dirfd, const char *name)
{
  struct stat st;
  if (*name < '1' || *name > '9')
    return 0;
  if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : -errno;
  return S_ISDIR(st.st_mode);
}

static int look(void *arg, int dirfd, const char *name)
{
  int is = is_folder(dirfd, name);
  return is > 0 ? take_up(arg, name) : is;
}

/* Who was granted the lease may be at it yet: from now on he does not find the folder. */
static int close_one(void *arg, int dirfd, const char *name)
{
  char closed[40];
  int is = strchr(name, '.') ? 0 : is_folder(dirfd, name);
  if (is <= 0)
    return is;
  folder_name(strtoll(name, NULL, 10), PRELUX_LEASE_CLOSED, closed);
  return prelux_os.renameat(dirfd, name, dirfd, closed) < 0 ? -errno : 0;
}

static int note_name(void *arg, int dirfd, const char *name)
{
  struct stat st;
  if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : -errno;
  return add(&((struct left *)arg)->named, st.st_ino);
}

static int note_names(void *arg, int dirfd, const char *name)
{
  int is = is_folder(dirfd, name), fd = is > 0 ? prelux_dir_open(dirfd, name) : -1;
  if (is <= 0 || fd < 0)
    return is <= 0 ? is : fd;
  int rc = prelux_dir_each(fd, note_name, arg);
  prelux_os.close(fd);
  return rc;
}

/* What may have been given, and has no name: he who has found the folder already can give it none any more. Who was faster has a name by now that was
 * not there just before, and make_row() gives back the other. */
static int take_back(void *arg, int dirfd, const char *name)
{
  const struct left *r = arg;
  struct stat st;
  uint64_t ino = strtoull(name, NULL, 10);
  if (ino && !has(&r->known, ino) && !has(&r->named, ino) && prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
      st.st_ino == ino && st.st_size == 0)
    prelux_os.unlinkat(dirfd, name, 0);
  return 0;
}

static int close_all(struct left *r)
{
  int rc = prelux_dir_each(r->g->leases.fd, close_one, r);
  if (rc == 0)
    rc = prelux_dir_each(r->g->leases.fd, note_names, r);
  sort(&r->named);
  return rc < 0 ? rc : prelux_dir_each(r->g->fd, take_back, r);
}

/* Left without a folder by a death in between. */
static int clear_words(void *arg, int dirfd, const char *name)
{
  size_t len = strlen(name), of = strlen(OF);
  if (len > of && strcmp(name + len - of, OF) == 0)
    prelux_os.unlinkat(dirfd, name, 0);
  return 0;
}

int prelux_lease_recover(struct prelux_stage *g)
{
  struct left r = {.g = g};
  struct stat st;
  int rc = prelux_os.fstatat(g->leases.fd, PRELUX_LEASE_PLACEHOLDER, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : prelux_journal_each(g->journal, note_row, &r);
  r.placeholder = st.st_ino;
  sort(&r.known);
  if (rc == 0)
    rc = close_all(&r);
  if (rc == 0)
    rc = prelux_dir_each(g->leases.fd, look, &r);
  if (rc == 0)
    rc = prelux_dir_each(g->leases.fd, clear_words, &r);
  free(r.known.list);
  free(r.named.list);
  return rc;
}
