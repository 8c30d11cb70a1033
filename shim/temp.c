/* Temporary files and folders: libc makes them inside itself. Below a writable mapping they are made here in its way: six letters at
 * random until the name is new. A template below another prefix is refused. */
#include "shim/change.h"

#include <stdarg.h>
#include <time.h>

#include "shim/tell.h"
#include "shim/umask.h"
#include "shim/write.h"

enum { X_COUNT = 6, TRIES = 1000 };

/* What a mkstemp-like call on `template` answers. libc writes the name into the program's buffer, so a path that must be another
 * one for libc (seen from a folder of ours, or through "..") is rewritten in `copy`, and the letters are copied back. */
struct temp {
  struct prelux_change c;
  char *template;
  int suffix, flags;
  int fd; /* of a file that was made below a mapping */
  char *use;
  char copy[PATH_MAX];
};

/* ---- below a writable mapping */

static void put_letters(char *at)
{
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  uint64_t v = 0;
  if (prelux_sys(SYS_getrandom, &v, sizeof(v), 1 /* GRND_NONBLOCK */) != (long)sizeof(v)) {
    struct timespec now = {0, 0};
    prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    v += (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15 ^ (uint64_t)prelux_sys(SYS_gettid) << 32 ^ (uintptr_t)at;
  }
  for (int i = 0; i < X_COUNT; i++, v /= 62) at[i] = letters[v % 62];
}

/* One try, with c->r of the name as it is now: -EEXIST: another name. */
typedef int (*make_fn)(struct temp *t);

static int make_file(struct temp *t)
{
  int flags = (t->flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL;
  t->fd = prelux_write_open(&t->c.r, t->c.call, flags, 0600);
  return t->fd < 0 ? t->fd : 0;
}

static int make_folder(struct temp *t)
{
  return prelux_tell_mkdir(&t->c.r, t->c.call, 0700 & ~prelux_umask());
}

static int make_nothing(struct temp *t)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(&t->c.r, t->c.call, &attr);
  return rc == 0 ? -EEXIST : rc == -ENOENT ? 0 : rc;
}

static int make(struct prelux_change *c, make_fn fn)
{
  struct temp *t = (struct temp *)(uintptr_t)c->arg;
  char *at = t->template + strlen(t->template) - (size_t)t->suffix - X_COUNT;
  for (int i = 0; i < TRIES; i++) {
    put_letters(at);
    int where = prelux_route(AT_FDCWD, t->template, PRELUX_CHANGE | PRELUX_NOFOLLOW | PRELUX_PARENT, &c->r);
    if (where != PRELUX_MAPPED) return where < 0 ? where : -EEXIST;
    int rc = fn(t);
    if (rc != -EEXIST) return rc;
  }
  return -EEXIST;
}

static int act_file(struct prelux_change *c)
{
  return make(c, make_file);
}

static int act_folder(struct prelux_change *c)
{
  return make(c, make_folder);
}

static int act_name(struct prelux_change *c)
{
  return make(c, make_nothing);
}

/* ---- hooks */

/* 0: libc may go on, with t->use; 1: made, and the name is in the template; -errno. */
static int begin(struct temp *t, const char *call, prelux_act act, char *template, int suffix, int flags)
{
  size_t len = strlen(template);

  t->template = t->use = template;
  t->suffix = suffix;
  t->flags = flags;
  t->fd = -1;
  if (prelux_idle()) return 0;
  if (suffix < 0 || len < (size_t)suffix + X_COUNT ||
      memcmp(template + len - (size_t)suffix - X_COUNT, "XXXXXX", X_COUNT) != 0)
    return -EINVAL;
  t->c.act = act;
  t->c.arg = t;
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

/* A link on the way may lead into a mapping: libc then finds no folder. True: it was made there after all; else the errno is the
 * mapping's where that is right. */
static bool judge(struct temp *t)
{
  if (t->use != t->template || prelux_idle()) return false;
  if (!prelux_change_again(&t->c)) return false;
  if (t->c.no < 0) errno = -t->c.no;
  return t->c.no > 0;
}

#define TEMP_BODY(name, template, suffix, flags, expr)               \
  struct temp t;                                                     \
  int saved = errno;                                                 \
  int no = begin(&t, #name, act_file, template, suffix, flags);      \
  if (no) return no > 0 ? t.fd : (int)prelux_ret(no);                \
  int fd = (expr);                                                   \
  if (fd < 0 && judge(&t)) {                                         \
    errno = saved;                                                   \
    return t.fd;                                                     \
  }                                                                  \
  end(&t);                                                           \
  return fd

PRELUX_EXPORT int mkstemp(char *template)
{
  TEMP_BODY(mkstemp, template, 0, 0, prelux_real.mkstemp(t.use));
}

PRELUX_EXPORT int mkstemp64(char *template)
{
  TEMP_BODY(mkstemp64, template, 0, 0, prelux_real.mkstemp64(t.use));
}

PRELUX_EXPORT int mkostemp(char *template, int flags)
{
  TEMP_BODY(mkostemp, template, 0, flags, prelux_real.mkostemp(t.use, flags));
}

PRELUX_EXPORT int mkostemp64(char *template, int flags)
{
  TEMP_BODY(mkostemp64, template, 0, flags, prelux_real.mkostemp64(t.use, flags));
}

PRELUX_EXPORT int mkstemps(char *template, int suffix)
{
  TEMP_BODY(mkstemps, template, suffix, 0, prelux_real.mkstemps(t.use, suffix));
}

PRELUX_EXPORT int mkstemps64(char *template, int suffix)
{
  TEMP_BODY(mkstemps64, template, suffix, 0, prelux_real.mkstemps64(t.use, suffix));
}

PRELUX_EXPORT int mkostemps(char *template, int suffix, int flags)
{
  TEMP_BODY(mkostemps, template, suffix, flags, prelux_real.mkostemps(t.use, suffix, flags));
}

PRELUX_EXPORT int mkostemps64(char *template, int suffix, int flags)
{
  TEMP_BODY(mkostemps64, template, suffix, flags, prelux_real.mkostemps64(t.use, suffix, flags));
}

PRELUX_EXPORT char *mkdtemp(char *template)
{
  struct temp t;
  int saved = errno;
  int no = begin(&t, "mkdtemp", act_folder, template, 0, 0);
  if (no) return no > 0 ? template : prelux_null(no);
  char *made = prelux_real.mkdtemp(t.use);
  if (!made && judge(&t)) {
    errno = saved;
    return template;
  }
  end(&t);
  return made ? template : NULL;
}

/* Makes nothing. A name below a prefix that could never be made: the empty name, as libc's when it finds none. */
static char *make_name(char *template)
{
  struct temp t;
  int no = begin(&t, "mktemp", act_name, template, 0, 0);
  if (no < 0) {
    errno = -no;
    *template = 0;
  }
  if (no) return template;
  prelux_real.mktemp(t.use);
  if (t.use != template && !*t.use) *template = 0;
  else end(&t);
  return template;
}

PRELUX_EXPORT char *mktemp(char *template)
{
  return make_name(template);
}

/* ---- tempnam, tmpfile */

/* What libc would do with a folder that it considers: PLAIN_FOLDER: take it; OURS: so do we; NO_FOLDER: pass it over, as one where
 * nothing can be made. */
enum { NO_FOLDER, PLAIN_FOLDER, OURS };

static int judge_folder(const char *dir, struct prelux_route *r)
{
  struct prelux_attr attr;
  struct stat st;
  int where = prelux_route(AT_FDCWD, dir, PRELUX_CHANGE, r);
  if (where == PRELUX_MAPPED) {
    bool good = prelux_writable(r) && prelux_ask_attr(r, "tempnam", &attr) == 0 && attr.type == PRELUX_DIR;
    return good ? OURS : NO_FOLDER;
  }
  if (where < 0 || (where == PRELUX_ANCESTOR && r->missing)) return NO_FOLDER;
  return prelux_sys(SYS_newfstatat, r->at, r->use, &st, 0) == 0 && S_ISDIR(st.st_mode) ? PLAIN_FOLDER : NO_FOLDER;
}

/* dir/PREFIXxxxxxx, as libc makes it. */
static char *name_in(const char *dir, const char *prefix)
{
  size_t n = strlen(dir), p = prefix ? strnlen(prefix, 5) : 4;
  char *name = malloc(n + p + X_COUNT + 2);
  if (!name) return NULL;
  memcpy(name, dir, n);
  name[n++] = '/';
  memcpy(name + n, prefix ? prefix : "file", p);
  memcpy(name + n + p, "XXXXXX", X_COUNT + 1);
  make_name(name);
  if (*name) return name;
  int err = errno;
  free(name);
  errno = err;
  return NULL;
}

PRELUX_EXPORT char *tempnam(const char *dir, const char *prefix)
{
  struct prelux_route r;

  if (prelux_idle()) return prelux_real.tempnam(dir, prefix);
  const char *first = getenv("TMPDIR");
  int kind = first ? judge_folder(first, &r) : NO_FOLDER;
  if (kind == OURS) return name_in(first, prefix);
  if (kind == PLAIN_FOLDER) return prelux_real.tempnam(NULL, prefix);
  kind = dir ? judge_folder(dir, &r) : NO_FOLDER;
  if (kind == OURS) return name_in(dir, prefix);
  return prelux_real.tempnam(kind == PLAIN_FOLDER ? r.use : NULL, prefix);
}

static int act_tmpfile(struct prelux_change *c)
{
  int where = prelux_route(AT_FDCWD, P_tmpdir, PRELUX_CHANGE, &c->r);
  if (where != PRELUX_MAPPED) return where < 0 ? where : -ENOENT;
  int fd = prelux_write_open(&c->r, c->call, O_TMPFILE | O_EXCL | O_RDWR, 0600);
  if (fd < 0) return fd;
  *(int *)(uintptr_t)c->arg = fd;
  return 0;
}

static FILE *temp_file(FILE *(*real)(void), const char *call)
{
  struct prelux_change c;
  int fd = -1;
  c.act = act_tmpfile;
  c.arg = &fd;
  int no = prelux_change_route(&c, call, PRELUX_CHG_MAKE, AT_FDCWD, P_tmpdir "/prelux-no-such-name");
  if (no < 0) return prelux_null(no);
  if (no == 0) return real();
  FILE *f = fdopen(fd, "w+");
  if (f) return f;
  int err = errno;
  prelux_change_close(fd, call);
  errno = err;
  return NULL;
}

PRELUX_EXPORT FILE *tmpfile(void)
{
  return temp_file(prelux_real.tmpfile, "tmpfile");
}

PRELUX_EXPORT FILE *tmpfile64(void)
{
  return temp_file(prelux_real.tmpfile64, "tmpfile64");
}
