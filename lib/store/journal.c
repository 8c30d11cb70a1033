/* SQLite in WAL mode, this process alone. synchronous=NORMAL: a commit is a write() to the WAL, which SIGKILL cannot undo. For power
 * loss durable() syncs the WAL file itself: after a crash SQLite replays every whole frame it finds there. A checkpoint syncs
 * both files in the right order by itself. The names that lead to the files are synced once. */
#include "lib/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/sql.h"

#define SCHEMA_VERSION "2"
#define BUSY_MS 10000
/* A checkpoint waits for the medium three times, and whoever opens a file just then waits with it: on a roomy disk there are fewer. */
static const struct wal
{
  const char *checkpoint; /* when so many pages are in it */
  long room;              /* more than that many pages take: on a full disk closes can still be noted, and files removed to make room */
} wal_of_any = {"PRAGMA wal_autocheckpoint=256", 2l << 20}, wal_of_roomy = {"PRAGMA wal_autocheckpoint=2048", 12l << 20};
#define ROOMY (4ull << 30)
#define DB_STEP (64 << 10)
#define OVER_MAX 1000u
#define READ_MARK 1u /* of rows that are read: nobody knows whether an earlier daemon has synced them */
#define COLUMNS "tree,intent,state,flags,path,target,ino,size,mode,mtime,made,next,tries,err,base,upload,cause,sent"

static const char schema_meta[] = "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
                                  "INSERT OR IGNORE INTO meta VALUES('schema','" SCHEMA_VERSION "');";
static const char schema[] =
    "CREATE TABLE IF NOT EXISTS trees(id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT UNIQUE NOT NULL);"
    "CREATE TABLE IF NOT EXISTS pending(id INTEGER PRIMARY KEY AUTOINCREMENT, tree INTEGER NOT NULL, intent INTEGER NOT NULL,"
    " state INTEGER NOT NULL, flags INTEGER NOT NULL, path BLOB, target BLOB, ino INTEGER NOT NULL, size INTEGER NOT NULL,"
    " mode INTEGER NOT NULL, mtime INTEGER NOT NULL, made INTEGER NOT NULL, next INTEGER NOT NULL, tries INTEGER NOT NULL,"
    " err INTEGER NOT NULL, base TEXT NOT NULL, upload TEXT, cause TEXT, sent TEXT);";

/* Version 1 had no names of trees: its numbers are kept, with the names that the catalogue has for them. */
static const char from_1[] = "CREATE TABLE trees(id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT UNIQUE NOT NULL);"
                             "ALTER TABLE pending ADD COLUMN sent TEXT;"
                             "UPDATE meta SET value='2' WHERE key='schema';";

enum stmt
{
  BEGIN,
  COMMIT,
  ROLLBACK,
  ADD,
  SET,
  DROP,
  NEXT,
  COUNT,
  META,
  SET_META,
  TREE,
  ADD_TREE,
  IDENTITY,
  STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [ADD] = "INSERT INTO pending(" COLUMNS ") VALUES(?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)",
    [SET] = "UPDATE pending SET tree=?2,intent=?3,state=?4,flags=?5,path=?6,target=?7,ino=?8,size=?9,mode=?10,mtime=?11,"
            "next=?13,tries=?14,err=?15,base=?16,upload=?17,cause=?18,sent=?19 WHERE id=?1",
    [DROP] = "DELETE FROM pending WHERE id=?1",
    [NEXT] = "SELECT id," COLUMNS " FROM pending WHERE id>?1 ORDER BY id LIMIT 1",
    [COUNT] = "SELECT count(*) FROM pending",
    [META] = "SELECT value FROM meta WHERE key=?1",
    [SET_META] = "INSERT OR REPLACE INTO meta VALUES(?1,?2)",
    [TREE] = "SELECT id FROM trees WHERE identity=?1",
    [ADD_TREE] = "INSERT INTO trees(identity) VALUES(?1)",
    [IDENTITY] = "SELECT identity FROM trees WHERE id=?1",
};

struct prelux_journal
{
  pthread_mutex_t lock;
  sqlite3 *db;
  sqlite3_stmt *stmts[STATEMENTS];
  char *path;
  int wal_fd;         /* of the WAL file: it is synced by this, and given room; never read or written */
  uint64_t committed; /* changes so far, and names in the folder beside it */
  int beside;         /* that folder, or -1 */
  int64_t over[OVER_MAX]; /* rows that could not be dropped, and are nobody's */
  size_t n_over;

  pthread_mutex_t sync_lock; /* inside nothing; one sync at a time */
  uint64_t synced;           /* changes that are on the medium */
  bool led;                  /* so are the names that lead to the files */
  int sync_err;              /* a sync that failed once: the kernel forgets what it could not write, so a later one proves nothing */
};

void prelux_pending_release(struct prelux_pending *p)
{
  free(p->path);
  free(p->to);
  free(p->upload);
  free(p->cause);
  free(p->sent);
  p->path = p->to = p->upload = p->cause = p->sent = NULL;
}

static int fault(struct prelux_journal *j, int rc)
{
  int err = prelux_sql_error(rc);
  if (err < 0 && err != -ENOSPC && err != -ENOMEM)
    prelux_error("journal %s: %s", j->path, sqlite3_errmsg(j->db));
  return err;
}

static int run(struct prelux_journal *j, sqlite3_stmt *st)
{
  int ret = fault(j, sqlite3_step(st));
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  return ret;
}

/* Opening. */

static int read_text(void *arg, int columns, char **values, char **names)
{
  snprintf(arg, 16, "%s", columns == 1 && values[0] ? values[0] : "");
  return 0;
}

/* Of a number that the catalogue does not know: no tree has this identity, so its rows wait for a person. */
static void no_name(int64_t tree, char *ret, size_t cap)
{
  snprintf(ret, cap, "unknown (number %" PRId64 " of a catalogue that was lost)", tree);
}

/* In a transaction. */
static int name_trees(struct prelux_journal *j, prelux_journal_name_fn name, void *arg)
{
  char identity[PRELUX_IDENTITY_MAX];
  sqlite3_stmt *rows = NULL, *add = NULL;
  int rc = sqlite3_prepare_v2(j->db, "SELECT DISTINCT tree FROM pending", -1, &rows, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_prepare_v2(j->db, "INSERT INTO trees VALUES(?1,?2)", -1, &add, NULL);
  while (rc == SQLITE_OK && (rc = sqlite3_step(rows)) == SQLITE_ROW)
  {
    int64_t tree = sqlite3_column_int64(rows, 0);
    if (!name || name(arg, tree, identity, sizeof identity) < 0)
      no_name(tree, identity, sizeof identity);
    sqlite3_bind_int64(add, 1, tree);
    sqlite3_bind_text(add, 2, identity, -1, SQLITE_STATIC);
    rc = sqlite3_step(add) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(j->db);
    sqlite3_reset(add);
  }
  sqlite3_finalize(rows);
  sqlite3_finalize(add);
  return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int migrate(struct prelux_journal *j, prelux_journal_name_fn name, void *arg)
{
  int rc = sqlite3_exec(j->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(j->db, from_1, NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = name_trees(j, name, arg);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(j->db, "COMMIT", NULL, NULL, NULL);
  if (rc != SQLITE_OK && !sqlite3_get_autocommit(j->db))
    sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
  return rc;
}

static int open_db(struct prelux_journal *j)
{
  static const char pragmas[] = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;";
  int step = DB_STEP;
  int rc = sqlite3_open_v2(j->path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (rc == SQLITE_OK)
  {
    sqlite3_extended_result_codes(j->db, 1);
    sqlite3_busy_timeout(j->db, BUSY_MS);
    sqlite3_file_control(j->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &step);
    rc = sqlite3_exec(j->db, pragmas, NULL, NULL, NULL);
  }
  return rc;
}

/* Brings the file up to our version; nothing is changed in one of a version that we do not know. *ret_err: what a good result means. */
static int take_schema(struct prelux_journal *j, prelux_journal_name_fn name, void *arg, int *ret_err)
{
  char version[16] = "";
  int rc = sqlite3_exec(j->db, schema_meta, NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_exec(j->db, "SELECT value FROM meta WHERE key='schema'", read_text, version, NULL);
  if (rc == SQLITE_OK && strcmp(version, "1") == 0)
    rc = migrate(j, name, arg);
  else if (rc == SQLITE_OK && strcmp(version, SCHEMA_VERSION) != 0)
    *ret_err = version[0] ? -EPROTO : -EUCLEAN;
  if (rc == SQLITE_OK && *ret_err == 0)
    rc = sqlite3_exec(j->db, schema, NULL, NULL, NULL);
  for (int i = 0; rc == SQLITE_OK && *ret_err == 0 && i < STATEMENTS; i++)
    rc = sqlite3_prepare_v3(j->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &j->stmts[i], NULL);
  return rc;
}

static int open_wal(struct prelux_journal *j)
{
  struct statfs st;
  char name[4200];
  if (snprintf(name, sizeof name, "%s-wal", j->path) >= (int)sizeof name)
    return -ENAMETOOLONG;
  j->wal_fd = prelux_os.open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (j->wal_fd < 0)
    return -errno;
  bool roomy = prelux_os.fstatfs(j->wal_fd, &st) == 0 && (uint64_t)st.f_bavail * (uint64_t)st.f_bsize >= ROOMY;
  const struct wal *w = roomy ? &wal_of_roomy : &wal_of_any;
  prelux_os.fallocate(j->wal_fd, FALLOC_FL_KEEP_SIZE, 0, w->room); /* where that cannot be done, a full disk is told to programs */
  return prelux_sql_error(sqlite3_exec(j->db, w->checkpoint, NULL, NULL, NULL));
}

int prelux_journal_open(const char *path, prelux_journal_name_fn name, void *arg, struct prelux_journal **ret, struct prelux_problem *why)
{
  struct prelux_journal *j = calloc(1, sizeof *j);
  if (!j)
    return prelux_problem(why, ENOMEM, "journal %s: no memory", path);
  pthread_mutex_init(&j->lock, NULL);
  pthread_mutex_init(&j->sync_lock, NULL);
  j->wal_fd = j->beside = -1;
  j->committed = READ_MARK;
  int rc = (j->path = strdup(path)) ? open_db(j) : SQLITE_NOMEM, err = 0;
  if (rc == SQLITE_OK)
    rc = take_schema(j, name, arg, &err);
  if (rc != SQLITE_OK)
    err = prelux_sql_error(rc);
  if (err == 0)
    err = open_wal(j);
  if (err == 0)
  {
    *ret = j;
    return 0;
  }
  prelux_problem(why, -err, "journal %s: %s", path,
                 err == -EPROTO                 ? "made by a newer prelux"
                 : rc != SQLITE_OK && j->db     ? sqlite3_errmsg(j->db)
                                                : strerror(-err));
  if (why && err == -EUCLEAN)
    snprintf(why->advice, sizeof why->advice, "it names writes that the remote may lack: mend or move it, with its -wal, by hand");
  prelux_journal_free(j);
  return err;
}

void prelux_journal_free(struct prelux_journal *j)
{
  if (!j)
    return;
  prelux_journal_forget_again(j);
  for (int i = 0; i < STATEMENTS; i++)
    sqlite3_finalize(j->stmts[i]);
  sqlite3_close(j->db);
  if (j->wal_fd >= 0)
    prelux_os.close(j->wal_fd);
  pthread_mutex_destroy(&j->sync_lock);
  pthread_mutex_destroy(&j->lock);
  free(j->path);
  free(j);
}

/* Trees. */

/* Lock held. */
static int find_tree(struct prelux_journal *j, const char *identity, int64_t *ret)
{
  sqlite3_stmt *st = j->stmts[TREE];
  sqlite3_bind_text(st, 1, identity, -1, SQLITE_STATIC);
  int rc = sqlite3_step(st), err = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : fault(j, rc);
  if (rc == SQLITE_ROW)
    *ret = sqlite3_column_int64(st, 0);
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  return err;
}

int prelux_journal_tree(struct prelux_journal *j, const char *identity, bool make, int64_t *ret)
{
  pthread_mutex_lock(&j->lock);
  int err = find_tree(j, identity, ret);
  if (err == -ENOENT && make)
  {
    sqlite3_bind_text(j->stmts[ADD_TREE], 1, identity, -1, SQLITE_STATIC);
    err = run(j, j->stmts[ADD_TREE]);
    if (err == 0)
    {
      *ret = sqlite3_last_insert_rowid(j->db);
      j->committed++;
    }
  }
  pthread_mutex_unlock(&j->lock);
  return err;
}

int prelux_journal_identity(struct prelux_journal *j, int64_t tree, char *ret, size_t cap)
{
  pthread_mutex_lock(&j->lock);
  sqlite3_stmt *st = j->stmts[IDENTITY];
  sqlite3_bind_int64(st, 1, tree);
  int rc = sqlite3_step(st), err = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : fault(j, rc);
  if (rc == SQLITE_ROW)
    snprintf(ret, cap, "%s", (const char *)sqlite3_column_text(st, 0));
  sqlite3_reset(st);
  pthread_mutex_unlock(&j->lock);
  return err;
}

/* Changing. */

static void bind_text(sqlite3_stmt *st, int i, const char *s)
{
  if (s)
    sqlite3_bind_text(st, i, s, -1, SQLITE_STATIC);
  else
    sqlite3_bind_null(st, i);
}

static void bind_path(sqlite3_stmt *st, int i, const char *s)
{
  if (s)
    sqlite3_bind_blob(st, i, s, (int)strlen(s), SQLITE_STATIC);
  else
    sqlite3_bind_null(st, i);
}

static void bind_row(sqlite3_stmt *st, const struct prelux_pending *p)
{
  sqlite3_bind_int64(st, 2, p->tree);
  sqlite3_bind_int64(st, 3, p->intent);
  sqlite3_bind_int64(st, 4, p->state);
  sqlite3_bind_int64(st, 5, p->flags);
  bind_path(st, 6, p->path);
  bind_path(st, 7, p->to);
  sqlite3_bind_int64(st, 8, (int64_t)p->ino);
  sqlite3_bind_int64(st, 9, (int64_t)p->size);
  sqlite3_bind_int64(st, 10, p->mode);
  sqlite3_bind_int64(st, 11, p->mtime_ns);
  sqlite3_bind_int64(st, 13, p->next_ns);
  sqlite3_bind_int64(st, 14, p->tries);
  sqlite3_bind_int64(st, 15, p->err);
  bind_text(st, 16, p->base);
  bind_text(st, 17, p->upload);
  bind_text(st, 18, p->cause);
  bind_text(st, 19, p->sent);
}

/* Lock held. */
static int apply(struct prelux_journal *j, const struct prelux_edit *e)
{
  static const enum stmt which[] = {[PRELUX_EDIT_ADD] = ADD, [PRELUX_EDIT_SET] = SET, [PRELUX_EDIT_DROP] = DROP};
  sqlite3_stmt *st = j->stmts[which[e->kind]];
  if (e->kind != PRELUX_EDIT_ADD)
    sqlite3_bind_int64(st, 1, e->row->id);
  if (e->kind != PRELUX_EDIT_DROP)
    bind_row(st, e->row);
  if (e->kind == PRELUX_EDIT_ADD)
    sqlite3_bind_int64(st, 12, e->row->made_ns);
  int ret = run(j, st);
  if (ret == 0 && e->kind != PRELUX_EDIT_ADD && sqlite3_changes(j->db) == 0)
    return -ENOENT;
  return ret;
}

/* In a change that others make: the next start must not find them. So many; lock held. */
static size_t drop_over(struct prelux_journal *j)
{
  size_t n = 0;
  for (; n < j->n_over; n++)
  {
    struct prelux_pending gone = {.id = j->over[n]};
    int rc = apply(j, &(struct prelux_edit){.kind = PRELUX_EDIT_DROP, .row = &gone});
    if (rc < 0 && rc != -ENOENT)
      break;
  }
  return n;
}

int prelux_journal_change(struct prelux_journal *j, const struct prelux_edit *edits, size_t n)
{
  pthread_mutex_lock(&j->lock);
  int ret = run(j, j->stmts[BEGIN]);
  for (size_t i = 0; i < n && ret == 0; i++)
  {
    ret = apply(j, &edits[i]);
    if (ret == 0 && edits[i].kind == PRELUX_EDIT_ADD)
      edits[i].row->id = sqlite3_last_insert_rowid(j->db);
  }
  size_t over = ret == 0 ? drop_over(j) : 0;
  if (ret == 0)
    ret = run(j, j->stmts[COMMIT]);
  if (ret == 0)
  {
    j->n_over -= over;
    memmove(j->over, j->over + over, j->n_over * sizeof *j->over);
    j->committed++;
    for (size_t i = 0; i < n; i++)
      edits[i].row->mark = j->committed;
  }
  else if (!sqlite3_get_autocommit(j->db))
    run(j, j->stmts[ROLLBACK]);
  for (size_t i = 0; i < n && ret < 0; i++)
    if (edits[i].kind == PRELUX_EDIT_ADD)
      edits[i].row->id = 0;
  pthread_mutex_unlock(&j->lock);
  return ret;
}

static void note_over(struct prelux_journal *j, int64_t id)
{
  pthread_mutex_lock(&j->lock);
  if (j->n_over < OVER_MAX) /* else the next start drops it */
    j->over[j->n_over++] = id;
  pthread_mutex_unlock(&j->lock);
}

int prelux_journal_forget(struct prelux_journal *j, int64_t id)
{
  struct prelux_pending gone = {.id = id};
  struct prelux_edit edit = {.kind = PRELUX_EDIT_DROP, .row = &gone};
  int rc = prelux_journal_change(j, &edit, 1);
  if (rc < 0 && rc != -ENOENT)
    note_over(j, id);
  return rc == -ENOENT ? 0 : rc;
}

void prelux_journal_forget_again(struct prelux_journal *j)
{
  int64_t list[OVER_MAX];
  pthread_mutex_lock(&j->lock);
  size_t n = j->n_over;
  memcpy(list, j->over, n * sizeof *list);
  j->n_over = 0;
  pthread_mutex_unlock(&j->lock);
  for (size_t i = 0; i < n; i++)
    prelux_journal_forget(j, list[i]);
}

/* Reading. */

static int column_copy(sqlite3_stmt *st, int i, char **ret)
{
  const char *data = sqlite3_column_blob(st, i); /* NULL for "" as well */
  size_t len = (size_t)sqlite3_column_bytes(st, i);
  if (sqlite3_column_type(st, i) == SQLITE_NULL)
    return 0;
  *ret = strndup(data ? data : "", len);
  return *ret ? 0 : -ENOMEM;
}

static int read_row(sqlite3_stmt *st, struct prelux_pending *ret)
{
  const char *base = (const char *)sqlite3_column_text(st, 15); /* never NULL in a row */
  *ret = (struct prelux_pending){
      .id = sqlite3_column_int64(st, 0),
      .tree = sqlite3_column_int64(st, 1),
      .intent = (uint32_t)sqlite3_column_int64(st, 2),
      .state = (uint32_t)sqlite3_column_int64(st, 3),
      .flags = (uint32_t)sqlite3_column_int64(st, 4),
      .ino = (uint64_t)sqlite3_column_int64(st, 7),
      .size = (uint64_t)sqlite3_column_int64(st, 8),
      .mode = (uint32_t)sqlite3_column_int64(st, 9),
      .mtime_ns = sqlite3_column_int64(st, 10),
      .made_ns = sqlite3_column_int64(st, 11),
      .next_ns = sqlite3_column_int64(st, 12),
      .tries = (uint32_t)sqlite3_column_int64(st, 13),
      .err = (int32_t)sqlite3_column_int64(st, 14),
      .mark = READ_MARK,
  };
  snprintf(ret->base, sizeof ret->base, "%s", base ? base : "");
  int err = base ? column_copy(st, 5, &ret->path) : -ENOMEM;
  if (err == 0)
    err = column_copy(st, 6, &ret->to);
  if (err == 0)
    err = column_copy(st, 16, &ret->upload);
  if (err == 0)
    err = column_copy(st, 17, &ret->cause);
  if (err == 0)
    err = column_copy(st, 18, &ret->sent);
  if (err == 0 && sqlite3_errcode(sqlite3_db_handle(st)) == SQLITE_NOMEM) /* of a column: it read as NULL */
    err = -ENOMEM;
  if (err < 0)
    prelux_pending_release(ret);
  return err;
}

/* The row after `id`: 1 and *ret, 0 at the end, or -errno. */
static int next_row(struct prelux_journal *j, int64_t id, struct prelux_pending *ret)
{
  pthread_mutex_lock(&j->lock);
  sqlite3_stmt *st = j->stmts[NEXT];
  sqlite3_bind_int64(st, 1, id);
  int rc = sqlite3_step(st), got = rc == SQLITE_ROW ? 1 : fault(j, rc);
  if (got == 1 && sqlite3_column_int64(st, 0) <= id) /* a damaged file can lead back for ever */
    got = -EUCLEAN;
  int err = got == 1 ? read_row(st, ret) : got;
  sqlite3_reset(st);
  pthread_mutex_unlock(&j->lock);
  return err < 0 ? err : got;
}

int prelux_journal_each(struct prelux_journal *j, int (*fn)(void *arg, const struct prelux_pending *row), void *arg)
{
  struct prelux_pending row;
  int64_t id = 0;
  int ret;
  while ((ret = next_row(j, id, &row)) == 1)
  {
    id = row.id;
    ret = fn(arg, &row);
    prelux_pending_release(&row);
    if (ret < 0)
      break;
  }
  return ret < 0 ? ret : 0;
}

int prelux_journal_count(struct prelux_journal *j, uint64_t *ret)
{
  pthread_mutex_lock(&j->lock);
  sqlite3_stmt *st = j->stmts[COUNT];
  int rc = sqlite3_step(st), err = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -EIO : fault(j, rc);
  if (rc == SQLITE_ROW)
    *ret = (uint64_t)sqlite3_column_int64(st, 0);
  sqlite3_reset(st);
  pthread_mutex_unlock(&j->lock);
  return err;
}

int prelux_journal_meta(struct prelux_journal *j, const char *key, char *ret, size_t cap)
{
  pthread_mutex_lock(&j->lock);
  sqlite3_stmt *st = j->stmts[META];
  sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
  int rc = sqlite3_step(st), err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fault(j, rc);
  const char *value = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : "";
  snprintf(ret, cap, "%s", value ? value : "");
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  pthread_mutex_unlock(&j->lock);
  return value ? err : -ENOMEM;
}

int prelux_journal_set_meta(struct prelux_journal *j, const char *key, const char *value)
{
  pthread_mutex_lock(&j->lock);
  sqlite3_bind_text(j->stmts[SET_META], 1, key, -1, SQLITE_STATIC);
  sqlite3_bind_text(j->stmts[SET_META], 2, value, -1, SQLITE_STATIC);
  int ret = run(j, j->stmts[SET_META]);
  j->committed += ret == 0;
  pthread_mutex_unlock(&j->lock);
  return ret;
}

/* The medium. */

void prelux_journal_beside(struct prelux_journal *j, int fd)
{
  j->beside = fd;
}

uint64_t prelux_journal_mark(struct prelux_journal *j)
{
  pthread_mutex_lock(&j->lock);
  uint64_t mark = ++j->committed;
  pthread_mutex_unlock(&j->lock);
  return mark;
}

/* One that cannot be synced at all is on a file system that has no need of it. */
static int sync_folder(int fd)
{
  int err = fd < 0 ? 0 : prelux_sync(fd, false);
  return err == -EINVAL || err == -EROFS ? 0 : err;
}

/* The file itself, then the folders above it, as far as they are of one file system. */
static int sync_way(struct prelux_journal *j)
{
  struct stat st;
  dev_t dev = 0;
  char *path = strdup(j->path);
  int err = path ? 0 : -ENOMEM, flags = O_RDONLY | O_CLOEXEC;
  for (bool more = err == 0; more && err == 0; flags |= O_DIRECTORY)
  {
    int fd = prelux_os.open(path[0] ? path : "/", flags);
    if (fd < 0 && errno != EACCES) /* others' folders were there before */
      err = -errno;
    else if (fd >= 0 && prelux_os.fstat(fd, &st) == 0 && (dev == 0 || st.st_dev == dev))
      err = sync_folder(fd);
    else
      more = fd < 0;
    dev = fd >= 0 ? st.st_dev : dev;
    if (fd >= 0)
      prelux_os.close(fd);
    char *slash = strrchr(path, '/');
    more = more && slash;
    if (slash)
      *slash = 0;
  }
  free(path);
  return err;
}

/* sync_lock held. */
static int sync_all(struct prelux_journal *j)
{
  pthread_mutex_lock(&j->lock);
  uint64_t now = j->committed;
  pthread_mutex_unlock(&j->lock);
  int err = j->led ? 0 : sync_way(j);
  if (err == 0)
    err = sync_folder(j->beside);
  if (err == 0)
    err = prelux_sync(j->wal_fd, true);
  if (err == 0)
  {
    j->led = true;
    j->synced = now;
  }
  return err;
}

int prelux_journal_durable(struct prelux_journal *j, uint64_t mark)
{
  pthread_mutex_lock(&j->lock);
  uint64_t mine = mark < j->committed ? mark : j->committed;
  pthread_mutex_unlock(&j->lock);
  pthread_mutex_lock(&j->sync_lock);
  int err = j->sync_err;
  if (err == 0 && j->synced < mine) /* else whoever had the lock before has synced ours too */
    err = sync_all(j);
  if (err != -EMFILE && err != -ENFILE && err != -ENOMEM) /* nothing was tried */
    j->sync_err = err;
  pthread_mutex_unlock(&j->sync_lock);
  return err;
}
