/* glob runs inside libc with our folder calls (GLOB_ALTDIRFUNC). A program that brings its own functions is left alone.
 * wordexp globs inside libc, where no function can be given: what it left unexpanded is globbed afterwards. */
#include "shim/walk.h"

#include "shim/decls.h"
#include "shim/state.h"

_Static_assert(sizeof(glob_t) == sizeof(glob64_t), "one layout");

static void *open_folder(const char *path)
{
  return opendir(path);
}

static struct dirent *read_folder(void *dir)
{
  return readdir(dir);
}

static void close_folder(void *dir)
{
  closedir(dir);
}

typedef int (*glob_fn)(const char *, int, int (*)(const char *, int), glob_t *);

static int glob_with_hooks(glob_fn real, const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g)
{
  if (prelux_idle() || (flags & GLOB_ALTDIRFUNC)) return real(pattern, flags, on_error, g);
  g->gl_opendir = open_folder;
  g->gl_readdir = read_folder;
  g->gl_closedir = close_folder;
  g->gl_stat = stat;
  g->gl_lstat = lstat;
  int rc = real(pattern, flags | GLOB_ALTDIRFUNC, on_error, g);
  g->gl_flags &= ~GLOB_ALTDIRFUNC;
  return rc;
}

PRELUX_EXPORT int glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g)
{
  return glob_with_hooks(prelux_real.glob, pattern, flags, on_error, g);
}

PRELUX_EXPORT int glob64(const char *pattern, int flags, int (*on_error)(const char *, int), glob64_t *g)
{
  return glob_with_hooks((glob_fn)prelux_real.glob64, pattern, flags, on_error, (glob_t *)g);
}

/* Puts copies of `names` in place of word `at`. False: no memory, nothing changed. */
static bool replace_word(wordexp_t *w, size_t at, char *const *names, size_t n)
{
  size_t offs = w->we_offs, count = w->we_wordc;
  char **v = realloc(w->we_wordv, (offs + count + n) * sizeof(*v));
  if (!v) return false;
  w->we_wordv = v;
  char *copies[n];
  for (size_t i = 0; i < n; i++) {
    if ((copies[i] = strdup(names[i]))) continue;
    while (i > 0) free(copies[--i]);
    return false;
  }
  v += offs;
  free(v[at]);
  memmove(v + at + n, v + at + 1, (count - at) * sizeof(*v)); /* the final NULL, too */
  memcpy(v + at, copies, sizeof(copies));
  w->we_wordc += n - 1;
  return true;
}

PRELUX_EXPORT int wordexp(const char *words, wordexp_t *w, int flags)
{
  static const size_t most = 1024; /* names of one word; more stay unexpanded */
  size_t first = flags & WRDE_APPEND ? w->we_wordc : 0;
  size_t offs = flags & WRDE_DOOFFS ? w->we_offs : 0;
  int rc = prelux_real.wordexp(words, w, flags);

  /* Quoting is gone from the result, so a quoted "*" could not be told from a pattern. */
  if (rc || prelux_idle() || offs || !strpbrk(words, "*?[") || strpbrk(words, "'\"\\")) return rc;
  for (size_t i = first; i < w->we_wordc; i++) {
    glob_t g;
    if (!strpbrk(w->we_wordv[i], "*?[") || glob(w->we_wordv[i], 0, NULL, &g)) continue;
    if (g.gl_pathc <= most && replace_word(w, i, g.gl_pathv, g.gl_pathc)) i += g.gl_pathc - 1;
    globfree(&g);
  }
  return 0;
}
