/* glob runs inside libc with our folder calls (GLOB_ALTDIRFUNC); musl has no such way, there all of it is ours (glob_musl.c).
 * A program that brings its own functions is left alone.
 * wordexp globs inside libc, where no function can be given: patterns are hidden from it and expanded afterwards. */
#include "shim/walk.h"

#include "shim/decls.h"
#include "shim/state.h"

_Static_assert(sizeof(glob_t) == sizeof(glob64_t), "one layout");

#ifdef __GLIBC__
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
#else
typedef int (*glob_fn)(const char *, int, int (*)(const char *, int), glob_t *);

static int glob_with_hooks(glob_fn real, const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g)
{
  return prelux_idle() ? real(pattern, flags, on_error, g) : prelux_glob(pattern, flags, on_error, g);
}
#endif

PRELUX_EXPORT int glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g)
{
  return glob_with_hooks(prelux_real.glob, pattern, flags, on_error, g);
}

PRELUX_EXPORT int glob64(const char *pattern, int flags, int (*on_error)(const char *, int), glob64_t *g)
{
  return glob_with_hooks((glob_fn)prelux_real.glob64, pattern, flags, on_error, (glob_t *)g);
}

enum { WORDS_MAX = 1024 }; /* names of one word; more stay unexpanded */

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
  for (size_t i = 0; i < n; i++) v[at + i] = copies[i];
  w->we_wordc += n - 1;
  return true;
}

/* ---- wordexp */

/* Stand-ins for unquoted "*", "?" and "[", which libc leaves alone. */
static const char patterns[] = "*?[", stand_ins[] = "\001\002\003";

static char exchange(char c, const char *from, const char *to)
{
  const char *at = c ? strchr(from, c) : NULL;

  return at ? to[at - from] : c;
}

/* Hides the unquoted patterns of `words` from libc. False: there are none, or they stand where a shell would read them. */
static bool hide(const char *words, char *out)
{
  bool any = false;
  char quote = 0;

  if (strchr(words, '`') || strstr(words, "$(") || strstr(words, "${") || strpbrk(words, stand_ins)) return false;
  for (; *words; words++) {
    char c = *words;
    if (c == '\\' && quote != '\'' && words[1]) {
      *out++ = c;
      *out++ = *++words;
      continue;
    }
    if ((c == '\'' || c == '"') && (!quote || quote == c)) quote = quote ? 0 : c;
    *out = quote ? c : exchange(c, patterns, stand_ins);
    any |= *out++ != c;
  }
  *out = 0;
  return any;
}

/* A word as a pattern: what was quoted stays literal. */
static void as_pattern(const char *word, char *out)
{
  for (; *word; word++) {
    if (strchr("*?[\\", *word)) *out++ = '\\';
    *out++ = exchange(*word, stand_ins, patterns);
  }
  *out = 0;
}

/* Expands the word at index `i`. Returns how many words stand there now. */
static size_t expand_word(wordexp_t *w, size_t i)
{
  char *word = w->we_wordv[w->we_offs + i];
  size_t now = 1;
  glob_t g;

  if (!strpbrk(word, stand_ins)) return 1;
  char *pattern = malloc(2 * strlen(word) + 1);
  if (pattern) as_pattern(word, pattern);
  for (char *p = word; *p; p++) *p = exchange(*p, stand_ins, patterns);
  if (pattern && glob(pattern, 0, NULL, &g) == 0) {
    if (g.gl_pathc > 0 && g.gl_pathc <= WORDS_MAX && replace_word(w, i, g.gl_pathv, g.gl_pathc)) now = g.gl_pathc;
    globfree(&g);
  }
  free(pattern);
  return now;
}

PRELUX_EXPORT int wordexp(const char *words, wordexp_t *w, int flags)
{
  if (prelux_idle()) return prelux_real.wordexp(words, w, flags);
  char *hidden = malloc(strlen(words) + 1);
  if (!hidden || !hide(words, hidden)) {
    free(hidden);
    return prelux_real.wordexp(words, w, flags);
  }
  size_t i = flags & WRDE_APPEND ? w->we_wordc : 0;
  int rc = prelux_real.wordexp(hidden, w, flags);
  free(hidden);
  if (rc) return rc;
  size_t offs = w->we_offs; /* without WRDE_DOOFFS it says nothing */
  if (!(flags & WRDE_DOOFFS)) w->we_offs = 0;
  while (i < w->we_wordc) i += expand_word(w, i);
  w->we_offs = offs;
  return 0;
}
