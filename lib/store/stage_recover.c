/* Opening the write side of a store: what a daemon before has left.
 *
 *   row       staging file   else
 *   WRITING   there          its writers may still live: as before. Their close tells; nobody left: he may tell yet (stage_crash.c)
 *   WRITING   not there      it never got there, or had gone back into the tree: the row goes
 *   READY     there          to be sent
 *   READY     not there      it is in the tree (the row names its inode): the remote has it, the row goes
 *   no row    there          made by nobody we know: moved to recovered/, never sent
 *   a name's  -              to be done on the remote, or refused by it (deferred.h)
 *
 * Rows are taken up when the tree whose identity the journal has for them is opened to be used, and wait until then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/deferred.h"
#include "lib/store/stage_lease.h"

#define SLOTS 4096

struct numbers { /* of inodes */
  uint64_t *list;
  size_t n, cap;
};

/* The last row that names a staging file owns it: its number was given again after the file of an earlier one had gone. */
struct owner {
  uint64_t ino;
  int64_t id;
};

struct recovery {
  struct prelux_stage *g;
  struct prelux_tree *tree;
  struct prelux_deferred *names, **last_name; /* the same of names, chained by next */
  struct prelux_dirty *first, **last; /* by id, chained by by_id: in no table before all are read */
  struct numbers closed;              /* perhaps nobody writes to them any more */
  struct owner *owners;  /* of all trees, by ino and id */
  size_t n_owners, cap_owners;
};

static int numbers_add(struct numbers *m, uint64_t ino)
{
  if (m->n == m->cap)
  {
    size_t cap = m->cap ? m->cap * 2 : 64;
    uint64_t *more = realloc(m->list, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    m->list = more;
    m->cap = cap;
  }
  m->list[m->n++] = ino;
  return 0;
}

static int drop_row(struct prelux_stage *g, const struct prelux_pending *row)
{
  struct prelux_pending gone = {.id = row->id};
  return prelux_stage_journal(g, PRELUX_EDIT_DROP, &gone);
}

static struct prelux_dirty *dirty_of(struct prelux_tree *t, const struct prelux_pending *row)
{
  struct prelux_dirty *d = calloc(1, sizeof *d);
  if (!d)
    return NULL;
  d->tree = t;
  d->row = *row;
  d->row.path = row->path ? strdup(row->path) : NULL;
  d->row.to = row->to ? strdup(row->to) : NULL;
  d->row.upload = row->upload ? strdup(row->upload) : NULL;
  d->row.cause = row->cause ? strdup(row->cause) : NULL;
  d->row.sent = row->sent ? strdup(row->sent) : NULL;
  if ((row->path && !d->row.path) || (row->upload && !d->row.upload) || (row->cause && !d->row.cause) || (row->sent && !d->row.sent) ||
      (row->to && !d->row.to))
  {
    prelux_pending_release(&d->row);
    free(d);
    return NULL;
  }
  d->rules.async = true;
  d->rules.drop = row->flags & PRELUX_PENDING_DROP;
  d->resumed = true;
  if (row->state == PRELUX_PENDING_READY) /* it may have been on its way */
    d->row.flags |= PRELUX_PENDING_UNSURE;
  if (row->flags & PRELUX_PENDING_FRESH)
    d->shown = prelux_number_fresh(t, row->ino, row->made_ns);
  else if (row->path)
  {
    prelux_learn_lock(t);
    d->shown = prelux_learn_number(t, row->path, strlen(row->path));
    prelux_learn_unlock(t);
  }
  return d;
}

static int note_owner(void *arg, const struct prelux_pending *row)
{
  struct recovery *r = arg;
  if (row->intent != PRELUX_INTENT_PUT || !row->ino)
    return 0;
  if (r->n_owners == r->cap_owners)
  {
    size_t cap = r->cap_owners ? r->cap_owners * 2 : 64;
    struct owner *more = realloc(r->owners, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    r->owners = more;
    r->cap_owners = cap;
  }
  r->owners[r->n_owners++] = (struct owner){.ino = row->ino, .id = row->id};
  return 0;
}

static int by_owner(const void *a, const void *b)
{
  const struct owner *x = a, *y = b;
  return x->ino != y->ino ? (x->ino < y->ino ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* Another row has the file by now. */
static bool outlived(const struct recovery *r, const struct prelux_pending *row)
{
  const struct owner key = {.ino = row->ino, .id = row->id};
  const struct owner *o = r->n_owners ? bsearch(&key, r->owners, r->n_owners, sizeof key, by_owner) : NULL;
  return o && o + 1 < r->owners + r->n_owners && o[1].ino == row->ino;
}

static int take_up_name(struct recovery *r, const struct prelux_pending *row)
{
  bool known = row->intent == PRELUX_INTENT_REMOVE || row->intent == PRELUX_INTENT_RMDIR || row->intent == PRELUX_INTENT_MKDIR ||
               (row->intent == PRELUX_INTENT_RENAME && row->to);
  if (!known || !row->path)
    return 0;
  struct prelux_deferred *d = prelux_deferred_taken_up(r->tree, row);
  if (!d)
    return -ENOMEM;
  *r->last_name = d;
  r->last_name = &d->next;
  return 0;
}

static int take_up(void *arg, const struct prelux_pending *row)
{
  struct recovery *r = arg;
  struct prelux_stage *g = r->g;
  char name[24];
  struct stat st;
  if (row->tree != atomic_load(&r->tree->owed_id))
    return 0;
  if (row->intent != PRELUX_INTENT_PUT)
    return take_up_name(r, row);
  if (outlived(r, row))
    return drop_row(g, row);
  int folder = prelux_stage_name(g, row->ino, name);
  bool there = prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (!there && errno != ENOENT)
    return -errno; /* it may well be there: the row must not go */
  there = there && st.st_ino == PRELUX_INO(row->ino);
  if (!there && (row->state == PRELUX_PENDING_WRITING || row->state == PRELUX_PENDING_READY))
    return drop_row(g, row);
  struct prelux_dirty *d = dirty_of(r->tree, row);
  if (!d)
    return -ENOMEM;
  *r->last = d;
  r->last = &d->by_id;
  return row->state == PRELUX_PENDING_WRITING ? numbers_add(&r->closed, row->ino) : 0;
}

static void use_file(struct prelux_stage *g, struct prelux_dirty *d)
{
  pthread_mutex_lock(&g->lock);
  prelux_dirty_put(g, d);
  d->queued = d->row.state == PRELUX_PENDING_READY && prelux_order_add(g->order, d->row.id, d->row.path, NULL) == 0;
  pthread_mutex_unlock(&g->lock);
}

static void use_name(struct prelux_stage *g, struct prelux_deferred *d)
{
  pthread_mutex_lock(&g->lock);
  prelux_deferred_insert(g, d);
  pthread_mutex_unlock(&g->lock);
}

/* In the order of their numbers, files and names alike. The tree's backend is used from here on. */
static void use_all(struct recovery *r)
{
  struct prelux_dirty *d = r->first, *next;
  struct prelux_deferred *n = r->names, *next_name;
  while (d || n)
    if (!n || (d && d->row.id < n->row.id))
    {
      next = d->by_id;
      use_file(r->g, d);
      d = next;
    }
    else
    {
      next_name = n->next;
      use_name(r->g, n);
      n = next_name;
    }
}

static void forget_all(struct recovery *r)
{
  for (struct prelux_dirty *d = r->first, *next; d; d = next)
  {
    next = d->by_id;
    prelux_pending_release(&d->row);
    free(d);
  }
  for (struct prelux_deferred *n = r->names, *next; n; n = next)
  {
    next = n->next;
    prelux_deferred_release(n);
  }
}

/* 0: *r has what is left of its tree. */
static int read_rows(struct recovery *r)
{
  int64_t id;
  int rc = prelux_journal_tree(r->g->journal, r->tree->identity, false, &id);
  if (rc < 0)
    return rc == -ENOENT ? 0 : rc; /* it never had any */
  atomic_store(&r->tree->owed_id, id);
  rc = prelux_journal_each(r->g->journal, note_owner, r);
  if (rc == 0 && r->n_owners)
    qsort(r->owners, r->n_owners, sizeof *r->owners, by_owner);
  return rc < 0 ? rc : prelux_journal_each(r->g->journal, take_up, r);
}

int prelux_stage_take_up(struct prelux_stage *g, struct prelux_tree *t, struct prelux_problem *why)
{
  struct recovery r = {.g = g, .tree = t};
  r.last = &r.first;
  r.last_name = &r.names;
  pthread_mutex_lock(&g->store->stage_lock);
  int rc = read_rows(&r);
  if (rc < 0)
    forget_all(&r);
  else
    use_all(&r);
  pthread_mutex_unlock(&g->store->stage_lock);
  for (size_t i = 0; i < r.closed.n && rc == 0; i++)
  {
    struct prelux_problem mine = {0};
    int err = prelux_crash_orphan(g, r.closed.list[i]) ? 0 : prelux_stage_closed(g, r.closed.list[i], NULL, &mine);
    if (err < 0 && err != -EAGAIN)
      prelux_warn("%s", mine.text);
  }
  if (r.closed.n && rc == 0)
    prelux_crash_find_writers(g);
  free(r.closed.list);
  free(r.owners);
  return rc < 0 ? prelux_problem(why, -rc, "cache folder %s: cannot take up what was being written: %s", g->store->dir, strerror(-rc)) : 0;
}

/* ---- files that no row names ---- */

struct strays {
  struct prelux_stage *g;
  struct numbers known; /* sorted */
  uint64_t bit;         /* PRELUX_INO_SCRATCH in that folder */
};

static int note(void *arg, const struct prelux_pending *row)
{
  return row->intent == PRELUX_INTENT_PUT ? numbers_add(&((struct strays *)arg)->known, row->ino) : 0;
}

static int by_number(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static int put_aside(void *arg, int dirfd, const char *name)
{
  struct strays *w = arg;
  struct prelux_store *s = w->g->store;
  char to[48];
  uint64_t ino = strtoull(name, NULL, 10) | w->bit;
  if (PRELUX_INO(ino) && w->known.n && bsearch(&ino, w->known.list, w->known.n, sizeof ino, by_number))
    return 0;
  if (w->bit) /* another file system: it stays where it is, unless nobody has written to it */
  {
    struct stat st;
    if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 0)
      prelux_os.unlinkat(dirfd, name, 0);
    else
      prelux_warn("%s/%s: nobody knows this file", s->scratch, name);
    return 0;
  }
  struct stat st; /* made ahead, or for an open that a death has cut short: empty in any case (stage_spare.c) */
  if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 &&
      (st.st_ino == ino || strcmp(name, PRELUX_SPARE_NAME) == 0 || strcmp(name, PRELUX_SPARE_NOW) == 0))
  {
    prelux_os.unlinkat(dirfd, name, 0);
    return 0;
  }
  snprintf(to, sizeof to, "staging-%.24s", name);
  if (prelux_os.renameat(dirfd, name, s->recovered_fd, to) == 0)
    prelux_warn("%s/.prelux/staging/%s: nobody knows this file; moved to recovered/%s", s->dir, name, to);
  return 0;
}

static bool has_row(void *arg, uint64_t ino)
{
  const struct strays *w = arg;
  return w->known.n && bsearch(&ino, w->known.list, w->known.n, sizeof ino, by_number);
}

static int clear_strays(struct prelux_stage *g)
{
  struct strays w = {.g = g};
  int rc = prelux_journal_each(g->journal, note, &w);
  if (rc == 0 && w.known.n)
    qsort(w.known.list, w.known.n, sizeof *w.known.list, by_number);
  if (rc == 0)
    rc = prelux_dir_each(g->fd, put_aside, &w);
  w.bit = PRELUX_INO_SCRATCH;
  if (rc == 0 && g->store->scratch_fd >= 0)
    rc = prelux_dir_each(g->store->scratch_fd, put_aside, &w);
  if (rc == 0)
    prelux_left_keep(g, has_row, &w);
  free(w.known.list);
  return rc;
}

static int catalogue_name(void *arg, int64_t tree, char *ret, size_t cap)
{
  return prelux_catalogue_identity(arg, tree, ret, cap);
}

int prelux_stage_create(struct prelux_store *s, struct prelux_stage **ret, struct prelux_problem *why)
{
  char path[4200];
  struct prelux_stage *g = calloc(1, sizeof *g);
  if (!g)
    return prelux_problem(why, ENOMEM, "no memory");
  pthread_mutex_init(&g->lock, NULL);
  pthread_mutex_init(&g->leases.lock, NULL);
  g->leases.fd = -1;
  pthread_cond_init(&g->changed, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&g->go, &monotonic);
  pthread_condattr_destroy(&monotonic);
  prelux_grow_init(g);
  g->store = s;
  g->slots = SLOTS;
  g->parts_above = PRELUX_PARTS_ABOVE;
  g->rest_times = PRELUX_REST_TIMES;
  g->pause_len_ns = PRELUX_PAUSE_NS;
  g->orphan_len_ns = PRELUX_ORPHAN_NS;
  g->part_size = PRELUX_PART_SIZE;
  g->room = s->opts.staging_size ? s->opts.staging_size : s->max_bytes ? s->max_bytes : UINT64_MAX;
  g->room_wait_ns = PRELUX_STAGE_WAIT_NS;
  g->by_ino = calloc(SLOTS, sizeof *g->by_ino);
  g->by_path = calloc(SLOTS, sizeof *g->by_path);
  g->by_id = calloc(SLOTS, sizeof *g->by_id);
  g->fd = prelux_mkdir_at(s->meta_fd, "staging");
  if (g->fd == 0)
    g->fd = prelux_dir_open(s->meta_fd, "staging");
  int rc = g->fd < 0 ? g->fd : !g->by_ino || !g->by_path || !g->by_id ? -ENOMEM : prelux_order_create(&g->order);
  if (rc == 0)
    rc = prelux_deferred_create(g);
  if (rc < 0)
    prelux_problem(why, -rc, "cache folder %s: staging: %s", s->dir, strerror(-rc));
  else
  {
    snprintf(path, sizeof path, "%s/.prelux/journal.db", s->dir);
    rc = prelux_journal_open(path, catalogue_name, s->cat, &g->journal, why);
    if (rc == 0)
      prelux_journal_beside(g->journal, g->fd);
    if (rc == 0)
      rc = prelux_scratch_begin(g, why);
    if (rc == 0)
      rc = prelux_lease_begin(g, why);
    if (rc == 0 && ((rc = prelux_left_begin(g)) < 0 || (rc = prelux_stage_reboot(g)) < 0 || (rc = clear_strays(g)) < 0))
      prelux_problem(why, -rc, "cache folder %s: staging: %s", s->dir, strerror(-rc));
  }
  if (rc == 0)
    *ret = g;
  else
    prelux_stage_free(g);
  return rc;
}

void prelux_stage_free(struct prelux_stage *g)
{
  if (!g)
    return;
  prelux_grow_end(g);
  prelux_lease_free(g);
  if (g->fd >= 0)
    prelux_spare_drop(g, true);
  prelux_left_end(g);
  for (size_t i = 0; g->by_ino && i < g->slots; i++)
    while (g->by_ino[i])
      prelux_dirty_remove(g, g->by_ino[i]);
  prelux_grow_forget(g);
  prelux_deferred_free(g);
  prelux_journal_free(g->journal);
  prelux_order_free(g->order);
  if (g->fd >= 0)
    prelux_os.close(g->fd);
  free(g->by_ino);
  free(g->by_path);
  free(g->by_id);
  pthread_cond_destroy(&g->changed);
  pthread_cond_destroy(&g->go);
  pthread_mutex_destroy(&g->leases.lock);
  pthread_mutex_destroy(&g->lock);
  free(g);
}
