/* Calls that change a name, data or an attribute (names.c, attrs.c, admin.c, temp.c).
 *
 * Below a mapping that is writable the call's act() does it: it looks at the way the path is written (change.c's checks, in the
 * kernel's order), and tells the daemon, whose errno is the program's. Below others the errno is the one that a read-only mounted
 * file system gives, with one exception: removing or renaming what does not exist is ENOENT, as on a writable one (the kernel
 * says EROFS before it looks). */
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

struct prelux_change;
/* c->r is MAPPED and writable: does what c->arg says. 0 or -errno. */
typedef int (*prelux_act)(struct prelux_change *c);

struct prelux_change {
  prelux_act act;  /* NULL: refused as EROFS everywhere; set by the hook, with arg */
  const void *arg;
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

/* 0: call libc with c->at and c->use (at-less calls: c->use alone); 1: it is done; else the -errno that the program gets. c->act
 * and c->arg are the caller's. */
int prelux_change_route(struct prelux_change *c, const char *call, enum prelux_change_kind kind, int dirfd,
                        const char *path);
/* After libc failed with errno set: true when there is another answer (a link led to a mapping), which c->no, c->at and
 * c->use then say. errno untouched. */
bool prelux_change_again(struct prelux_change *c);

/* c->r is MAPPED: the -errno that the program gets. */
int prelux_change_refuse(struct prelux_change *c);
/* What act()s of calls with a name in its folder begin with: 0, or the -errno of a path that ends in ".", ".." or a slash, or is
 * the root of a mapping. For other names nothing is asked. */
int prelux_change_check(struct prelux_change *c);
/* c->r is a new name in a folder that exists: 0, else -EEXIST, -ENOENT, ... */
int prelux_change_new(struct prelux_change *c);
/* An act(): pipes, sockets and devices. No remote keeps them, and a name that only this node knew would mislead: -EOPNOTSUPP. */
int prelux_change_no_node(struct prelux_change *c);
/* Is there a parent folder of c->r? 0, -ENOENT, -ENOTDIR, -EIO, ... */
int prelux_change_parent(struct prelux_change *c);
/* The same of a route; r is as it was afterwards. */
int prelux_change_folder(struct prelux_route *r, const char *call);

/* Closes a descriptor that prelux_write_open() gave: 0, or the -errno that close() would give. No cancellation point. */
int prelux_change_close(int fd, const char *call);

/* How the path as written ends: routes fold "." and ".." away. */
enum prelux_dots { PRELUX_NO_DOTS = 0, PRELUX_DOT, PRELUX_DOT_DOT };
enum prelux_dots prelux_change_dots(const char *path);

/* A file or folder of ours by its descriptor. */
struct prelux_change_fd {
  bool staged;        /* a staging file: `ino`, `mapping`; else r */
  uint64_t ino;
  uint32_t mapping;
  bool gone;          /* r is the name that it had; another file has it now, or none */
  struct prelux_route r;
};
/* 0: not ours, call libc; 1: c says what it is, and it is writable; else the -errno that the program gets. */
int prelux_change_fd(struct prelux_change_fd *c, const char *call, int fd);

/* The body of a hook with one path: `expr` calls libc with c.at and c.use. action, what: c.act and c.arg. */
#define PRELUX_CHANGE_BODY(name, kind, dirfd, path, action, what, expr)         \
  struct prelux_change c;                                                       \
  c.act = (action);                                                             \
  c.arg = (what);                                                               \
  c.no = prelux_change_route(&c, #name, PRELUX_CHG_##kind, dirfd, path);        \
  for (;;) {                                                                    \
    if (c.no) return (int)prelux_ret(c.no > 0 ? 0 : c.no);                      \
    int rc = (expr);                                                            \
    if (rc != -1 || !prelux_change_again(&c)) return rc;                        \
  }

#endif
