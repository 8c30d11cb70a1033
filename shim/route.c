/* Paths -> mappings. What a place is, once it is reached, says shim/route_place.c.
 *
 * Most paths are done with in prelux_far(): no prefix begins with the first component, or the working directory is FAR.
 * A path without ".." is joined to its folder's logical path and looked up. A path with ".." is walked component
 * by component (walk.c of the kernel is the model): a link outside is followed, a folder inside a mapping is checked
 * before ".." leaves it. The same walk serves links from outside: libc is asked first, and only when it
 * knows no such file, one openat2(RESOLVE_NO_SYMLINKS) tells whether there was a link at all. The links that this node keeps
 * for a remote (shim/tell.h) are met by the same walk; a path without ".." is walked only when a name on it has a slot of a
 * link in the index, and nobody looks for one while the index counts none. */
#include "shim/route_place.h"

#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/stats.h"
#include "shim/tell.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
enum { NO_MAGICLINKS = 0x02, NO_SYMLINKS = 0x04, LINKS_MAX = 40 };

static uint32_t table_flags(void)
{
  return prelux_state.table ? prelux_state.table->flags : 0;
}

/* May pass a magic link (/proc/self/fd/3/x, /proc/self/cwd/x, /dev/stdin): the kernel would go on in a cache tree. */
static bool maybe_magic(const char *path)
{
  while (path[0] == '/' && (path[1] == '/' || (path[1] == '.' && path[2] == '/'))) path += path[1] == '/' ? 1 : 2;
  if (path[1] == 'p' && strncmp(path, "/proc/", 6) == 0)
    return strstr(path + 5, "/fd/") || strstr(path + 5, "/cwd") || strstr(path + 5, "/root") || strstr(path + 5, "/map_files/");
  return path[1] == 'd' && strncmp(path, "/dev/", 5) == 0 && (strstr(path + 4, "/fd/") || strstr(path + 4, "/std"));
}

static bool no_path(const char *path)
{
  return prelux_no_pointer(path) || !*path;
}

uint64_t prelux_far_letters;

static void learn_letters(const struct prelux_table *t)
{
  static int known;
  if (__builtin_expect(__atomic_load_n(&known, __ATOMIC_RELAXED), 1)) return;
  static const char other[] = {'\0', '/', '.', 'p', 'd'};
  uint64_t near = prelux_table_letters(t);
  for (size_t i = 0; i < sizeof(other); i++) near |= 1ull << (other[i] & 63);
  __atomic_store_n(&prelux_far_letters, ~near, __ATOMIC_RELAXED);
  __atomic_store_n(&known, 1, __ATOMIC_RELAXED);
}

static bool far_absolute(const struct prelux_table *t, const char *path)
{
  const char *p = path;
  for (;; p++) {
    while (*p == '/') p++;
    if (p[0] != '.' || (p[1] != '/' && p[1] != '\0')) break;
  }
  learn_letters(t);
  if (*p == '\0' || prelux_table_maybe(t, p)) return false;
  return (*p != 'p' && *p != 'd') || !maybe_magic(path);
}

bool prelux_far_looked(int dirfd, const char *path)
{
  const struct prelux_table *t = prelux_state.table;
  if (no_path(path)) return true;
  if (prelux_pending_any() && maybe_magic(path)) prelux_pending_settle_all(false); /* it may lead to one */
  if (!t || (t->flags & (PRELUX_TABLE_COVERED | PRELUX_TABLE_HAS_URI))) return false;
  if (path[0] == '/') return far_absolute(t, path);
  if (dirfd == AT_FDCWD) return prelux_cwd_far();
  uint32_t hint;
  return prelux_fd_get(dirfd, &hint) == PRELUX_CLASS_FAR;
}

/* Eight letters at a time: most paths have few dots. */
static bool has_dotdot(const char *path)
{
  const uint64_t ones = 0x0101010101010101, dots = ones * '.';
  size_t n = strlen(path);
  for (size_t i = 0; i + 1 < n; i++) {
    uint64_t word;
    while (i + sizeof(word) <= n) {
      __builtin_memcpy(&word, path + i, sizeof(word));
      word ^= dots;
      if ((word - ones) & ~word & ones << 7) break; /* a dot is among them */
      i += sizeof(word);
    }
    if (path[i] != '.' || path[i + 1] != '.' || (i > 0 && path[i - 1] != '/')) continue;
    if (path[i + 2] == '/' || path[i + 2] == '\0') return true;
  }
  return false;
}

static bool ends_in_dots(const char *path, size_t n)
{
  if (n == 0 || path[n - 1] != '.') return false;
  if (n == 1 || path[n - 2] == '/') return true;
  return path[n - 2] == '.' && (n == 2 || path[n - 3] == '/');
}

static void note_end(const char *path, struct prelux_route *r)
{
  size_t n = strlen(path);
  r->slash = n > 0 && path[n - 1] == '/';
  r->must_dir = r->slash || ends_in_dots(path, n);
}

/* ---- walking */

struct walk {
  struct prelux_route *r;
  size_t len;           /* of r->path, the place reached so far; "" is "/" */
  int links;
  unsigned how;
  bool through;         /* passed through a mapping or a missing ancestor: libc cannot go this way */
  bool inside;          /* r->path is mapped */
  bool final;           /* an error of the walk is the program's */
  char rest[PATH_MAX];  /* still to go */
};

static void up(struct walk *w)
{
  while (w->len > 0 && w->r->path[w->len - 1] != '/') w->len--;
  if (w->len > 0) w->len--;
  w->r->path[w->len] = '\0';
}

/* ".." out of something inside a mapping: it must be a folder there. */
static int check_folder(struct walk *w)
{
  struct prelux_match m;
  struct prelux_attr attr;
  if (prelux_place_match(w->r->path, &m) != PRELUX_MATCH_MAPPED) return 0;
  int rc = prelux_place_mapped(w->r, &m);
  if (rc < 0) return rc;
  if (w->r->rel_len == 0) return 0;
  bool must_dir = w->r->must_dir;
  w->r->must_dir = true;
  rc = prelux_ask_attr(w->r, "route", &attr);
  w->r->must_dir = must_dir;
  return rc == -ENOENT && m.has_below ? 0 : rc;
}

/* A magic link and the name that it shows are one folder: not in another root or mount namespace, not moved over. */
static bool leads_to(const char *link, const char *name)
{
  struct stat a, b;
  if (name[0] != '/' || prelux_sys(SYS_newfstatat, AT_FDCWD, link, &a, 0) < 0) return false;
  if (!S_ISDIR(a.st_mode) || prelux_sys(SYS_newfstatat, AT_FDCWD, name, &b, 0) < 0) return false;
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* What a link names (n letters of `to`) goes before the rest of the way, which is `after`. 1 or -errno. */
static int go_by(struct walk *w, const char *to, size_t n, size_t parent, const char *after)
{
  size_t tail = strlen(after);
  if (n + tail + 2 > sizeof(w->rest)) return -ENAMETOOLONG;
  memmove(w->rest + n + 1, after, tail + 1);
  memcpy(w->rest, to, n);
  w->rest[n] = '/';
  if (tail == 0 && !w->r->must_dir) w->rest[n] = '\0';
  w->len = to[0] == '/' ? 0 : parent;
  w->r->path[w->len] = '\0';
  return 1;
}

/* One more link. More than the kernel would follow: its own answer to the rest of the way might be another. */
static int count_link(struct walk *w)
{
  if (++w->links <= LINKS_MAX) return 0;
  w->final = w->through;
  return -ELOOP;
}

/* When the component just appended is a link, what it names goes before the rest. 1: followed, 0: no link, -errno. */
static int follow(struct walk *w, size_t parent, const char *after)
{
  char target[PATH_MAX], logical[PATH_MAX];
  long n = prelux_sys(SYS_readlinkat, AT_FDCWD, w->r->path, target, sizeof(target) - 1);
  if (n == -EINVAL) return 0;
  if (n < 0) return (int)n;
  target[n] = '\0';
  int rc = count_link(w);
  if (rc < 0) return rc;
  const char *to = target;
  if (prelux_path_below(w->r->path, "/proc", NULL) && (target[0] == '/' || strstr(target, ":["))) {
    /* A magic link: the kernel does not follow its text. Only what is ours, or a folder that has this name here too,
     * may be taken by name. */
    long len = prelux_logical(target, -1, logical, sizeof(logical));
    if (len < 0 || strstr(target, " (deleted)")) return -ELOOP;
    if (len > 0) {
      to = logical;
      n = len;
    } else if (*after == '\0' || !leads_to(w->r->path, target)) {
      return -ELOOP;
    }
  }
  return go_by(w, to, (size_t)n, parent, after);
}

/* The same for a component inside a mapping, whose match is m. */
static int follow_kept(struct walk *w, const struct prelux_match *m, size_t parent, const char *after)
{
  struct prelux_attr attr;
  char target[PATH_MAX];
  if (!m->mapping || !*m->rel || prelux_place_mapped(w->r, m) < 0) return 0;
  if (!prelux_index_look(w->r, &attr) || attr.type != PRELUX_LINK) return 0;
  w->final = true;
  int rc = w->how & PRELUX_NO_KEPT ? -ELOOP : count_link(w);
  if (rc < 0) return rc;
  long n = prelux_tell_readlink(w->r, "route", target, sizeof(target));
  if (n == -EINVAL || n == -ENOENT) return 0; /* it was one a moment ago */
  if (n < 0) return (int)n;
  w->final = false;
  w->inside = target[0] != '/';
  return go_by(w, target, (size_t)n, parent, after);
}

/* Appends one component and looks at what it is. 1: go on with w->rest (a link was followed), 0: go on, -errno: libc's
 * answer to the whole path stands. */
static int step(struct walk *w, const char *name, size_t n, const char *after, bool nofollow)
{
  struct prelux_match m;
  size_t parent = w->len;
  if (w->len + n + 2 > sizeof(w->r->path)) return -ENAMETOOLONG;
  w->r->path[w->len++] = '/';
  memcpy(w->r->path + w->len, name, n);
  w->len += n;
  w->r->path[w->len] = '\0';
  enum prelux_match_kind kind = prelux_place_match(w->r->path, &m);
  w->inside = kind == PRELUX_MATCH_MAPPED;
  if (w->inside) {
    w->through = true;
    return !prelux_links_kept() || (nofollow && *after == '\0') ? 0 : follow_kept(w, &m, parent, after);
  }
  if (nofollow && *after == '\0') return 0;
  int rc = follow(w, parent, after);
  if (rc == -ENOENT && kind == PRELUX_MATCH_ANCESTOR) {
    w->through = true;
    return 0;
  }
  return rc;
}

/* libc cannot go the way that the program wrote, but from r->path on it can: it has the errno of what is wrong there, or makes
 * what is missing. */
static int hand_over(struct walk *w, const char *after)
{
  size_t n = strlen(after);
  if (n > 0) {
    if (w->len + n + 2 > sizeof(w->r->path)) return -ENAMETOOLONG;
    w->r->path[w->len++] = '/';
    memcpy(w->r->path + w->len, after, n + 1);
  }
  return prelux_place_elsewhere(w->r);
}

static bool keeps_last(const struct prelux_route *r, unsigned how)
{
  return (how & PRELUX_NOFOLLOW) && (!r->must_dir || (how & PRELUX_PARENT));
}

/* What became of a walk besides -errno, which is of what is wrong inside a mapping. */
enum { WALK_PLAIN, WALK_THROUGH, WALK_STANDS, WALK_HANDED };

/* Goes along `path` from the folder r->path ("" for "/", or absolute; ours: the kernel has another one in its place).
 * PLAIN, THROUGH: what it comes to is in r->path, and it met nothing of ours, or did; STANDS: libc's own answer to the path is
 * right; HANDED: r is what libc is to be given. */
static int walk(struct prelux_route *r, const char *path, unsigned how, bool ours)
{
  struct walk w;
  w.r = r;
  w.len = strlen(r->path);
  w.links = 0;
  w.how = how;
  w.through = ours;
  w.inside = w.final = false;
  size_t n = strlen(path);
  if (n + 1 > sizeof(w.rest)) return -ENAMETOOLONG;
  memcpy(w.rest, path, n + 1);
  if (path[0] == '/') w.len = 0;
  if (w.len == 1) w.len = 0; /* "/" */
  r->path[w.len] = '\0';
  const char *p = w.rest;
  while (*p) {
    while (*p == '/') p++;
    n = strcspn(p, "/");
    const char *after = p + n;
    while (*after == '/') after++;
    if (n == 0) break;
    if (n == 2 && p[0] == '.' && p[1] == '.') {
      int rc = w.inside ? check_folder(&w) : 0;
      if (rc < 0) return rc;
      up(&w);
      w.inside = false;
    } else if (n != 1 || p[0] != '.') {
      int rc = step(&w, p, n, after, keeps_last(r, how));
      if (rc < 0 && w.final) return rc;
      if (rc < 0 && !w.through) return WALK_STANDS;
      if (rc < 0) return (rc = hand_over(&w, after)) < 0 ? rc : WALK_HANDED;
      if (rc > 0) after = w.rest;
    }
    p = after;
  }
  if (w.len == 0) memcpy(r->path, "/", 2);
  return w.through ? WALK_THROUGH : WALK_PLAIN;
}

/* Walks, then says what was found. libc keeps the caller's own words when the walk met nothing of ours. */
static int walk_to(int dirfd, const char *path, unsigned how, bool ours, struct prelux_route *r)
{
  int rc = walk(r, path, how, ours);
  switch (rc) {
  case WALK_PLAIN: return prelux_place_arrive(r, dirfd, ours ? NULL : path);
  case WALK_THROUGH: return prelux_place_arrive(r, dirfd, NULL);
  case WALK_HANDED: return r->where;
  case WALK_STANDS: prelux_route_plain(dirfd, path, r); return PRELUX_UNMAPPED;
  default: return r->where = rc;
  }
}

/* ---- links from outside */

/* True when a link (`resolve`: of which kind) may lie on the way, or nobody can tell: an old kernel, no descriptor to be had. */
static bool any_link(int dirfd, const char *path, unsigned how, uint64_t resolve)
{
  struct {
    uint64_t flags, mode, resolve;
  } open_how = {O_PATH | O_CLOEXEC | (how & PRELUX_NOFOLLOW ? O_NOFOLLOW : 0), 0, resolve};
  long fd = prelux_sys(SYS_openat2, dirfd, path, &open_how, sizeof(open_how));
  if (fd >= 0) prelux_sys(SYS_close, fd);
  return fd < 0 && fd != -ENOENT && fd != -ENOTDIR && fd != -EACCES && fd != -ENAMETOOLONG && fd != -EBADF && fd != -EFAULT;
}

static int find_links(int dirfd, const char *path, unsigned how, struct prelux_route *r)
{
  prelux_route_plain(dirfd, path, r);
  bool dots = has_dotdot(path);
  if (prelux_quiet()) return PRELUX_UNMAPPED;
  if (!dots && ((table_flags() & PRELUX_TABLE_LINKS_OFF) || !any_link(dirfd, path, how, NO_SYMLINKS))) return PRELUX_UNMAPPED;
  note_end(path, r);
  r->path[0] = '\0';
  if (path[0] != '/' && prelux_dir_real(dirfd, r->path, sizeof(r->path)) <= 0) return PRELUX_UNMAPPED;
  if (path[0] != '/' && r->path[0] != '/') return PRELUX_UNMAPPED;
  return walk_to(dirfd, path, how, false, r);
}

bool prelux_route_again(int dirfd, const char *path, unsigned how, struct prelux_route *r)
{
  if ((errno != ENOENT && errno != ENOTDIR) || r->where != PRELUX_UNMAPPED || r->use != path) return false;
  if (no_path(path)) return false;
  int saved = errno;
  int where = find_links(dirfd, path, how, r);
  errno = saved;
  return where != PRELUX_UNMAPPED || r->use != path;
}

/* ---- the whole */

/* In "x/." and "x/./" the last name is no entry: x is passed. */
static bool passes_last(const char *path)
{
  size_t n = strlen(path);
  while (n > 0 && path[n - 1] == '/') n--;
  return ends_in_dots(path, n);
}

/* Some name on r->path is a link that this node keeps, and it is to be followed. path: what r->path was written as. */
__attribute__((noinline)) static bool passes_kept(const struct prelux_route *r, const char *path, unsigned how)
{
  struct prelux_match m;
  struct prelux_attr attr;
  if (prelux_place_match(r->path, &m) != PRELUX_MATCH_MAPPED || !m.mapping || !*m.rel) return false;
  struct prelux_route part;
  bool keeps = keeps_last(r, how) && !passes_last(path);
  size_t n = strlen(m.rel), head = (size_t)(m.rel - r->path);
  memcpy(part.path, r->path, head + n + 1);
  part.mapping = m.mapping;
  part.rel = part.path + head;
  for (part.rel_len = n; part.rel_len > 0; part.rel_len--) {
    bool last = part.rel_len == n;
    if (!last && part.rel[part.rel_len] != '/') continue;
    part.path[head + part.rel_len] = '\0';
    if (!(last && keeps) && prelux_index_look(&part, &attr) && attr.type == PRELUX_LINK) return true;
  }
  return false;
}

static int locate(int dirfd, const char *path, unsigned how, struct prelux_route *r)
{
  bool ours = false;
  long len = 0;
  prelux_route_plain(dirfd, path, r);
  note_end(path, r);
  char base[PATH_MAX];
  if (path[0] != '/') {
    len = prelux_dir_path(dirfd, base, sizeof(base), &ours);
    if (len == 0) return PRELUX_UNMAPPED;
    if (len < 0) return len == -EBADF ? PRELUX_UNMAPPED : (r->where = (int)len);
  }
  long n = prelux_path_join(r->path, sizeof(r->path), len ? base : NULL, path);
  if (has_dotdot(path) || maybe_magic(path[0] == '/' || n < 0 ? path : r->path) ||
      (n >= 0 && prelux_links_kept() && passes_kept(r, path, how))) {
    if (len) memcpy(r->path, base, (size_t)len + 1);
    else r->path[0] = '\0';
    return walk_to(dirfd, path, how, ours, r);
  }
  if (n < 0) return ours ? (r->where = (int)n) : PRELUX_UNMAPPED;
  return prelux_place_arrive(r, dirfd, ours ? NULL : path);
}

bool prelux_links_first(const char *path)
{
  static uint64_t bits; /* 0: not asked for yet */
  const struct prelux_table *t = prelux_state.table;
  if (!t || no_path(path)) return false;
  if (t->n_roots > 0) return true;
  uint64_t known = __atomic_load_n(&bits, __ATOMIC_RELAXED);
  if (known == 0) __atomic_store_n(&bits, known = prelux_table_component_bits(t), __ATOMIC_RELAXED);
  size_t end = strlen(path);
  while (end > 0 && path[end - 1] == '/') end--;
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') start--;
  if (!(known >> (prelux_component_hash(path + start, end - start) & 63) & 1)) return false;
  return prelux_table_has_component(t, path + start, end - start);
}

bool prelux_last_is_link(int dirfd, const char *path)
{
  char letter;
  if (no_path(path) || prelux_quiet() || (table_flags() & PRELUX_TABLE_LINKS_OFF)) return false;
  return prelux_sys(SYS_readlinkat, dirfd, path, &letter, sizeof(letter)) >= 0;
}

bool prelux_passes_magic(int dirfd, const char *path, unsigned how)
{
  if (!prelux_fd_ours_seen() || no_path(path) || prelux_quiet() || (table_flags() & PRELUX_TABLE_LINKS_OFF)) return false;
  return any_link(dirfd, path, how, NO_MAGICLINKS);
}

int prelux_route(int dirfd, const char *path, unsigned how, struct prelux_route *r)
{
  const struct prelux_table *t = prelux_state.table;
  prelux_route_plain(dirfd, path, r);
  if (no_path(path)) return PRELUX_UNMAPPED;
  int where = prelux_far(dirfd, path) ? PRELUX_UNMAPPED : locate(dirfd, path, how, r);
  if (where != PRELUX_UNMAPPED || r->use != path) return where;
  /* A real folder stands behind a prefix, or would after the call: libc would succeed there through a link. Without a
   * table it may. */
  bool covered = !t || (t->flags & PRELUX_TABLE_COVERED) || ((how & PRELUX_CHANGE) && prelux_links_first(path)) ||
                 ((how & PRELUX_WRITE) && prelux_last_is_link(dirfd, path)) ||
                 ((how & PRELUX_CHANGE) && !(how & PRELUX_NO_MAGIC) && prelux_passes_magic(dirfd, path, how));
  return covered ? find_links(dirfd, path, how, r) : where;
}
