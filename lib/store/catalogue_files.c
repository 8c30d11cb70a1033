/* The catalogue's rows of cached files: written, finished, dropped. */
#include "lib/store/catalogue.h"

#include <errno.h>
#include <string.h>

static int put_row(struct prelux_catalogue *c, enum stmt which, int64_t tree, const char *path, const struct prelux_row *row)
{
  sqlite3_stmt *st = prelux_catalogue_bind(c, which, tree, path);
  sqlite3_bind_int64(st, 3, (int64_t)row->obj.size);
  sqlite3_bind_int64(st, 4, row->obj.mtime_ns);
  sqlite3_bind_int64(st, 5, row->obj.mode);
  sqlite3_bind_text(st, 6, row->obj.version, -1, SQLITE_STATIC);
  sqlite3_bind_text(st, 7, row->obj.md5, -1, SQLITE_STATIC);
  sqlite3_bind_int64(st, 8, (int64_t)row->ino);
  sqlite3_bind_int64(st, 9, (int64_t)row->bytes);
  sqlite3_bind_int64(st, 10, row->file_mtime_ns);
  sqlite3_bind_int64(st, 11, row->used_ns);
  sqlite3_bind_int64(st, 12, (int64_t)row->epoch);
  return prelux_catalogue_run(c, st);
}

int prelux_catalogue_begin(struct prelux_catalogue *c, int64_t tree, const char *path, const struct prelux_row *row)
{
  pthread_mutex_lock(&c->lock);
  struct prelux_row now = *row;
  now.epoch = c->epoch;
  int ret = put_row(c, FILL, tree, path, &now);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* Bytes of a row, -1: there is none. */
static int64_t bytes_of(struct prelux_catalogue *c, int64_t tree, const char *path)
{
  sqlite3_stmt *st = prelux_catalogue_bind(c, BYTES, tree, path);
  int64_t bytes = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
  prelux_catalogue_done(st);
  return bytes;
}

int prelux_catalogue_finish(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *row, int64_t *ret_old)
{
  pthread_mutex_lock(&c->lock);
  /* The epoch is read here, after data and name are in place: what an epoch holds was there before it ended. */
  row->epoch = c->epoch;
  int64_t old = -1;
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  if (ret == 0)
  {
    old = bytes_of(c, tree, path);
    ret = put_row(c, FINISH, tree, path, row);
    if (ret == 0)
      ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, ABORT, tree, path));
    ret = prelux_catalogue_end(c, ret);
  }
  pthread_mutex_unlock(&c->lock);
  if (ret == 0)
    *ret_old = old;
  return ret;
}

/* ---- files that get a name where nothing is ---- */

/* One that waits for its rows to be written. */
struct prelux_newcomer {
  struct prelux_newcomer *next;
  int64_t tree;
  const char *path;
  struct prelux_row *row;
  const struct prelux_number *number; /* NULL: none */
  int64_t old;
  bool done;
  int ret;
};

/* In a transaction. */
static int put_newcomer(struct prelux_catalogue *c, struct prelux_newcomer *n)
{
  /* The name will come; without it the file is none. The data are there: what an epoch holds was there before it ended. */
  n->row->epoch = c->epoch;
  n->old = bytes_of(c, n->tree, n->path);
  int ret = put_row(c, FINISH, n->tree, n->path, n->row);
  return ret == 0 && n->number ? prelux_catalogue_put_number(c, FIRST_NUMBER, n->tree, n->number, prelux_store_wall()) : ret;
}

/* From first up to (not with) last, in one transaction. */
static int put_newcomers(struct prelux_catalogue *c, struct prelux_newcomer *first, const struct prelux_newcomer *last)
{
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  bool begun = ret == 0;
  for (struct prelux_newcomer *n = first; n != last && ret == 0; n = n->next)
    ret = put_newcomer(c, n);
  return begun ? prelux_catalogue_end(c, ret) : ret;
}

/* All that wait: in one transaction, or, when that fails, each by itself, so that nobody has another's error. */
static void write_newcomers(struct prelux_catalogue *c)
{
  pthread_mutex_lock(&c->newcomers_lock);
  struct prelux_newcomer *all = c->newcomers;
  c->newcomers = NULL;
  pthread_mutex_unlock(&c->newcomers_lock);
  int ret = put_newcomers(c, all, NULL);
  for (struct prelux_newcomer *n = all; n; n = n->next)
  {
    n->ret = ret < 0 && all->next ? put_newcomers(c, n, n->next) : ret;
    n->done = true;
  }
}

/* Who comes to the lock first writes the rows of all who wait for it: what a transaction costs is mostly the same for several. */
int prelux_catalogue_fresh(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *row, const struct prelux_number *number,
                           int64_t *ret_old)
{
  struct prelux_newcomer me = {.tree = tree, .path = path, .row = row, .number = number};
  pthread_mutex_lock(&c->newcomers_lock);
  me.next = c->newcomers;
  c->newcomers = &me;
  pthread_mutex_unlock(&c->newcomers_lock);
  pthread_mutex_lock(&c->lock);
  if (!me.done)
    write_newcomers(c);
  pthread_mutex_unlock(&c->lock);
  if (me.ret == 0)
    *ret_old = me.old;
  return me.ret;
}

/* ---- one row ---- */

static int run_path(struct prelux_catalogue *c, enum stmt which, int64_t tree, const char *path)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, which, tree, path));
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_abort(struct prelux_catalogue *c, int64_t tree, const char *path)
{
  return run_path(c, ABORT, tree, path);
}

int prelux_catalogue_promote(struct prelux_catalogue *c, int64_t tree, const char *path)
{
  return run_path(c, PROMOTE, tree, path);
}

int prelux_catalogue_del(struct prelux_catalogue *c, int64_t tree, const char *path, uint64_t *ret_bytes)
{
  pthread_mutex_lock(&c->lock);
  int64_t bytes = bytes_of(c, tree, path);
  int ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, DEL, tree, path));
  if (ret == 0 && sqlite3_changes(c->db) == 0)
    ret = -ENOENT;
  pthread_mutex_unlock(&c->lock);
  if (ret == 0)
    *ret_bytes = (uint64_t)bytes;
  return ret;
}
