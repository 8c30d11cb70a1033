/* Where a path leads: to libc, or into a mapping.
 *
 * Every hook that takes a path has this shape (at-less calls pass AT_FDCWD):
 *
 *   struct prelux_route r;
 *   if (prelux_idle() || prelux_far(dirfd, path)) -> real call; on failure see below
 *   int where = prelux_route(dirfd, path, how, &r);
 *   if (where < 0) return prelux_ret(where);
 *   if (where != PRELUX_MAPPED) rc = prelux_real.xat(r.at, r.use, ...);   // never the caller's own path
 *   when that failed and prelux_route_again(dirfd, path, how, &r): start again with r.where
 *
 * Only r.at and r.use may be handed to libc: they differ from what the caller gave when the kernel's working directory
 * or folder fd is one of ours, when `..` left a mapping, and for a missing ancestor of a prefix. */
#ifndef PRELUX_SHIM_ROUTE_H
#define PRELUX_SHIM_ROUTE_H

#include "lib/map/match.h"
#include "shim/state.h"

enum prelux_where {
  PRELUX_UNMAPPED = 0,
  PRELUX_MAPPED = 1,
  PRELUX_ANCESTOR = 2, /* a mapping lies below; libc answers, with r.at and r.use. `missing`: it is not on disk and
                        * r.use is a folder of the runtime folder that stands for it: no changing call may reach it */
};

/* How the call treats the path. */
#define PRELUX_NOFOLLOW 0x1u /* the last component is not followed when it is a link */
#define PRELUX_CHANGE 0x2u   /* the call may make or change something: links are looked for before libc is called */
#define PRELUX_WRITE 0x4u    /* and it is an open that follows a link that is the last component */
#define PRELUX_NO_KEPT 0x20u /* a link of a mapping on the way is -ELOOP (openat2 where it may not leave its folder or pass links) */
#define PRELUX_PARENT 0x10u  /* with NOFOLLOW: not even when a slash follows: the call changes a name in its folder */
#define PRELUX_NO_MAGIC 0x8u /* the kernel will pass no link of /proc (openat2 with RESOLVE_BENEATH and its like) */

struct prelux_route {
  int where;          /* enum prelux_where */
  int at;             /* UNMAPPED, ANCESTOR: hand these to libc; MAPPED: undefined */
  const char *use;
  const struct prelux_table_mapping *mapping; /* MAPPED */
  uint32_t index;     /* its number */
  bool must_dir;      /* the path ends in "/", "/." or "/..": only a folder will do */
  bool slash;         /* it ends in "/" */
  bool missing;       /* ANCESTOR: not on disk */
  bool has_below;     /* MAPPED: another mapping lies below */
  const char *rel;    /* MAPPED: what lies below the mapping root, no slash at either end; in path */
  size_t rel_len;
  const char *logical; /* MAPPED, ANCESTOR: the path as the program sees it, absolute and normalised; in path */
  char path[PATH_MAX];
};

/* NULL, -1 and their neighbours are for libc, which answers EFAULT. Other bad pointers fault here, not in the kernel. */
static inline bool prelux_no_pointer(const void *p)
{
  return (intptr_t)p < 4096;
}

/* What AT_EMPTY_PATH asks for. */
static inline bool prelux_empty(const char *path)
{
  return !prelux_no_pointer(path) && !*path;
}

/* enum prelux_where, or -errno that the program gets (-ENOTDIR and -ENOENT around "..", -ENAMETOOLONG, -EIO for a
 * broken configuration: recorded). errno untouched. Async-signal-safe. */
int prelux_route(int dirfd, const char *path, unsigned how, struct prelux_route *r);

/* After libc's call on r (as prelux_route or prelux_route_plain left it) failed: true when it was UNMAPPED, errno is
 * ENOENT or ENOTDIR, and a link from outside (or "..") leads to a mapping; r.where is then MAPPED, ANCESTOR,
 * UNMAPPED with another r.use, or -errno. errno untouched. */
bool prelux_route_again(int dirfd, const char *path, unsigned how, struct prelux_route *r);

/* r as prelux_route leaves it for an unmapped path. */
static inline void prelux_route_plain(int dirfd, const char *path, struct prelux_route *r)
{
  r->where = PRELUX_UNMAPPED;
  r->at = dirfd;
  r->use = path;
  r->must_dir = r->slash = r->missing = false;
}

/* The mapping that an open fd (file or folder) lies in, by what the kernel says it is. enum prelux_where (ANCESTOR only
 * for folders that stand for missing ones). For a file that was evicted meanwhile r.path is its last name. */
int prelux_route_fd(int fd, struct prelux_route *r);

/* True at once for nearly every unmapped path; costs some nanoseconds. False: prelux_route() must look. A changing call
 * asks prelux_route() (it may have to look for links first); others may spare themselves its 4 KiB of stack. */
static inline bool prelux_far(int dirfd, const char *path);

/* Bit (letter & 63) for each letter that says, behind a first slash, that no prefix begins so, nor a name for something else (/proc, /dev, "/./").
 * Known when the first path has been looked at. */
extern uint64_t prelux_far_letters;
bool prelux_far_looked(int dirfd, const char *path);
static inline bool prelux_far(int dirfd, const char *path)
{
  if (!prelux_no_pointer(path) && path[0] == '/' && (__atomic_load_n(&prelux_far_letters, __ATOMIC_RELAXED) >> (path[1] & 63) & 1)) return true;
  return prelux_far_looked(dirfd, path);
}


/* A changing call must look for links before libc is called: a real folder stands behind a prefix, or the call may put
 * one there (its last component is one of a prefix). Nanoseconds for all other paths. */
bool prelux_links_first(const char *path);

/* For an open with PRELUX_WRITE: the last component is a link. libc would make a missing prefix that it names, or write to the
 * cache file behind a link of one's own to /proc/self/fd/N; neither fails, so neither is found by prelux_route_again(). One
 * system call: so it is asked for opens that may make a file, and for others in processes that have had a file of ours. */
bool prelux_last_is_link(int dirfd, const char *path);

/* For a changing call: some link on the way, of any name, leads to a link of /proc, and what this process has open there may be
 * ours. libc would change the cache. One system call, in processes that have had a file or folder of ours. */
bool prelux_passes_magic(int dirfd, const char *path, unsigned how);

/* A real path of ours (cache tree, stand-in of a missing ancestor) as the program should see it: length written to
 * out, 0 when it is not ours, -ENAMETOOLONG. hint: mapping to prefer where several share a tree, or -1. */
long prelux_logical(const char *real, int hint, char *out, size_t cap);

/* A real folder stands at a mapping root: its mapping's number, or -1. */
int prelux_root_of(uint64_t dev, uint64_t ino);

/* r becomes the root of mapping `index`. */
void prelux_route_root(uint32_t index, struct prelux_route *r);

#endif
