/* The catalogue: what must survive the daemon, in SQLite (WAL, this process alone: locking_mode exclusive, so no shared
 * memory file). synchronous=NORMAL: a commit survives SIGKILL; power loss may take the last commits, which the epochs
 * account for (recover.c). One connection, one mutex, statements prepared once.
 *
 * objects: whole files at their cache paths. fills: files about to get their name; the row names the inode, so that after a
 * crash "is it there?" has a sure answer. numbers: identity (number.c). Paths are blobs: any byte but NUL, compared by memcmp. */
#include "lib/store/catalogue.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/sql.h"

#define SCHEMA_VERSION "3"
#define BUSY_MS 10000
#define ROW "size,mtime,mode,version,md5,ino,bytes,file_mtime,used,epoch"
#define COLUMNS                                                                                                           \
  "tree INTEGER NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, mode INTEGER NOT NULL, "      \
  "version TEXT NOT NULL, md5 TEXT NOT NULL, ino INTEGER NOT NULL, bytes INTEGER NOT NULL, file_mtime INTEGER NOT NULL, " \
  "used INTEGER NOT NULL, epoch INTEGER NOT NULL, again INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(tree, path)"
#define VICTIM "SELECT tree,path,ino,bytes,file_mtime,used FROM "

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS trees(id INTEGER PRIMARY KEY, identity TEXT UNIQUE NOT NULL, dev INTEGER UNIQUE NOT NULL,"
    " key INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS objects(" COLUMNS ") WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS fills(" COLUMNS ") WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS objects_recent ON objects(tree, used);"
    "CREATE INDEX IF NOT EXISTS objects_epoch ON objects(epoch);"
    "CREATE TABLE IF NOT EXISTS recovered(name TEXT PRIMARY KEY, tree INTEGER NOT NULL, path BLOB NOT NULL,"
    " at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS numbers(tree INTEGER NOT NULL, base INTEGER NOT NULL, generation INTEGER NOT NULL,"
    " stamp INTEGER NOT NULL, at INTEGER NOT NULL, ino INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(tree, base)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS attrs(tree INTEGER NOT NULL, path BLOB NOT NULL, stamp INTEGER NOT NULL, which INTEGER NOT NULL,"
    " mode INTEGER NOT NULL, mtime INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, at INTEGER NOT NULL,"
    " PRIMARY KEY(tree, path)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS links(tree INTEGER NOT NULL, path BLOB NOT NULL, target BLOB NOT NULL, ino INTEGER NOT NULL,"
    " mtime INTEGER NOT NULL, PRIMARY KEY(tree, path)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS folder_times(tree INTEGER NOT NULL, base INTEGER NOT NULL, ns INTEGER NOT NULL, PRIMARY KEY(tree, base))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS partials(tree INTEGER NOT NULL, path BLOB NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,"
    " version TEXT NOT NULL, used INTEGER NOT NULL, PRIMARY KEY(tree, path)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS pins(tree INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY(tree, path)) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO meta VALUES('schema','" SCHEMA_VERSION "');";

/* What a catalogue of the version before lacks; new tables are made above. */
static const char from_1[] = "BEGIN IMMEDIATE;"
                             "ALTER TABLE numbers ADD COLUMN ino INTEGER NOT NULL DEFAULT 0;"
                             "UPDATE meta SET value='2' WHERE key='schema';"
                             "COMMIT;";
static const char from_2[] = "BEGIN IMMEDIATE;"
                             "ALTER TABLE objects ADD COLUMN again INTEGER NOT NULL DEFAULT 0;"
                             "ALTER TABLE fills ADD COLUMN again INTEGER NOT NULL DEFAULT 0;"
                             "DROP INDEX IF EXISTS objects_used;"
                             "UPDATE meta SET value='3' WHERE key='schema';"
                             "COMMIT;";

/* Of columns that may have come just now. */
static const char indexes[] = "CREATE INDEX IF NOT EXISTS objects_once ON objects(used) WHERE again=0;"
                              "CREATE INDEX IF NOT EXISTS objects_again ON objects(used) WHERE again>0;";

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [META] = "SELECT value FROM meta WHERE key=?1",
    [SET_META] = "INSERT OR REPLACE INTO meta VALUES(?1,?2)",
    [TREE] = "SELECT id,key,dev FROM trees WHERE identity=?1",
    [ADD_TREE] = "INSERT INTO trees(identity,key,dev) VALUES(?1,?2,?3)",
    [IDENTITY] = "SELECT identity FROM trees WHERE id=?1",
    [GET] = "SELECT " ROW " FROM objects WHERE tree=?1 AND path=?2",
    [FILL] = "INSERT OR REPLACE INTO fills(tree,path," ROW ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
    [FINISH] = "INSERT OR REPLACE INTO objects(tree,path," ROW ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
    [ABORT] = "DELETE FROM fills WHERE tree=?1 AND path=?2",
    [DEL] = "DELETE FROM objects WHERE tree=?1 AND path=?2",
    [BYTES] = "SELECT bytes FROM objects WHERE tree=?1 AND path=?2",
    /* The fetch itself is a use, too. again<0: pinned, and no victim (pin.c). */
    [TOUCH] = "UPDATE objects SET used=?3, again=CASE WHEN ?3=0 THEN 0 WHEN again<0 THEN again ELSE again+(?3-used>?4) END WHERE tree=?1 AND path=?2",
    [ONCE_OLDEST] = VICTIM "objects WHERE again=0 AND used>?1 ORDER BY used LIMIT ?2",
    [ONCE_NEWEST] = VICTIM "objects WHERE again=0 AND used<?1 ORDER BY used DESC LIMIT ?2",
    [AGAIN_OLDEST] = VICTIM "objects WHERE again>0 AND used>?1 ORDER BY used LIMIT ?2",
    [NEWEST] = VICTIM "objects WHERE tree=?1 ORDER BY used DESC LIMIT ?2",
    [BELOW] = VICTIM "objects WHERE tree=?1 AND path>=?2 AND path<?3 AND path>?4 ORDER BY path LIMIT ?5",
    [BELOW_FIRST] = VICTIM "objects WHERE tree=?1 AND path>?4 ORDER BY path LIMIT ?5",
    [UNFINISHED] = VICTIM "fills WHERE tree>?1 LIMIT ?2",
    [LATER] = VICTIM "objects WHERE epoch>?1 LIMIT ?2",
    [PROMOTE] = "INSERT OR REPLACE INTO objects SELECT * FROM fills WHERE tree=?1 AND path=?2",
    [TOTALS] = "SELECT coalesce(sum(bytes),0),count(*),coalesce(max(epoch),0) FROM objects",
    [NUMBERS] = "SELECT base,generation,stamp,ino FROM numbers WHERE tree=?1",
    [SET_NUMBER] = "INSERT OR REPLACE INTO numbers(tree,base,generation,stamp,at,ino) VALUES(?1,?2,?3,?4,?5,?6)",
    /* Of two that were noted at once the later one came by the other statement. */
    [FIRST_NUMBER] = "INSERT OR IGNORE INTO numbers(tree,base,generation,stamp,at,ino) VALUES(?1,?2,?3,?4,?5,?6)",
    [PRUNE_NUMBERS] = "DELETE FROM numbers WHERE tree=?1 AND base NOT IN"
                      " (SELECT base FROM numbers WHERE tree=?1 ORDER BY generation>0 OR ino>0 DESC, at DESC LIMIT ?2)",
    [TIMES] = "SELECT base,ns FROM folder_times WHERE tree=?1",
    [SET_TIME] = "INSERT OR REPLACE INTO folder_times(tree,base,ns) VALUES(?1,?2,?3)",
    [DROP_TIME] = "DELETE FROM folder_times WHERE tree=?1 AND base=?2",
    [ATTRS] = "SELECT path,stamp,which,mode,mtime,uid,gid FROM attrs WHERE tree=?1",
    [ATTRS_BELOW] = "SELECT path,stamp,which,mode,mtime,uid,gid FROM attrs WHERE tree=?1 AND path>=?2 AND path<?3",
    [SET_ATTR] = "INSERT OR REPLACE INTO attrs(tree,path,stamp,which,mode,mtime,uid,gid,at) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [DROP_ATTR] = "DELETE FROM attrs WHERE tree=?1 AND path=?2",
    [LINKS] = "SELECT path,target,ino,mtime FROM links WHERE tree=?1",
    [SET_LINK] = "INSERT OR REPLACE INTO links(tree,path,target,ino,mtime) VALUES(?1,?2,?3,?4,?5)",
    [DROP_LINK] = "DELETE FROM links WHERE tree=?1 AND path=?2",
    [PARTIALS] = "SELECT tree,path,name,size,version,used FROM partials",
    [SET_PARTIAL] = "INSERT OR REPLACE INTO partials VALUES(?1,?2,?3,?4,?5,?6)",
    [DROP_PARTIAL] = "DELETE FROM partials WHERE tree=?1 AND path=?2 AND name=?3",
    [PINS] = "SELECT tree,path FROM pins ORDER BY tree,path",
    [SET_PIN] = "INSERT OR IGNORE INTO pins VALUES(?1,?2)",
    [DROP_PIN] = "DELETE FROM pins WHERE tree=?1 AND path=?2",
    [MARK_PINNED] = "UPDATE objects SET again=-1 WHERE tree=?1 AND path=?2",
    [UNMARK_PINNED] = "UPDATE objects SET again=0 WHERE tree=?1 AND again<0",
    [RECOVERED] = "INSERT OR REPLACE INTO recovered VALUES(?1,?2,?3,?4)",
};

/* -EUCLEAN: the file is damaged; who owns the store closes it and opens it anew. */
int prelux_catalogue_fault(struct prelux_catalogue *c, int rc)
{
  int err = prelux_sql_error(rc);
  if (err == -EUCLEAN && !c->corrupt)
    prelux_error("cache catalogue %s: %s", c->path, sqlite3_errmsg(c->db));
  if (err == -EUCLEAN)
    c->corrupt = true;
  else if (err < 0 && err != -ENOSPC && err != -ENOMEM)
    prelux_error("cache catalogue: %s", sqlite3_errmsg(c->db));
  return err;
}

/* One statement with its parameters bound: b = blob path, i = integer, s = string. Lock held. */
sqlite3_stmt *prelux_catalogue_bind(struct prelux_catalogue *c, enum stmt which, int64_t tree, const char *path)
{
  sqlite3_stmt *st = c->stmts[which];
  sqlite3_bind_int64(st, 1, tree);
  sqlite3_bind_blob(st, 2, path, (int)strlen(path), SQLITE_STATIC);
  return st;
}

void prelux_catalogue_done(sqlite3_stmt *st)
{
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
}

int prelux_catalogue_run(struct prelux_catalogue *c, sqlite3_stmt *st)
{
  int ret = prelux_catalogue_fault(c, sqlite3_step(st));
  prelux_catalogue_done(st);
  return ret;
}

/* Ends a transaction that began with ret: committed, or undone. */
int prelux_catalogue_end(struct prelux_catalogue *c, int ret)
{
  if (ret == 0)
    ret = prelux_catalogue_run(c, c->stmts[COMMIT]);
  if (ret < 0 && !sqlite3_get_autocommit(c->db))
    prelux_catalogue_run(c, c->stmts[ROLLBACK]);
  return ret;
}

static void column_text(sqlite3_stmt *st, int i, char *ret, size_t cap)
{
  const char *text = (const char *)sqlite3_column_text(st, i);
  snprintf(ret, cap, "%s", text ? text : "");
}

static int read_text(void *arg, int columns, char **values, char **names)
{
  snprintf(arg, 16, "%s", columns == 1 && values[0] ? values[0] : "");
  return 0;
}

/* SQLITE_MISMATCH: it is of a later version than ours, and nothing is to be changed in it: it holds links and pins, which are nowhere else. */
static int check_version(struct prelux_catalogue *c)
{
  char version[16] = "";
  int rc = sqlite3_exec(c->db, "SELECT value FROM meta WHERE key='schema'", read_text, version, NULL);
  if (rc != SQLITE_OK)
    return (rc & 0xff) == SQLITE_ERROR ? SQLITE_OK : rc; /* a new file has no such table; who cannot read it now knows nothing */
  return version[0] && version[strspn(version, "0123456789")] == 0 && atoi(version) > atoi(SCHEMA_VERSION) ? SQLITE_MISMATCH : SQLITE_OK;
}

/* Brings the file up to our version; SQLITE_CORRUPT: it is of one that never was. */
static int migrate(struct prelux_catalogue *c)
{
  char version[16] = "";
  int rc = sqlite3_exec(c->db, "SELECT value FROM meta WHERE key='schema'", read_text, version, NULL);
  bool first = strcmp(version, "1") == 0;
  if (rc == SQLITE_OK && first)
    rc = sqlite3_exec(c->db, from_1, NULL, NULL, NULL);
  if (rc == SQLITE_OK && (first || strcmp(version, "2") == 0))
    return sqlite3_exec(c->db, from_2, NULL, NULL, NULL);
  return rc != SQLITE_OK || strcmp(version, SCHEMA_VERSION) == 0 ? rc : SQLITE_CORRUPT;
}

static int open_db(struct prelux_catalogue *c, const char *path)
{
  static const char pragmas[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;";
  int rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc == SQLITE_OK)
  {
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, BUSY_MS);
    rc = sqlite3_exec(c->db, pragmas, NULL, NULL, NULL);
  }
  if (rc == SQLITE_OK)
    rc = check_version(c);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(c->db, schema, NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = migrate(c);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(c->db, indexes, NULL, NULL, NULL);
  for (int i = 0; rc == SQLITE_OK && i < STATEMENTS; i++)
    rc = sqlite3_prepare_v3(c->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &c->stmts[i], NULL);
  return rc;
}

static void close_db(struct prelux_catalogue *c)
{
  for (int i = 0; i < STATEMENTS; i++)
  {
    sqlite3_finalize(c->stmts[i]);
    c->stmts[i] = NULL;
  }
  sqlite3_close(c->db);
  c->db = NULL;
}

/* A catalogue that cannot be read is put aside: its files are then unknown and have to be compared with the remote. */
static int put_aside(const char *path)
{
  static const char *const parts[] = {"", "-wal", "-shm"};
  char from[4200], to[4240];
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
  {
    snprintf(from, sizeof from, "%s%s", path, parts[i]);
    snprintf(to, sizeof to, "%s.broken-%" PRId64 "%s", path, prelux_store_wall() / 1000000000, parts[i]);
    if (prelux_os.rename(from, to) < 0 && i == 0)
      return -errno;
  }
  return 0;
}

int prelux_catalogue_open(const char *path, struct prelux_catalogue **ret, struct prelux_problem *why)
{
  struct prelux_catalogue *c = calloc(1, sizeof *c);
  if (!c)
    return prelux_problem(why, ENOMEM, "out of memory");
  pthread_mutex_init(&c->lock, NULL);
  pthread_mutex_init(&c->newcomers_lock, NULL);
  int rc = (c->path = strdup(path)) ? open_db(c, path) : SQLITE_NOMEM;
  if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB)
  {
    prelux_warn("cache catalogue %s: %s; put aside, its files will be compared with the remote", path, sqlite3_errstr(rc));
    close_db(c);
    c->corrupt = false;
    if (put_aside(path) == 0)
      rc = open_db(c, path);
  }
  if (rc == SQLITE_OK)
  {
    c->epoch = 1;
    *ret = c;
    return 0;
  }
  int err = (rc & 0xff) == SQLITE_FULL ? ENOSPC : (rc & 0xff) == SQLITE_BUSY ? EBUSY : rc == SQLITE_MISMATCH ? EPROTO : EIO;
  prelux_problem(why, err, "cache catalogue %s: %s", path, err == EPROTO ? "made by a newer prelux" : c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
  if (why && err == EPROTO)
    snprintf(why->advice, sizeof why->advice, "use that one again, or set cache.dir to another folder: links that were made here, and pins, are in this one");
  prelux_catalogue_free(c);
  return -err;
}

void prelux_catalogue_free(struct prelux_catalogue *c)
{
  if (!c)
    return;
  close_db(c);
  if (c->corrupt)
  {
    prelux_warn("cache catalogue %s is damaged: put aside, its files will be compared with the remote", c->path);
    put_aside(c->path);
  }
  pthread_mutex_destroy(&c->lock);
  pthread_mutex_destroy(&c->newcomers_lock);
  free(c->path);
  free(c);
}

int prelux_catalogue_meta(struct prelux_catalogue *c, const char *key, char *ret, size_t cap)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[META];
  sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
  int rc = sqlite3_step(st), result = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : prelux_catalogue_fault(c, rc);
  if (rc == SQLITE_ROW)
    column_text(st, 0, ret, cap);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return result;
}

int prelux_catalogue_set_meta(struct prelux_catalogue *c, const char *key, const char *value)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[SET_META];
  sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
  sqlite3_bind_text(st, 2, value, -1, SQLITE_STATIC);
  int ret = prelux_catalogue_run(c, st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

static int find_tree(struct prelux_catalogue *c, const char *identity, int64_t *ret_id, uint64_t *key, uint64_t *dev)
{
  sqlite3_stmt *st = c->stmts[TREE];
  sqlite3_bind_text(st, 1, identity, -1, SQLITE_STATIC);
  int rc = sqlite3_step(st), result = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : prelux_catalogue_fault(c, rc);
  if (rc == SQLITE_ROW)
  {
    *ret_id = sqlite3_column_int64(st, 0);
    *key = (uint64_t)sqlite3_column_int64(st, 1);
    *dev = (uint64_t)sqlite3_column_int64(st, 2);
  }
  prelux_catalogue_done(st);
  return result;
}

int prelux_catalogue_tree(struct prelux_catalogue *c, const char *identity, int64_t *ret_id, uint64_t *key, uint64_t *dev)
{
  pthread_mutex_lock(&c->lock);
  int ret = find_tree(c, identity, ret_id, key, dev);
  for (int tries = 0; ret == -ENOENT && tries < 256; tries++)
  {
    sqlite3_stmt *st = c->stmts[ADD_TREE];
    sqlite3_bind_text(st, 1, identity, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, (int64_t)*key);
    sqlite3_bind_int64(st, 3, (int64_t)*dev);
    int rc = sqlite3_step(st);
    prelux_catalogue_done(st);
    if (rc == SQLITE_DONE)
      ret = find_tree(c, identity, ret_id, key, dev);
    else if ((rc & 0xff) == SQLITE_CONSTRAINT)
      ++*dev;
    else
      ret = prelux_catalogue_fault(c, rc);
  }
  pthread_mutex_unlock(&c->lock);
  return ret == -ENOENT ? -EIO : ret;
}

int prelux_catalogue_get(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *ret)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, GET, tree, path);
  int rc = sqlite3_step(st), result = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : prelux_catalogue_fault(c, rc);
  if (rc == SQLITE_ROW)
  {
    *ret = (struct prelux_row){
        .obj = {.type = PRELUX_FILE,
                .size = (uint64_t)sqlite3_column_int64(st, 0),
                .mtime_ns = sqlite3_column_int64(st, 1),
                .mode = (uint32_t)sqlite3_column_int64(st, 2)},
        .ino = (uint64_t)sqlite3_column_int64(st, 5),
        .bytes = (uint64_t)sqlite3_column_int64(st, 6),
        .file_mtime_ns = sqlite3_column_int64(st, 7),
        .used_ns = sqlite3_column_int64(st, 8),
        .epoch = (uint64_t)sqlite3_column_int64(st, 9),
    };
    column_text(st, 3, ret->obj.version, sizeof ret->obj.version);
    column_text(st, 4, ret->obj.md5, sizeof ret->obj.md5);
  }
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return result;
}

int prelux_catalogue_touch(struct prelux_catalogue *c, const struct prelux_victim *rows, int n, int64_t apart_ns)
{
  pthread_mutex_lock(&c->lock);
  int ret = prelux_catalogue_run(c, c->stmts[BEGIN]);
  for (int i = 0; ret == 0 && i < n; i++)
  {
    sqlite3_stmt *st = prelux_catalogue_bind(c, TOUCH, rows[i].tree, rows[i].path);
    sqlite3_bind_int64(st, 3, rows[i].used_ns);
    sqlite3_bind_int64(st, 4, apart_ns);
    ret = prelux_catalogue_run(c, st);
  }
  ret = prelux_catalogue_end(c, ret);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

/* Steps through a prepared VICTIM select. Lock held. */
static int collect(struct prelux_catalogue *c, sqlite3_stmt *st, struct prelux_victim *ret, int n)
{
  int count = 0, rc = SQLITE_ROW;
  while (count < n && (rc = sqlite3_step(st)) == SQLITE_ROW)
  {
    size_t len = (size_t)sqlite3_column_bytes(st, 1);
    struct prelux_victim *v = &ret[count];
    *v = (struct prelux_victim){.tree = sqlite3_column_int64(st, 0),
                                .path = calloc(1, len + 1),
                                .ino = (uint64_t)sqlite3_column_int64(st, 2),
                                .bytes = (uint64_t)sqlite3_column_int64(st, 3),
                                .file_mtime_ns = sqlite3_column_int64(st, 4),
                                .used_ns = sqlite3_column_int64(st, 5)};
    if (!v->path)
    {
      rc = SQLITE_NOMEM;
      break;
    }
    if (len)
      memcpy(v->path, sqlite3_column_blob(st, 1), len);
    count++;
  }
  int err = prelux_catalogue_fault(c, rc);
  prelux_catalogue_done(st);
  if (err == 0)
    return count;
  while (count)
    free(ret[--count].path);
  return err;
}

/* A VICTIM select of one number and a limit. */
static int select_rows(struct prelux_catalogue *c, enum stmt which, int64_t number, struct prelux_victim *ret, int n)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_bind_int64(c->stmts[which], 1, number);
  sqlite3_bind_int64(c->stmts[which], 2, n);
  int count = collect(c, c->stmts[which], ret, n);
  pthread_mutex_unlock(&c->lock);
  return count;
}

int prelux_catalogue_victims(struct prelux_catalogue *c, enum stmt which, int64_t than_ns, struct prelux_victim *ret, int n)
{
  return select_rows(c, which, than_ns, ret, n);
}

int prelux_catalogue_newest(struct prelux_catalogue *c, int64_t tree, struct prelux_victim *ret, int n)
{
  return select_rows(c, NEWEST, tree, ret, n);
}

int prelux_catalogue_unfinished(struct prelux_catalogue *c, struct prelux_victim *ret, int n)
{
  return select_rows(c, UNFINISHED, 0, ret, n);
}

int prelux_catalogue_later(struct prelux_catalogue *c, uint64_t epoch, struct prelux_victim *ret, int n)
{
  return select_rows(c, LATER, (int64_t)epoch, ret, n);
}

int prelux_catalogue_below(struct prelux_catalogue *c, int64_t tree, const char *path, const char *after,
                           struct prelux_victim *ret, int n)
{
  char from[PRELUX_OBJECT_MAX + 2], to[PRELUX_OBJECT_MAX + 2];
  int len = snprintf(from, sizeof from, "%s/", path);
  memcpy(to, from, (size_t)len);
  to[len - 1] = '/' + 1;
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = prelux_catalogue_bind(c, *path ? BELOW : BELOW_FIRST, tree, "");
  if (*path)
  {
    sqlite3_bind_blob(st, 2, from, len, SQLITE_STATIC);
    sqlite3_bind_blob(st, 3, to, len, SQLITE_STATIC);
  }
  sqlite3_bind_blob(st, 4, after ? after : "", after ? (int)strlen(after) : 0, SQLITE_STATIC);
  sqlite3_bind_int64(st, 5, n);
  int count = collect(c, st, ret, n);
  pthread_mutex_unlock(&c->lock);
  return count;
}

int prelux_catalogue_totals(struct prelux_catalogue *c, uint64_t *ret_bytes, uint64_t *ret_files, uint64_t *ret_epoch)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[TOTALS];
  int rc = sqlite3_step(st), ret = prelux_catalogue_fault(c, rc);
  if (rc == SQLITE_ROW)
  {
    *ret_bytes = (uint64_t)sqlite3_column_int64(st, 0);
    *ret_files = (uint64_t)sqlite3_column_int64(st, 1);
    *ret_epoch = (uint64_t)sqlite3_column_int64(st, 2);
  }
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return ret;
}

uint64_t prelux_catalogue_next_epoch(struct prelux_catalogue *c)
{
  pthread_mutex_lock(&c->lock);
  uint64_t ended = c->epoch++;
  pthread_mutex_unlock(&c->lock);
  return ended;
}

void prelux_catalogue_set_epoch(struct prelux_catalogue *c, uint64_t epoch)
{
  pthread_mutex_lock(&c->lock);
  c->epoch = epoch;
  pthread_mutex_unlock(&c->lock);
}

int prelux_catalogue_identity(struct prelux_catalogue *c, int64_t tree, char *ret, size_t cap)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_stmt *st = c->stmts[IDENTITY];
  sqlite3_bind_int64(st, 1, tree);
  int rc = sqlite3_step(st), result = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : prelux_catalogue_fault(c, rc);
  if (rc == SQLITE_ROW)
    column_text(st, 0, ret, cap);
  prelux_catalogue_done(st);
  pthread_mutex_unlock(&c->lock);
  return result;
}

void prelux_catalogue_durable(struct prelux_catalogue *c)
{
  pthread_mutex_lock(&c->lock);
  sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
  pthread_mutex_unlock(&c->lock);
}
