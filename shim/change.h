/* Calls that would change a name, data or an attribute below a prefix (names.c, attrs.c, admin.c, temp.c): what they
 * answer instead. The errno is the one that a read-only mounted file system gives, with one exception: removing or
 * renaming what does not exist is ENOENT, as on a writable one (the kernel says EROFS before it looks). */
#ifndef PRELUX_SHIM_CHANGE_H
#define PRELUX_SHIM_CHANGE_H

#include "shim/decls.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/route.h"

enum prelux_change_kind {
  PRELUX_CHG_MAKE,     /* a new name: EEXIST when it exists, ENOENT for a new "x/" */
  PRELUX_CHG_MAKE_DIR, /* as MAKE, "x/" is allowed */
  PRELUX_CHG_UNLINK,
  PRELUX_CHG_RMDIR,
  PRELUX_CHG_REMOVE,   /* UNLINK of a file, RMDIR of a folder */
  PRELUX_CHG_ALTER,    /* changes what exists */
  PRELUX_CHG_LALTER,   /* as ALTER, a link itself is meant */
  PRELUX_CHG_TRUNCATE, /* as ALTER, folders are EISDIR */
  PRELUX_CHG_ADMIN,    /* as ALTER, and the answer is EPERM: the mapping cannot be used so, writable or not */
};

struct prelux_change {
  int at;          /* what libc is given instead of the caller's folder and path */
  const char *use;
  int dirfd;
  const char *path;
  const char *call;
  enum prelux_change_kind kind;
  bool judged;     /* r is valid */
  int no;          /* after prelux_change_again(): as prelux_change_route() */
  struct prelux_route r;
};

/* 0: call libc with c->at and c->use (at-less calls: c->use alone); else the -errno that the program gets. */
int prelux_change_route(struct prelux_change *c, const char *call, enum prelux_change_kind kind, int dirfd,
                        const char *path);
/* After libc failed with errno set: true when there is another answer (a link led to a mapping), which c->no, c->at and
 * c->use then say. errno untouched. */
bool prelux_change_again(struct prelux_change *c);

/* c->r is MAPPED: the -errno that the program gets. */
int prelux_change_refuse(struct prelux_change *c);
/* Is there a parent folder of c->r? 0, -ENOENT, -ENOTDIR, -EIO, ... */
int prelux_change_parent(struct prelux_change *c);

/* How the path as written ends: routes fold "." and ".." away. */
enum prelux_dots { PRELUX_NO_DOTS = 0, PRELUX_DOT, PRELUX_DOT_DOT };
enum prelux_dots prelux_change_dots(const char *path);

/* 0, or -EROFS when `fd` is a file or folder of ours. */
int prelux_change_fd(const char *call, int fd);

/* The body of a hook with one path: `expr` calls libc with c.at and c.use. */
#define PRELUX_CHANGE_BODY(name, kind, dirfd, path, expr)                       \
  struct prelux_change c;                                                       \
  c.no = prelux_change_route(&c, #name, PRELUX_CHG_##kind, dirfd, path);        \
  for (;;) {                                                                    \
    if (c.no) return (int)prelux_ret(c.no);                                     \
    int rc = (expr);                                                            \
    if (rc != -1 || !prelux_change_again(&c)) return rc;                        \
  }

/* The body of a hook with an fd. */
#define PRELUX_CHANGE_FD_BODY(name, fd, expr)     \
  int no = prelux_change_fd(#name, fd);           \
  return no ? (int)prelux_ret(no) : (expr)

#endif
