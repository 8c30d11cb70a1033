/* The catalogue's tables of what this node keeps of its own: identity, times of folders, attributes, links, files put aside, partial files. */
#include "lib/store/attrs.h"
#include "lib/store/catalogue.h"
#include "lib/store/partial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int prelux_catalogue_recovered(struct prelux_catalogue *c, int64_t tree, const char *path, const char *name)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, RECOVERED, tree, "");
  sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
  sqlite3_bind_int64(st, 2, tree);
  sqlite3_bind_blob(st, 3, path, (int)strlen(path), SQLITE_STATIC);
  sqlite3_bind_int64(st, 4, prelux_store_wall());
  int ret = prelux_catalogue_run(c, st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- identity ---- */

int prelux_catalogue_numbers(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, const struct prelux_number *n),
                             void *arg)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[NUMBERS];
  sqlite3_bind_int64(st, 1, tree);
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
  {
    struct prelux_number n = {.base = (uint64_t)sqlite3_column_int64(st, 0),
                              .generation = (uint64_t)sqlite3_column_int64(st, 1),
                              .stamp = (uint64_t)sqlite3_column_int64(st, 2),
                              .ino = (uint64_t)sqlite3_column_int64(st, 3)};
    ret = fn(arg, &n);
  }
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_put_number(struct prelux_catalogue *c, enum stmt which, int64_t tree, const struct prelux_number *n, int64_t at)
{
  sqlite3_stmt *st = c->stmts[which];
  sqlite3_bind_int64(st, 1, tree);
  sqlite3_bind_int64(st, 2, (int64_t)n->base);
  sqlite3_bind_int64(st, 3, (int64_t)n->generation);
  sqlite3_bind_int64(st, 4, (int64_t)n->stamp);
  sqlite3_bind_int64(st, 5, at);
  sqlite3_bind_int64(st, 6, (int64_t)n->ino);
  return prelux_catalogue_run(c, st);
}

int prelux_catalogue_set_numbers(struct prelux_catalogue *c, int64_t tree, const struct prelux_number *rows, size_t n)
{
  int64_t at = prelux_store_wall();
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  for (size_t i = 0; ret == 0 && i < n; i++)
    ret = prelux_catalogue_put_number(c, SET_NUMBER, tree, &rows[i], at);
  ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_prune_numbers(struct prelux_catalogue *c, int64_t tree, size_t keep)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_bind_int64(c->stmts[PRUNE_NUMBERS], 1, tree);
  sqlite3_bind_int64(c->stmts[PRUNE_NUMBERS], 2, (int64_t)keep);
  int ret = prelux_catalogue_run(c, c->stmts[PRUNE_NUMBERS]);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- times of folders ---- */

int prelux_catalogue_times(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, uint64_t base, int64_t ns), void *arg)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[TIMES];
  sqlite3_bind_int64(st, 1, tree);
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
    ret = fn(arg, (uint64_t)sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1));
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_set_times(struct prelux_catalogue *c, int64_t tree, const struct prelux_time *rows, size_t n)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  for (size_t i = 0; ret == 0 && i < n; i++)
  {
    sqlite3_stmt *st = c->stmts[rows[i].ns ? SET_TIME : DROP_TIME];
    sqlite3_bind_int64(st, 1, tree);
    sqlite3_bind_int64(st, 2, (int64_t)rows[i].base);
    if (rows[i].ns)
      sqlite3_bind_int64(st, 3, rows[i].ns);
    ret = prelux_catalogue_run(c, st);
  }
  ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- attributes ---- */

/* The path of a row, which is a blob, as a string. */
static bool read_path(sqlite3_stmt *st, int column, char *ret, size_t cap)
{
  size_t len = (size_t)sqlite3_column_bytes(st, column);
  if (len >= cap)
    return false;
  if (len)
    memcpy(ret, sqlite3_column_blob(st, column), len);
  ret[len] = 0;
  return true;
}

/* Lock held. */
static int each_attr(struct prelux_catalogue *c, sqlite3_stmt *st, int (*fn)(void *arg, const char *path, struct prelux_own *own), void *arg)
{
  char path[PRELUX_OBJECT_MAX + 1];
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
  {
    struct prelux_own own = {.stamp = (uint64_t)sqlite3_column_int64(st, 1),
                             .which = (uint32_t)sqlite3_column_int64(st, 2),
                             .mode = (uint32_t)sqlite3_column_int64(st, 3),
                             .mtime_ns = sqlite3_column_int64(st, 4),
                             .uid = (uint32_t)sqlite3_column_int64(st, 5),
                             .gid = (uint32_t)sqlite3_column_int64(st, 6)};
    if (read_path(st, 0, path, sizeof path))
      ret = fn(arg, path, &own);
  }
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  return ret < 0 ? ret : 0;
}

int prelux_catalogue_attrs(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, const char *path, struct prelux_own *own), void *arg)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_bind_int64(c->stmts[ATTRS], 1, tree);
  int ret = each_attr(c, c->stmts[ATTRS], fn, arg);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_attrs_below(struct prelux_catalogue *c, int64_t tree, const char *folder,
                                 int (*fn)(void *arg, const char *path, struct prelux_own *own), void *arg)
{
  char from[PRELUX_OBJECT_MAX + 2], to[PRELUX_OBJECT_MAX + 2];
  size_t len = strlen(folder);
  if (len > PRELUX_OBJECT_MAX)
    return -ENAMETOOLONG;
  memcpy(from, folder, len);
  from[len] = '/';
  memcpy(to, from, len + 1);
  to[len] = '/' + 1;
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, ATTRS_BELOW, tree, "");
  sqlite3_bind_blob(st, 2, from, (int)len + 1, SQLITE_STATIC);
  sqlite3_bind_blob(st, 3, to, (int)len + 1, SQLITE_STATIC);
  int ret = each_attr(c, st, fn, arg);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_set_attr(struct prelux_catalogue *c, int64_t tree, const char *path, const struct prelux_own *own)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, own->which ? SET_ATTR : DROP_ATTR, tree, path);
  if (own->which)
  {
    sqlite3_bind_int64(st, 3, (int64_t)own->stamp);
    sqlite3_bind_int64(st, 4, own->which);
    sqlite3_bind_int64(st, 5, own->mode);
    sqlite3_bind_int64(st, 6, own->mtime_ns);
    sqlite3_bind_int64(st, 7, own->uid);
    sqlite3_bind_int64(st, 8, own->gid);
    sqlite3_bind_int64(st, 9, prelux_store_wall());
  }
  int ret = prelux_catalogue_run(c, st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- links ---- */

int prelux_catalogue_links(struct prelux_catalogue *c, int64_t tree,
                           int (*fn)(void *arg, const char *path, const char *target, uint64_t ino, int64_t mtime_ns), void *arg)
{
  char path[PRELUX_OBJECT_MAX + 1], target[PRELUX_LINK_MAX + 1];
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[LINKS];
  sqlite3_bind_int64(st, 1, tree);
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
    if (read_path(st, 0, path, sizeof path) && read_path(st, 1, target, sizeof target))
      ret = fn(arg, path, target, (uint64_t)sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3));
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_set_link(struct prelux_catalogue *c, int64_t tree, const char *from, const char *path, const char *target, uint64_t ino,
                              int64_t mtime_ns)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  if (ret == 0 && from)
    ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, DROP_LINK, tree, from));
  if (ret == 0 && path)
  {
    sqlite3_stmt *st = prelux_catalogue_bind(c, SET_LINK, tree, path);
    sqlite3_bind_blob(st, 3, target, (int)strlen(target), SQLITE_STATIC);
    sqlite3_bind_int64(st, 4, (int64_t)ino);
    sqlite3_bind_int64(st, 5, mtime_ns);
    ret = prelux_catalogue_run(c, st);
  }
  ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- partial files ---- */

int prelux_catalogue_partials(struct prelux_catalogue *c, int (*fn)(void *arg, const struct prelux_partial *p), void *arg)
{
  char path[PRELUX_OBJECT_MAX + 1];
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[PARTIALS];
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
  {
    const char *name = (const char *)sqlite3_column_text(st, 2), *version = (const char *)sqlite3_column_text(st, 4);
    struct prelux_partial p = {.tree = sqlite3_column_int64(st, 0),
                               .path = path,
                               .obj = {.type = PRELUX_FILE, .size = (uint64_t)sqlite3_column_int64(st, 3)},
                               .used_ns = sqlite3_column_int64(st, 5)};
    snprintf(p.name, sizeof p.name, "%s", name ? name : "");
    snprintf(p.obj.version, sizeof p.obj.version, "%s", version ? version : "");
    if (read_path(st, 1, path, sizeof path))
      ret = fn(arg, &p);
  }
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_set_partial(struct prelux_catalogue *c, const struct prelux_partial *p)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, SET_PARTIAL, p->tree, p->path);
  sqlite3_bind_text(st, 3, p->name, -1, SQLITE_STATIC);
  sqlite3_bind_int64(st, 4, (int64_t)p->obj.size);
  sqlite3_bind_text(st, 5, p->obj.version, -1, SQLITE_STATIC);
  sqlite3_bind_int64(st, 6, p->used_ns);
  int ret = prelux_catalogue_run(c, st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_drop_partial(struct prelux_catalogue *c, const struct prelux_partial *p)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, DROP_PARTIAL, p->tree, p->path);
  sqlite3_bind_text(st, 3, p->name, -1, SQLITE_STATIC);
  int ret = prelux_catalogue_run(c, st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* ---- pins ---- */

int prelux_catalogue_pins(struct prelux_catalogue *c, int (*fn)(void *arg, int64_t tree, const char *path), void *arg)
{
  char path[PRELUX_OBJECT_MAX + 1];
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[PINS];
  int rc = SQLITE_ROW, ret = 0;
  while (ret == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
    if (read_path(st, 1, path, sizeof path))
      ret = fn(arg, sqlite3_column_int64(st, 0), path);
  if (ret == 0)
    ret = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_set_pin(struct prelux_catalogue *c, int64_t tree, const char *path, bool on)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  bool begun = ret == 0;
  if (ret == 0)
    ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, on ? SET_PIN : DROP_PIN, tree, path));
  if (ret == 0 && !on) /* what another pin still covers is marked again when its turn comes */
  {
    sqlite3_bind_int64(c->stmts[UNMARK_PINNED], 1, tree);
    ret = prelux_catalogue_run(c, c->stmts[UNMARK_PINNED]);
  }
  if (begun)
    ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

int prelux_catalogue_mark_pinned(struct prelux_catalogue *c, const struct prelux_victim *rows, int n)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  bool begun = ret == 0;
  for (int i = 0; ret == 0 && i < n; i++)
    ret = prelux_catalogue_run(c, prelux_catalogue_bind(c, MARK_PINNED, rows[i].tree, rows[i].path));
  if (begun)
    ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}
