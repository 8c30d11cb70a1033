/* A backend: how one kind of remote is read and written. One file each, ending in one const ops struct; a row in
 * registry.c makes it known. Every op may block (it runs on a pool thread), must be thread-safe, and
 * must return within its own time-outs. Paths are object paths below the backend's root: no slash at
 * either end, "" for the root, arbitrary bytes but NUL, never "." or ".." components.
 *
 * Errors (all ops): -ENOENT not there; -EACCES refused; -EKEYEXPIRED what we show has ended, and nothing newer can be had just now; -ENOTDIR / -EISDIR; -ESTALE the object is no longer
 * of the expected version; -EOPNOTSUPP the server cannot carry this name or call; -EBUSY somebody is still writing it on the
 * remote, so that it has no version yet; -EIO anything else once
 * retries are used up; -EPROTO the server lied (wrong length, wrong range, not a listing). `why` (may be NULL)
 * is filled on error. ret_ parameters are untouched on failure. */
#ifndef PRELUX_BACKEND_BACKEND_H
#define PRELUX_BACKEND_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/attr.h"
#include "lib/base/crc.h"
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
  char version[PRELUX_VERSION_MAX]; /* "" unknown without stat; else equal strings mean equal bytes. list and stat must agree in it.
                                     * Unequal ones mean another file to programs (st_ino), except: what follows a '~' is random,
                                     * "n:..." is all random, and "a:..." and "b:..." cannot be compared (http_version.c) */
  char md5[33];                     /* lower-case hex where the remote offers it, else "" */
};

/* A checksum of an object's bytes that is told by the way: a CRC, which costs little, or its MD5, which a listing does not say. */
struct prelux_sum {
  enum prelux_crc_kind kind;
  uint64_t value;
  char md5[33]; /* not "": this, and no CRC */
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
  PRELUX_CAP_LIST_ALL = 0x8,    /* a name that list lacks is not there, unless list passed on a name that no folder can hold (""
                                 * stands for one that the server could not say). Not so: web servers leave out names that begin
                                 * with a dot; Alluxio shows an empty folder when one name in the under store is not UTF-8 */
  /* What its `write` ops can do; the bits of a type are the most, prelux_able of one remote is what holds there. */
  PRELUX_CAP_WRITE = 0x100,             /* put and remove */
  PRELUX_CAP_PUT_ABSENT = 0x200,        /* put, complete, copy: PRELUX_MUST_BE_ABSENT, tested and done in one step by the remote */
  PRELUX_CAP_PUT_VERSION = 0x400,       /* the same for PRELUX_MUST_BE_VERSION */
  PRELUX_CAP_REMOVE_VERSION = 0x800,    /* remove and set_attr with PRELUX_MUST_BE_VERSION */
  PRELUX_CAP_MULTIPART = 0x1000,        /* begin, part, complete, abort, uploads */
  PRELUX_CAP_RENAME_FILE = 0x2000,      /* rename of a file */
  PRELUX_CAP_RENAME_DIR = 0x4000,       /* rename of a folder with all below it, in one step */
  PRELUX_CAP_RENAME_ATOMIC = 0x8000,    /* rename of a file is one step. Without it: a copy, then the old name is removed, so both
                                         * may be seen for a while, and be left by a failure; never neither */
  PRELUX_CAP_RENAME_NOREPLACE = 0x10000, /* PRELUX_RENAME_NOREPLACE, in one step */
  PRELUX_CAP_RENAME_EXCHANGE = 0x20000, /* PRELUX_RENAME_EXCHANGE, in one step */
  PRELUX_CAP_MKDIR = 0x40000,           /* folders are things of their own: mkdir, rmdir; nothing is made in a folder that is not there */
  PRELUX_CAP_MKDIR_MARKER = 0x80000,    /* a folder is what keys begin with; mkdir makes an empty object that marks one; put makes
                                         * the folders above by itself */
  PRELUX_CAP_KEEP_MODE = 0x100000,      /* put, complete, copy keep the mode they are given ... */
  PRELUX_CAP_KEEP_MTIME = 0x200000,     /* ... and the mtime, to the nanosecond or as docs/BACKENDS.md says */
  PRELUX_CAP_SET_ATTR = 0x400000,       /* set_attr changes what is kept without sending the bytes again */
  PRELUX_CAP_COPY = 0x800000,           /* copy within the remote: no byte passes through this node */
  PRELUX_CAP_KEEP_OWNER = 0x1000000,    /* set_attr sets owner and group, by name; put sets them where it may */
  PRELUX_CAP_RENAME_SAME = 0x2000000    /* a renamed file has the version that it had before */
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

/* What is done to the cluster behind a path rather than to its bytes. */
enum prelux_cluster_verb {
  PRELUX_CLUSTER_FREE,    /* its copies in workers go; the under store keeps it */
  PRELUX_CLUSTER_MOUNT,   /* `source` appears at the path */
  PRELUX_CLUSTER_UNMOUNT, /* nothing in the under store is removed */
  PRELUX_CLUSTER_SETATTR,
  PRELUX_CLUSTER_INFO,    /* what the remote says of the path, in its own words */
  PRELUX_CLUSTER_LOCATE   /* where its bytes lie */
};
enum prelux_cluster_bits {
  PRELUX_CLUSTER_MODE = 0x1, PRELUX_CLUSTER_PINNED = 0x2, PRELUX_CLUSTER_TTL = 0x4,
  PRELUX_CLUSTER_REPLICATION_MIN = 0x8, PRELUX_CLUSTER_REPLICATION_MAX = 0x10, PRELUX_CLUSTER_PERSISTED = 0x20
};
struct prelux_cluster {
  enum prelux_cluster_verb verb;
  bool recursive;                /* FREE, SETATTR */
  bool forced;                   /* FREE: also what is pinned */
  bool read_only, shared;        /* MOUNT */
  const char *source;            /* MOUNT: URI of the under store's folder */
  const char *const *properties; /* MOUNT: "key", "value", ..., NULL; may hold credentials. NULL: none */
  unsigned which;                /* SETATTR: enum prelux_cluster_bits, of the members below; strings that are NULL are left */
  uint32_t mode;                 /* 0777 */
  bool pinned, persisted;
  int64_t ttl_ms;                /* -1: for ever */
  int64_t replication_min, replication_max;
  const char *ttl_action, *owner, *group;
};

/* ---- Writing ------------------------------------------------------------------------------------------------------
 * One table more, so that a backend which only reads has one NULL. Each op is optional (NULL: -EOPNOTSUPP); the bits of
 * prelux_able say which will work, and what they do not promise is refused with -EOPNOTSUPP before anything is changed:
 * never tried in two steps where one was asked for.
 *
 * Blocking and threads as above: every op may block, none waits for ever, any number may run at once. Paths as above; "" (the
 * root) can be neither made, removed, renamed nor changed: -EBUSY (put: -EISDIR). Descriptors are borrowed, read by pread from
 * as many threads as the backend likes, and their offset is not touched; the bytes must not change during the call.
 *
 * Atomic: a reader of the remote sees the old object or the new one, whole, with its attributes. Durable: 0 means that the
 * remote has it for good, as far as the remote can say that. What fails leaves nothing behind that a reader could see; what it
 * leaves that no reader sees (parts, temporary names) `clean` removes.
 *
 * Errors besides those above (which keep their meaning: -ENOENT, also of the folder that should hold a new name; -ENOTDIR a
 * name on the way is no folder; -EISDIR / -ENOTDIR the target is a folder / none; -EACCES; -EIO; -EOPNOTSUPP also a name that
 * the remote cannot carry):
 *   -EEXIST         it exists, and must not (PRELUX_MUST_BE_ABSENT, NOREPLACE, mkdir); or what the remote does not show as an
 *                   object (a device, a dangling link) is in the way
 *   -ESTALE         the object is not of the version that was to be replaced, or is gone
 *   -ENOTEMPTY      rmdir, rename over a folder
 *   -EXDEV          rename or complete would have to send the bytes again: another store below one root
 *   -ENOSPC -EDQUOT -EFBIG   no room, or larger than the remote takes
 *   -EROFS          the remote is read-only
 *   -EBUSY          somebody holds it: a lock, a lease, an upload into the folder to be removed
 *   -ENAMETOOLONG   the remote could not keep the name
 *   -EINVAL         a part or condition that cannot be; the descriptor ended early; a folder into itself
 *   -ENXIO          no such upload: it was completed, aborted or has expired
 *   -PRELUX_EUNKNOWN  the request was sent (or done) and its answer is lost: it may have happened, may happen yet, or not.
 *                   Never retried inside for what is not harmless when done twice. The caller must stat and compare before it
 *                   does anything else: the version that was there before: not done yet (send it again only with a condition on
 *                   that version: then a request that arrives late loses or makes this one lose); gone (remove), or size and
 *                   bytes are those that were sent (md5 where offered, else by reading): done; else somebody else was later.
 * Every other error: nothing has changed. */
enum {
  PRELUX_EUNKNOWN = 121, /* EREMOTEIO; never shown to a program */
  PRELUX_TOKEN_MAX = 1536,
  PRELUX_TAG_MAX = 80
};

enum prelux_must { PRELUX_MUST_NOTHING, PRELUX_MUST_BE_ABSENT, PRELUX_MUST_BE_VERSION };
struct prelux_condition {
  enum prelux_must must;
  char version[PRELUX_VERSION_MAX]; /* of PRELUX_MUST_BE_VERSION: as prelux_object's; "" is -EINVAL */
};

enum prelux_attr_bits { PRELUX_SET_MODE = 0x1, PRELUX_SET_MTIME = 0x2, PRELUX_SET_OWNER = 0x4, PRELUX_SET_GROUP = 0x8 };
struct prelux_set {
  unsigned which;   /* enum prelux_attr_bits. What a put does not name: the mode of the object replaced, else 0644; the time it is done; with
                     * CAP_KEEP_OWNER owner and group of the object replaced */
  uint32_t mode;    /* 07777 */
  int64_t mtime_ns;
  const char *owner, *group; /* borrowed. Without CAP_KEEP_OWNER they are ignored. A put does not fail because these are refused: the bytes
                              * count; set_attr does, with -EPERM */
};

/* How an object is to be stored. */
struct prelux_put {
  struct prelux_condition cond;
  struct prelux_set set; /* ignored where CAP_KEEP_MODE, CAP_KEEP_MTIME lack: the result says what the remote has */
  /* Called now and then with the bytes sent so far, on any thread, if set; -errno stops the put, which then returns it (or
   * -PRELUX_EUNKNOWN when it came too late). */
  int (*progress)(void *arg, uint64_t done);
  void *arg;
};

struct prelux_part {
  unsigned n;               /* from 0, without holes */
  char tag[PRELUX_TAG_MAX]; /* what part() gave */
};

enum prelux_rename_flags { PRELUX_RENAME_NOREPLACE = 0x1, PRELUX_RENAME_EXCHANGE = 0x2 };

/* What one remote can do. */
struct prelux_able {
  unsigned caps;                /* enum prelux_backend_caps, the bits of writing only; 0: read-only */
  uint64_t put_max;             /* largest put; UINT64_MAX: no limit known */
  uint64_t part_min, part_max;  /* part sizes that begin takes (the last part may be shorter) */
  uint64_t parts_max;
  uint64_t whole_max;           /* up to so many bytes one put is no slower than parts; 0: parts are, from where the caller thinks */
};

/* One unfinished upload; 0 to go on, -errno to stop. `path` and `token` are for abort: path is the object's, or its folder
 * where the remote keeps no more. */
typedef int (*prelux_upload_fn)(void *arg, const char *path, const char *token, uint64_t idle_s);

struct prelux_backend_write {
  /* What this remote can do. May ask it, once: the answer is remembered, an error is not. A remote that cannot be asked:
   * what is certain. */
  int (*able)(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why);

  /* Stores the first `size` bytes of fd as `path`, whole, in one step. ret (never NULL; filled on 0): the object as the
   * remote now has it; its version is that of the bytes sent, or "" when the remote does not say it or somebody changed the
   * object since: stat tells. */
  int (*put)(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
             struct prelux_object *ret, struct prelux_problem *why);

  /* The same in parts, in any order, several at once, over days and restarts: the token is all that need be kept. Part n holds
   * the bytes from n * part_size, part_size of them, but the last may have fewer (not 0). Nothing is visible before complete.
   * `set`: what is known of the attributes already (some remotes take them here only). The token is text without blanks. */
  int (*begin)(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
               char token[PRELUX_TOKEN_MAX], struct prelux_problem *why);
  /* [off, off+len) of fd becomes part n. 0: it is stored for good. Sent again it replaces what was sent as n; the tag of the
   * last one counts. An unknown outcome is not an error here: it is sent again inside. */
  int (*part)(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off, uint64_t len,
              char tag[PRELUX_TAG_MAX], struct prelux_problem *why);
  /* As put. `parts` in order, at least one; `size` the sum of their lengths, which is checked where the remote can. On failure
   * the upload stays as it was (but after -PRELUX_EUNKNOWN it may be gone: -ENXIO then means stat and compare, too). */
  int (*complete)(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts, size_t n,
                  uint64_t size, const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
  int (*abort)(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why); /* 0 also when it is gone */
  /* Uploads of the object `path`, or of all below the folder `path`, whoever began them, on whatever node. */
  int (*uploads)(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg, struct prelux_problem *why);
  /* Removes what the dead have left at `path` and below: temporary names of puts whose process is gone; uploads into which
   * nothing was sent for idle_s seconds. Returns how many things went. */
  int (*clean)(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);

  /* A file. cond: any or version. -ENOENT when there was none (a remote that does not tell is asked before). */
  int (*remove)(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why);
  /* A file replaces a file, a folder an empty folder, unless NOREPLACE. ret as of put. from == to: 0. flags: one or none. */
  int (*rename)(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                struct prelux_problem *why);
  int (*mkdir)(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
  int (*rmdir)(struct prelux_backend *b, const char *path, struct prelux_problem *why);
  /* A file or folder in place; cond: any or version. ret as of put: the version may be a new one, of the same bytes. */
  int (*set_attr)(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                  struct prelux_object *ret, struct prelux_problem *why);
  /* A file. source_version "": any; else -ESTALE when `from` is of another. Never a mixture of two versions. how, ret as of put. */
  int (*copy)(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
              const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
};

struct cJSON;

struct prelux_backend_ops {
  const char *type; /* as in the configuration */
  unsigned caps;
  /* conf is borrowed for the call only. Opens no connection. */
  int (*create)(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                struct prelux_problem *why);
  void (*free)(struct prelux_backend *b); /* NULL is allowed; no op is under way */
  /* A configuration with an equal backend uses this one from now on, beside others; may be NULL. Other ops may be under way. */
  void (*use)(struct prelux_backend *b, const struct prelux_conf_backend *conf);
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
  /* What stat and then read of the whole do, in one question: for a file `begin` is called once, before the first byte, with what stat
   * would say, then the sink as by read. 0: *ret is filled as by stat; a file's bytes were all passed on. 1: that is not to be had in one
   * question (nothing was passed on): stat and read. -errno of stat; of begin; after begin those of read, and after -EIO
   * read may go on from where the sink is. */
  int (*fetch)(struct prelux_backend *b, const char *path, int (*begin)(void *arg, const struct prelux_object *obj), prelux_read_fn sink,
               void *arg, struct prelux_object *ret, struct prelux_problem *why);
  /* A CRC of the whole of the version that `expect` describes, which costs a tenth of its MD5. `ask` false: as far as an answer to a read has told it
   * just now; true: the remote is asked, if it may know one. `over` as in struct prelux_read_on. 0; -ENOENT: none is known; -errno: it
   * could not be asked. */
  int (*sum)(struct prelux_backend *b, const char *path, const struct prelux_object *expect, bool ask, const atomic_bool *over,
             struct prelux_sum *ret);
  /* As whom the calling thread asks (borrowed; NULL: nobody in particular), and a thread that it has made for its question shall. */
  void *(*asker)(void);
  void (*ask_as)(void *asker);
  /* What was read as `path` was not what its checksum says. True: another try reads from somewhere else. */
  bool (*distrust)(struct prelux_backend *b, const char *path);
  /* `map`: the workers to be asked for an object, the first first, as "host:port". -errno of add ends it. */
  int (*owners)(struct prelux_backend *b, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                struct prelux_problem *why);
  /* `status`: adds members to a JSON object: health of workers, hits by source, where credentials come from. Does not block.
   * "trouble": text, says that the backend as a whole is degraded. */
  void (*report)(struct prelux_backend *b, struct cJSON *into);
  /* `doctor`: the same after asking the servers. */
  void (*examine)(struct prelux_backend *b, struct cJSON *into);
  /* path: of an object or folder, or the remote's own URI ("s3://data/x"): -EOPNOTSUPP when that is none of this backend's. */
  int (*load)(struct prelux_backend *b, const char *path, enum prelux_load_verb verb,
              const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why);
  /* Adds to the object ret. INFO: "info", raw JSON as the remote sent it. LOCATE: "under_store", text; "blocks": [{offset, length,
   * locations: [{host, port, tier}]}]; where `owners` says it all, it need not be there. Errors as of `write` (whose list says
   * -PRELUX_EUNKNOWN, too); -EOPNOTSUPP: the cluster has no such call. MOUNT: -EEXIST the path is there; UNMOUNT: -EINVAL no mount point.
   * The backend's root can be neither mounted nor unmounted: -EBUSY; nor can the cluster's own be freed, or changed recursively. */
  int (*cluster)(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                 struct prelux_problem *why);
  /* The object that the remote's own URI ("s3://data/x", "alluxio://host:19998/x") names; -EOPNOTSUPP: none of this backend's. */
  int (*object)(const struct prelux_backend *b, const char *uri, char *out, size_t cap);
  const struct prelux_backend_write *write; /* NULL: read-only */
};

/* First member of every backend's own struct. */
struct prelux_backend {
  const struct prelux_backend_ops *ops;
};

/* For a thread that helps another one: before it is made, and by itself. */
static inline void *prelux_asker(const struct prelux_backend *b)
{
  return b->ops->asker ? b->ops->asker() : NULL;
}

static inline void prelux_ask_as(const struct prelux_backend *b, void *asker)
{
  if (b->ops->ask_as)
    b->ops->ask_as(asker);
}

/* NULL when this preluxd has no such backend. */
const struct prelux_backend_ops *prelux_backend_find(const char *type);

#endif
