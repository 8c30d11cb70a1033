/* glob for musl, whose own makes its system calls itself and takes no functions. Names and the list of them are allocated as
 * musl's globfree frees them: each name behind a pointer. */
#include "shim/decls.h"

#ifndef __GLIBC__
#include <fnmatch.h>
#include <pwd.h>

#include "shim/walk.h"

struct walk {
  int flags;
  int (*on_error)(const char *path, int err);
  glob_t *g;
  size_t first, found; /* names of this call */
  char path[PATH_MAX];
};

static int add(struct walk *w, const char *name, bool folder)
{
  glob_t *g = w->g;
  size_t n = strlen(name), at = w->first + w->found;
  char **list = realloc(g->gl_pathv, (at + 2) * sizeof(*list));
  if (!list) return GLOB_NOSPACE;
  g->gl_pathv = list;
  char *room = malloc(sizeof(void *) + n + 2);
  if (!room) return GLOB_NOSPACE;
  list[at] = room + sizeof(void *);
  memcpy(list[at], name, n + 1);
  if (folder && (w->flags & GLOB_MARK) && n > 0 && name[n - 1] != '/') memcpy(list[at] + n, "/", 2);
  list[at + 1] = NULL;
  w->found++;
  return 0;
}

static bool is_pattern(const char *from, const char *to, int flags)
{
  for (; from < to; from++) {
    if (*from == '*' || *from == '?' || *from == '[') return true;
    if (*from == '\\' && !(flags & GLOB_NOESCAPE) && from + 1 < to) from++;
  }
  return false;
}

/* Appends a component, or slashes. False: too long. */
static bool append(struct walk *w, size_t *len, const char *from, const char *to, bool unescape)
{
  for (; from < to; from++) {
    if (unescape && *from == '\\' && from + 1 < to) from++;
    if (*len + 1 >= sizeof(w->path)) return false;
    w->path[(*len)++] = *from;
  }
  w->path[*len] = '\0';
  return true;
}

static int expand(struct walk *w, size_t len, const char *rest);

static int finish(struct walk *w)
{
  struct stat st;
  if (stat(w->path, &st) == 0) return add(w, w->path, S_ISDIR(st.st_mode));
  return lstat(w->path, &st) == 0 ? add(w, w->path, false) : 0;
}

static int search(struct walk *w, size_t len, const char *from, const char *to)
{
  char pattern[PATH_MAX];
  if ((size_t)(to - from) >= sizeof(pattern)) return 0;
  memcpy(pattern, from, (size_t)(to - from));
  pattern[to - from] = '\0';
  DIR *dir = opendir(len ? w->path : ".");
  if (!dir) {
    bool ends = (w->on_error && w->on_error(w->path, errno)) || (w->flags & GLOB_ERR);
    return ends ? GLOB_ABORTED : 0;
  }
  int how = (w->flags & GLOB_NOESCAPE ? FNM_NOESCAPE : 0) | (w->flags & GLOB_PERIOD ? 0 : FNM_PERIOD), rc = 0;
  for (struct dirent *d; rc == 0 && (d = readdir(dir));) {
    size_t longer = len;
    if (*to && d->d_type != DT_UNKNOWN && d->d_type != DT_DIR && d->d_type != DT_LNK) continue;
    if (fnmatch(pattern, d->d_name, how) != 0 || !append(w, &longer, d->d_name, d->d_name + strlen(d->d_name), false)) continue;
    rc = expand(w, longer, to);
    w->path[len] = '\0';
  }
  closedir(dir);
  return rc;
}

static int expand(struct walk *w, size_t len, const char *rest)
{
  const char *from = rest;
  while (*from == '/') from++;
  if (!append(w, &len, rest, from, false)) return 0;
  if (!*from) return finish(w);
  const char *to = from + strcspn(from, "/");
  if (is_pattern(from, to, w->flags)) return search(w, len, from, to);
  return append(w, &len, from, to, !(w->flags & GLOB_NOESCAPE)) ? expand(w, len, to) : 0;
}

/* "~" and "~name" at the beginning; -1: it stays as it is. */
static int home(struct walk *w, size_t *len, const char **pattern)
{
  const char *end = *pattern + strcspn(*pattern, "/"), *to = end == *pattern + 1 ? getenv("HOME") : NULL;
  char name[256];
  if (!to && end - *pattern - 1 < (long)sizeof(name)) {
    memcpy(name, *pattern + 1, (size_t)(end - *pattern - 1));
    name[end - *pattern - 1] = '\0';
    const struct passwd *pw = *name ? getpwnam(name) : getpwuid(getuid());
    to = pw ? pw->pw_dir : NULL;
  }
  if (!to) return w->flags & GLOB_TILDE_CHECK ? GLOB_NOMATCH : -1;
  if (!append(w, len, to, to + strlen(to), false)) return GLOB_NOSPACE;
  *pattern = end;
  return 0;
}

static int compare(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run(struct walk *w, const char *pattern)
{
  size_t len = 0;
  int rc = *pattern == '~' && (w->flags & (GLOB_TILDE | GLOB_TILDE_CHECK)) ? home(w, &len, &pattern) : -1;
  if (rc <= 0) rc = *pattern || len ? expand(w, len, pattern) : 0;
  if (rc == 0 && w->found == 0) rc = w->flags & GLOB_NOCHECK ? add(w, pattern, false) : GLOB_NOMATCH;
  return rc;
}

int prelux_glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *g)
{
  struct walk w = {.flags = flags, .on_error = on_error, .g = g};
  size_t offs = flags & GLOB_DOOFFS ? g->gl_offs : 0;
  if (!(flags & GLOB_DOOFFS)) g->gl_offs = 0;
  if (!(flags & GLOB_APPEND)) {
    g->gl_pathc = 0;
    g->gl_pathv = calloc(offs + 1, sizeof(char *));
    if (!g->gl_pathv) return GLOB_NOSPACE;
  }
  w.first = offs + g->gl_pathc;
  int rc = run(&w, pattern);
  g->gl_pathc += w.found;
  if (!(flags & GLOB_NOSORT)) qsort(g->gl_pathv + w.first, w.found, sizeof(char *), compare);
  return rc;
}
#endif
