/* Store: one cache folder, its catalogue (SQLite) and the trees in it; a tree mirrors one backend identity.
 * Everything here blocks (disk, network) unless it says otherwise; all calls are thread-safe and run on the daemon's pool.
 *
 * On disk (store dir D):
 *   D/.prelux/catalogue.db   durable state        D/.prelux/lock      flock + "host boot pid": one owner
 *   D/.prelux/fill/          partial files, named by a random number; emptied at start but for those of partial.h
 *   D/trees/<id>/data/       a tree's files and folders, for stores that hold many trees (cache.dir)
 *   D/...                    the files themselves, for a store that is one mapping's `cache:` (azfuse); name ".prelux" is refused there
 * I1: a file under a tree's data folder with an entry in the catalogue is whole and of one version; it gets its name by
 * rename (catalogue row "filling" before, "clean" with inode, size, version after). A file the catalogue does not know is
 * adopted when size and (md5 if offered, else mtime) match the remote, else put aside (D/.prelux/recovered/) and fetched
 * again; never served unchecked, never deleted.
 * Unclean boot: the catalogue keeps boot id and a syncfs epoch; files filled since the last epoch of another boot are dropped. */
#ifndef PRELUX_STORE_STORE_H
#define PRELUX_STORE_STORE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "include/prelux/attr.h"
#include "lib/backend/backend.h"
#include "lib/base/problem.h"

struct prelux_store;
struct prelux_tree;
struct prelux_index_writer;

struct prelux_store_opts {
  const char *dir;         /* absolute; made when missing (0700) */
  bool single;             /* the store is one tree: D itself is the data folder */
  uint64_t max_size;       /* bytes by st_blocks; 0: half of the file system */
  uint64_t staging_size;   /* most bytes that wait to be sent; 0: as max_size */
  double high, low;        /* watermarks, shares of max_size */
  uint64_t min_free_bytes; /* floor of free space; 0: none */
  double min_free_share;
};

/* 0, or with why: -EACCES not ours or not writable; -EREMOTE a network file system; -EBUSY locked by another host, boot
 * or process; -EIO, -ENOSPC. */
int prelux_store_open(const struct prelux_store_opts *opts, struct prelux_index_writer *index, struct prelux_store **ret,
                      struct prelux_problem *why);
void prelux_store_close(struct prelux_store *s);
/* First usable of dir (if not NULL), HOME/.cache/prelux, /var/tmp/prelux-UID: local, writable, not noexec. 0 and the path. */
int prelux_store_place(const char *dir, const char *home, char *out, size_t cap, struct prelux_problem *why);

/* The tree for `identity` in this store (made on first use; the same pointer afterwards). For a single store with another
 * identity on disk: -EEXIST. `backend` goes into the views made from now on (a newer table may bring newer credentials);
 * NULL: the one given before stays. */
int prelux_tree_open(struct prelux_store *s, const char *identity, struct prelux_backend *backend, struct prelux_tree **ret,
                     struct prelux_problem *why);
const char *prelux_tree_root(const struct prelux_tree *t); /* real path of its data folder */
uint64_t prelux_tree_dev(const struct prelux_tree *t);     /* st_dev programs see: stable over restarts */

/* Who opens a file, larger than `above`, is answered when it begins to come in; prelux_store_open_object() goes on until it is whole, and what it
 * returns after that is of no use to him (-EINPROGRESS: somebody else fills it). */
struct prelux_early {
  uint64_t above;
  uint64_t need; /* he has read so far that he needs the bytes before this one; 0: he has not begun */
  void (*ready)(struct prelux_early *e); /* called once, with the members below; takes fd */
  void *arg;                             /* its own */
  struct prelux_attr attr;
  uint64_t version; /* set with every file that is opened: prelux_stream.version */
  const char *path; /* of the file that is coming in; as long as ready() runs */
  int fd;           /* O_PATH, on something that cannot be read */
  bool done;        /* ready() was called */
  bool joined;      /* he was told of somebody else's fill */
};

/* Bytes of files, added as they come from the remote. */
struct prelux_came {
  _Atomic uint64_t bytes;
  _Atomic uint64_t *also; /* NULL, or: here, too */
};

/* How a mapping wants a tree to be seen. id is the index key's tree_id: a hash of (store folder, identity, freshness, ages,
 * modes), the same in every daemon. `backend` is borrowed as long as the view is used; set it by hand to read with other
 * credentials than the ones given to prelux_tree_open() last.
 * valid_ns in attributes: max_age: max_age after the remote was asked; immutable: for ever; always, skip: 0. "No such file" holds
 * for negative_age under max_age and immutable alike: a name that did not exist may come to be. */
struct prelux_view {
  struct prelux_tree *tree;
  struct prelux_backend *backend;
  uint32_t reader; /* 0, or a number for the credentials in use: a failure is shared by equal readers only */
  uint64_t id;
  uint32_t freshness; /* enum prelux_freshness */
  uint64_t max_age_ns, negative_age_ns;
  uint32_t file_mode, dir_mode;
  struct prelux_early *early; /* NULL, or: who opens may be answered before the file is whole. Borrowed; set by hand */
  struct prelux_came *came; /* NULL. Borrowed; set by hand */
  const char *root; /* an object that is a folder even when the remote knows nothing of it, or NULL: the root of a mapping that is
                     * written, where folders are what keys begin with. Borrowed; set by hand */
};
void prelux_view_init(struct prelux_view *v, struct prelux_tree *t, uint32_t freshness, uint64_t max_age_ns,
                      uint64_t negative_age_ns, uint32_t file_mode, uint32_t dir_mode);

enum { PRELUX_STORE_RECHECK = 1, PRELUX_STORE_CACHED_ONLY = 2 };

/* RECHECK: what memory says about the cache path is not believed (prelux_store_open_object() never does: it looks at the file).
 * Attributes stay under the view's freshness. mode is never 0 for what exists: the view's where the remote has none. */

/* Attributes of an object. Fresh knowledge (memory, listing) answers at once; else the remote is asked. Result also goes
 * to the index. -ENOENT (kept as a negative answer for negative_age), or what the backend says. With CACHED_ONLY: -EAGAIN
 * instead of asking the remote (never blocks on the network: for the loop thread). */
int prelux_store_stat(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret,
                      struct prelux_problem *why);
/* [from, to) of the object's version (prelux_early) is in the file of its stream when this returns 0. -EAGAIN: it has none (any more), open it again; -ESTALE: the
 * remote has another version; -ENOSPC: no room; else as the backend's read(). */
int prelux_store_parts(const struct prelux_view *v, const char *object, uint64_t version, uint64_t from, uint64_t to, struct prelux_problem *why);
/* As stat, and a file is whole in the cache (filled when needed: one fill for all callers), a folder's cache folder exists.
 * ret_fd (may be NULL): O_RDONLY|O_CLOEXEC fd of it; the caller closes. -ENOSPC when it cannot fit, -ESTALE when the object
 * changes faster than it can be read.
 * `skip`: attr.cached is 0 and the file has no name at the cache path: only the fd is of use (without ret_fd nothing is fetched). */
int prelux_store_open_object(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret,
                             int *ret_fd, struct prelux_problem *why);
/* Listing of a folder as a sealed memfd (O_RDONLY|O_CLOEXEC, caller closes); its cache folder exists. -ENOTDIR. */
int prelux_store_list(const struct prelux_view *v, const char *object, unsigned flags, struct prelux_attr *ret,
                      int *ret_fd, struct prelux_problem *why);

/* Siblings (siblings.c): what the fresh listing of a folder says, without asking anybody. */
/* Where the object stands in it. -ENOENT: nothing fresh is known, or it is not in there. */
int prelux_store_place_of(const struct prelux_view *v, const char *object, uint32_t *ret);
struct prelux_siblings {
  uint32_t from, to;       /* places; `to` comes back as far as was looked: bounded by the listing's length and by `bytes` */
  uint64_t largest, bytes; /* larger files are passed over; together no more than that, and `bytes` comes back as what they have */
  bool folders;            /* folders instead, that are not listed yet or not any more; `most` of them at most (0: as many as there are) */
  uint32_t most;
  uint32_t n;
  char **names;            /* of files that are not in the cache */
  uint32_t *at;            /* and their places */
};
/* Fills n, names, at. 0 (perhaps with none) or -ENOMEM; to be released in any case. */
int prelux_store_siblings(const struct prelux_view *v, const char *folder, struct prelux_siblings *s);
void prelux_siblings_release(struct prelux_siblings *s);

/* Drops cached files at or below `object` that nobody has open, and what is known of them (so that `immutable` objects are
 * looked up anew). Number of files dropped in *ret_files, bytes in *ret_bytes, busy ones in *ret_busy. */
int prelux_store_evict(const struct prelux_view *v, const char *object, uint64_t *ret_files, uint64_t *ret_bytes, uint64_t *ret_busy);

/* Pins (pin.h): what the command above drops all the same. On: 1 when that very path was pinned before. Off: -ENOENT when it is not. */
int prelux_store_pin(const struct prelux_view *v, const char *object, bool on);
/* The cached file of that path, unless it, or a folder above it, is pinned, also by somebody who comes meanwhile: -EBUSY, as when it is open. */
int prelux_store_let_go(const struct prelux_view *v, const char *object);
struct prelux_pin_info {
  const char *object;
  uint64_t files, bytes; /* in the cache now, at it and below; bytes on the disk */
};
/* Those of the view's tree, by name. */
int prelux_store_pins(const struct prelux_view *v, int (*fn)(void *arg, const struct prelux_pin_info *pin), void *arg);

/* Cached files of the tree, at `object` or below, after `after` (NULL: from the first), by name, at most n; malloc'd. Their number or -errno. */
int prelux_store_cached(const struct prelux_view *v, const char *object, const char *after, char **ret, int n);
enum prelux_verdict { PRELUX_VERDICT_SAME, PRELUX_VERDICT_STALE, PRELUX_VERDICT_GONE, PRELUX_VERDICT_DAMAGED, PRELUX_VERDICT_UNKNOWN };
/* A cached file beside the remote: its version or time, the checksum that the remote offers, and with `data` the remote's bytes. UNKNOWN: the remote
 * shows nothing by which it could be told. -ENOENT: it is not in the cache (any more), or somebody fills, writes or evicts it just now; else what
 * the remote says. (verify.c) */
int prelux_store_verify(const struct prelux_view *v, const char *object, bool data, enum prelux_verdict *ret, struct prelux_problem *why);

/* The remote has changed it by another way than ours: what is known of it and of all below is forgotten, cached files stay. which: attributes
 * (enum prelux_setattr_bits) that this node kept itself and shows no more; recursive: also below. */
int prelux_store_forget(const struct prelux_view *v, const char *object, uint32_t which, bool recursive);

enum prelux_object_state { PRELUX_STATE_ABSENT, PRELUX_STATE_CACHED, PRELUX_STATE_PARTIAL, PRELUX_STATE_NEGATIVE, PRELUX_STATE_DIRECTORY };
struct prelux_object_info {
  enum prelux_object_state state;
  char version[PRELUX_VERSION_MAX];
  uint64_t size;
};
/* What is known now, without asking anybody. */
int prelux_store_info(const struct prelux_view *v, const char *object, struct prelux_object_info *ret);

/* ---- writing (stage.h says how it works) ---- */

enum prelux_on_conflict { PRELUX_CONFLICT_FAIL, PRELUX_CONFLICT_OVERWRITE, PRELUX_CONFLICT_KEEP };
struct prelux_write_rules { /* of a mapping */
  bool off;   /* read-only: every change is -EROFS */
  bool async; /* a close returns when the journal has it; else when the remote has */
  bool power; /* async: and when it would survive a power cut */
  bool wait;  /* a close waits for other writers: the library does */
  bool fsync_remote; /* an fsync returns when the remote has what was written before it */
  bool drop;  /* what was sent is not kept in the cache */
  bool publish; /* on_crash: what a killed writer leaves is sent, too */
  bool scratch; /* new files are staged in the folder of prelux_store_stage_in(), while it has room */
  uint64_t linger_ns; /* async: how long what was closed may wait for a pause before it is sent; 0: not at all */
  enum prelux_on_conflict on_conflict;
};

/* Opens the store's journal, once; a store that has one from before opens it by itself. A store without takes no writes. */
int prelux_store_writable(struct prelux_store *s, struct prelux_problem *why);
/* The folder for rules.scratch: below dir, on another file system than the cache. One a store, until it is closed: -EBUSY when it has another.
 * 1: dir is on the cache's file system, and not needed. -EACCES, -EREMOTE: it cannot be one. (stage_scratch.c) */
int prelux_store_stage_in(struct prelux_store *s, const char *dir, struct prelux_problem *why);
/* It, real and absolute, and its st_dev; NULL: there is none. */
const char *prelux_store_scratch(const struct prelux_store *s, uint64_t *ret_dev);
/* Who asks for a file to write to. Zeroes but pidfd -1: nobody knows. */
struct prelux_asker {
  uint64_t once; /* a random number of the request; what it has made already is no -EEXIST; 0: none */
  int pidfd;     /* the process, or negative; it stays the caller's */
  bool *ret_made; /* set when a new file was made; may be NULL */
};
/* A file for writing. flags: open's; mode: of a new file, the program's umask taken off. *ret_fd: with the access mode and status flags
 * asked for; to be passed on and closed. by: may be NULL. -ESRCH: who asks is dead, and nothing was begun or changed for him. -EROFS, -ENOENT,
 * -EEXIST, -EISDIR, -ENOTDIR, -ENOSPC, or what the remote says. */
int prelux_store_open_write(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, int flags,
                            uint32_t mode, const struct prelux_asker *by, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why);
/* Somebody has closed a writable descriptor of this inode, or may have. 0: it was the last, and what the rules promise is done (or
 * there is nothing to do); -EAGAIN: somebody can still write; else the error that close() is to give. */
int prelux_store_closed(struct prelux_store *s, const struct prelux_write_rules *rules, uint64_t ino, struct prelux_problem *why);
/* A process has got a descriptor for writing of this inode: its death may be the end of the file (stage_crash.c). Takes pidfd; a negative one is
 * nothing. */
void prelux_store_writer(struct prelux_store *s, uint64_t ino, int pid, int pidfd);
/* Somebody is about to say that he has closed it: until he has been heard nobody's death decides about the file. */
void prelux_store_closing(struct prelux_store *s, uint64_t ino, bool begins);
/* A descriptor for writing of it, which this process has itself, is passed to that one; done when it is closed here. Before it is known as a writer. */
void prelux_store_handing(struct prelux_store *s, uint64_t ino, bool begins);
/* After a program's fsync of a file that is being written, or (ino 0) of the folder `object`: what the node has noted of it survives a power cut,
 * too; and where the rules say so the remote has the bytes and names. */
int prelux_store_sync(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                      struct prelux_problem *why);
/* Names (name.h says how). Done on the remote and here when they return 0; errors as the system calls of these names have, or what the
 * remote says; -EROFS as above. The root of the tree cannot be changed. */
int prelux_store_unlink(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_problem *why);
int prelux_store_rmdir(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_problem *why);
/* mode: the program's umask taken off. */
int prelux_store_mkdir(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, uint32_t mode,
                       struct prelux_problem *why);
/* Within one tree. flags: renameat2's; -EINVAL what the remote cannot do in one step. -EXDEV: a folder that the remote cannot rename. */
int prelux_store_rename(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *from, const char *to, unsigned flags,
                        struct prelux_problem *why);
/* Links are this node's own: no remote keeps them. */
int prelux_store_symlink(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, const char *target,
                         struct prelux_problem *why);
int prelux_store_readlink(const struct prelux_view *v, const char *object, char **ret, struct prelux_problem *why); /* malloc'd; -EINVAL: no link */
/* A file without a name (O_TMPFILE) gets one: prelux_stage_link. */
int prelux_store_link(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                      struct prelux_problem *why);
/* Attributes: on the remote where it keeps them, else on this node, as long as the remote has this version. ret: as they are now. */
struct prelux_setattr;
int prelux_store_setattr(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                         const struct prelux_setattr *set, struct prelux_attr *ret, struct prelux_problem *why);
/* Of a staging file, also of one without a name. */
int prelux_store_setattr_ino(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const struct prelux_setattr *set,
                             struct prelux_attr *ret, struct prelux_problem *why);
/* What a staging file is, in the eyes of v, which is of any tree of its store. *ret_tree, *ret_object (malloc'd; NULL: it has no name): where
 * it is. -ENOENT: there is none. */
int prelux_store_whose(const struct prelux_view *v, uint64_t ino, struct prelux_attr *ret, struct prelux_tree **ret_tree, char **ret_object);
/* Is there anything that was written and is not on the remote, or may be written to just now? */
bool prelux_store_owes(struct prelux_store *s);

/* What the node owes the remote, for people. */
enum prelux_owed_state {
  PRELUX_OWED_OPEN,      /* somebody may still write to it */
  PRELUX_OWED_WAITING,
  PRELUX_OWED_SENDING,
  PRELUX_OWED_REFUSED,   /* the remote said no: a person decides */
  PRELUX_OWED_RECOVERED, /* its writer died in the middle: the same */
  PRELUX_OWED_AWAY,      /* open or waiting, and its remote is not in use now: nobody sends it before that is */
  PRELUX_OWED_STATES
};
struct prelux_owed {
  int64_t id; /* of the store */
  const struct prelux_tree *tree; /* NULL: of a remote that is not in use now */
  enum prelux_owed_state state;
  uint32_t intent; /* enum prelux_intent */
  const char *path, *to, *cause; /* may be NULL */
  uint64_t size, sent, ino;
  int64_t made_ns, next_ns; /* CLOCK_REALTIME */
  uint32_t tries;
  int err; /* of the last try, positive errno */
  bool settling; /* OPEN, as far as is known, and just being looked at: it may have been closed by all */
};
/* Calls fn for each, oldest first, without a lock; stops at its first negative result and returns it. */
int prelux_store_owed(struct prelux_store *s, int (*fn)(void *arg, const struct prelux_owed *o), void *arg);
struct prelux_owed_sum {
  uint64_t files[PRELUX_OWED_STATES]; /* those being sent count as waiting; of remotes that are in use */
  uint64_t bytes;                     /* of those that wait */
  uint64_t sent, failed;              /* files sent, and tries that failed, since this daemon began */
};
void prelux_store_owed_sum(struct prelux_store *s, struct prelux_owed_sum *ret);
/* OPEN, WAITING or SENDING: what was written to the object is not on the remote; -ENOENT: that is not so. */
int prelux_store_owed_state(const struct prelux_view *v, const char *object);
void prelux_store_hurry(struct prelux_store *s); /* what was put off may be tried at once */
/* One that waits or was refused is tried again; overwrite: whatever the remote has. -ENOENT; -EBUSY: open, or its path is written anew. */
int prelux_store_retry(struct prelux_store *s, int64_t id, bool overwrite, struct prelux_problem *why);
int prelux_store_drop(struct prelux_store *s, int64_t id, struct prelux_problem *why); /* its bytes are given up, of a remote not in use, too */
/* Told of what an upload (or a change of a name: enum prelux_intent) in the background failed with, the first time and when it is given up. Any
 * thread. */
typedef void (*prelux_refused_fn)(void *arg, const struct prelux_tree *t, uint32_t intent, const char *object, int err, const struct prelux_problem *why);
void prelux_store_hear(struct prelux_store *s, prelux_refused_fn fn, void *arg);
/* Sending in the background: who gets true is to call prelux_store_send_all() on a thread that may wait (or, when it has none,
 * prelux_store_no_sender()): it sends all that can go now. CLOCK_REALTIME of the next retry, 0: none. */
bool prelux_store_wants_sender(struct prelux_store *s);
void prelux_store_no_sender(struct prelux_store *s);
int64_t prelux_store_send_all(struct prelux_store *s);
void prelux_store_linger(struct prelux_store *s); /* before that: until it is time to send; then there may be work for more senders */
void prelux_store_ending(struct prelux_store *s); /* the daemon is about to end: it is time from now on */
/* Files come in quick succession: who gets true is to call prelux_store_make_spares() on a thread that nobody waits for. */
bool prelux_store_wants_spares(struct prelux_store *s);
void prelux_store_make_spares(struct prelux_store *s);
/* Who makes file after file may be granted to make the next ones by himself (stage_lease.h). Asked after each open for writing. */
#define PRELUX_GRANT_FILES 64u /* PRELUX_LEASE_FILES_MAX */
struct prelux_grant {
  int64_t number;
  uint64_t files[PRELUX_GRANT_FILES];
  unsigned n;
};
struct prelux_lease_ask {
  const struct prelux_view *v;
  const struct prelux_write_rules *rules;
  const char *object;
  int flags;
  uint32_t mode;
  bool made;       /* a new file was */
  int pid, pidfd;  /* who asks; they stay the caller's */
  uint64_t serial; /* of the request: nobody has asked in between when it is the next one */
};
bool prelux_store_lease(struct prelux_store *s, const struct prelux_lease_ask *a, struct prelux_grant *ret);
/* More files for the same. -ESTALE: it has ended, or is to. */
int prelux_store_lease_more(const struct prelux_view *v, int64_t number, uint64_t serial, struct prelux_grant *ret);
/* All that was made is known to the store; before anything is asked of it. False: it is not, for the journal takes no rows. */
bool prelux_store_lease_stop(struct prelux_store *s);
bool prelux_leases_active(void);                      /* of any store */
void prelux_lease_request(bool begins);               /* one that may change names: none is granted while there is another; before leases are stopped for it */
/* They come right now: what can wait until they have come should. */
bool prelux_store_in_burst(struct prelux_store *s);
/* The kernel says that a writable descriptor of this inode was closed; nobody has told of it. Settled, to be sent in the background. */
void prelux_store_left(struct prelux_store *s, uint64_t ino);
/* Closes that programs have not waited for are settled, before somebody is told what is owed. */
void prelux_store_lefts(struct prelux_store *s);
void prelux_store_poll(struct prelux_store *s); /* the same for all that nobody has open for writing any more */

struct prelux_store_stats {
  uint64_t used_bytes, max_bytes, files, hits_opens, fills, filled_bytes, evictions, adopted, negatives, listings, remote_stats;
};
void prelux_store_stats(struct prelux_store *s, struct prelux_store_stats *ret);
const char *prelux_store_dir(const struct prelux_store *s);
/* The folder of staging files, real and absolute; it is there once prelux_store_writable() has returned 0. */
const char *prelux_store_staging(const struct prelux_store *s);
/* True: its folder, or a part without which it cannot go on, was removed or moved from under it (somebody's `rm -r`). Nothing can
 * be kept any more: close it; opened anew it begins with what is there. */
bool prelux_store_lost(struct prelux_store *s);
struct prelux_store *prelux_tree_store(const struct prelux_tree *t);

/* Housekeeping: syncfs epoch, eviction down to the low mark when above the high one, expired memory. Call every few seconds. */
void prelux_store_tick(struct prelux_store *s);

#endif
