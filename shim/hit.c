/* A file that the index has, opened by a plain path: what nearly every open below a mapping is. The same steps as in shim/cache.c, by
 * which whatever is unusual goes: route, slot, cache path, and the look whether that is the inode which the slot promises. It is one
 * function, because each return after a system call costs more than a dozen steps before it. */
#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/open.h"
#include "shim/report.h"
#include "shim/stats.h"

/* Mappings (number plus one) below which the path's own words say what is meant: no other mapping lies there, and they are not in /proc.
 * The last few that were used. */
enum { NOTED = 4 };
static uint32_t noted[NOTED];

static bool is_plain(const struct prelux_table *t, const struct prelux_route *r)
{
  const char *local = prelux_table_str(t, r->mapping->local);
  struct prelux_match m;
  if (local[0] != '/' || ((t->flags & PRELUX_TABLE_BROKEN) | (r->mapping->flags & PRELUX_MAPPING_BROKEN))) return false;
  if (r->mapping->freshness == PRELUX_FRESH_SKIP) return false;
  if (prelux_path_below(local, "/proc", NULL) || prelux_path_below(local, "/dev", NULL)) return false;
  prelux_table_match(t, local, false, &m);
  return m.mapping == r->mapping && !m.has_below;
}

void prelux_hit_note(const struct prelux_route *r)
{
  uint32_t *at = &noted[r->index % NOTED];
  if (__atomic_load_n(at, __ATOMIC_RELAXED) == r->index + 1 || prelux_in_shared_child()) return;
  if (is_plain(prelux_state.table, r)) __atomic_store_n(at, r->index + 1, __ATOMIC_RELAXED);
}

/* Finds mapping, index, rel and rel_len; the rest of r is not set. */
static inline bool look_up(const char *path, struct prelux_route *r)
{
  const struct prelux_table *t = prelux_state.table;
  size_t n = strlen(path);
  if (n >= PATH_MAX) return false;
  for (unsigned i = 0; i < NOTED; i++) {
    uint32_t number = __atomic_load_n(&noted[i], __ATOMIC_RELAXED);
    if (number == 0) continue;
    r->mapping = &prelux_table_mappings(t)[number - 1];
    size_t len = r->mapping->local.len;
    if (n <= len + 1 || path[len] != '/' || memcmp(path, prelux_table_str(t, r->mapping->local), len) != 0) continue;
    r->index = number - 1;
    r->rel = path + len + 1;
    r->rel_len = n - len - 1;
    return true;
  }
  return false;
}

/* `other` is not what the slot promised: the daemon says what is right. */
__attribute__((noinline)) static int ask(const char *path, const char *call, int flags, int other)
{
  struct prelux_route r;
  if (prelux_route(AT_FDCWD, path, 0, &r) != PRELUX_MAPPED) {
    prelux_fd_let_go(other);
    return -EAGAIN;
  }
  int fd = prelux_open_asked(&r, call, flags, true, other);
  if (fd >= 0) prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r.index);
  return fd;
}

int prelux_open_hit(const char *path, const char *call, int flags)
{
  struct prelux_route r;
  struct prelux_attr attr;
  struct stat st;
  if (path[0] != '/' || prelux_reports() || !look_up(path, &r)) return -EAGAIN;
  size_t n = r.mapping->tree.len;
  char at[n + r.rel_len + 2];
  memcpy(at, prelux_table_str(prelux_state.table, r.mapping->tree), n);
  at[n] = '/';
  memcpy(at + n + 1, r.rel, r.rel_len); /* the copy is what is looked at: another thread may change the words */
  r.rel = at + n + 1;
  at[n + 1 + r.rel_len] = '\0';
  /* No key has an empty name in it, or one of dots. */
  if (prelux_links_kept() || !prelux_index_look(&r, &attr) || attr.type != PRELUX_FILE || !attr.cached) return -EAGAIN;
  int saved = errno;
  int fd = prelux_real.openat(AT_FDCWD, at, flags & ~(O_EXCL | O_NOCTTY));
  if (fd < 0) {
    errno = saved;
    return -EAGAIN;
  }
  if (prelux_fstat(fd, &st) < 0 || st.st_ino != PRELUX_INO(attr.cache_ino)) return ask(path, call, flags, fd);
  prelux_tree_dev(st.st_dev);
  prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r.index);
  return fd;
}
