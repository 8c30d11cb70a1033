/* Walks and patterns over libc's composites, printed so that two runs can be compared:
 *
 *   walks WHAT FLAGS ROOT...     WHAT: ftw nftw fts scandir glob wordexp; FLAGS: a number for that call
 *
 * Lines of one walk stand between "== ROOT" and "-> RESULT ERRNO". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wordexp.h>

static int flags;

static void print_stat(const struct stat *st)
{
  printf(" %o", (unsigned)(st->st_mode & S_IFMT));
  if (S_ISREG(st->st_mode)) printf(" size %lld", (long long)st->st_size);
}

static int on_ftw(const char *path, const struct stat *st, int type)
{
  printf("%s type %d", path, type);
  if (type != FTW_NS) print_stat(st);
  printf("\n");
  return strstr(path, "stop-here") ? 42 : 0;
}

static int on_nftw(const char *path, const struct stat *st, int type, struct FTW *pos)
{
  struct stat here;
  printf("%s type %d level %d base %s", path, type, pos->level, path + pos->base);
  if (type != FTW_NS && type != FTW_SLN) print_stat(st);
  if (flags & FTW_CHDIR) { /* the name alone must do */
    const char *name = path[pos->base] ? path + pos->base : "/";
    printf(" here %d", lstat(name, &here) == 0 ? (int)(here.st_ino == st->st_ino || type == FTW_SLN || S_ISLNK(here.st_mode)) : -1);
  }
  printf("\n");
  if (flags & FTW_ACTIONRETVAL) {
    if (strstr(path, "skip-tree") && type == FTW_D) return FTW_SKIP_SUBTREE;
    if (strstr(path, "skip-rest")) return FTW_SKIP_SIBLINGS;
    return strstr(path, "stop-here") ? FTW_STOP : FTW_CONTINUE;
  }
  return strstr(path, "stop-here") ? 42 : 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
  return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* FLAGS + 0x1000: also ask for the children of each folder; + 0x2000: only their names; + 0x4000: set instructions. */
static int walk_fts(char **roots)
{
  FTS *fts = fts_open(roots, flags & 0xfff, by_name);
  if (!fts) return -1;
  for (FTSENT *e; (e = fts_read(fts));) {
    printf("%s info %d level %d name %s pathlen %d namelen %d number %ld", e->fts_path, e->fts_info, e->fts_level, e->fts_name,
           e->fts_pathlen, e->fts_namelen, e->fts_number);
    if (!(flags & FTS_NOSTAT) && (e->fts_info == FTS_F || e->fts_info == FTS_D)) print_stat(e->fts_statp);
    if (e->fts_info == FTS_F) printf(" access %d", access(e->fts_accpath, R_OK));
    if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) printf(" errno %d", e->fts_errno);
    if (e->fts_info == FTS_DC) printf(" cycle %s", e->fts_cycle->fts_name);
    printf("\n");
    e->fts_number = e->fts_parent->fts_number + 1;
    if ((flags & 0x3000) && e->fts_info == FTS_D)
      for (FTSENT *c = fts_children(fts, flags & 0x2000 ? FTS_NAMEONLY : 0); c; c = c->fts_link)
        printf("  child %s info %d\n", c->fts_name, c->fts_info);
    if (flags & 0x4000) {
      if (strcmp(e->fts_name, "skip-tree") == 0 && e->fts_info == FTS_D) fts_set(fts, e, FTS_SKIP);
      if (strcmp(e->fts_name, "again") == 0 && e->fts_info == FTS_F && !e->fts_pointer) {
        e->fts_pointer = e;
        fts_set(fts, e, FTS_AGAIN);
      }
      if (e->fts_info == FTS_SL) fts_set(fts, e, FTS_FOLLOW);
    }
    if (strstr(e->fts_name, "stop-here")) break;
  }
  int err = errno;
  int rc = fts_close(fts);
  errno = err;
  return rc;
}

static int no_hidden(const struct dirent *entry)
{
  return entry->d_name[0] != '.';
}

static int walk_scandir(const char *root)
{
  struct dirent **list;
  int n = flags & 1 ? scandirat(AT_FDCWD, root, &list, no_hidden, alphasort) : scandir(root, &list, flags & 2 ? NULL : no_hidden, alphasort);
  for (int i = 0; i < n; i++) {
    printf("%s type %d ino %d\n", list[i]->d_name, list[i]->d_type, list[i]->d_ino != 0);
    free(list[i]);
  }
  if (n >= 0) free(list);
  return n;
}

static int on_error(const char *path, int err)
{
  printf("error %s %d\n", path, err);
  return 0;
}

static int walk_glob(const char *pattern)
{
  glob_t g = {.gl_offs = 2};
  int rc = glob(pattern, flags, on_error, &g);
  size_t offs = flags & GLOB_DOOFFS ? 2 : 0;
  for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++) printf("%s\n", g.gl_pathv[offs + i]);
  printf("count %zu flags %d\n", rc ? 0 : g.gl_pathc, rc ? 0 : g.gl_flags & GLOB_MAGCHAR);
  if (rc == 0) globfree(&g);
  return rc;
}

static int walk_wordexp(const char *words)
{
  wordexp_t w = {0};
  int rc = wordexp(words, &w, flags);
  for (size_t i = 0; rc == 0 && i < w.we_wordc; i++) printf("%s\n", w.we_wordv[i]);
  if (rc == 0) wordfree(&w);
  return rc;
}

int main(int argc, char **argv)
{
  const char *what = argv[1];
  char cwd[4096];
  if (argc < 4) return 2;
  flags = (int)strtol(argv[2], NULL, 0);
  for (int i = 3; i < argc; i++) {
    int rc = -2;
    printf("== %s\n", argv[i]);
    errno = 0;
    if (strcmp(what, "ftw") == 0) rc = ftw(argv[i], on_ftw, 4);
    if (strcmp(what, "nftw") == 0) rc = nftw(argv[i], on_nftw, 4, flags);
    if (strcmp(what, "fts") == 0) rc = walk_fts((char *[]){argv[i], argv[i + 1], NULL});
    if (strcmp(what, "scandir") == 0) rc = walk_scandir(argv[i]);
    if (strcmp(what, "glob") == 0) rc = walk_glob(argv[i]);
    if (strcmp(what, "wordexp") == 0) rc = walk_wordexp(argv[i]);
    printf("-> %d %d\n", rc, rc < 0 ? errno : 0);
  }
  printf("cwd %s\n", getcwd(cwd, sizeof(cwd)));
  return 0;
}
