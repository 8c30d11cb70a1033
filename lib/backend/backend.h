/* A backend: how one kind of remote is read. One file each, ending in one const ops struct; a row in
 * registry.c makes it known. Every op may block (it runs on a pool thread), must be thread-safe, and
 * must return within its own time-outs. Paths are object paths below the backend's root: no slash at
 * either end, "" for the root, arbitrary bytes but NUL, never "." or ".." components.
 *
 * Errors (all ops): -ENOENT not there; -EACCES refused; -ENOTDIR / -EISDIR; -ESTALE the object is no longer
 * of the expected version; -EOPNOTSUPP the server cannot carry this name or call; -EBUSY somebody is still writing it on the
 * remote, so that it has no version yet; -EIO anything else once
 * retries are used up; -EPROTO the server lied (wrong length, wrong range, not a listing). `why` (may be NULL)
 * is filled on error. ret_ parameters are untouched on failure. */
#ifndef PRELUX_BACKEND_BACKEND_H
#define PRELUX_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/attr.h"
#include "lib/base/problem.h"

struct prelux_conf_backend; /* lib/conf/conf.h */
struct prelux_net;          /* lib/net/net.h */
struct prelux_backend;      /* private to each backend; begins with prelux_backend_base */

#define PRELUX_VERSION_MAX 160

struct prelux_object {
  uint8_t type;     /* enum prelux_type: FILE or DIR */
  uint32_t mode;    /* permission bits, 0: unknown */
  uint64_t size;    /* UINT64_MAX: unknown without stat (an HTML index shows rounded sizes) */
  int64_t mtime_ns; /* 0: unknown; with `mtime_rough` only right to the minute */
  bool mtime_rough;
  char version[PRELUX_VERSION_MAX]; /* "" unknown without stat; else equal strings mean equal bytes */
  char md5[33];                     /* lower-case hex where the remote offers it, else "" */
};

/* One name of a listing; return 0 to go on, -errno to stop (the list op returns it). `name` is checked by the
 * caller of list (store): backends pass on what the server says, decoded. */
typedef int (*prelux_list_fn)(void *arg, const char *name, size_t len, const struct prelux_object *obj);

/* Bytes of a read, in order, exactly once each; return 0 or -errno to stop. off is absolute. */
typedef int (*prelux_read_fn)(void *arg, uint64_t off, const void *buf, size_t len);

enum prelux_backend_caps {
  PRELUX_CAP_RANGE = 0x1,      /* read() of a part is as cheap as its bytes */
  PRELUX_CAP_LIST_EXACT = 0x2, /* list gives exact size, mtime and version: no stat needed */
  PRELUX_CAP_CONDITIONAL = 0x4, /* read() itself fails with -ESTALE when the version changed */
  PRELUX_CAP_LIST_ALL = 0x8     /* a name that list lacks is not there. Not so: web servers leave out names that begin with a
                                 * dot; Alluxio shows an empty folder when one name in the under store is not UTF-8 */
};

/* A load job: the remote reads a path into its own caches. */
enum prelux_load_verb { PRELUX_LOAD_SUBMIT, PRELUX_LOAD_PROGRESS, PRELUX_LOAD_STOP };
enum prelux_load_state { PRELUX_LOAD_STARTING, PRELUX_LOAD_RUNNING, PRELUX_LOAD_DONE, PRELUX_LOAD_STOPPED, PRELUX_LOAD_FAILED, PRELUX_LOAD_UNKNOWN };
struct prelux_load_options {
  bool verify, metadata_only, skip_if_exists, partial_listing;
  uint64_t bandwidth; /* bytes a second, 0: no limit */
};
struct prelux_load {
  enum prelux_load_state state; /* UNKNOWN: there is no such job */
  bool attached;                /* SUBMIT: one for this path was running already */
  uint64_t bytes_done, bytes_total, files_failed; /* 0 where the remote does not say */
  char job[64];
  char text[1024];              /* the remote's own words */
};

struct cJSON;

struct prelux_backend_ops {
  const char *type; /* as in the configuration */
  unsigned caps;
  /* conf is borrowed for the call only. Opens no connection. */
  int (*create)(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                struct prelux_problem *why);
  void (*free)(struct prelux_backend *b); /* NULL is allowed; no op is under way */
  /* Canonical text of *which data* this is (type, endpoint, root; no credentials): caches are keyed by it. */
  int (*identity)(const struct prelux_backend *b, char *buf, size_t cap);
  int (*stat)(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why);
  /* Names may come unsorted, repeated, with odd bytes: the caller sorts, checks and drops. Not a folder: -ENOTDIR. */
  int (*list)(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
  /* Reads [off, off+len) of the version that `expect` describes and passes all of it to `sink` before it returns 0.
   * Fewer or more bytes than asked is never success. The sink runs on the calling thread; what it got before a failure is to
   * be thrown away, for it may be of another version. A part of an object that has nothing to tell versions apart by
   * (http without ETag and Last-Modified) is -EOPNOTSUPP: ask for the whole. */
  int (*read)(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
              uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);
  /* Those below may be NULL. */
  /* `map`: the workers to be asked for an object, the first first, as "host:port". -errno of add ends it. */
  int (*owners)(struct prelux_backend *b, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                struct prelux_problem *why);
  /* `status`: adds members to a JSON object: health of workers, hits by source, where credentials come from. Does not block. */
  void (*report)(struct prelux_backend *b, struct cJSON *into);
  /* `doctor`: the same after asking the servers. */
  void (*examine)(struct prelux_backend *b, struct cJSON *into);
  int (*load)(struct prelux_backend *b, const char *path, enum prelux_load_verb verb,
              const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why);
};

/* First member of every backend's own struct. */
struct prelux_backend {
  const struct prelux_backend_ops *ops;
};

/* NULL when this preluxd has no such backend. */
const struct prelux_backend_ops *prelux_backend_find(const char *type);

#endif
