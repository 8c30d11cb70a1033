/* Inside lib/store only.
 *
 * Locks, outermost first: a tree's learn lock (number.c) -> store.lock (memory: entries, folders, flights, views, counters) ->
 * catalogue's mutex -> index's mutex; stage.lock (stage.h) is inside store.lock, too.
 * store.lock is never held over a call that may wait for the disk or the network; pointers into entries and folders live
 * only while it is held (folders can be retained).
 *
 * Every index slot that the store publishes is backed by an entry or a folder in memory: whoever drops one of those drops
 * the slots of all views with it. So forgetting (evict, memory limits) never leaves an `immutable` slot behind. */
#ifndef PRELUX_STORE_PRIVATE_H
#define PRELUX_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "include/prelux/listing.h"
#include "include/prelux/stream.h"
#include "include/prelux/table.h"
#include "lib/store/store.h"

#define PRELUX_OBJECT_MAX 16384u     /* bytes of an object path */
#define PRELUX_NAME_MAX 255u         /* bytes of one of its names */
#define PRELUX_VIEWS_MAX 1024u       /* views of one tree that use the index; more are served without it */
#define PRELUX_ENTRIES_MAX 262144u   /* objects remembered one by one */
#define PRELUX_FOLDERS_MAX 65536u    /* folders remembered */
#define PRELUX_FOLDERS_BYTES (256u << 20) /* bytes of remembered listings */
#define PRELUX_LIST_NAMES_MAX (4u << 20)  /* names of one listing; more: -EOVERFLOW */
#define PRELUX_LIST_BYTES_MAX (1u << 30)  /* bytes of their names and versions */
#define PRELUX_RENEW_AFTER 4u        /* expired children asked for one by one before a listing renews them all */
#define PRELUX_RENEW_NAMES 65536u    /* ... of a folder of at most so many names */
#define PRELUX_OPEN_TRIES 4          /* an object that changes under each of so many fills is -ESTALE */
#define PRELUX_FILL_PART (256u << 20) /* bytes asked of a backend at once: before each part its ways of reading ahead begin anew */
#define PRELUX_FILL_GRACE_S 45u      /* how long a fill may go slower than 1 KiB a second before a break ends it */
#define PRELUX_EPOCH_NS 30000000000ull /* between two syncfs, when something was filled */
#define PRELUX_USES_MAX 4096         /* last uses noted between two ticks */
#define PRELUX_USE_NS 10000000000ll  /* the same object is not noted again within this time */
#define PRELUX_WARM_MAX 2048         /* cached files of a tree published when a view is first used */
#define PRELUX_ROOM_WAIT_NS 2000000000ull /* a fill waits so long for room while others are under way */
#define PRELUX_NUMBERS_MAX (1u << 20) /* objects of a tree whose identity is remembered in a row of its own */
#define PRELUX_ATTRS_MAX (1u << 20)  /* objects of a tree whose attributes this node keeps */
#define PRELUX_TIMES_MAX (1u << 20)  /* folders of a tree whose last change here is remembered */
#define PRELUX_LINKS_MAX 65536u      /* symbolic links of a tree */
#define PRELUX_LINK_SLOTS 4096u
#define PRELUX_LINK_MAX 4095u        /* bytes of a link's target */
#define PRELUX_HELD_MAX 4096u        /* files without a tree name that wait for their readers */

/* ---- objects (object.c) ---- */

struct prelux_folder;
struct prelux_names_at;
struct prelux_known {
  struct prelux_object obj; /* type PRELUX_NONE: known not to exist */
  uint64_t learned_ns;      /* CLOCK_MONOTONIC before the remote was asked; 0: a catalogue row, not asked in this life */
  uint64_t cache_ino;       /* what lies at the cache path is whole, of this version, and was seen in this life; 0: unknown */
  uint64_t ino;             /* st_ino of this version (number.c); 0 only for what is not there */
  bool unlisted;            /* NONE, because a listing of the folder lacks it */
  bool live;                /* written here and not sent yet: cache_ino is that of its staging file */
  bool pending;             /* renamed here, and not on the remote yet (deferred.h) */
  bool owned;               /* `owner` (as prelux_attr's) says whose it is */
  uint64_t owner;
};

uint64_t prelux_store_now(void);  /* CLOCK_MONOTONIC, ns */
int64_t prelux_store_wall(void);  /* CLOCK_REALTIME, ns */
/* What the kernel would give to a file that is changed now: no earlier than that of any file changed before, no later than that of any changed
 * afterwards (stamp.c). ns. */
int64_t prelux_store_stamp(const struct prelux_store *s);
void prelux_stamp_open(struct prelux_store *s);
uint64_t prelux_store_hash(const void *data, size_t len, uint64_t seed);
/* Equal bytes, as far as attributes can tell. In doubt false. */
bool prelux_object_same(const struct prelux_object *a, const struct prelux_object *b);
/* 0, -EINVAL (malformed), -ENAMETOOLONG, -ENOENT (".prelux" of a single store). */
int prelux_object_check(const struct prelux_store *s, const char *object, struct prelux_problem *why);
/* Length of the folder part of a path ("a/b/c" -> 3, "a" -> 0). */
size_t prelux_object_parent(const char *object, size_t len);
bool prelux_view_fresh(const struct prelux_view *v, const struct prelux_known *k, uint64_t now);
void prelux_view_attr(const struct prelux_view *v, const struct prelux_known *k, struct prelux_attr *ret);
/* It is the view's `root`. */
bool prelux_view_implies(const struct prelux_view *v, const char *object, size_t len);
/* Publishes in the index (store.lock held). */
void prelux_view_publish(const struct prelux_view *v, const char *object, size_t len, const struct prelux_known *k);
/* The cache inode of a folder alone, while its name waits to be told to the remote (store.lock held): a former one may have had it. */
void prelux_view_publish_inode(const struct prelux_view *v, const struct prelux_known *k);
/* The listing of the folder lies there, for programs of this view, as long as it is fresh (store.lock held). */
void prelux_view_share(const struct prelux_view *v, const struct prelux_folder *f, const struct prelux_names_at *at);
/* Drops the slots of all views of the tree, but those of what this node has there itself (store.lock held). */
void prelux_tree_unpublish(const struct prelux_tree *t, const char *object, size_t len);
/* The same where the name stays what it is, and its folder's shared listing with it. */
void prelux_tree_unpublish_slots(const struct prelux_tree *t, const char *object, size_t len);

/* ---- identity (number.c) ---- */

struct prelux_number {
  uint64_t base;       /* hash of the path: the number itself while generation is 0 */
  uint64_t generation; /* CLOCK_REALTIME ns at which a replacement was seen, 0: never */
  uint64_t stamp;      /* of the version it belongs to; 0: whichever comes next */
  uint64_t ino;        /* not 0: the number, whatever the others say: the object was written here, or renamed */
};
struct prelux_numbers {
  pthread_mutex_t learn; /* outermost of all locks: held from looking at what was known until the new is remembered */
  struct prelux_number *slots, *unsaved;
  size_t n_slots, count, n_unsaved, cap_unsaved;
};

/* Attributes that this node keeps of an object (attrs.c). */
struct prelux_own {
  uint64_t base;  /* prelux_number_base of the path, 0: none */
  uint64_t stamp; /* prelux_number_stamp of the version; 0: the file that is being written there */
  uint32_t which; /* enum prelux_setattr_bits; 0: nothing */
  uint32_t mode, uid, gid;
  int64_t mtime_ns;
};
struct prelux_attrs {
  pthread_mutex_t lock;
  struct prelux_own *slots;
  size_t n_slots;
  _Atomic size_t count;
};

/* When names in folders were changed here (folder_time.c). */
struct prelux_time {
  uint64_t base; /* prelux_number_base of the path, 0: none */
  int64_t ns;    /* CLOCK_REALTIME; 0: never */
  bool seen, unsaved;
};
struct prelux_times {
  pthread_mutex_t lock;
  struct prelux_time *slots;
  size_t n_slots, n_unsaved;
  _Atomic size_t count;
};

/* Symbolic links that this node keeps (links.c). */
struct prelux_link;
struct prelux_links {
  pthread_mutex_t lock;
  struct prelux_link *slots[PRELUX_LINK_SLOTS];
  _Atomic size_t count;
  bool counted; /* in the index */
};

int prelux_numbers_load(struct prelux_tree *t); /* from the catalogue */
void prelux_numbers_release(struct prelux_tree *t);
void prelux_learn_lock(struct prelux_tree *t);
void prelux_learn_unlock(struct prelux_tree *t);
/* The number of what was learned, a new one when it replaces what was known. Learn lock held, store.lock not; before the
 * number is shown to anybody the caller calls prelux_learn_save() once. */
uint64_t prelux_learn(struct prelux_tree *t, const char *object, size_t len, const struct prelux_known *now);
void prelux_learn_save(struct prelux_tree *t);
/* The number of whatever is there, with nothing learned about it (learn lock held). */
uint64_t prelux_learn_number(const struct prelux_tree *t, const char *object, size_t len);
/* The object is about to be cached: its version is remembered over restarts. */
void prelux_number_note(struct prelux_tree *t, const char *object, const struct prelux_object *obj);
/* The same, where nothing was noted of it before: true, and the caller writes *ret to the catalogue (prelux_catalogue_finish). */
bool prelux_number_first(struct prelux_tree *t, const char *object, const struct prelux_object *obj, struct prelux_number *ret);
/* The number of a version that the catalogue has; 0: the object was seen replaced since. */
uint64_t prelux_number_of(struct prelux_tree *t, const char *object, const struct prelux_object *obj);
/* The number of a file that is made here: nobody has it, and none is noted: whoever knows staging inode and made_ns (the journal's row,
 * PRELUX_PENDING_FRESH) finds it again. No lock. */
uint64_t prelux_number_fresh(const struct prelux_tree *t, uint64_t staging_ino, int64_t made_ns);
/* Names a path, and a version of an object, in tables. No lock. */
uint64_t prelux_number_base(const struct prelux_tree *t, const char *object, size_t len);
uint64_t prelux_number_stamp(const struct prelux_tree *t, const struct prelux_object *o);
/* These take the learn lock, and save. */
/* The object's version obj (NULL: whichever the remote shows next) has the number `ino`: carried along by a rename. */
void prelux_number_set(struct prelux_tree *t, const char *object, uint64_t ino, const struct prelux_object *obj);
/* The object was removed here: what comes next at this path has another number. */
void prelux_number_end(struct prelux_tree *t, const char *object);
/* A file written here is on the remote as obj, as the remote tells it. To be called before obj gets into memory or catalogue: its number
 * stays `ino`, and as long as the remote has that version readers see the mode (0: the remote's) and the mtime_ns it has here. */
void prelux_learn_written(struct prelux_tree *t, const char *object, uint64_t ino, const struct prelux_object *obj, uint32_t mode,
                          int64_t mtime_ns);

/* ---- catalogue (catalogue.c): durable; own mutex ---- */

struct prelux_catalogue;
struct prelux_row {
  struct prelux_object obj;
  uint64_t ino, bytes;   /* of the cache file; bytes by st_blocks */
  int64_t file_mtime_ns; /* of the cache file */
  int64_t used_ns;       /* CLOCK_REALTIME of the last open that reached the daemon */
  uint64_t epoch;
};
struct prelux_victim {
  int64_t tree;
  char *path; /* the receiver frees it */
  uint64_t ino, bytes;
  int64_t file_mtime_ns, used_ns;
};

int prelux_catalogue_open(const char *path, struct prelux_catalogue **ret, struct prelux_problem *why);
void prelux_catalogue_free(struct prelux_catalogue *c); /* NULL is allowed */
int prelux_catalogue_meta(struct prelux_catalogue *c, const char *key, char *ret, size_t cap); /* -ENOENT */
int prelux_catalogue_set_meta(struct prelux_catalogue *c, const char *key, const char *value);
/* Finds or makes a tree; *key and *dev are proposals going in. A dev that another tree has is counted up. */
int prelux_catalogue_tree(struct prelux_catalogue *c, const char *identity, int64_t *ret_id, uint64_t *key, uint64_t *dev);
int prelux_catalogue_get(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *ret); /* -ENOENT */
int prelux_catalogue_begin(struct prelux_catalogue *c, int64_t tree, const char *path, const struct prelux_row *row);
/* Row "filling" -> "clean" in one transaction; row->epoch is set from the current one. *ret_old: bytes of the row replaced, -1: none. */
int prelux_catalogue_finish(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *row, int64_t *ret_old);
/* The same of a file that is about to get a name where nothing is, whose row need not say "filling" before. number: of prelux_number_first;
 * NULL: nothing is to be noted. */
int prelux_catalogue_fresh(struct prelux_catalogue *c, int64_t tree, const char *path, struct prelux_row *row, const struct prelux_number *number,
                           int64_t *ret_old);
int prelux_catalogue_abort(struct prelux_catalogue *c, int64_t tree, const char *path);
/* -ENOENT when there was none. */
int prelux_catalogue_del(struct prelux_catalogue *c, int64_t tree, const char *path, uint64_t *ret_bytes);
/* Sets used_ns of n rows (tree, path, used_ns), in one transaction; what is later by more than apart_ns is another use. */
int prelux_catalogue_touch(struct prelux_catalogue *c, const struct prelux_victim *rows, int n, int64_t apart_ns);
/* Up to n rows of a tree, last used first. Count or -errno. */
int prelux_catalogue_newest(struct prelux_catalogue *c, int64_t tree, struct prelux_victim *ret, int n);
/* Up to n rows below `path` (all of the tree for ""), after the path `after` (NULL: from the start). */
int prelux_catalogue_below(struct prelux_catalogue *c, int64_t tree, const char *path, const char *after,
                           struct prelux_victim *ret, int n);
/* Up to n rows "filling" left by a daemon that died / rows of an epoch above `epoch`. */
int prelux_catalogue_unfinished(struct prelux_catalogue *c, struct prelux_victim *ret, int n);
int prelux_catalogue_later(struct prelux_catalogue *c, uint64_t epoch, struct prelux_victim *ret, int n);
int prelux_catalogue_promote(struct prelux_catalogue *c, int64_t tree, const char *path); /* "filling" -> "clean" as it is */
int prelux_catalogue_totals(struct prelux_catalogue *c, uint64_t *ret_bytes, uint64_t *ret_files, uint64_t *ret_epoch);
uint64_t prelux_catalogue_next_epoch(struct prelux_catalogue *c); /* begins a new epoch; returns the one that ended */
void prelux_catalogue_set_epoch(struct prelux_catalogue *c, uint64_t epoch);
int prelux_catalogue_recovered(struct prelux_catalogue *c, int64_t tree, const char *path, const char *name);
int prelux_catalogue_identity(struct prelux_catalogue *c, int64_t tree, char *ret, size_t cap); /* -ENOENT */
/* Calls fn for each number of a tree, under the catalogue's lock, until it returns non-zero. */
int prelux_catalogue_numbers(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, const struct prelux_number *n),
                             void *arg);
int prelux_catalogue_set_numbers(struct prelux_catalogue *c, int64_t tree, const struct prelux_number *rows, size_t n);
int prelux_catalogue_times(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, uint64_t base, int64_t ns), void *arg);
int prelux_catalogue_set_times(struct prelux_catalogue *c, int64_t tree, const struct prelux_time *rows, size_t n);
/* Drops all but `keep`: first those without a generation, the oldest first. */
int prelux_catalogue_prune_numbers(struct prelux_catalogue *c, int64_t tree, size_t keep);
int prelux_catalogue_attrs(struct prelux_catalogue *c, int64_t tree, int (*fn)(void *arg, const char *path, struct prelux_own *own), void *arg);
/* A positive result of fn ends it, too. */
int prelux_catalogue_attrs_below(struct prelux_catalogue *c, int64_t tree, const char *folder,
                                 int (*fn)(void *arg, const char *path, struct prelux_own *own), void *arg);
int prelux_catalogue_set_attr(struct prelux_catalogue *c, int64_t tree, const char *path, const struct prelux_own *own); /* which 0: it goes */
int prelux_catalogue_links(struct prelux_catalogue *c, int64_t tree,
                           int (*fn)(void *arg, const char *path, const char *target, uint64_t ino, int64_t mtime_ns), void *arg);
/* The row of `from` goes and that of `path` comes, in one step; either may be NULL. */
int prelux_catalogue_set_link(struct prelux_catalogue *c, int64_t tree, const char *from, const char *path, const char *target, uint64_t ino,
                              int64_t mtime_ns);
void prelux_catalogue_durable(struct prelux_catalogue *c); /* what was committed survives power loss from here on */

/* ---- memory: single objects (entry.c) and folders (folder.c); store.lock held ---- */

struct prelux_entry {
  struct prelux_entry *chain;
  struct prelux_entry *newer, *older;
  struct prelux_tree *tree;
  uint64_t hash, size, learned_ns, cache_ino, ino;
  int64_t mtime_ns, used_ns; /* used_ns: CLOCK_REALTIME of the last use noted for the catalogue */
  uint32_t mode, path_len;
  uint8_t type, version_len, md5_len;
  bool mtime_rough;
  char data[]; /* path, version, md5, each NUL-terminated */
};
struct prelux_entries {
  struct prelux_entry **slots;
  size_t n_slots, count;
  struct prelux_entry *newest, *oldest;
};

int prelux_entries_init(struct prelux_store *s);
void prelux_entries_release(struct prelux_store *s);
struct prelux_entry *prelux_entry_find(struct prelux_tree *t, const char *object, size_t len);
void prelux_entry_known(const struct prelux_entry *e, struct prelux_known *ret);
/* Remembers k unless what is there was learned later (then *k becomes that); keeps cache_ino of the same version.
 * Without memory it forgets instead: not knowing is always right. */
void prelux_entry_put(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *k);
void prelux_entry_drop(struct prelux_tree *t, const char *object, size_t len);
void prelux_entries_drop_below(struct prelux_tree *t, const char *object, size_t len);

struct prelux_folder_extra {
  uint32_t version_off, md5_off; /* in the pool; 0: "" */
};
struct prelux_folder {
  struct prelux_folder *chain, *newer, *older;
  struct prelux_tree *tree;
  uint64_t hash, learned_ns;
  _Atomic unsigned refs;
  bool exact;      /* attributes may be believed (PRELUX_CAP_LIST_EXACT) */
  bool all;        /* and so may absence (PRELUX_CAP_LIST_ALL): Alluxio lists nothing of a folder with one name that is not UTF-8 */
  bool made;       /* no listing: the remote has made the folder for us, and it was empty then */
  bool outdated;   /* a child has been learned to have another number since, or was changed here: not to be sent any more */
  unsigned asked;  /* children asked for one by one since it expired */
  struct prelux_listing *blob; /* as it is sent */
  struct prelux_folder_extra *extra;
  char *pool;
  size_t pool_len;
  uint32_t path_len;
  char path[];
};
#define PRELUX_CHANGED_SLOTS 4096u
#define PRELUX_STIRRED_SLOTS 4096u
#define PRELUX_BELOW_SLOTS 16384u
struct prelux_folders {
  uint64_t changed[PRELUX_CHANGED_SLOTS]; /* by hash of the folder: when a name in it was changed here; many share one, so it may be later */
  uint32_t below[PRELUX_BELOW_SLOTS];     /* by hash of a folder: how many that are remembered lie somewhere below it */
  uint32_t stirred[PRELUX_STIRRED_SLOTS]; /* by hash of the folder: how often its shared listing was taken back */
  struct prelux_folder **slots;
  size_t n_slots, count, bytes;
  struct prelux_folder *newest, *oldest;
};

int prelux_folders_init(struct prelux_store *s);
void prelux_folders_release(struct prelux_store *s);
struct prelux_folder *prelux_folder_find(struct prelux_tree *t, const char *object, size_t len);
/* Takes f (one reference), replaces what was there, drops the slots of names that have gone. */
void prelux_folder_put(struct prelux_folder *f);
void prelux_folder_drop(struct prelux_tree *t, const char *object, size_t len);
void prelux_folders_drop_below(struct prelux_tree *t, const char *object, size_t len);
void prelux_folder_unref(struct prelux_folder *f); /* without store.lock too */
/* The object was changed here: the listing of its folder, also one that is on its way, is not to be sent any more. What it says of
 * other names stays, and of this one as long as there is no entry. */
void prelux_folders_touch(struct prelux_store *s); /* all */
void prelux_folder_touch(struct prelux_tree *t, const char *object, size_t len);
/* The folder's names are, or may be, others than its listing in shared memory (RUNTIME/names) says: programs ask for it again. An answer
 * that was begun before is not put there any more. To be called when the change can be seen, under the same hold of store.lock, or later,
 * but before anybody is told that it was made. */
void prelux_folder_stir(const struct prelux_tree *t, const char *object, size_t len);
uint32_t prelux_folder_stirred(const struct prelux_tree *t, const char *object, size_t len);
/* Index of a name, or -1. */
long prelux_folder_child(const struct prelux_folder *f, const char *name, size_t len);
void prelux_folder_known(const struct prelux_folder *f, uint32_t i, struct prelux_known *ret);

/* What memory holds about an object, from its entry or its folder's listing, whichever was learned later (store.lock held).
 * 1 and *ret; 0: nothing. */
int prelux_memory_get(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret);
/* Forgets an object: entry, listing of it and of its folder, index. */
void prelux_memory_forget(struct prelux_tree *t, const char *object, size_t len);

/* ---- single flight (flight.c) ---- */

enum prelux_flight_kind { PRELUX_FLIGHT_STAT, PRELUX_FLIGHT_LIST, PRELUX_FLIGHT_FILL };
struct prelux_flight {
  struct prelux_flight *next;
  struct prelux_tree *tree;
  struct prelux_backend *backend;
  uint32_t reader;
  const char *object; /* borrowed from the leader */
  size_t len;
  enum prelux_flight_kind kind;
  unsigned waiters;
  bool told; /* of a fill: readers of its flow have its result already */
  bool done;
  int result;
  struct prelux_problem why;
  pthread_cond_t cond;
};

/* 1: the caller leads and must call end(). Otherwise somebody else led; waits until that ended and gives its result (0 or
 * -errno; -EAGAIN when it failed with another backend's credentials, or its failure was told before this call: ask yourself; or when v->early can
 * join a flow). */
int prelux_flight_begin(struct prelux_flight *f, const struct prelux_view *v, enum prelux_flight_kind kind, const char *object,
                        int *ret_result, struct prelux_problem *why);
void prelux_flight_end(struct prelux_store *s, struct prelux_flight *f, int result, const struct prelux_problem *why);
/* The result of the object's fill is told now, before it ends; store.lock held. */
void prelux_flight_tell(struct prelux_tree *t, const char *object);
/* Those of a fill's waiters who can be served by a flow look again; store.lock held. */
void prelux_flight_wake(struct prelux_tree *t, const char *object);
/* Leads without waiting: false when somebody is at work on the object. */
bool prelux_flight_try(struct prelux_flight *f, struct prelux_tree *t, enum prelux_flight_kind kind, const char *object);

/* ---- files handed out while they come in (stream.c) ---- */

/* Equal only for one version of one object; 0: it has none that can be compared. */
uint64_t prelux_flow_version(const struct prelux_object *obj);
struct prelux_flow {
  struct prelux_flow *next;
  struct prelux_tree *tree;
  const char *object, *name; /* borrowed from who fills; name: below fill/ */
  struct prelux_object obj;
  struct prelux_stream *map;
  uint64_t version;
  uint64_t reserved; /* bytes of room that parts of it have taken (parts.h) */
};
/* Somebody is to be answered by it. */
bool prelux_flow_wanted(const struct prelux_view *v, const struct prelux_object *obj);
/* The file fill/name (fd) is being filled with k's version: answers v->early. front: the page of a fill that is gone on with, which is the flow's
 * then; NULL: it is made. False: it is to be waited for as ever. */
bool prelux_flow_begin(struct prelux_flow *w, const struct prelux_view *v, const char *object, const struct prelux_known *k,
                       const char *name, int fd, struct prelux_stream *front);
void prelux_flow_advance(struct prelux_flow *w, uint64_t front);
void prelux_flow_rest(struct prelux_stream *m); /* nobody fills it now: who waits asks */
/* How far a fill goes of which `front` bytes are there: the object's size, or less: then it rests until somebody needs more. */
uint64_t prelux_flow_limit(const struct prelux_view *v, const struct prelux_object *obj, uint64_t front);
/* After it is in the cache and in the index (rc 0), or rests (-ECANCELED, kept), or has failed; wrong: by its checksum. kept: the files stay (partial.h). */
void prelux_flow_end(struct prelux_flow *w, int rc, bool wrong, bool kept);
/* Somebody is filling k's version by a flow: answers v->early by that. */
bool prelux_flow_join(const struct prelux_view *v, const char *object, const struct prelux_known *k);

/* ---- folders and files on disk (disk.c) ---- */

/* O_PATH fd of the folder that holds `object` (its parents made when `make`), and its last name. Caller closes. */
int prelux_disk_parent(struct prelux_tree *t, const char *object, bool make, int *ret_fd, const char **ret_base);
/* The same for a folder itself. */
int prelux_disk_folder(struct prelux_tree *t, const char *object, bool make, int *ret_fd);
/* Opens the file at a cache path: regular, no link followed. -ENOENT, -ENOTDIR, -ELOOP, -EISDIR, -ENXIO (not a regular file). */
int prelux_disk_open(struct prelux_tree *t, const char *object, int flags, int *ret_fd, struct stat *ret_st);
int64_t prelux_stat_mtime(const struct stat *st);
int prelux_mkdir_at(int dirfd, const char *name); /* 0 also when it is there */
int prelux_dir_open(int dirfd, const char *name); /* fd or -errno; follows no link */
/* Calls fn for each name but "." and ".."; stops at its first negative result. */
int prelux_dir_each(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg);

/* ---- opening a store (place.c, lock.c, recover.c) ---- */

enum prelux_fs_kind { PRELUX_FS_LOCAL, PRELUX_FS_NETWORK, PRELUX_FS_UNKNOWN_FUSE };
/* 0, or -EREMOTE / -EACCES with why: may a store stand in this folder? */
int prelux_place_check(int dirfd, const char *dir, bool single, struct prelux_problem *why);
/* Makes the folder and its missing parents (0700) and opens it. fd or -errno. */
int prelux_place_open(const char *dir, struct prelux_problem *why);
int prelux_lock_take(struct prelux_store *s, struct prelux_problem *why);
void prelux_lock_release(struct prelux_store *s);
int prelux_lock_boot(char ret[40]); /* boot id */
int prelux_recover(struct prelux_store *s, struct prelux_problem *why);
void prelux_recover_closed(struct prelux_store *s); /* clean shutdown */
void prelux_recover_epoch(struct prelux_store *s);  /* one syncfs, if something was filled */

/* ---- answers (fresh.c, list.c, open.c, fill.c, adopt.c, evict.c) ---- */

/* Attributes that the view may use at this instant, from memory or the remote. `force`: ask whatever memory says. */
int prelux_fresh_get(const struct prelux_view *v, const char *object, unsigned flags, bool force, struct prelux_known *ret,
                     struct prelux_problem *why);
/* An answer of the remote that came by another way than stat: rc 0 and k->obj, or -ENOENT; k->learned_ns is when it was asked. Remembered;
 * 0 (k has its number), -ENOENT, -ENOTDIR or -EPROTO. */
int prelux_fresh_learn(const struct prelux_view *v, const char *object, int rc, struct prelux_known *k, struct prelux_problem *why);
/* prelux_fresh_get would not ask the remote for a file, or had something to compare its answer with. */
bool prelux_fresh_knows(const struct prelux_view *v, const char *object);
/* Asks the backend for a listing (one flight for all) and remembers it. ret (may be NULL) gets a reference. */
int prelux_list_refresh(const struct prelux_view *v, const char *object, struct prelux_folder **ret, struct prelux_problem *why);
/* The remote has made this folder for us, which was not there at learned_ns. */
void prelux_list_made(const struct prelux_view *v, const char *object, uint64_t learned_ns);
/* For who makes a name, over whatever is there or on the condition that nothing is: it is in a folder that was made here a moment ago, and nothing was heard of it since.
 * Readers ask the remote: somebody else may have put it there. */
bool prelux_list_lacks(const struct prelux_view *v, const char *object);
/* 0: the folder has no names, as this node sees it now; -ENOTEMPTY, or what listing it failed with. */
int prelux_list_empty(const struct prelux_view *v, const char *object, struct prelux_problem *why);
/* Somebody had to ask for a name that a young listing has: publishes its neighbours with it. */
void prelux_list_publish_around(const struct prelux_view *v, const char *object, size_t len);
/* Remembers k as what lies at the cache path with cache_ino, and publishes it. Something learned later wins in memory, not in *k,
 * unless it is the same version. */
void prelux_open_remember(const struct prelux_view *v, const char *object, struct prelux_known *k);
/* Publishes the cached files used last, so that descriptors that outlived a daemon keep their identity and immutable
 * files are hits at once. */
void prelux_open_warm(const struct prelux_view *v);
/* Makes the cache folder of a folder; ret_fd (may be NULL): O_RDONLY. */
int prelux_open_folder(const struct prelux_view *v, const char *object, struct prelux_known *k, int *ret_fd,
                       struct prelux_problem *why);
/* Opens the cache file if it is whole and of k's version. 0 and fd, -ENOENT: not there or something else is. leads: the caller
 * leads the object's fill flight. */
int prelux_open_cached(const struct prelux_view *v, const char *object, struct prelux_known *k, bool leads, int *ret_fd);
/* Fetches k's version. With `keep` it lies at its cache path afterwards; else it has no name there. 0 and an O_RDONLY fd.
 * -ESTALE: the remote has another version by now. */
int prelux_fill(const struct prelux_view *v, const char *object, struct prelux_known *k, bool keep, int *ret_fd,
                struct prelux_problem *why);
/* The same of an object of which nothing is known, in one question to a backend that can. 0; 1: not so, ask for its attributes, then fill;
 * 2: it is a folder, *k is as from prelux_fresh_get; or -errno of either. */
int prelux_fill_unknown(const struct prelux_view *v, const char *object, struct prelux_known *k, bool keep, int *ret_fd,
                        struct prelux_problem *why);
/* A row's description of a file equals the file. */
bool prelux_row_matches(const struct prelux_store *s, const struct prelux_row *row, const struct stat *st);
/* What lies at the cache path and is not known: adopted (0, catalogue row made), nothing there or put aside (-ENOENT). */
int prelux_adopt(const struct prelux_view *v, const char *object, struct prelux_known *k, struct prelux_problem *why);
/* Moves what lies at dirfd/name (object path `object`) out of the way: ours and known is dropped, anything else goes to
 * recovered/. 0 or -errno. */
int prelux_adopt_aside(struct prelux_tree *t, int dirfd, const char *name, const char *object);
/* Keeps an inode whose name is about to go alive until its readers have gone: no inode number in the index is used twice. */
void prelux_hold(struct prelux_store *s, int dirfd, const char *name, char ret[32]); /* ret: its name in held/, or "" */
void prelux_hold_shown(struct prelux_store *s, int dirfd, const char *name, char ret[32]); /* as before, but its path still shows it */
void prelux_hold_undo(struct prelux_store *s, char name[32]); /* its own name did not go after all */
void prelux_hold_name(struct prelux_store *s, char ret[32]); /* a new name in held/ */
void prelux_hold_release(struct prelux_store *s, const char *name, bool force); /* unlinks it if nobody has it open */
void prelux_hold_sweep(struct prelux_store *s);
/* Room for `bytes` more, evicting when needed; counted until prelux_room_return(). -ENOSPC. */
int prelux_room_take(struct prelux_store *s, uint64_t bytes, struct prelux_problem *why);
void prelux_room_return(struct prelux_store *s, uint64_t bytes);
/* Evicts until `bytes` are free below the limits; number of bytes given back. */
uint64_t prelux_evict_bytes(struct prelux_store *s, uint64_t bytes);
/* One cached file: 0 dropped, -EBUSY somebody has it, or (spare) has pinned it, -ENOENT. *ret_bytes. */
int prelux_evict_one(struct prelux_tree *t, const char *object, bool spare, uint64_t *ret_bytes);
void prelux_evict_tick(struct prelux_store *s);
/* A row came (+bytes) or went: keeps `used` and the number of files (store.lock held). old, bytes -1: there was, is none. */
void prelux_store_account(struct prelux_store *s, int64_t old, int64_t bytes);
/* Forgets the row of a cached file, when there is one. Its bytes. */
uint64_t prelux_store_drop_row(struct prelux_tree *t, const char *object);

/* ---- writing, as the readers' side sees it (stage.c) ---- */

struct prelux_stage;
/* Is there a file of this path that is newer than the remote's? store.lock may be held. */
bool prelux_stage_has(const struct prelux_tree *t, const char *object, size_t len);
/* If there is: puts its LIVE slot into the index, for this view (store.lock held). */
bool prelux_stage_publish(const struct prelux_view *v, const char *object, size_t len);
/* A view of a tree is used for the first time. */
void prelux_live_begin(struct prelux_view *v);

/* Whoever found the folder of `object` when the tree's shape was that, and has made a file in it since: is the folder still there? (name.c) */
bool prelux_name_stays(const struct prelux_view *v, const char *object, uint64_t shape);

/* ---- the structs ---- */

/* A folder in which somebody makes names without asking: they are hidden, see stage_lease.h. */
struct prelux_leased {
  const char *folder;
  size_t len;
};

struct prelux_tree {
  struct prelux_tree *next;
  struct prelux_store *store;
  int64_t id;
  char *identity, *root;
  int fd; /* its data folder */
  _Atomic mode_t folder_mode; /* of folders that are made in it; 0: 0700 (share.h) */
  uint64_t dev, key, base_id;
  struct prelux_backend *backend; /* given to views made from now on */
  struct prelux_view *views; /* those that the index has slots of; their `backend` means nothing */
  size_t n_views;
  bool taken_up; /* what was being written to it is known */
  _Atomic uint64_t away_ns; /* CLOCK_MONOTONIC: when its remote failed last; 0: it was heard since */
  _Atomic uint64_t sent_ns; /* CLOCK_MONOTONIC: when something was sent to it last */
  _Atomic int64_t owed_id; /* its number in the journal; 0: not known yet, or it has none */
  struct prelux_numbers numbers;
  struct prelux_attrs attrs;
  struct prelux_times times;
  struct prelux_links links;
  _Atomic unsigned moving; /* folders that are being renamed: a put that fails just now may have found its folder gone, a row its cache file */
  _Atomic uint64_t shape; /* how often a folder was removed or renamed here */
  const struct prelux_leased *leased; /* a folder of which nothing is published (stage_lease.h), or NULL; under store.lock */
};

/* What was evicted a short time ago (victims.c). */
#define PRELUX_GHOSTS (1u << 18)
#define PRELUX_MARKS 4u
struct prelux_ghosts {
  struct prelux_ghost {
    uint32_t tag;              /* half of a hash, 0: none */
    uint32_t used_ms;          /* of its last use, modulo 2^32 */
  } *slots;                    /* NULL: nothing was evicted yet */
  int regret;                  /* share of ghosts in what was fetched lately, of 65536 */
  int64_t round_ns;            /* how long after its last use such a file was fetched again, of the last few */
  bool keeps;                  /* it is so large that what is there had better stay */
  int64_t marks[PRELUX_MARKS]; /* CLOCK_REALTIME at which another 64th of the cache had been fetched, the last so many */
  unsigned n_marks;
  uint64_t rest;               /* bytes since the last one */
  int64_t apart_ns;            /* uses so close are one: the fetch, and the kernel's note of the first reading */
  int64_t young_ns;            /* files that were fetched so short a time ago do not go before older ones */
};

struct prelux_store {
  char *dir, *staging;
  struct prelux_store_opts opts;
  int dir_fd, meta_fd, fill_fd, held_fd, recovered_fd, lock_fd;
  int clock_fd; /* stamp.c; -1: none can be had */
  uint64_t dev; /* st_dev of its files */
  /* `staging: DIR` (stage_scratch.c): set once, under stage_lock. The folder of staging files there, NULL: none. */
  char *_Atomic scratch;
  int scratch_fd, scratch_held_fd;
  uint64_t scratch_dev;
  mode_t read_bits, exec_bits; /* what cache files get: others may look only where nobody else gets in */
  uint64_t max_bytes;
  struct prelux_index_writer *index;
  struct prelux_catalogue *cat;
  int64_t distrust_from, distrust_to; /* ctime: unknown files of that time are believed by content only */

  pthread_mutex_t lock;
  struct prelux_tree *trees;
  struct prelux_entries entries;
  struct prelux_folders folders;
  struct prelux_flight *flights;
  struct prelux_flow *flows;
  struct prelux_partial *partials;
  struct prelux_partial *taken; /* by fills that hand nothing out yet: their parts are fetched meanwhile */
  struct prelux_parts_job *part_jobs; /* under parts_lock */
  uint64_t seed, used, reserved;
  struct prelux_pin *pins; /* pin.h, in order */
  size_t n_pins;
  uint64_t epoch_ns; /* last syncfs */
  bool opened, unsynced, lease_warned;
  struct prelux_victim *uses; /* last uses to be written to the catalogue; at PRELUX_USES_MAX further ones are not noted */
  int n_uses;
  struct prelux_ghosts ghosts;
  struct prelux_store_stats stats;
  _Atomic uint64_t next_name; /* for files in fill/, held/, recovered/ */
  _Atomic unsigned held;
  pthread_mutex_t evict_lock; /* one evictor at a time; outside store.lock */
  pthread_mutex_t pin_lock;   /* while a pin comes or goes, in `pins` and in the catalogue; inside evict_lock, outside store.lock */
  pthread_mutex_t parts_lock; /* while parts of a file are written (parts.h); outside store.lock */
  pthread_cond_t parts_cond;  /* a job of part_jobs has ended */
  pthread_mutex_t stage_lock; /* while `stage` is made and its rows are taken up; outside store.lock */
  prelux_refused_fn refused_fn; /* set before the first file is written */
  void *refused_arg;
  struct prelux_stage *_Atomic stage; /* NULL: nothing was ever written here. Set once */
};

#endif
