/* Attributes, files and listings of mapped objects: from index and cache where they are fresh, else from the daemon.
 * r is always a MAPPED route. All return 0 or -errno; every errno that prelux itself makes is recorded. errno
 * untouched. Raw system calls; no lock is held; safe in signal handlers and vfork children. */
#ifndef PRELUX_SHIM_ASK_H
#define PRELUX_SHIM_ASK_H

#include "include/prelux/attr.h"
#include "include/prelux/listing.h"
#include "include/prelux/msg.h"
#include "shim/route.h"

/* Records an errno that prelux makes (once per err, path and cause) and returns -err. advice may be NULL. */
int prelux_fail(int err, const char *call, const char *path, const char *cause, const char *advice);
/* -EROFS with its record: a call that would change something below a prefix. */
int prelux_refuse(const char *call, const struct prelux_route *r);

/* What an answer grants (shim/lease.h). */
struct prelux_grant_heard {
  int64_t number;
  unsigned n;
  uint64_t files[PRELUX_LEASE_FILES_MAX];
};
/* False, and n 0: nothing. */
bool prelux_grant_read(const void *reply, struct prelux_grant_heard *ret);

/* One request to the daemon. A member that is NULL or 0 is not sent. */
struct prelux_request {
  enum prelux_op op;
  const char *call, *logical; /* for the record of an error */
  uint32_t mapping;
  const char *path; /* below the mapping's root */
  uint32_t flags;
  bool has_mode;
  uint32_t mode;
  uint64_t ino;
  uint32_t verb;       /* enum prelux_name_verb */
  const char *to;      /* sent with to_mapping */
  uint32_t to_mapping;
  const struct prelux_setattr *set;
  const char *text;
  uint64_t once; /* a number of this request */
  int *ret_held; /* as prelux_client_opts.ret_held, */
  int *ret_lost; /* and .ret_lost */
  uint32_t *ret_asker; /* PRELUX_FIELD_ASKER of the answer, or 0 */
  int64_t lease;
  uint64_t version, range_from, range_to; /* sent when range_to is not 0: of PARTS, and of an OPEN */
  struct prelux_grant_heard *ret_grant; /* n 0: none was granted */
};
#define PRELUX_REPLY_BYTES 4096
/* 0 and the reply (PRELUX_REPLY_BYTES, 8-byte aligned), or -errno: the daemon's, or -EIO with a record when there is no way to it.
 * ret_fd (may be NULL) gets the fd that came with it, close-on-exec, or -1. */
int prelux_ask(const struct prelux_request *q, void *reply, int *ret_fd);
/* Sent without waiting for anything, to a daemon that runs already; what becomes of it nobody tells. */
void prelux_mention(const struct prelux_request *q);
/* The same as prelux_ask for an answer that has attributes. */
int prelux_ask_for_attr(const struct prelux_request *q, struct prelux_attr *ret, int *ret_fd);

/* As prelux_index_moved. */
uint64_t prelux_folders_moved(void);

/* Attributes of the object: -ENOENT when there is none, -ENOTDIR when it is a file and r->must_dir. */
int prelux_ask_attr(const struct prelux_route *r, const char *call, struct prelux_attr *ret);
/* The same, asked of the daemon: what the index says is right afterwards. */
int prelux_ask_anew(const struct prelux_route *r, const char *call, struct prelux_attr *ret);
/* The index still says what attr says: the object is written here, its staging file is attr->cache_ino. To be asked after that file
 * was looked at by its number. False also when the index says nothing. */
bool prelux_is_live(const struct prelux_route *r, const struct prelux_attr *attr);
/* As prelux_ask_attr, and the file lies whole at its cache path (a folder: its cache folder exists). flags:
 * PRELUX_F_*; ret_fd may be NULL unless PRELUX_F_WANT_FD. */
int prelux_ask_open(const struct prelux_route *r, const char *call, unsigned flags, struct prelux_attr *ret,
                    int *ret_fd);

/* The folder's listing, a copy; release with prelux_listing_free. */
int prelux_ask_list(const struct prelux_route *r, const char *call, const struct prelux_listing **ret,
                    struct prelux_attr *ret_attr);
void prelux_listing_free(const struct prelux_listing *l);

/* Path in the cache tree. Length or -ENAMETOOLONG. Says nothing about what lies there. */
long prelux_cache_path(const struct prelux_route *r, char *out, size_t cap);
/* Path of the staging file with this inode number. */
long prelux_staging_path(const struct prelux_table_mapping *m, uint64_t ino, char *out, size_t cap);
/* The root of the mapping's tree: unlike the folder of its object it is always there. `out` is room for it. */
const char *prelux_cache_root(const struct prelux_table_mapping *m, char out[PATH_MAX]);

/* Opens the object as open(2) would (below a mapping that is not writable: on a read-only mounted file system) and gives the fd
 * its class: fd or -errno. The real open in it is libc's (a cancellation point). mode: as open's, with the umask still in it. */
int prelux_open_mapped(const struct prelux_route *r, const char *call, int flags, mode_t mode);
/* An open that only reads, of what the daemon has said of the object just now: fd, -errno; -EAGAIN: it is otherwise by now. */
int prelux_open_told(const struct prelux_route *r, int flags, const struct prelux_attr *attr);

/* For exec, dlopen, spawn: a file is filled and `out` names it in the cache tree; a folder exists there. The kernel
 * must then use that path. 0 or -errno. */
int prelux_real_path(const struct prelux_route *r, const char *call, char *out, size_t cap, struct prelux_attr *ret);

/* The struct stat that programs see. */
void prelux_fill_stat(const struct prelux_table_mapping *m, const struct prelux_attr *attr, struct stat *st);
/* Permission bits shown. */
uint32_t prelux_shown_mode(const struct prelux_table_mapping *m, const struct prelux_attr *attr);

/* After a real fstat: when fd lies in a cache tree (or on a real folder at a mapping root) st becomes what stat by its
 * logical path says. */
void prelux_patch_stat(int fd, struct stat *st);

/* Dense enough for 64 KiB stacks: path-sized buffers are the callers', a request and its reply take 12 KiB. */

#endif
