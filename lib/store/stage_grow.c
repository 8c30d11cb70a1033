/* Parts that are sent while their file is still being written.
 *
 * Whoever writes a large file to a `sync` mapping waits at the close until the remote has it, and most of it could have been there before. So
 * one thread of a stage looks at files that grow. Where one is longer than what goes in one piece, an upload is begun, and its parts that
 * lie well behind the end are sent once each, several at once. At the close stage_parts.c takes the upload over.
 *
 * Nobody tells of writes, so nothing is believed: a part is copied out of the file first, and its copy is both hashed and sent. At the close,
 * when nobody can write any more, each part is hashed again; what has another hash than the bytes that were sent is sent anew, and
 * so is the last part, always: if the upload is gone, that is heard before the end of it. All that can go wrong here costs time alone: the close
 * then sends all, as if nothing had been sent.
 *
 *   looked at   WRITING, of a path, sync, made anew or truncated (else little may change of what the remote has), whole parts of data (no
 *               holes: room taken in advance) behind the end
 *   not at all  remotes whose folders are things of their own: an upload in one might keep it from being removed
 *
 * An upload belongs to the path under which it was begun. When its file is renamed, removed, or sent otherwise, the upload is lost: the thread
 * aborts it (stage_lost.c), and no other is begun. Its token stands in the row before the first part is sent, so that the next daemon can abort it.
 *
 * Locks: all members of an upload but the file's own are guarded by stage.lock; while `busy` is not 0 it is not freed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/os.h"
#include "lib/store/stage.h"

#define FILES_MAX 64u /* that grow at once; others are sent at their close */
#define PART_MAX (32u << 20) /* a copy is made of each part under way */
#define TRIES_MAX 3
#define SOON_NS 1000000000ll /* what was written in less goes in one piece where that is as fast (prelux_able.whole_max) */
#define PIECE (256u << 10)

struct sent_part
{
  bool sent;
  XXH128_hash_t sum;
  char tag[PRELUX_TAG_MAX];
};

struct prelux_grow
{
  struct prelux_grow *next;
  struct prelux_tree *tree;
  char *path;
  char token[PRELUX_TOKEN_MAX];
  uint64_t ino, part_size, seed;
  int fd;                  /* the staging file */
  struct sent_part *parts; /* of `begun` */
  size_t begun, ready;     /* parts that were begun; that may be */
  unsigned busy;           /* parts under way */
  bool stopped;            /* no more are begun: one failed */
  bool lost;               /* nobody will complete it */
};

/* ---- hashes ---- */

static int hash_of(const struct prelux_grow *w, int fd, uint64_t off, uint64_t len, XXH128_hash_t *ret)
{
  char *buf = malloc(PIECE);
  XXH3_state_t *state = XXH3_createState();
  int rc = buf && state ? 0 : -ENOMEM;
  if (rc == 0)
    XXH3_128bits_reset_withSeed(state, w->seed);
  for (uint64_t done = 0; rc == 0 && done < len;)
  {
    ssize_t n = prelux_os.pread(fd, buf, len - done < PIECE ? (size_t)(len - done) : PIECE, (off_t)(off + done));
    if (n < 0 && errno == EINTR)
      continue;
    rc = n < 0 ? -errno : n == 0 ? -EINVAL : 0;
    if (rc == 0)
      XXH3_128bits_update(state, buf, (size_t)n);
    done += n > 0 ? (uint64_t)n : 0;
  }
  if (rc == 0)
    *ret = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  free(buf);
  return rc;
}

bool prelux_grow_has(const struct prelux_grow *w, size_t n, int fd, uint64_t len, char tag[PRELUX_TAG_MAX])
{
  XXH128_hash_t now;
  if (n >= w->begun || !w->parts[n].sent || len != w->part_size || hash_of(w, fd, n * w->part_size, len, &now) < 0 ||
      !XXH128_isEqual(now, w->parts[n].sum))
    return false;
  memcpy(tag, w->parts[n].tag, PRELUX_TAG_MAX);
  return true;
}

/* ---- one part ---- */

struct copy
{
  int fd;
  char *map;
  size_t cap;
};

static void copy_free(struct copy *c)
{
  if (c->map)
    munmap(c->map, c->cap);
  if (c->fd >= 0)
    close(c->fd);
  *c = (struct copy){.fd = -1};
}

static int copy_room(struct copy *c, size_t len)
{
  if (c->cap >= len)
    return 0;
  copy_free(c);
  c->fd = memfd_create("prelux-part", MFD_CLOEXEC);
  if (c->fd < 0 || ftruncate(c->fd, (off_t)len) < 0)
    return -errno;
  void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
  if (map == MAP_FAILED)
    return -errno;
  c->map = map;
  c->cap = len;
  return 0;
}

/* And its hash, piece by piece, while each is in the processor's cache. 0; -EINVAL: the file ends before. */
static int copy_part(struct copy *c, const struct prelux_grow *w, size_t n, XXH128_hash_t *ret)
{
  XXH3_state_t *state = XXH3_createState();
  int rc = state ? copy_room(c, (size_t)w->part_size) : -ENOMEM;
  if (rc == 0)
    XXH3_128bits_reset_withSeed(state, w->seed);
  for (size_t done = 0; rc == 0 && done < w->part_size;)
  {
    size_t left = (size_t)w->part_size - done;
    ssize_t got = prelux_os.pread(w->fd, c->map + done, left < PIECE ? left : PIECE, (off_t)(n * w->part_size + done));
    if (got < 0 && errno == EINTR)
      continue;
    rc = got < 0 ? -errno : got == 0 ? -EINVAL : 0;
    if (rc == 0)
      XXH3_128bits_update(state, c->map + done, (size_t)got);
    done += got > 0 ? (size_t)got : 0;
  }
  if (rc == 0)
    *ret = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  return rc;
}

static void send_part(struct prelux_stage *g, struct prelux_grow *w, size_t n, struct copy *c)
{
  struct prelux_backend *b = w->tree->backend;
  struct sent_part part = {.sent = false};
  int rc = copy_part(c, w, n, &part.sum);
  bool cut = rc == -EINVAL;
  if (rc == 0)
    rc = b->ops->write->part(b, w->path, w->token, (unsigned)n, c->fd, 0, w->part_size, part.tag, NULL);
  part.sent = rc == 0;
  pthread_mutex_lock(&g->lock);
  w->parts[n] = part;
  w->stopped |= rc < 0 && !cut;
  w->busy--;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}

/* One that may be sent, begun; NULL: there is none. stage.lock held. */
static struct prelux_grow *next_part(struct prelux_stage *g, size_t *ret)
{
  for (struct prelux_grow *w = g->grower.files; w && !g->grower.ending; w = w->next)
  {
    if (w->stopped || w->lost || w->begun >= w->ready)
      continue;
    struct sent_part *more = realloc(w->parts, (w->begun + 1) * sizeof *more);
    if (!more)
      return NULL;
    w->parts = more;
    w->parts[w->begun] = (struct sent_part){.sent = false};
    *ret = w->begun++;
    w->busy++;
    return w;
  }
  return NULL;
}

static void *send_ready(void *arg)
{
  struct prelux_stage *g = arg;
  struct copy c = {.fd = -1};
  struct prelux_grow *w;
  size_t n;
  pthread_mutex_lock(&g->lock);
  while ((w = next_part(g, &n)))
  {
    pthread_mutex_unlock(&g->lock);
    send_part(g, w, n, &c);
    pthread_mutex_lock(&g->lock);
  }
  pthread_mutex_unlock(&g->lock);
  copy_free(&c);
  return NULL;
}

static size_t count_ready(struct prelux_stage *g)
{
  size_t n = 0;
  pthread_mutex_lock(&g->lock);
  for (const struct prelux_grow *w = g->grower.files; w; w = w->next)
    n += w->stopped || w->lost ? 0 : w->ready - w->begun;
  pthread_mutex_unlock(&g->lock);
  return n;
}

static void send_all(struct prelux_stage *g)
{
  pthread_t helpers[PRELUX_PARTS_AT_ONCE - 1];
  size_t n = 0, ready = count_ready(g);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 512u << 10);
  while (n < PRELUX_PARTS_AT_ONCE - 1 && n + 1 < ready && pthread_create(&helpers[n], &attr, send_ready, g) == 0)
    n++;
  pthread_attr_destroy(&attr);
  if (ready)
    send_ready(g); /* without helpers too */
  while (n > 0)
    pthread_join(helpers[--n], NULL);
}

/* ---- uploads ---- */

void prelux_grow_free(struct prelux_grow *w)
{
  if (!w)
    return;
  if (w->fd >= 0)
    prelux_os.close(w->fd);
  free(w->parts);
  free(w->path);
  free(w);
}

/* stage.lock held. */
static void leave_list(struct prelux_stage *g, struct prelux_grow *w)
{
  struct prelux_grow **at = &g->grower.files;
  while (*at != w)
    at = &(*at)->next;
  *at = w->next;
}

void prelux_grow_lose(struct prelux_stage *g, struct prelux_dirty *d)
{
  if (!d->grow)
  {
    prelux_lost_row(g, d);
    return;
  }
  d->grow->lost = true;
  d->grow = NULL;
  pthread_cond_signal(&g->grower.wake);
}

struct prelux_grow *prelux_grow_take(struct prelux_stage *g, struct prelux_dirty *d, const char *path, uint64_t size, const struct prelux_able *able,
                                     uint64_t *ret_part_size)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_grow *w = d->grow;
  d->grow = NULL;
  if (w)
  {
    w->stopped = true;
    while (w->busy)
      pthread_cond_wait(&g->changed, &g->lock);
    if (size <= g->parts_above || strcmp(w->path, path) != 0 || (able->parts_max && size / w->part_size >= able->parts_max))
    {
      w->lost = true;
      pthread_cond_signal(&g->grower.wake);
      w = NULL;
    }
    else
    {
      leave_list(g, w);
      *ret_part_size = w->part_size;
    }
  }
  pthread_mutex_unlock(&g->lock);
  return w;
}

/* Those that nobody will complete. */
static void bury(struct prelux_stage *g)
{
  struct prelux_grow *w;
  do
  {
    pthread_mutex_lock(&g->lock);
    for (w = g->grower.files; w && !w->lost; w = w->next)
      ;
    while (w && w->busy)
      pthread_cond_wait(&g->changed, &g->lock);
    if (w)
    {
      leave_list(g, w);
      prelux_lost_put(g, w->tree, w->path, w->token);
    }
    pthread_mutex_unlock(&g->lock);
    prelux_grow_free(w);
  } while (w);
  prelux_lost_round(g);
}

/* ---- looking ---- */

struct candidate
{
  struct prelux_tree *tree;
  char *path; /* NULL: it has an upload */
  int64_t id, made_ns;
  uint64_t ino;
};

/* stage.lock held. */
static bool may_grow(const struct prelux_dirty *d)
{
  const struct prelux_backend *b = d->tree->backend;
  return d->row.state == PRELUX_PENDING_WRITING && d->row.path && !d->rules.async && (d->row.flags & (PRELUX_PENDING_NEW | PRELUX_PENDING_OVER)) &&
         (d->grow || !d->row.upload) && d->grow_tries < TRIES_MAX && b && b->ops->write && b->ops->write->begin && b->ops->write->abort;
}

/* Files that may grow; *ret_n of them, malloc'd. */
static struct candidate *candidates(struct prelux_stage *g, size_t *ret_n)
{
  size_t n = 0, uploads = 0;
  pthread_mutex_lock(&g->lock);
  struct candidate *list = g->count ? calloc(g->count, sizeof *list) : NULL;
  for (const struct prelux_grow *w = g->grower.files; w; w = w->next)
    uploads++;
  for (size_t i = 0; i < g->slots && list; i++)
    for (struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
    {
      if (d->grow && (d->row.state > PRELUX_PENDING_READY || !d->row.path || strcmp(d->grow->path, d->row.path) != 0)) /* renamed, or kept back */
        prelux_grow_lose(g, d);
      if (!may_grow(d) || (!d->grow && uploads >= FILES_MAX))
        continue;
      struct candidate *c = &list[n++];
      *c = (struct candidate){.tree = d->tree, .path = d->grow ? NULL : strdup(d->row.path), .id = d->row.id, .made_ns = d->row.made_ns, .ino = d->row.ino};
      if (!d->grow && !c->path)
        n--;
    }
  pthread_mutex_unlock(&g->lock);
  *ret_n = n;
  return list;
}

/* The dirty file of a candidate, if it still is one. stage.lock held. */
static struct prelux_dirty *still(struct prelux_stage *g, const struct candidate *c)
{
  struct prelux_dirty *d = prelux_dirty_by_id(g, c->id);
  return d && d->tree == c->tree && d->row.ino == c->ino && may_grow(d) && (!c->path || strcmp(d->row.path, c->path) == 0) ? d : NULL;
}

static int open_upload(struct prelux_stage *g, const struct candidate *c, uint64_t size, struct prelux_grow *w)
{
  struct prelux_backend *b = c->tree->backend;
  struct prelux_able able = {0};
  const struct prelux_set set = {0};
  struct stat st;
  int rc = b->ops->write->able(b, &able, NULL);
  if (rc == 0 && (!(able.caps & PRELUX_CAP_MULTIPART) || (able.caps & g->grower.not)))
    rc = -EOPNOTSUPP;
  if (rc == 0 && size <= able.whole_max && prelux_store_wall() - c->made_ns < SOON_NS)
    return -EAGAIN;
  w->part_size = rc == 0 ? prelux_stage_part_size(g->part_size, size, &able) : 0;
  if (rc == 0 && w->part_size > PART_MAX)
    rc = -EFBIG;
  w->fd = rc == 0 ? prelux_stage_reopen(g, c->ino, O_RDONLY) : -1;
  if (rc == 0 && (w->fd < 0 || prelux_os.fstat(w->fd, &st) < 0 || st.st_ino != PRELUX_INO(c->ino)))
    rc = -ESTALE;
  w->path = rc == 0 ? strdup(c->path) : NULL;
  if (rc == 0 && (!w->path || getrandom(&w->seed, sizeof w->seed, 0) != sizeof w->seed))
    rc = -ENOMEM;
  return rc < 0 ? rc : b->ops->write->begin(b, w->path, w->part_size, &set, w->token, NULL);
}

/* The upload is noted in the row of its file and belongs to it. False: that was not to be. */
static bool adopt(struct prelux_stage *g, const struct candidate *c, struct prelux_grow *w)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = still(g, c);
  d = d && !d->busy && !d->grow ? d : NULL;
  if (d)
    d->busy = true;
  pthread_mutex_unlock(&g->lock);
  bool noted = d && prelux_stage_note_upload(g, d, w->token) == 0;
  if (!d)
    return false;
  pthread_mutex_lock(&g->lock);
  if (noted)
  {
    d->grow = w;
    w->next = g->grower.files;
    g->grower.files = w;
  }
  prelux_dirty_release(g, d);
  pthread_mutex_unlock(&g->lock);
  return noted;
}

static void begin(struct prelux_stage *g, const struct candidate *c, uint64_t size)
{
  struct prelux_grow *w = calloc(1, sizeof *w);
  if (!w)
    return;
  w->tree = c->tree;
  w->ino = c->ino;
  w->fd = -1;
  int rc = open_upload(g, c, size, w);
  if (rc == 0 && adopt(g, c, w))
    return;
  if (rc == 0)
    prelux_lost_add(g, c->tree, w->path, w->token);
  prelux_grow_free(w);
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = still(g, c);
  if (d)
    d->grow_tries = rc == -EAGAIN ? d->grow_tries : rc < 0 ? TRIES_MAX : d->grow_tries + 1;
  pthread_mutex_unlock(&g->lock);
}

/* How many parts from `from` on are there in full, without a hole, and another one behind them. */
static size_t whole_parts(const struct prelux_grow *w, size_t from)
{
  struct stat st;
  size_t n = from;
  if (prelux_os.fstat(w->fd, &st) < 0)
    return n;
  while ((n + 2) * w->part_size <= (uint64_t)st.st_size && lseek(w->fd, (off_t)(n * w->part_size), SEEK_HOLE) >= (off_t)((n + 1) * w->part_size))
    n++;
  return n;
}

/* True: there is more of it than there was. */
static bool measure(struct prelux_stage *g, const struct candidate *c)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = still(g, c);
  struct prelux_grow *w = d ? d->grow : NULL;
  size_t begun = w ? w->begun : 0;
  w = w && !w->stopped ? w : NULL;
  if (w)
    w->busy++; /* it stays */
  pthread_mutex_unlock(&g->lock);
  if (!w)
    return false;
  size_t ready = whole_parts(w, begun);
  pthread_mutex_lock(&g->lock);
  bool more = ready > w->ready;
  w->ready = more ? ready : w->ready;
  w->busy--;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return more;
}

/* *ret_n: how many files may grow. True: one has. */
static bool look(struct prelux_stage *g, size_t *ret_n)
{
  struct candidate *list = candidates(g, ret_n);
  bool more = false;
  for (size_t i = 0; i < *ret_n; i++)
  {
    struct stat st;
    char name[24];
    int folder = prelux_stage_name(g, list[i].ino, name);
    if (list[i].path && prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == PRELUX_INO(list[i].ino) &&
        (uint64_t)st.st_size > g->parts_above + 2 * g->part_size)
      begin(g, &list[i], (uint64_t)st.st_size);
    more |= measure(g, &list[i]);
    free(list[i].path);
  }
  free(list);
  return more;
}

bool prelux_grow_round(struct prelux_stage *g, size_t *ret_n)
{
  bool more = look(g, ret_n);
  if (more)
    send_all(g);
  bury(g);
  return more;
}

void prelux_grow_forget(struct prelux_stage *g)
{
  while (g->grower.files)
  {
    struct prelux_grow *w = g->grower.files;
    g->grower.files = w->next;
    prelux_grow_free(w);
  }
  prelux_lost_forget(g);
  pthread_cond_destroy(&g->grower.wake);
}
