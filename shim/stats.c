#include "shim/stats.h"

#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/tell.h"

/* Devices on which cache trees lie: few, filled at the first fstat and when files are opened. 0: free. */
enum { DEVS = 16, BLOCK = 512, FOLDER = 4096, PREFERRED = 131072 };
static uint64_t devs[DEVS];
static int devs_known;

void prelux_tree_dev(uint64_t dev)
{
  for (int i = 0; i < DEVS; i++) {
    uint64_t is = __atomic_load_n(&devs[i], __ATOMIC_RELAXED), none = 0;
    if (is == dev) return;
    if (is == 0 && __atomic_compare_exchange_n(&devs[i], &none, dev, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    if (none == dev) return;
  }
}

/* The trees that exist when the first fstat is asked: an inherited fd may lie in any of them. */
static void find_devs(void)
{
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *m = prelux_table_mappings(t);
  for (uint32_t i = 0; i < t->n_mappings; i++) {
    struct stat st;
    char tree[PATH_MAX];
    if (m[i].scratch.len) prelux_tree_dev(m[i].scratch_dev);
    if (i > 0 && m[i].tree.off == m[i - 1].tree.off) continue;
    if (m[i].tree.len && prelux_sys(SYS_newfstatat, AT_FDCWD, prelux_cache_root(&m[i], tree), &st, 0) == 0)
      prelux_tree_dev(st.st_dev);
  }
  __atomic_store_n(&devs_known, 1, __ATOMIC_RELEASE);
}

bool prelux_is_tree_dev(uint64_t dev)
{
  if (!__atomic_load_n(&devs_known, __ATOMIC_ACQUIRE)) find_devs();
  for (int i = 0; i < DEVS; i++) {
    uint64_t is = __atomic_load_n(&devs[i], __ATOMIC_RELAXED);
    if (is == dev) return true;
    if (is == 0) return false;
  }
  return false;
}

uint32_t prelux_shown_mode(const struct prelux_table_mapping *m, const struct prelux_attr *attr)
{
  if (attr->type == PRELUX_LINK) return 0777;
  if (attr->mode) return attr->mode & 07777;
  return (attr->type == PRELUX_DIR ? m->dir_mode : m->file_mode) & 07777;
}

static mode_t kind_of(const struct prelux_attr *attr)
{
  return attr->type == PRELUX_DIR ? S_IFDIR : attr->type == PRELUX_LINK ? S_IFLNK : S_IFREG;
}

void prelux_fill_stat(const struct prelux_table_mapping *m, const struct prelux_attr *attr, struct stat *st)
{
  const struct prelux_table *t = prelux_state.table;
  int64_t sec = attr->mtime_ns / 1000000000, ns = attr->mtime_ns % 1000000000;
  if (ns < 0) {
    ns += 1000000000;
    sec--;
  }
  memset(st, 0, sizeof(*st));
  st->st_dev = m->dev;
  st->st_ino = attr->ino;
  st->st_mode = prelux_shown_mode(m, attr) | kind_of(attr);
  st->st_nlink = 1;
  bool owned = (attr->flags & PRELUX_ATTR_OWNED) != 0;
  bool node = (t->flags & PRELUX_TABLE_NODE) != 0; /* to each user they are his */
  st->st_uid = owned ? (uid_t)attr->owner : node ? (uid_t)prelux_id(SYS_geteuid) : t->uid;
  st->st_gid = owned ? (gid_t)(attr->owner >> 32) : node ? (gid_t)prelux_id(SYS_getegid) : t->gid;
  uint64_t size = attr->type == PRELUX_DIR ? FOLDER : attr->size; /* `test -s` holds for every folder */
  st->st_size = (off_t)size;
  st->st_blksize = attr->type == PRELUX_DIR ? FOLDER : PREFERRED;
  st->st_blocks = (blkcnt_t)(size / BLOCK + (size % BLOCK != 0));
  st->st_mtim.tv_sec = st->st_ctim.tv_sec = st->st_atim.tv_sec = sec;
  st->st_mtim.tv_nsec = st->st_ctim.tv_nsec = st->st_atim.tv_nsec = ns;
}

const struct prelux_table_mapping *prelux_mapping_of_dev(uint64_t dev, uint32_t hint)
{
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *m = prelux_table_mappings(t);
  if (hint < t->n_mappings && m[hint].dev == dev) return &m[hint];
  for (uint32_t i = 0; i < t->n_mappings; i++) {
    if (m[i].dev == dev) return &m[i];
  }
  return NULL;
}

/* A file that is being written, of which the index says nothing (any more). False: the daemon knows of none. */
static bool patch_staged(int fd, struct stat *st)
{
  struct prelux_route r;
  struct prelux_attr attr;
  uint64_t ino;
  uint32_t mapping;
  if (!prelux_staged(fd, &ino, &mapping) || prelux_tell_whose(mapping, ino, "fstat", &attr, &r) < 0) return false;
  attr.size = (uint64_t)st->st_size;
  attr.mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
  prelux_fill_stat(&prelux_table_mappings(prelux_state.table)[mapping], &attr, st);
  return true;
}

static void patch_by_path(int fd, struct stat *st)
{
  struct prelux_route r;
  struct prelux_attr attr;
  if (prelux_route_fd(fd, &r) != PRELUX_MAPPED) {
    if (!S_ISREG(st->st_mode) || patch_staged(fd, st)) return;
    if (prelux_route_fd(fd, &r) != PRELUX_MAPPED) return; /* else it has been sent meanwhile: a cache file */
  }
  if (prelux_ask_attr(&r, "fstat", &attr) < 0) return;
  if ((attr.type == PRELUX_DIR) != S_ISDIR(st->st_mode)) return;
  if (attr.type != PRELUX_DIR && PRELUX_INO(attr.cache_ino) != st->st_ino) return; /* replaced since: it keeps its own numbers */
  prelux_fill_stat(r.mapping, &attr, st);
}

void prelux_patch_stat(int fd, struct stat *st)
{
  uint32_t hint;
  struct prelux_attr attr;
  if (prelux_pending_any() && prelux_pending_stat(fd, st)) return;
  if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) return;
  int root = S_ISDIR(st->st_mode) ? prelux_root_of(st->st_dev, st->st_ino) : -1;
  enum prelux_class class = prelux_fd_get(fd, &hint);
  if (root < 0 && (class == PRELUX_CLASS_PLAIN || class == PRELUX_CLASS_FAR)) return;
  if (root < 0 && (!prelux_state.table || !prelux_is_tree_dev(st->st_dev))) return;
  bool known = root < 0 && prelux_index_look_inode(st->st_dev, st->st_ino, &attr), gone = known && (attr.flags & PRELUX_ATTR_GONE);
  if (known && !(attr.flags & PRELUX_ATTR_OWNED)) {
    const struct prelux_table_mapping *m = prelux_mapping_of_dev(attr.cache_dev, hint);
    if (m) {
      if (attr.type != PRELUX_DIR) attr.size = (uint64_t)st->st_size;
      if (attr.flags & PRELUX_ATTR_LIVE) attr.mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
      prelux_fill_stat(m, &attr, st);
      if (gone) st->st_nlink = 0;
      return;
    }
  }
  patch_by_path(fd, st);
  if (gone) st->st_nlink = 0;
}
