/* Temporary files and folders: libc makes them inside itself. A template below a prefix is refused. */
#include "shim/change.h"

#include <stdarg.h>

enum { X_COUNT = 6 };

/* What a mkstemp-like call on `template` answers: 0: libc may go on, with c->use; -errno. libc writes the name into
 * the program's buffer, so a path that must be another one for libc (seen from a folder of ours, or through "..") is
 * rewritten in `copy`, and the letters are copied back. */
struct temp {
  struct prelux_change c;
  char *template;
  int suffix;
  char *use;
  char copy[PATH_MAX];
};

static int begin(struct temp *t, const char *call, char *template, int suffix)
{
  size_t len = strlen(template);

  t->template = t->use = template;
  t->suffix = suffix;
  if (prelux_idle()) return 0;
  if (suffix < 0 || len < (size_t)suffix + X_COUNT ||
      memcmp(template + len - (size_t)suffix - X_COUNT, "XXXXXX", X_COUNT) != 0)
    return -EINVAL;
  int no = prelux_change_route(&t->c, call, PRELUX_CHG_MAKE_DIR, AT_FDCWD, template);
  if (no || t->c.use == template) return no;
  len = strlen(t->c.use);
  if (len >= sizeof(t->copy)) return -ENAMETOOLONG;
  t->use = memcpy(t->copy, t->c.use, len + 1);
  return 0;
}

static void end(struct temp *t)
{
  if (t->use == t->template) return;
  size_t to = strlen(t->template) - (size_t)t->suffix - X_COUNT;
  size_t from = strlen(t->use) - (size_t)t->suffix - X_COUNT;
  memcpy(t->template + to, t->use + from, X_COUNT);
}

/* A link on the way may lead into a mapping: libc then finds no folder. Same errno, but for EROFS where it is right. */
static void judge(struct temp *t)
{
  if (t->use != t->template || prelux_idle() || !prelux_change_again(&t->c)) return;
  if (t->c.no) errno = -t->c.no;
}

#define TEMP_BODY(name, template, suffix, expr)       \
  struct temp t;                                      \
  int no = begin(&t, #name, template, suffix);        \
  if (no) return (int)prelux_ret(no);                 \
  int fd = (expr);                                    \
  if (fd < 0) judge(&t);                              \
  end(&t);                                            \
  return fd

PRELUX_EXPORT int mkstemp(char *template)
{
  TEMP_BODY(mkstemp, template, 0, prelux_real.mkstemp(t.use));
}

PRELUX_EXPORT int mkstemp64(char *template)
{
  TEMP_BODY(mkstemp64, template, 0, prelux_real.mkstemp64(t.use));
}

PRELUX_EXPORT int mkostemp(char *template, int flags)
{
  TEMP_BODY(mkostemp, template, 0, prelux_real.mkostemp(t.use, flags));
}

PRELUX_EXPORT int mkostemp64(char *template, int flags)
{
  TEMP_BODY(mkostemp64, template, 0, prelux_real.mkostemp64(t.use, flags));
}

PRELUX_EXPORT int mkstemps(char *template, int suffix)
{
  TEMP_BODY(mkstemps, template, suffix, prelux_real.mkstemps(t.use, suffix));
}

PRELUX_EXPORT int mkstemps64(char *template, int suffix)
{
  TEMP_BODY(mkstemps64, template, suffix, prelux_real.mkstemps64(t.use, suffix));
}

PRELUX_EXPORT int mkostemps(char *template, int suffix, int flags)
{
  TEMP_BODY(mkostemps, template, suffix, prelux_real.mkostemps(t.use, suffix, flags));
}

PRELUX_EXPORT int mkostemps64(char *template, int suffix, int flags)
{
  TEMP_BODY(mkostemps64, template, suffix, prelux_real.mkostemps64(t.use, suffix, flags));
}

PRELUX_EXPORT char *mkdtemp(char *template)
{
  struct temp t;
  int no = begin(&t, "mkdtemp", template, 0);
  if (no) {
    errno = -no;
    return NULL;
  }
  char *made = prelux_real.mkdtemp(t.use);
  if (!made) judge(&t);
  end(&t);
  return made ? template : NULL;
}

/* Makes nothing, but a name below a prefix could never be made: the empty name, as libc's when it finds none. */
PRELUX_EXPORT char *mktemp(char *template)
{
  struct temp t;
  int no = begin(&t, "mktemp", template, 0);
  if (no) {
    errno = -no;
    *template = 0;
    return template;
  }
  prelux_real.mktemp(t.use);
  if (t.use != template && !*t.use) *template = 0;
  else end(&t);
  return template;
}

/* A folder where nothing can be made is passed over by libc; one below a prefix is such. */
PRELUX_EXPORT char *tempnam(const char *dir, const char *prefix)
{
  struct prelux_route r;

  if (prelux_idle() || !dir) return prelux_real.tempnam(dir, prefix);
  int where = prelux_route(AT_FDCWD, dir, PRELUX_CHANGE, &r);
  if (where == PRELUX_UNMAPPED || (where == PRELUX_ANCESTOR && !r.missing)) dir = r.use;
  else dir = NULL;
  return prelux_real.tempnam(dir, prefix);
}

static FILE *temp_file(FILE *(*real)(void), const char *call)
{
  struct prelux_change c;
  int no = prelux_change_route(&c, call, PRELUX_CHG_MAKE, AT_FDCWD, P_tmpdir "/prelux-no-such-name");
  if (no) {
    errno = -no;
    return NULL;
  }
  return real();
}

PRELUX_EXPORT FILE *tmpfile(void)
{
  return temp_file(prelux_real.tmpfile, "tmpfile");
}

PRELUX_EXPORT FILE *tmpfile64(void)
{
  return temp_file(prelux_real.tmpfile64, "tmpfile64");
}
