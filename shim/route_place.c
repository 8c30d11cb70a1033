/* Places: what a path without links is (below a prefix, above one, neither), and the way back from the kernel's names of
 * files and folders to the program's. */
#include "shim/route_place.h"

#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"

/* ---- matching */

/* URI prefixes: programs write "s3://bucket/x", libraries make that "/where/they/are/s3:/bucket/x". So an absolute path
 * is looked at from each component that ends in a colon, unless there is a real thing of that name. */
static bool match_uri(const char *path, struct prelux_match *m)
{
  for (const char *colon = path; (colon = strstr(colon, ":/")); colon += 2) {
    const char *start = colon;
    while (start > path && start[-1] != '/') start--;
    prelux_table_match(prelux_state.table, start, true, m);
    if (m->kind != PRELUX_MATCH_MAPPED) continue;
    struct stat st;
    size_t n = (size_t)(colon - path) + 1;
    char there[n + 1];
    memcpy(there, path, n);
    there[n] = '\0';
    if (prelux_sys(SYS_newfstatat, AT_FDCWD, there, &st, AT_SYMLINK_NOFOLLOW) < 0) return true;
  }
  return false;
}

enum prelux_match_kind prelux_place_match(const char *path, struct prelux_match *m)
{
  const struct prelux_table *t = prelux_state.table;
  if (!t) {
    memset(m, 0, sizeof(*m));
    if (prelux_state.lost && prelux_prefixes_have(prelux_state.lost, path)) m->kind = PRELUX_MATCH_MAPPED;
    return m->kind;
  }
  prelux_table_match(t, path, false, m);
  if (m->kind == PRELUX_MATCH_MAPPED || !(t->flags & PRELUX_TABLE_HAS_URI)) return m->kind;
  struct prelux_match uri;
  if (match_uri(path, &uri)) *m = uri;
  return m->kind;
}

static int broken(const char *path, const char *cause)
{
  return prelux_fail(EIO, "route", path, cause && *cause ? cause : "the configuration is broken",
                     "see `prelux config check` and `prelux doctor`");
}

int prelux_place_mapped(struct prelux_route *r, const struct prelux_match *m)
{
  const struct prelux_table *t = prelux_state.table;
  if (!t) return r->where = broken(r->path, prelux_state.lost_why);
  if (t->flags & PRELUX_TABLE_BROKEN) return r->where = broken(r->path, prelux_table_str(t, t->error));
  if (m->mapping->flags & PRELUX_MAPPING_BROKEN)
    return r->where = broken(r->path, "the mapping's backend or cache folder could not be set up");
  r->where = PRELUX_MAPPED;
  r->at = AT_FDCWD;
  r->use = r->path;
  r->logical = r->path;
  r->mapping = m->mapping;
  r->index = m->index;
  r->has_below = m->has_below;
  r->rel = m->rel;
  r->rel_len = strlen(m->rel);
  r->missing = false;
  return r->where;
}

/* ---- ancestors */

static const char stand_in[] = "/ancestors";

/* Makes RUNTIME/ancestors<logical> and turns r->path into it; r->logical is its tail. */
static int take_stand_in(struct prelux_route *r)
{
  size_t n = strlen(r->path), head = strlen(prelux_state.runtime) + sizeof(stand_in) - 1;
  if (head + n + 2 > sizeof(r->path)) return r->where = -ENAMETOOLONG;
  memmove(r->path + head, r->path, n + 1);
  memcpy(r->path, prelux_state.runtime, head - (sizeof(stand_in) - 1));
  memcpy(r->path + head - (sizeof(stand_in) - 1), stand_in, sizeof(stand_in) - 1);
  for (size_t i = head; i <= head + n; i++) {
    if (i != head + n && r->path[i] != '/') continue;
    char c = r->path[i];
    r->path[i] = '\0';
    long rc = prelux_sys(SYS_mkdirat, AT_FDCWD, r->path, i == head ? 0700 : 0755);
    r->path[i] = c;
    if (rc < 0 && rc != -EEXIST)
      return r->where = prelux_fail(EIO, "route", r->path + head, "the runtime folder cannot be written", NULL);
  }
  r->where = PRELUX_ANCESTOR;
  r->missing = true;
  r->logical = r->path + head;
  r->at = AT_FDCWD;
  r->use = r->path;
  return r->where;
}

/* r->path holds a path above a mapping; `at`, `use`: as of prelux_place_arrive(). */
static int ancestor(struct prelux_route *r, int at, const char *use)
{
  struct stat st;
  r->where = PRELUX_ANCESTOR;
  r->missing = false;
  r->logical = r->path;
  r->at = use ? at : AT_FDCWD;
  r->use = use ? use : r->path;
  if (prelux_sys(SYS_newfstatat, AT_FDCWD, r->path, &st, 0) != -ENOENT) return r->where;
  return take_stand_in(r);
}

int prelux_place_elsewhere(struct prelux_route *r)
{
  size_t n = strlen(r->path);
  if (r->must_dir && n > 1 && n + 2 <= sizeof(r->path)) memcpy(r->path + n, "/", 2);
  r->where = PRELUX_UNMAPPED;
  r->at = AT_FDCWD;
  r->use = r->path;
  return r->where;
}

int prelux_place_arrive(struct prelux_route *r, int at, const char *use)
{
  struct prelux_match m;
  switch (prelux_place_match(r->path, &m)) {
  case PRELUX_MATCH_MAPPED: {
    int rc = prelux_place_mapped(r, &m);
    struct prelux_attr attr;
    /* Inside one mapping, above another: it need not exist in the outer one. */
    if (rc != PRELUX_MAPPED || !m.has_below || !*m.rel || prelux_ask_attr(r, "route", &attr) != -ENOENT) return rc;
    return take_stand_in(r);
  }
  case PRELUX_MATCH_ANCESTOR: return ancestor(r, at, use);
  default:
    if (!use) return prelux_place_elsewhere(r);
    prelux_route_plain(at, use, r);
    return PRELUX_UNMAPPED;
  }
}

/* ---- from what the kernel has to what the program sees */

/* A folder of ours that the daemon passed: its name may be that of another root or mount namespace, which ends as ours would. */
static const struct prelux_table_mapping *from_elsewhere(const struct prelux_table *t, const char *real, int hint, const char **ret_rel)
{
  if (hint < 0 || (uint32_t)hint >= t->n_mappings) return NULL;
  const struct prelux_table_mapping *m = &prelux_table_mappings(t)[hint];
  const char *at = m->tree.len ? strstr(real, prelux_table_str(t, m->tree)) : NULL;
  if (!at || (at[m->tree.len] != '\0' && at[m->tree.len] != '/')) return NULL;
  *ret_rel = at + m->tree.len + (at[m->tree.len] == '/');
  return m;
}

long prelux_logical(const char *real, int hint, char *out, size_t cap)
{
  const struct prelux_table *t = prelux_state.table;
  uint32_t index;
  const char *rel;
  size_t n = strlen(prelux_state.runtime);
  if (n > 0 && strncmp(real, prelux_state.runtime, n) == 0 && strncmp(real + n, stand_in, sizeof(stand_in) - 1) == 0 &&
      (real[n + sizeof(stand_in) - 1] == '/'))
    return prelux_path_join(out, cap, NULL, real + n + sizeof(stand_in) - 1);
  const struct prelux_table_mapping *m = t ? prelux_table_by_tree(t, real, hint, &index, &rel) : NULL;
  if (!m && t) m = from_elsewhere(t, real, hint, &rel);
  if (!m) return 0;
  const char *local = prelux_table_str(t, m->local);
  size_t at = 0, rel_len = strlen(rel);
  if (m->local.len && local[0] != '/') { /* a URI: shown below the folder where the program was started */
    at = t->cwd.len;
    if (at + 1 >= cap) return -ENAMETOOLONG;
    memcpy(out, prelux_table_str(t, t->cwd), at);
    out[at++] = '/';
  }
  if (at + m->local.len + rel_len + 2 > cap) return -ENAMETOOLONG;
  memcpy(out + at, local, m->local.len);
  at += m->local.len;
  if (rel_len || at == 0) out[at++] = '/';
  memcpy(out + at, rel, rel_len + 1);
  return (long)(at + rel_len);
}

int prelux_route_fd(int fd, struct prelux_route *r)
{
  char real[PATH_MAX];
  uint32_t hint;
  prelux_route_plain(fd, "", r);
  enum prelux_class class = prelux_fd_get(fd, &hint);
  bool plain = class == PRELUX_CLASS_PLAIN; /* at most a real folder behind a prefix */
  if (class == PRELUX_CLASS_FAR) return PRELUX_UNMAPPED;
  if (plain && prelux_state.table && prelux_state.table->n_roots == 0) return PRELUX_UNMAPPED;
  if (prelux_fd_name(fd, real, sizeof(real)) <= 0 || real[0] != '/') return PRELUX_UNMAPPED;
  long len = plain ? 0 : prelux_logical(real, class == PRELUX_CLASS_SHADOW ? (int)hint : -1, r->path, sizeof(r->path));
  if (len < 0) return PRELUX_UNMAPPED;
  if (len == 0) {
    struct prelux_match m;
    if ((len = prelux_path_join(r->path, sizeof(r->path), NULL, real)) < 0) return PRELUX_UNMAPPED;
    if (prelux_place_match(r->path, &m) != PRELUX_MATCH_MAPPED) return PRELUX_UNMAPPED;
    return prelux_place_mapped(r, &m); /* a real folder behind a prefix */
  }
  return prelux_place_arrive(r, fd, "");
}

int prelux_root_of(uint64_t dev, uint64_t ino)
{
  const struct prelux_table *t = prelux_state.table;
  if (!t || t->n_roots == 0) return -1;
  const struct prelux_table_root *roots = (const struct prelux_table_root *)((const char *)t + t->roots_off);
  for (uint32_t i = 0; i < t->n_roots; i++) {
    if (roots[i].ino == ino && roots[i].dev == dev) return (int)roots[i].mapping;
  }
  return -1;
}

void prelux_route_root(uint32_t index, struct prelux_route *r)
{
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *map = &prelux_table_mappings(t)[index];
  struct prelux_match m = {.kind = PRELUX_MATCH_MAPPED, .mapping = map, .index = index};
  prelux_route_plain(AT_FDCWD, "", r);
  r->must_dir = true;
  memcpy(r->path, map->local.len ? prelux_table_str(t, map->local) : "/", map->local.len ? map->local.len + 1 : 2);
  m.rel = r->path + strlen(r->path);
  prelux_place_mapped(r, &m);
}
