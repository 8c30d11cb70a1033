/* Catalogue and journal as an earlier daemon, a disk or somebody else has left them: SQLite's files with other bytes, and with rows that no prelux would
 * write. Read all through, nothing ends the daemon or keeps it for ever. Input: 'J' or 'C', lines "table value value ..." up to an empty one, then (place,
 * place, byte)s that are laid over the file. */
#include <dirent.h>
#include <errno.h>
#include <sqlite3.h>
#include <unistd.h>

#include "lib/store/journal.h"
#include "lib/store/catalogue.h"
#include "tests/fuzz/rig.h"

enum { FILE_MAX = 256 << 10, ROWS = 50 };

static const struct table {
  const char *name;
  int columns;
} journal_tables[] = {{"pending", 19}, {"trees", 2}, {"meta", 2}},
  catalogue_tables[] = {{"objects", 13}, {"fills", 13}, {"trees", 4}, {"meta", 2}, {"numbers", 6}, {"attrs", 9}, {"links", 5}, {"folder_times", 3},
                        {"partials", 6}, {"pins", 2}, {"recovered", 4}};

static void path_of(const char *name, char out[128])
{
  snprintf(out, 128, "%s/%s", fuzz_folder(), name);
}

static void sweep(void)
{
  char path[512];
  DIR *dir = opendir(fuzz_folder());
  for (struct dirent *d; dir && (d = readdir(dir));)
    if (strncmp(d->d_name, "db", 2) == 0)
    {
      snprintf(path, sizeof path, "%s/%s", fuzz_folder(), d->d_name);
      unlink(path);
    }
  if (dir)
    closedir(dir);
}

/* n is nothing, x... bytes, digits a number, else text. */
static void bind(sqlite3_stmt *st, int i, const char *word)
{
  if (!word || strcmp(word, "n") == 0)
    sqlite3_bind_null(st, i);
  else if (word[0] == 'x')
    sqlite3_bind_blob(st, i, word + 1, (int)strlen(word + 1), SQLITE_TRANSIENT);
  else if (strspn(word, "-0123456789") == strlen(word))
    sqlite3_bind_int64(st, i, strtoll(word, NULL, 10));
  else
    sqlite3_bind_text(st, i, word, -1, SQLITE_TRANSIENT);
}

static void put_row(sqlite3 *db, const struct table *tables, size_t n, char *line)
{
  char sql[256], *save = NULL, *name = strtok_r(line, " ", &save);
  sqlite3_stmt *st = NULL;
  for (size_t t = 0; name && t < n; t++)
  {
    if (strcmp(tables[t].name, name) != 0)
      continue;
    int len = snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO %s VALUES(?", name);
    for (int i = 1; i < tables[t].columns; i++)
      len += snprintf(sql + len, sizeof sql - (size_t)len, ",?");
    snprintf(sql + len, sizeof sql - (size_t)len, ")");
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
      abort();
    for (int i = 1; i <= tables[t].columns; i++)
      bind(st, i, strtok_r(NULL, " ", &save));
    sqlite3_step(st);
    sqlite3_finalize(st);
  }
}

static void put_rows(const char *path, bool journal, char *lines)
{
  sqlite3 *db = NULL;
  char *save = NULL;
  int rows = 0;
  if (!*lines || sqlite3_open(path, &db) != SQLITE_OK)
  {
    sqlite3_close(db);
    return;
  }
  sqlite3_exec(db, "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL);
  for (char *line = strtok_r(lines, "\n", &save); line && rows < ROWS; line = strtok_r(NULL, "\n", &save), rows++)
    put_row(db, journal ? journal_tables : catalogue_tables, journal ? sizeof journal_tables / sizeof *journal_tables : sizeof catalogue_tables / sizeof *catalogue_tables, line);
  sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
  sqlite3_close(db);
}

/* A file as the program itself makes it, in memory. */
static size_t make(bool journal, unsigned char *to)
{
  char path[128];
  struct prelux_problem why = {0};
  path_of("db", path);
  sweep();
  if (journal)
  {
    struct prelux_journal *j;
    struct prelux_pending p = {.intent = PRELUX_INTENT_PUT, .state = PRELUX_PENDING_READY, .path = "d/a", .ino = 5, .size = 7, .cause = "c"};
    struct prelux_edit e = {PRELUX_EDIT_ADD, &p};
    FUZZ_CHECK_TEXT(prelux_journal_open(path, NULL, NULL, &j, &why) == 0, why.text);
    prelux_journal_tree(j, "file:/x", true, &p.tree);
    FUZZ_CHECK(prelux_journal_change(j, &e, 1) == 0 && prelux_journal_change(j, &e, 1) == 0);
    prelux_journal_free(j);
  }
  else
  {
    struct prelux_catalogue *c;
    struct prelux_row row = {.obj = {.type = PRELUX_FILE, .size = 7, .version = "v"}, .ino = 5, .bytes = 4096};
    int64_t tree, old;
    uint64_t key = 1, dev = 2;
    FUZZ_CHECK_TEXT(prelux_catalogue_open(path, &c, &why) == 0, why.text);
    FUZZ_CHECK(prelux_catalogue_tree(c, "file:/x", &tree, &key, &dev) == 0);
    FUZZ_CHECK(prelux_catalogue_begin(c, tree, "d/a", &row) == 0 && prelux_catalogue_finish(c, tree, "d/a", &row, &old) == 0);
    prelux_catalogue_free(c);
  }
  FILE *f = fopen(path, "re");
  size_t n = f ? fread(to, 1, FILE_MAX, f) : 0;
  FUZZ_CHECK(n > 0 && n < FILE_MAX);
  fclose(f);
  return n;
}

static int on_pending(void *arg, const struct prelux_pending *p)
{
  int64_t *last = arg;
  FUZZ_CHECK(p->id > *last);
  *last = p->id;
  FUZZ_CHECK(strnlen(p->base, sizeof p->base) < sizeof p->base);
  return 0;
}

static void read_journal(const char *path)
{
  struct prelux_journal *j;
  struct prelux_problem why = {0};
  char identity[PRELUX_IDENTITY_MAX], text[16];
  int64_t last = INT64_MIN, tree;
  uint64_t count;
  int rc = prelux_journal_open(path, NULL, NULL, &j, &why);
  FUZZ_CHECK(rc == 0 || rc == -EUCLEAN || rc == -EPROTO || rc == -ENOSPC || rc == -EIO || rc == -ENOMEM);
  if (rc < 0)
    return;
  last = 0;
  prelux_journal_each(j, on_pending, &last);
  prelux_journal_count(j, &count);
  prelux_journal_meta(j, "schema", text, sizeof text);
  for (int64_t i = 0; i < 3; i++)
    prelux_journal_identity(j, i, identity, sizeof identity);
  prelux_journal_tree(j, "file:/x", true, &tree);
  struct prelux_pending p = {.intent = PRELUX_INTENT_MKDIR, .state = PRELUX_PENDING_READY, .path = "new", .tree = 1};
  struct prelux_edit e = {PRELUX_EDIT_ADD, &p};
  prelux_journal_change(j, &e, 1);
  prelux_journal_durable(j, UINT64_MAX);
  prelux_journal_free(j);
}

static int on_number(void *arg, const struct prelux_number *n)
{
  return 0;
}
static int on_time(void *arg, uint64_t base, int64_t ns)
{
  return 0;
}
static int on_attr(void *arg, const char *path, struct prelux_own *own)
{
  return path ? 0 : -EINVAL;
}
static int on_link(void *arg, const char *path, const char *target, uint64_t ino, int64_t mtime_ns)
{
  return path && target ? 0 : -EINVAL;
}
static int on_pin(void *arg, int64_t tree, const char *path)
{
  return path ? 0 : -EINVAL;
}

static void drop(struct prelux_victim *v, int n)
{
  for (int i = 0; i < n; i++)
  {
    FUZZ_CHECK(v[i].path != NULL);
    free(v[i].path);
  }
}

static void read_catalogue(const char *path)
{
  struct prelux_catalogue *c;
  struct prelux_problem why = {0};
  struct prelux_victim v[8];
  struct prelux_row row;
  int64_t tree;
  uint64_t key = 1, dev = 2, bytes, files, epoch;
  char text[64];
  int rc = prelux_catalogue_open(path, &c, &why);
  FUZZ_CHECK(rc <= 0);
  if (rc < 0)
    return;
  if (prelux_catalogue_tree(c, "file:/x", &tree, &key, &dev) < 0)
    tree = 1;
  prelux_catalogue_get(c, tree, "d/a", &row);
  prelux_catalogue_meta(c, "schema", text, sizeof text);
  prelux_catalogue_totals(c, &bytes, &files, &epoch);
  drop(v, prelux_catalogue_newest(c, tree, v, 8));
  drop(v, prelux_catalogue_below(c, tree, "d", NULL, v, 8));
  drop(v, prelux_catalogue_unfinished(c, v, 8));
  drop(v, prelux_catalogue_later(c, 0, v, 8));
  prelux_catalogue_numbers(c, tree, on_number, NULL);
  prelux_catalogue_times(c, tree, on_time, NULL);
  prelux_catalogue_attrs(c, tree, on_attr, NULL);
  prelux_catalogue_attrs_below(c, tree, "d", on_attr, NULL);
  prelux_catalogue_links(c, tree, on_link, NULL);
  prelux_catalogue_pins(c, on_pin, NULL);
  prelux_catalogue_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static unsigned char good[2][FILE_MAX], bytes[FILE_MAX];
  static size_t lens[2];
  char path[128];
  size_t len;
  fuzz_log();
  if (!lens[0])
  {
    lens[0] = make(false, good[0]);
    lens[1] = make(true, good[1]);
  }
  bool journal = size && data[0] == 'J';
  data += size ? 1 : 0, size -= size ? 1 : 0;
  char *rows = fuzz_piece(&data, &size, "\n\n", &len);
  path_of("db", path);
  sweep();
  memcpy(bytes, good[journal], lens[journal]);
  fuzz_file("db", bytes, lens[journal], 0600);
  put_rows(path, journal, rows);
  FILE *f = fopen(path, "r+e");
  for (; f && size >= 3; data += 3, size -= 3)
  {
    fseek(f, (data[0] | data[1] << 8), SEEK_SET);
    fputc(data[2], f);
  }
  if (f)
    fclose(f);
  if (journal)
    read_journal(path);
  else
    read_catalogue(path);
  fuzz_log_check();
  free(rows);
  return 0;
}
