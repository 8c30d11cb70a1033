/* What a changing call below a prefix answers. No path of a mapping is given to libc: the real folder that may stand behind a
 * prefix stays as it is. */
#include "shim/change.h"

#include "shim/pending.h"
#include "shim/stats.h"
#include "shim/tell.h"
#include "shim/write.h"

enum prelux_dots prelux_change_dots(const char *path)
{
  size_t len = strlen(path);

  while (len && path[len - 1] == '/') len--;
  if (len && path[len - 1] == '.') {
    if (len == 1 || path[len - 2] == '/') return PRELUX_DOT;
    if (path[len - 2] == '.' && (len == 2 || path[len - 3] == '/')) return PRELUX_DOT_DOT;
  }
  return PRELUX_NO_DOTS;
}

static unsigned how(enum prelux_change_kind kind)
{
  switch (kind) {
  case PRELUX_CHG_ALTER:
  case PRELUX_CHG_TRUNCATE:
  case PRELUX_CHG_ADMIN:
    return PRELUX_CHANGE;
  case PRELUX_CHG_LALTER:
    return PRELUX_CHANGE | PRELUX_NOFOLLOW;
  default:
    return PRELUX_CHANGE | PRELUX_NOFOLLOW | PRELUX_PARENT;
  }
}

int prelux_change_parent(struct prelux_change *c)
{
  return prelux_change_folder(&c->r, c->call);
}

int prelux_change_folder(struct prelux_route *r, const char *call)
{
  struct prelux_attr attr;

  if (r->rel_len == 0) return 0; /* the mapping root lies in a folder that is not ours, which exists */
  size_t root = (size_t)(r->rel - r->path), len = r->rel_len, cut = root + len;
  while (cut > root && r->path[cut - 1] != '/') cut--;
  if (cut > root) cut--;
  char saved = r->path[cut];
  bool must_dir = r->must_dir;
  r->path[cut] = 0;
  r->rel_len = cut - root;
  r->must_dir = true;
  int rc = prelux_ask_attr(r, call, &attr);
  r->path[cut] = saved;
  r->rel_len = len;
  r->must_dir = must_dir;
  return rc;
}

static int refuse_make(struct prelux_change *c)
{
  struct prelux_attr attr;
  bool must_dir = c->r.must_dir;

  c->r.must_dir = false;
  int rc = prelux_ask_attr(&c->r, c->call, &attr);
  if (rc == 0) return -EEXIST;
  if (rc != -ENOENT) return rc;
  rc = prelux_change_parent(c);
  if (rc) return rc;
  if (must_dir && c->kind == PRELUX_CHG_MAKE) return -ENOENT;
  return prelux_refuse(c->call, &c->r);
}

/* The path as written names no entry of its folder that could be removed: said once it is known to be there. */
static int look_to_remove(struct prelux_change *c)
{
  struct prelux_attr attr;
  enum prelux_dots dots = prelux_change_dots(c->path);
  int rc = prelux_ask_attr(&c->r, c->call, &attr);

  if (rc) return rc;
  bool dir = c->kind == PRELUX_CHG_RMDIR || (c->kind == PRELUX_CHG_REMOVE && attr.type == PRELUX_DIR);
  if (!dir && (dots || c->r.rel_len == 0)) return -EISDIR;
  if (dots == PRELUX_DOT) return -EINVAL;
  if (dots == PRELUX_DOT_DOT) return -ENOTEMPTY;
  return c->r.rel_len == 0 ? -EBUSY : 0;
}

static int refuse_remove(struct prelux_change *c)
{
  int rc = look_to_remove(c);
  return rc ? rc : prelux_refuse(c->call, &c->r);
}

static int check_remove(struct prelux_change *c)
{
  bool plain = !prelux_change_dots(c->path) && !c->r.must_dir && c->r.rel_len > 0;
  return plain ? 0 : look_to_remove(c);
}

static int refuse_alter(struct prelux_change *c)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(&c->r, c->call, &attr);

  if (rc) return rc;
  if (c->kind == PRELUX_CHG_TRUNCATE && attr.type == PRELUX_DIR) return -EISDIR;
  if (c->kind == PRELUX_CHG_ADMIN)
    return prelux_fail(EPERM, c->call, c->r.path, "a mapping is no mount point of the kernel", NULL);
  return prelux_refuse(c->call, &c->r);
}

static int check_make(struct prelux_change *c)
{
  struct prelux_attr attr;

  if (c->r.rel_len == 0) return -EEXIST;
  if (!c->r.must_dir || (c->kind == PRELUX_CHG_MAKE_DIR && !prelux_change_dots(c->path))) return 0;
  bool must_dir = c->r.must_dir;
  c->r.must_dir = prelux_change_dots(c->path) != PRELUX_NO_DOTS; /* "x/." is looked for in the folder x */
  int rc = prelux_ask_attr(&c->r, c->call, &attr);
  c->r.must_dir = must_dir;
  if (rc != -ENOENT) return rc ? rc : -EEXIST;
  rc = prelux_change_parent(c);
  return rc ? rc : -ENOENT;
}

int prelux_change_check(struct prelux_change *c)
{
  switch (c->kind) {
  case PRELUX_CHG_MAKE:
  case PRELUX_CHG_MAKE_DIR:
    return check_make(c);
  case PRELUX_CHG_UNLINK:
  case PRELUX_CHG_RMDIR:
  case PRELUX_CHG_REMOVE:
    return check_remove(c);
  default:
    return 0;
  }
}

int prelux_change_new(struct prelux_change *c)
{
  struct prelux_attr attr;
  int rc = prelux_change_check(c);
  if (rc) return rc;
  rc = prelux_ask_attr(&c->r, c->call, &attr);
  if (rc != -ENOENT) return rc ? rc : -EEXIST;
  return prelux_change_parent(c);
}

int prelux_change_no_node(struct prelux_change *c)
{
  int rc = prelux_change_new(c);
  return rc ? rc : prelux_fail(EOPNOTSUPP, c->call, c->r.logical, "a mapping holds files, folders and links only", NULL);
}

int prelux_change_refuse(struct prelux_change *c)
{
  switch (c->kind) {
  case PRELUX_CHG_MAKE:
  case PRELUX_CHG_MAKE_DIR:
    return refuse_make(c);
  case PRELUX_CHG_UNLINK:
  case PRELUX_CHG_RMDIR:
  case PRELUX_CHG_REMOVE:
    return refuse_remove(c);
  default:
    return refuse_alter(c);
  }
}

/* A folder above a mapping. Missing on disk it is there all the same, and libc must not touch its stand-in; one on disk
 * is libc's, but it is not empty. */
static int refuse_ancestor(struct prelux_change *c)
{
  switch (c->kind) {
  case PRELUX_CHG_RMDIR:
  case PRELUX_CHG_REMOVE:
    return c->r.missing ? -EBUSY : -ENOTEMPTY;
  default:
    break;
  }
  if (!c->r.missing) return 0;
  switch (c->kind) {
  case PRELUX_CHG_MAKE:
  case PRELUX_CHG_MAKE_DIR:
    return -EEXIST;
  case PRELUX_CHG_UNLINK:
  case PRELUX_CHG_TRUNCATE:
    return -EISDIR;
  case PRELUX_CHG_ADMIN:
    return -EPERM;
  default:
    return prelux_refuse(c->call, &c->r);
  }
}

static int decide(struct prelux_change *c, int where)
{
  if (where < 0) return where;
  if (where == PRELUX_MAPPED && c->act && prelux_writable(&c->r)) {
    int rc = c->act(c);
    return rc ? rc : 1;
  }
  if (where == PRELUX_MAPPED) return prelux_change_refuse(c);
  if (where == PRELUX_ANCESTOR) {
    int no = refuse_ancestor(c);
    if (no) return no;
  }
  c->at = c->r.at;
  c->use = c->r.use;
  return 0;
}

int prelux_change_route(struct prelux_change *c, const char *call, enum prelux_change_kind kind, int dirfd,
                        const char *path)
{
  c->at = c->dirfd = dirfd;
  c->use = c->path = path;
  c->call = call;
  c->kind = kind;
  c->judged = !prelux_idle();
  return c->judged ? decide(c, prelux_route(dirfd, path, how(kind), &c->r)) : 0;
}

bool prelux_change_again(struct prelux_change *c)
{
  if (!c->judged || !prelux_route_again(c->dirfd, c->path, how(c->kind), &c->r)) return false;
  int saved = errno;
  c->no = decide(c, c->r.where);
  errno = saved;
  return true;
}

/* A descriptor of a cache file whose name has another file now, or none, as after unlink or a replacing rename. */
static bool is_gone(int fd, const struct prelux_route *r, const char *call)
{
  struct stat st;
  struct prelux_attr attr, open_one;
  if (prelux_fstat(fd, &st) < 0 || S_ISDIR(st.st_mode)) return false;
  if (prelux_ask_attr(r, call, &attr) < 0) return true;
  if (PRELUX_INO(attr.cache_ino) == st.st_ino) return false;
  return !prelux_index_look_inode(st.st_dev, st.st_ino, &open_one) || open_one.ino != attr.ino;
}

int prelux_change_fd(struct prelux_change_fd *c, const char *call, int fd)
{
  if (prelux_idle() || fd < 0) return 0;
  int rc = prelux_settle(fd);
  if (rc < 0) return rc;
  c->gone = c->staged = false;
  if (prelux_staged(fd, &c->ino, &c->mapping)) {
    c->staged = true;
    return 1;
  }
  int where = prelux_route_fd(fd, &c->r);
  if (where == PRELUX_ANCESTOR && c->r.missing) return prelux_refuse(call, &c->r);
  if (where != PRELUX_MAPPED) return 0;
  if (!prelux_writable(&c->r)) return prelux_refuse(call, &c->r);
  c->gone = is_gone(fd, &c->r, call);
  return 1;
}

int prelux_change_close(int fd, const char *call)
{
  struct prelux_leaving l;
  prelux_leaving(fd, &l);
  prelux_sys(SYS_close, fd);
  return prelux_left(&l, call);
}
