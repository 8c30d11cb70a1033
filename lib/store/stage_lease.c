/* Granting, using and ending leases. See stage_lease.h. */
#include "lib/store/stage_lease.h"

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
#include "lib/index/writer.h"
#include "lib/store/deferred.h"
#include "lib/store/links.h"
#include "lib/store/mix.h"

#define SCAN_ENTRIES 50000u /* more in memory are not gone through for the names of one folder */
#define NEED_MAX (1u << 16)
#define WORTH 8u            /* so many names are occupied in the time that one file saves, about */
#define TEMPORARY ".new"    /* in lease/K: no object's name for the library */

struct prelux_lease {
  struct prelux_tree *tree;
  struct prelux_view view;
  struct prelux_write_rules rules;
  struct prelux_leased leased;
  char *folder;
  int64_t number;   /* CLOCK_REALTIME of its birth; its folder's name, and what makes the numbers of its files */
  uint32_t mode;
  bool over;
  struct prelux_writer *writer;
  int pid, fd;      /* pid: the writer's */
  struct given {
    uint64_t ino;
    bool named, counted;
  } *given;         /* those that have no row */
  size_t n_given;
  uint64_t *once;   /* all that were given: an inode that comes again would get the number of another file */
  size_t n_once;
  unsigned next;    /* how many are given at once */
  bool closed;      /* nothing can be added any more; rows that could not be made are tried again */
  size_t names, occupied; /* occupied: when it was granted */
  uint64_t bytes;   /* of files without a row, as far as they were looked at */
  uint64_t born_ns, used_ns, known_ns; /* CLOCK_MONOTONIC; known_ns: what is known of the folder's other names is from then */
};

static atomic_uint active, changing; /* leases of all stores; requests under way that may change names */

bool prelux_leases_active(void)
{
  return atomic_load(&active) > 0;
}

void prelux_lease_request(bool begins)
{
  if (begins)
    atomic_fetch_add(&changing, 1);
  else
    atomic_fetch_sub(&changing, 1);
}

/* ---- what is hidden ---- */

bool prelux_lease_hides(const struct prelux_tree *t, const char *object, size_t len, bool dir)
{
  const struct prelux_leased *l = t->leased;
  if (!l)
    return false;
  if (dir)
    return len == l->len && memcmp(object, l->folder, len) == 0;
  return len > 0 && prelux_object_parent(object, len) == l->len && memcmp(object, l->folder, l->len) == 0;
}

static void hide(struct prelux_lease *l, bool begins)
{
  struct prelux_tree *t = l->tree;
  pthread_mutex_lock(&t->store->lock);
  t->leased = begins ? &l->leased : NULL;
  prelux_folder_stir(t, l->folder, l->leased.len);
  prelux_tree_unpublish_slots(t, l->folder, l->leased.len);
  pthread_mutex_unlock(&t->store->lock);
}

/* ---- granting ---- */

/* The name is not to be had. */
static int occupy(struct prelux_stage *g, struct prelux_lease *l, const char *name)
{
  if (prelux_os.linkat(g->leases.fd, PRELUX_LEASE_PLACEHOLDER, l->fd, name, 0) == 0)
    l->names++;
  else if (errno != EEXIST && errno != ENAMETOOLONG)
    return -errno;
  return 0;
}

/* All that may be in the folder: what memory has of it, which has to be the whole, and this node's own. More names than there are do no harm. */
static int collect_known(struct prelux_lease *l, struct prelux_mix *ret)
{
  struct prelux_tree *t = l->tree;
  struct prelux_store *s = t->store;
  struct prelux_known none = {.obj.type = PRELUX_NONE, .unlisted = true};
  size_t len = l->leased.len;
  int rc = -EAGAIN;
  if (prelux_deferred_made(t, l->folder))
    return 0;
  pthread_mutex_lock(&s->lock);
  const struct prelux_folder *f = prelux_folder_find(t, l->folder, len);
  l->known_ns = none.learned_ns = f ? f->learned_ns : 0;
  if (f && (f->made || (f->all && f->exact)) && f->blob->count <= PRELUX_LEASE_KNOWN && s->entries.count <= SCAN_ENTRIES &&
      prelux_view_fresh(&l->view, &none, prelux_store_now()))
    rc = 0;
  for (uint32_t i = 0; rc == 0 && i < f->blob->count; i++)
    rc = prelux_mix_add(ret, (const char *)f->blob + f->blob->entries[i].name_off, &none);
  for (const struct prelux_entry *e = s->entries.newest; rc == 0 && e; e = e->older)
    if (e->tree == t && e->type != PRELUX_NONE && e->path_len > len && prelux_object_parent(e->data, e->path_len) == len && memcmp(e->data, l->folder, len) == 0)
      rc = prelux_mix_add(ret, e->data + len + (len > 0), &none);
  pthread_mutex_unlock(&s->lock);
  return rc;
}

/* Before all that is owed is gone through for it. */
static int may_collect(struct prelux_lease *l)
{
  struct prelux_tree *t = l->tree;
  if (prelux_deferred_made(t, l->folder))
    return 0;
  pthread_mutex_lock(&t->store->lock);
  const struct prelux_folder *f = prelux_folder_find(t, l->folder, l->leased.len);
  int rc = !f || !(f->made || (f->all && f->exact)) ? -EAGAIN : f->blob->count > PRELUX_LEASE_KNOWN ? -E2BIG : 0;
  pthread_mutex_unlock(&t->store->lock);
  return rc;
}

static int collect(struct prelux_stage *g, struct prelux_lease *l, struct prelux_mix *ret)
{
  int rc = prelux_links_below(l->tree, l->folder) ? -EAGAIN : may_collect(l);
  if (rc == 0)
    rc = prelux_stage_names(g, l->tree, l->folder, ret);
  if (rc == 0)
    rc = prelux_deferred_names(g, l->tree, l->folder, ret);
  if (rc == 0) /* behind those: what is sent and settles in between is in one of them at least */
    rc = collect_known(l, ret);
  for (size_t i = 0; rc == 0 && i < ret->n; i++)
    rc = ret->list[i].gone ? -EAGAIN : 0; /* else somebody might be told that it is not there */
  return rc == 0 && ret->n > PRELUX_LEASE_KNOWN ? -E2BIG : rc;
}

/* Others see nothing of the file but by a descriptor, and so does its maker until it has a row. */
static int give_one(struct prelux_stage *g, struct prelux_lease *l, struct prelux_grant *ret)
{
  struct stat st;
  size_t i = 0;
  if (!prelux_spare_take(g, 0600, &st) && (ret->n >= PRELUX_LEASE_FIRST || !prelux_spare_new(g, &st))) /* its end would cost more */
    return -EAGAIN;
  while (i < l->n_once && l->once[i] != st.st_ino)
    i++;
  if (i < l->n_once)
  {
    prelux_spare_back(g, st.st_ino);
    return -EAGAIN;
  }
  prelux_left_again(g, st.st_ino, l->pid); /* a mark of a file that had the number before */
  l->once[l->n_once++] = st.st_ino;
  l->given[l->n_given++] = (struct given){.ino = st.st_ino};
  prelux_live_lend(l->tree, st.st_ino, prelux_number_fresh(l->tree, st.st_ino, l->number), l->mode);
  ret->files[ret->n++] = st.st_ino;
  return 0;
}

static int room(struct prelux_lease *l, size_t more)
{
  struct given *given = realloc(l->given, (l->n_given + more) * sizeof *given);
  l->given = given ? given : l->given;
  uint64_t *once = given ? realloc(l->once, (l->n_once + more) * sizeof *once) : NULL;
  l->once = once ? once : l->once;
  return once ? 0 : -ENOMEM;
}

static int give(struct prelux_stage *g, struct prelux_lease *l, struct prelux_grant *ret)
{
  int rc = room(l, l->next);
  ret->number = l->number;
  ret->n = 0;
  l->used_ns = prelux_store_now();
  for (unsigned i = 0; rc == 0 && i < l->next; i++)
    rc = give_one(g, l, ret);
  l->next = l->next * 2 < PRELUX_GRANT_FILES ? l->next * 2 : PRELUX_GRANT_FILES;
  return ret->n ? 0 : rc;
}

static void lease_free(struct prelux_stage *g, struct prelux_lease *l)
{
  if (l->fd >= 0)
    prelux_os.close(l->fd);
  prelux_crash_let_go(g, l->writer);
  free(l->given);
  free(l->once);
  free(l->folder);
  free(l);
}

static struct prelux_lease *lease_new(struct prelux_stage *g, const struct prelux_lease_ask *a)
{
  struct prelux_lease *l = calloc(1, sizeof *l);
  if (!l)
    return NULL;
  size_t len = prelux_object_parent(a->object, strlen(a->object));
  l->fd = -1;
  l->pid = a->pid;
  l->folder = strndup(a->object, len);
  l->writer = prelux_crash_hold(g, a->pid, prelux_os.fcntl(a->pidfd, F_DUPFD_CLOEXEC, 3));
  if (!l->folder || !l->writer)
  {
    lease_free(g, l);
    return NULL;
  }
  l->leased = (struct prelux_leased){l->folder, len};
  l->tree = a->v->tree;
  l->view = *a->v;
  l->rules = *a->rules;
  l->number = prelux_store_wall();
  l->mode = a->mode & 07777;
  l->over = !(a->flags & O_EXCL);
  l->next = PRELUX_LEASE_FIRST;
  l->born_ns = l->used_ns = l->known_ns = prelux_store_now();
  return l;
}

static bool end_locked(struct prelux_stage *g, struct prelux_lease *l, uint64_t **ret, size_t *ret_n);

/* What a grant costs, granted or not, grows with the names in the folder; what it saves, with the files that are made by it. */
static void worth_it(struct prelux_stage *g, bool was)
{
  struct prelux_streak *k = &g->leases.streak;
  k->need = was ? PRELUX_LEASE_STREAK : k->need < NEED_MAX ? k->need * 2 : k->need;
}

static int make_folder(struct prelux_stage *g, const struct prelux_lease *l)
{
  const struct prelux_lease_what w = {.number = l->number, .tree = atomic_load(&l->tree->owed_id), .flags = prelux_stage_first_flags(&l->rules, l->over),
                                      .mode = l->mode, .folder = l->folder};
  return prelux_lease_make_folder(g, &w);
}

/* leases.lock held. Nobody but who asks is at work on names, nor will be before the lease has ended: who begins sees that there is one. */
static int grant(struct prelux_stage *g, const struct prelux_lease_ask *a, struct prelux_grant *ret)
{
  struct prelux_lease *l = lease_new(g, a);
  struct prelux_mix known = {0};
  uint64_t *none = NULL;
  size_t n = 0;
  if (!l)
    return -ENOMEM;
  atomic_fetch_add(&active, 1);
  int rc = atomic_load(&changing) == 1 ? prelux_stage_tree(g, l->tree) : -EAGAIN;
  if (rc == 0)
    rc = collect(g, l, &known);
  if (rc == 0)
    rc = l->fd = make_folder(g, l);
  if (rc < 0)
  {
    atomic_fetch_sub(&active, 1);
    lease_free(g, l);
  }
  else
  {
    hide(l, true);
    g->leases.one = l;
    rc = 0;
    for (size_t i = 0; rc == 0 && i < known.n; i++)
      rc = occupy(g, l, known.list[i].name);
    l->occupied = l->names;
    if (rc == 0)
      rc = give(g, l, ret);
    if (rc < 0) /* nobody has got anything of it */
      end_locked(g, l, &none, &n);
    free(none);
  }
  prelux_mix_release(&known);
  return rc;
}

/* May this open be one of a streak, and is it the next? */
static bool in_streak(struct prelux_stage *g, const struct prelux_lease_ask *a)
{
  const int plain = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NONBLOCK;
  struct prelux_streak *k = &g->leases.streak;
  size_t len = prelux_object_parent(a->object, strlen(a->object));
  uint64_t folder = prelux_store_hash(a->object, len, (uint64_t)(uintptr_t)a->v->tree);
  unsigned how = (unsigned)a->flags & (O_EXCL | O_TRUNC);
  bool may = a->made && a->pid > 0 && a->rules->async && !a->rules->power && !a->rules->wait && !a->rules->scratch && !(a->flags & ~plain) && how &&
             !(a->mode & 0111) && (a->flags & O_CREAT);
  unsigned need = k->folder == folder && k->need ? k->need : PRELUX_LEASE_STREAK;
  bool same = k->folder == folder && k->pid == a->pid && k->mode == a->mode && k->how == how && a->serial == k->serial + 1;
  *k = (struct prelux_streak){.folder = folder, .pid = a->pid, .mode = a->mode, .how = how, .serial = a->serial, .n = may ? (same ? k->n : 0) + 1 : 0, .need = need};
  return may && k->n >= need;
}

/* So much waits to be sent, with these, that who makes files had better ask. */
static bool full(struct prelux_stage *g, size_t files, uint64_t bytes)
{
  pthread_mutex_lock(&g->lock);
  bool ret = g->waiting + bytes >= g->room || g->count + files + PRELUX_GRANT_FILES > PRELUX_DIRTY_MAX;
  pthread_mutex_unlock(&g->lock);
  return ret;
}

/* Files that were given before are written by now. */
static void count_bytes(struct prelux_stage *g, struct prelux_lease *l)
{
  struct stat st;
  char name[24];
  for (size_t i = 0; i < l->n_given; i++)
    if (!l->given[i].counted)
    {
      snprintf(name, sizeof name, "%" PRIu64, l->given[i].ino);
      l->given[i].counted = true;
      if (prelux_os.fstatat(g->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        l->bytes += (uint64_t)st.st_size;
    }
}

/* Files lie ready for it. */
static bool has_spares(struct prelux_stage *g)
{
  pthread_mutex_lock(&g->lock);
  bool has = g->spares.n >= PRELUX_LEASE_FIRST;
  pthread_mutex_unlock(&g->lock);
  return has;
}

bool prelux_store_lease(struct prelux_store *s, const struct prelux_lease_ask *a, struct prelux_grant *ret)
{
  struct prelux_stage *g = s->stage;
  if (!g || !s->index || g->leases.fd < 0 || g->leases.off)
    return false;
  pthread_mutex_lock(&g->leases.lock);
  bool granted = false;
  if (in_streak(g, a) && !g->leases.one && has_spares(g) && !full(g, 0, 0))
  {
    int rc = grant(g, a, ret);
    granted = rc == 0;
    g->leases.streak.n = granted ? g->leases.streak.n : 0; /* not tried at each file */
    if (rc == -E2BIG)
      worth_it(g, false);
  }
  pthread_mutex_unlock(&g->leases.lock);
  return granted;
}

int prelux_store_lease_more(const struct prelux_view *v, int64_t number, uint64_t serial, struct prelux_grant *ret)
{
  struct prelux_stage *g = v->tree->store->stage;
  struct prelux_known none = {.obj.type = PRELUX_NONE, .unlisted = true};
  int rc = -ESTALE;
  if (!g)
    return rc;
  pthread_mutex_lock(&g->leases.lock);
  struct prelux_lease *l = g->leases.one;
  g->leases.streak.serial = serial; /* it goes on */
  if (l && !l->closed && l->number == number && l->tree == v->tree && prelux_store_now() - l->born_ns < PRELUX_LEASE_MAX_NS &&
      l->names + l->n_given < PRELUX_LEASE_NAMES)
  {
    count_bytes(g, l);
    none.learned_ns = l->known_ns;
    rc = prelux_view_fresh(v, &none, prelux_store_now()) && !full(g, l->n_given, l->bytes) ? give(g, l, ret) : -ESTALE;
  }
  pthread_mutex_unlock(&g->leases.lock);
  return rc;
}

/* ---- rows ---- */

/* From now on the name stands for itself. */
static void stand_in(struct prelux_stage *g, struct prelux_lease *l, const char *name)
{
  prelux_os.unlinkat(l->fd, TEMPORARY, 0);
  if (prelux_os.linkat(g->leases.fd, PRELUX_LEASE_PLACEHOLDER, l->fd, TEMPORARY, 0) < 0 || prelux_os.renameat(l->fd, TEMPORARY, l->fd, name) < 0)
    prelux_warn("lease of %s: %s", g->store->dir, strerror(errno));
}

static int adopt_one(struct prelux_stage *g, struct prelux_lease *l, size_t i, const char *name)
{
  char object[PRELUX_OBJECT_MAX + NAME_MAX + 2];
  struct prelux_problem why = {0};
  struct given file = l->given[i];
  snprintf(object, sizeof object, "%s%s%s", l->folder, *l->folder ? "/" : "", name);
  const struct prelux_stage_made m = {.v = &l->view, .rules = &l->rules, .object = object, .mode = l->mode, .over = l->over,
                                      .ino = file.ino, .made_ns = l->number, .writer = l->writer};
  prelux_live_lent(l->tree, file.ino);
  int rc = prelux_stage_adopt(g, &m, &why);
  if (rc < 0)
  {
    prelux_error("%.200s cannot be noted: %s", object, why.text); /* it stays in its folder: tried again, by the next daemon at last */
    return rc;
  }
  stand_in(g, l, name);
  l->given[i] = l->given[--l->n_given];
  l->names++;
  l->bytes = l->n_given ? l->bytes : 0; /* rows count theirs */
  return 0;
}

/* Which of the files given the number is, or n_given. */
static size_t which(const struct prelux_lease *l, uint64_t ino)
{
  size_t i = 0;
  while (i < l->n_given && l->given[i].ino != ino)
    i++;
  return i;
}

/* Calls fn for each staging file that has a name in the lease's folder, and no row. */
static int each_named(struct prelux_stage *g, struct prelux_lease *l, int (*fn)(struct prelux_stage *, struct prelux_lease *, size_t, const char *))
{
  int rc = 0, copy = prelux_dir_open(l->fd, ".");
  DIR *d = copy < 0 ? NULL : prelux_os.fdopendir(copy);
  const struct dirent *e;
  size_t i;
  if (!d)
    return copy < 0 ? copy : -ENOMEM;
  while (l->n_given && (errno = 0, e = readdir(d)))
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && (i = which(l, e->d_ino)) < l->n_given)
    {
      int one = fn(g, l, i, e->d_name);
      rc = one < 0 ? one : rc;
    }
  if (l->n_given && rc == 0)
    rc = -errno; /* of readdir */
  closedir(d);
  return rc;
}

/* leases.lock held. Those that got rows: *ret, malloc'd, to be looked at without the lock. */
static int adopt_locked(struct prelux_stage *g, struct prelux_lease *l, uint64_t **ret, size_t *ret_n)
{
  size_t n = l->n_given;
  uint64_t *before = n ? malloc(n * sizeof *before) : NULL;
  for (size_t i = 0; before && i < n; i++)
    before[i] = l->given[i].ino;
  int rc = each_named(g, l, adopt_one);
  *ret_n = 0;
  for (size_t i = 0; before && i < n; i++)
    if (which(l, before[i]) == l->n_given)
      before[(*ret_n)++] = before[i];
  *ret = before;
  return rc;
}

static void settle(struct prelux_stage *g, uint64_t *list, size_t n)
{
  for (size_t i = 0; i < n; i++)
    prelux_stage_left(g, list[i]);
  free(list);
}

void prelux_lease_adopt(struct prelux_stage *g)
{
  uint64_t *list = NULL;
  size_t n = 0;
  if (!prelux_leases_active())
    return;
  pthread_mutex_lock(&g->leases.lock);
  if (g->leases.one)
    adopt_locked(g, g->leases.one, &list, &n);
  pthread_mutex_unlock(&g->leases.lock);
  settle(g, list, n);
}

/* ---- ending ---- */

static int note_name(struct prelux_stage *g, struct prelux_lease *l, size_t i, const char *name)
{
  l->given[i].named = true;
  return 0;
}

/* What has a name in the lease's folder has one in staging/, too. */
static int keep_name(struct prelux_stage *g, struct prelux_lease *l, size_t i, const char *name)
{
  char staging[24];
  snprintf(staging, sizeof staging, "%" PRIu64, l->given[i].ino);
  return prelux_os.linkat(l->fd, name, g->fd, staging, 0) < 0 && errno != EEXIST ? -errno : 0;
}

/* Those without a name lose that in staging/: a link that is under way finds a file without any, and fails. One that was faster has its name. */
static int close_files(struct prelux_stage *g, struct prelux_lease *l)
{
  char name[24];
  int rc = each_named(g, l, note_name);
  for (size_t i = 0; rc == 0 && i < l->n_given; i++)
    if (!l->given[i].named)
    {
      snprintf(name, sizeof name, "%" PRIu64, l->given[i].ino);
      prelux_os.unlinkat(g->fd, name, 0);
    }
  return rc < 0 ? rc : each_named(g, l, keep_name);
}

static void forget_unused(struct prelux_stage *g, struct prelux_lease *l)
{
  for (size_t i = 0; i < l->n_given; i++)
  {
    prelux_live_lent(l->tree, l->given[i].ino);
    if (g->store->index) /* the number may be used again */
      prelux_index_drop_inode(g->store->index, g->store->dev, l->given[i].ino);
  }
}

/* Who comes from now on finds no folder. */
static int close_folder(struct prelux_stage *g, struct prelux_lease *l)
{
  char name[32], closed[40];
  snprintf(name, sizeof name, "%" PRId64, l->number);
  snprintf(closed, sizeof closed, "%s" PRELUX_LEASE_CLOSED, name);
  bool gone = prelux_os.renameat(g->leases.fd, name, g->leases.fd, closed) == 0 || errno == ENOENT; /* at a try before */
  return gone ? close_files(g, l) : -errno;
}

/* leases.lock held. False: a row could not be made, and what has a name waits for the next try, or the next daemon. *ret: as of adopt_locked(). */
static bool end_locked(struct prelux_stage *g, struct prelux_lease *l, uint64_t **ret, size_t *ret_n)
{
  *ret = NULL;
  *ret_n = 0;
  int rc = l->closed ? 0 : close_folder(g, l);
  l->closed = l->closed || rc == 0;
  if (rc == 0)
    rc = adopt_locked(g, l, ret, ret_n);
  if (rc < 0)
    return false;
  worth_it(g, l->names - l->occupied >= l->occupied / WORTH);
  prelux_lease_remove_folder(g, l->number, l->fd);
  forget_unused(g, l);
  hide(l, false);
  g->leases.one = NULL;
  atomic_fetch_sub(&active, 1);
  lease_free(g, l);
  return true;
}

/* False: there is one that cannot be ended now. */
static bool end(struct prelux_stage *g, bool only_old)
{
  bool ended = true;
  uint64_t *list = NULL, now = prelux_store_now();
  size_t n = 0;
  if (!prelux_leases_active())
    return true;
  pthread_mutex_lock(&g->leases.lock);
  struct prelux_lease *l = g->leases.one;
  if (l && (!only_old || l->closed || now - l->used_ns > PRELUX_LEASE_IDLE_NS || now - l->born_ns > PRELUX_LEASE_MAX_NS))
    ended = end_locked(g, l, &list, &n);
  pthread_mutex_unlock(&g->leases.lock);
  settle(g, list, n);
  return ended;
}

bool prelux_lease_stop(struct prelux_stage *g)
{
  return end(g, false);
}

void prelux_lease_tick(struct prelux_stage *g)
{
  prelux_lease_adopt(g);
  end(g, true);
}

bool prelux_lease_has(struct prelux_stage *g, uint64_t ino)
{
  if (!prelux_leases_active())
    return false;
  pthread_mutex_lock(&g->leases.lock);
  const struct prelux_lease *l = g->leases.one;
  bool has = l && which(l, ino) < l->n_given;
  pthread_mutex_unlock(&g->leases.lock);
  return has;
}

void prelux_lease_free(struct prelux_stage *g)
{
  if (g->leases.fd < 0)
    return;
  prelux_lease_stop(g);
  if (g->leases.one) /* a row could not be made: the next daemon's */
  {
    hide(g->leases.one, false);
    atomic_fetch_sub(&active, 1);
    lease_free(g, g->leases.one);
  }
  prelux_os.close(g->leases.fd);
  g->leases.fd = -1;
}
