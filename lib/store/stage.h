/* Writing: files between the program that writes them and the remote.
 *
 * Theory of operation. A file that is open for writing is one inode, STORE/.prelux/staging/<its number>, which all its writers and
 * later readers share, and readers who opened it before: the clean cache file itself is taken out of the tree. Each has a row in the
 * journal from before it has its staging name until the remote has it.
 *
 *   open    (nothing, or a clean file) -> row WRITING -> staging/<ino> -> a descriptor of it, which is all the program gets
 *   close   nobody has a writable descriptor or mapping any more (read lease) -> nothing changed: back into the tree, row gone
 *                                                                              -> else row READY
 *   send    put, on the condition that the remote still is what the writer began from -> catalogue -> name in the tree -> row gone
 *
 * Against power cuts (stage_power.c) a row and its staging name are synced when a program calls fsync, and at the close where the rules or
 * an fsync just before ask for it: such a row is SAFE. After a cut nothing is sent whose bytes may be others than were written.
 *
 * One thread at a time works on a staging file (`busy`); opens wait while it is being sent. A daemon that dies leaves rows and files,
 * which say where each was. What the remote refuses stays, as REFUSED, until a person decides.
 *
 * Readers see a dirty file before all else: attributes as they are now, its name in listings, and never what index or memory say of the
 * remote's object.
 *
 * Locks: stage.lock is inside store.lock, and never held over a call that may wait. */
#ifndef PRELUX_STORE_STAGE_H
#define PRELUX_STORE_STAGE_H

#include "lib/store/journal.h"
#include "lib/store/order.h"
#include "lib/store/private.h"

#define PRELUX_DIRTY_MAX 262144u        /* files being written or waiting to be sent; more: -ENOSPC */
#define PRELUX_STAGE_WAIT_NS 10000000000ll
#define PRELUX_AWAY_NS 60000000000ull
#define PRELUX_RESUME_NS 5000000000ull /* a remote that has taken nothing for so long was away */
#define PRELUX_KEPT 1                  /* the loser of a conflict lies beside the winner */
#define PRELUX_UPLOAD_IDLE_S 86400u    /* an upload that nobody goes on with is removed */
#define PRELUX_PART_SIZE (16u << 20)   /* of uploads in parts, unless the remote wants others */
#define PRELUX_PARTS_ABOVE (64u << 20) /* bytes: larger files go in parts where the remote takes them */
#define PRELUX_PARTS_AT_ONCE 4u
#define PRELUX_REST_TIMES 4u            /* a file that was just sent rests so many times what that cost, before it is sent again */
#define PRELUX_REST_MAX_NS 5000000000ull
#define PRELUX_RESTS 256u
#define PRELUX_PAUSE_NS 200000000u      /* without a close: its writers are thought to be done (stage_linger.c) */
#define PRELUX_LINGER_BYTES (64u << 20) /* so much that waits is sent at once */
#define PRELUX_WRITERS_MAX 1024u        /* processes that are remembered at once, of one store */
#define PRELUX_FILE_WRITERS 8u          /* of one file; the oldest is forgotten */
#define PRELUX_STRANGERS 8              /* so many names that numbers of new files give may be taken by something else, one after the other */
#define PRELUX_DYING_MS 1000            /* so long a process that is about to be gone is waited for */
#define PRELUX_HELD_NS 2000000000ull    /* so long the next question of a close that waits for others may take */
#define PRELUX_ORPHAN_NS 3000000000ull  /* and for a close of a file that a daemon before has left */
#define PRELUX_SENDERS_MAX 8u           /* files of one store that are sent at once in the background */
#define PRELUX_SEND_RETRY_NS 500000000ll /* before the second try; doubles */
#define PRELUX_SEND_RETRY_MAX_NS 60000000000ll
#define PRELUX_WORD_MAX 64u /* of a state of a file: size and hash (stage_unsure.c) */

struct prelux_dirty {
  struct prelux_dirty *by_ino, *by_path, *by_id; /* chains */
  struct prelux_tree *tree;
  struct prelux_pending row;
  struct prelux_write_rules rules; /* of the last writer */
  struct prelux_row clean;         /* the catalogue's row of the clean file that it was made of; ino 0: made anew */
  struct stat taken;               /* of that file when it got its staging name: equal now means that nobody wrote */
  struct stat synced;              /* the file as it was when its bytes were last known to be on the medium; st_ino 0: never */
  uint64_t shown;                  /* st_ino that programs see */
  bool empty;                      /* made by the open that is under way: there is nothing to cut */
  bool busy;                       /* a thread works on it */
  bool settling;                   /* and looks whether its last close has been: it may be READY in a moment */
  bool queued;                     /* in stage.order */
  bool resumed;                    /* a daemon before had it, and may have left parts of it on the remote */
  bool dead;                       /* out of the tables: whoever waited must look again */
  unsigned waiters;
  uint64_t counted;                /* bytes of it in stage.waiting */
  struct prelux_grow *grow;        /* what was sent of it while it is written (stage_grow.c), or NULL */
  unsigned grow_tries;
  struct prelux_fsynced *fsynced;  /* what `fsync: remote` has sent of it (stage_fsync.c), or NULL */
  struct prelux_writer *writers[PRELUX_FILE_WRITERS]; /* who has it for writing, as far as is known: the oldest first (stage_crash.c) */
  unsigned n_writers;
  unsigned gone_before;            /* a bit of each writer who was dead when a younger one got the file */
  unsigned closing;                /* who are about to say that they have closed it */
  unsigned handing;                /* descriptors of it that the daemon has itself, about to be passed to who asked for them */
  uint64_t held_ns;                /* who waits in close() for others (`held: wait`) asks again before: CLOCK_MONOTONIC */
  uint64_t orphan_ns;              /* a daemon before had it, and nobody has it since: CLOCK_MONOTONIC until when his close may be told; 0: not so */
  _Atomic uint64_t sent;           /* bytes of the upload under way */
};

struct prelux_mix;
struct prelux_writer;
struct prelux_deferred;
struct prelux_deferred_end;

struct prelux_rest { /* of a path, by hash; another may take its place */
  uint64_t path, until_ns; /* CLOCK_MONOTONIC */
};

struct prelux_grower { /* stage_grower.c; under stage.lock */
  pthread_t thread;
  pthread_cond_t wake;
  struct prelux_grow *files;
  struct prelux_lost *lost; /* stage_lost.c */
  bool running, ending, idle, kicked;
  bool by_hand; /* no thread: tests call prelux_grow_round() */
  unsigned not; /* remotes that can any of this get nothing before the close */
};

#define PRELUX_LEFT_FOLDER "left" /* of marks, beside staging/ (stage_left.c); the library makes them */
#define PRELUX_SPARES 128u
#define PRELUX_SPARE_NAME "spare" /* of one that has no number yet */
#define PRELUX_SPARE_NOW "spare-now"
struct prelux_spares { /* stage_spare.c; under stage.lock */
  uint64_t ino[PRELUX_SPARES], last_ns; /* CLOCK_MONOTONIC: a new file */
  unsigned n, quick;
  bool making;
};

#define PRELUX_LEASE_FOLDER "lease" /* beside staging/ (stage_lease.c); the library uses it */
struct prelux_lease;
struct prelux_streak { /* of opens that might have done with a lease: the last one, and how many in a row */
  uint64_t folder, serial;
  int pid;
  uint32_t mode;
  unsigned how, n, need; /* need: twice as many after each grant in that folder that was not worth it */
};
struct prelux_leases {
  pthread_mutex_t lock; /* outside of all others */
  struct prelux_lease *one;
  struct prelux_streak streak;
  int fd;   /* lease/, or -1 */
  bool off; /* none is granted here */
};

#define PRELUX_LOSERS 16u
struct prelux_loser { /* stage_conflict.c */
  uint64_t ino;
  struct prelux_problem why;
};

struct prelux_stage {
  struct prelux_store *store;
  int fd; /* staging/ */
  struct prelux_journal *journal;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct prelux_order *order; /* rows to be sent, by id */
  bool unplaced;              /* some changed name found no memory for its place there: nothing is sent until it has one */
  struct prelux_dirty **by_ino, **by_path, **by_id;
  size_t slots;
  _Atomic size_t count;
  struct prelux_deferred **names_by_id, *names; /* changed names that wait (deferred.h) */
  struct prelux_deferred_end **names_by_path;
  _Atomic size_t n_names;
  uint64_t parts_above, part_size; /* PRELUX_PARTS_ABOVE, PRELUX_PART_SIZE; smaller in tests */
  uint64_t room, waiting;     /* bytes that may wait to be sent, and that do */
  int64_t room_wait_ns;       /* how long an open waits for some; PRELUX_STAGE_WAIT_NS */
  struct prelux_loser losers[PRELUX_LOSERS]; /* that lie beside the winner, and of whose close nobody has told yet: the oldest first */
  unsigned n_losers;
  uint64_t swept;             /* the folder of the remote that was cleaned last, by hash */
  struct prelux_rest rests[PRELUX_RESTS];
  unsigned rest_times;        /* PRELUX_REST_TIMES; 0 in tests */
  unsigned senders;           /* threads that send in the background */
  uint64_t pause_len_ns;      /* PRELUX_PAUSE_NS; another in tests */
  uint64_t pause_ns, patience_ns; /* they begin at the earlier of the two, CLOCK_MONOTONIC (stage_linger.c); patience_ns 0: nobody waits for a pause */
  bool ending;                    /* nobody waits for one any more */
  pthread_cond_t go;              /* they need not wait any more; by CLOCK_MONOTONIC */
  struct prelux_grower grower;
  struct prelux_writer *writers; /* stage_crash.c */
  unsigned n_writers;
  uint64_t orphan_len_ns;        /* PRELUX_ORPHAN_NS; another in tests */
  struct prelux_spares spares;
  struct prelux_leases leases;
  int left_fd;    /* left/, or 0 */
  uint64_t *left; /* those that have marks of a time before this daemon; sorted */
  size_t n_left;
  uint64_t kicks;             /* how often somebody asked for one */
  uint64_t sent, refused, failed; /* counters */
};

/* Opens journal and staging/ of a store. */
int prelux_stage_create(struct prelux_store *s, struct prelux_stage **ret, struct prelux_problem *why);
/* Takes up what a daemon before has left of a tree, which was opened just now: once for each tree. On failure nothing of it is in use. */
int prelux_stage_take_up(struct prelux_stage *g, struct prelux_tree *t, struct prelux_problem *why);
void prelux_stage_free(struct prelux_stage *g); /* NULL is allowed; no call is under way */

/* A file for writing: flags are open's, mode that of a new file with the program's umask taken off. *ret_fd has the access mode, O_APPEND,
 * O_DIRECT and so on of `flags`; it is the only reference of this process, to be passed on and closed. -EEXIST, -ENOENT, -EISDIR, -EROFS,
 * -ENOTDIR, -ENOSPC, or what the remote says. */
int prelux_stage_open(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                      int flags, uint32_t mode, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why);
/* The same, asked for by somebody (store.h). -ESRCH: he is dead. */
int prelux_stage_open_by(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                           int flags, uint32_t mode, const struct prelux_asker *by, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why);
/* Flags that the row of a new file begins with. */
uint32_t prelux_stage_first_flags(const struct prelux_write_rules *rules, bool over);
/* A staging file that was named by who made it (stage_lease.h) becomes what an open would have made of it. Nobody else is at work on its name. */
struct prelux_stage_made {
  const struct prelux_view *v;
  const struct prelux_write_rules *rules;
  const char *object;
  uint32_t mode;
  bool over;       /* opened by O_TRUNC, not O_EXCL */
  uint64_t ino;
  int64_t made_ns; /* by which its number was made */
  struct prelux_writer *writer;
};
int prelux_stage_adopt(struct prelux_stage *g, const struct prelux_stage_made *m, struct prelux_problem *why);
/* Somebody has closed a writable reference to the inode, or may have. 0: it was the last, and what the rules promise is done (or there is
 * nothing to do); -EAGAIN: somebody still writes; else the error of sending, which close() gives. */
int prelux_stage_closed(struct prelux_stage *g, uint64_t ino, const struct prelux_write_rules *rules, struct prelux_problem *why);
/* Whose writers have gone without a word (killed, or out of our reach): settled as if the last had closed, sent in the background. */
void prelux_stage_poll(struct prelux_stage *g);
/* The same for one, when the kernel says that a writable descriptor of it was closed. */
void prelux_stage_left(struct prelux_stage *g, uint64_t ino);
/* Before the caller's file is opened again: a close of it that nobody has waited for is settled, so that what it promised is not lost with who opens it
 * now. True: the file is gone, and d with it. */
bool prelux_stage_settle_before(struct prelux_stage *g, struct prelux_dirty *d);
/* A staging file without a name (O_TMPFILE) gets one. -ENOENT: there is no such file; -EPERM: it has a name; -EEXIST, and so on as open. */
int prelux_stage_link(struct prelux_stage *g, const struct prelux_view *v, uint64_t ino, const char *object, struct prelux_problem *why);
/* A program's fsync of the file: what it has written until now survives a power cut. ino 0: of a folder, so do all names. 0 also when there is no
 * such file any more. */
int prelux_stage_sync(struct prelux_stage *g, uint64_t ino, struct prelux_problem *why);
/* Everything in the store's file system was put onto the medium by a syncfs that began at this time (CLOCK_REALTIME). */
void prelux_stage_synced(struct prelux_stage *g, int64_t at_ns);
/* And nobody changes a row any more: the store is about to be closed. */
void prelux_stage_all_safe(struct prelux_stage *g);
/* What a daemon before has left is from before the machine went down, without a warning perhaps (stage_power.c): once, before rows are used. */
int prelux_stage_reboot(struct prelux_stage *g);
/* What a program sees of an object that is here: 1 and *ret (size and mtime as they are now), 0: it is not. */
int prelux_stage_known(struct prelux_stage *g, const struct prelux_tree *t, const char *object, struct prelux_known *ret);
/* A readable descriptor of it; -ENOENT: it is not here. */
int prelux_stage_read(struct prelux_stage *g, const struct prelux_tree *t, const char *object, struct prelux_known *k, int *ret_fd);
/* Adds the dirty files in the folder, as they are now. */
int prelux_stage_names(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m);
/* Closes that nobody waits for (stage_left.c): whose files have marks are settled as if the kernel had told of their closes just now. */
void prelux_left_settle(struct prelux_stage *g);
bool prelux_left_marked(struct prelux_stage *g, uint64_t ino, int pid); /* the process has closed it, and not opened it since */
bool prelux_left_by_writer(struct prelux_stage *g, const struct prelux_dirty *d); /* any of its writers; d is the caller's */
void prelux_left_again(struct prelux_stage *g, uint64_t ino, int pid);  /* it opens it */
bool prelux_left_before(const struct prelux_stage *g, uint64_t ino);    /* somebody had closed it, said the marks when this daemon began */
int prelux_left_begin(struct prelux_stage *g);
void prelux_left_keep(struct prelux_stage *g, bool (*owed)(void *arg, uint64_t ino), void *arg); /* marks of other files go */
void prelux_left_end(struct prelux_stage *g);
/* Staging files made ahead (stage_spare.c). A new file: true and what it is, with its own number for a name; false: there is none. */
bool prelux_spare_take(struct prelux_stage *g, mode_t mode, struct stat *ret);
bool prelux_spare_new(struct prelux_stage *g, struct stat *ret); /* the same of one that is made at once, by one caller at a time */
bool prelux_spare_wanted(struct prelux_stage *g); /* true: the caller, and nobody else, is to call prelux_spare_make() */
void prelux_spare_make(struct prelux_stage *g);
bool prelux_spare_burst(struct prelux_stage *g); /* new files come in quick succession, and the last one just now */
void prelux_spare_back(struct prelux_stage *g, uint64_t ino); /* taken, and not used */
void prelux_spare_drop(struct prelux_stage *g, bool all); /* else: unless files are being made */
/* Sends one of those that wait. 1: done or put off, there may be more; 0: none can go now. *ret_next_ns: CLOCK_REALTIME at which the next
 * retry is due, 0: none. */
int prelux_stage_work(struct prelux_stage *g, int64_t *ret_next_ns);

/* ---- inside (dirty.c, stage.c, stage_close.c, stage_grow.c, stage_grower.c, stage_lost.c, stage_tmp.c, stage_live.c, stage_list.c, stage_send.c, stage_recover.c) ---- */
struct prelux_dirty *prelux_dirty_by_ino(struct prelux_stage *g, uint64_t ino);
struct prelux_dirty *prelux_dirty_by_id(struct prelux_stage *g, int64_t id);
struct prelux_dirty *prelux_dirty_by_path(struct prelux_stage *g, const struct prelux_tree *t, const char *object);
void prelux_dirty_put(struct prelux_stage *g, struct prelux_dirty *d);    /* into the tables */
void prelux_dirty_hide(struct prelux_stage *g, struct prelux_dirty *d);   /* its path shows the remote's object again */
void prelux_dirty_renumber(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_pending *next); /* its row is that one, of any number */
void prelux_dirty_remove(struct prelux_stage *g, struct prelux_dirty *d); /* out of the tables, wakes waiters, frees when nobody waits */
/* Waits until nobody works on d and makes it the caller's. False: it died meanwhile. stage.lock held. */
bool prelux_dirty_grab(struct prelux_stage *g, struct prelux_dirty *d);
void prelux_dirty_release(struct prelux_stage *g, struct prelux_dirty *d);
/* The same without the lock: the one found, made the caller's, NULL when there is none; given back. Whoever leads a fill flight takes none:
 * who has one waits for flights. */
struct prelux_dirty *prelux_dirty_take(struct prelux_stage *g, const struct prelux_tree *t, const char *object);
struct prelux_dirty *prelux_dirty_take_ino(struct prelux_stage *g, uint64_t ino);
struct prelux_dirty *prelux_dirty_take_id(struct prelux_stage *g, int64_t id);
void prelux_dirty_give(struct prelux_stage *g, struct prelux_dirty *d);
/* The journal has it so: the row as others see it. d is the caller's. */
void prelux_dirty_becomes(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_pending *next);
void prelux_dirty_unhide(struct prelux_stage *g, struct prelux_dirty *d); /* undoes that */
struct prelux_dirty *prelux_dirty_find(struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len);
/* Live files (stage_live.c). None of them with a lock held. */
void prelux_live_attr(const struct prelux_dirty *d, const struct prelux_view *v, struct prelux_attr *ret); /* but this: stage.lock */
void prelux_live_show(struct prelux_tree *t, const char *object); /* slots of all views, as the tables say now */
/* A file without a row, that somebody has who is to give it a name (stage_lease.c), can be told by its inode; no more. */
void prelux_live_lend(struct prelux_tree *t, uint64_t ino, uint64_t shown, uint32_t mode);
void prelux_live_lent(struct prelux_tree *t, uint64_t ino);
/* The path shows the remote's object again, and what was known of that is forgotten. d stays in the other tables. */
void prelux_live_end(struct prelux_stage *g, struct prelux_dirty *d);
/* The same of one that the remote has as obj: what is known of the other names in its folder stays. */
void prelux_live_settle(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj);
void prelux_live_gone(struct prelux_stage *g, struct prelux_dirty *d); /* the same of one that was removed: the remote may have nothing of it */
void prelux_live_again(struct prelux_stage *g, struct prelux_dirty *d); /* undoes any of these */
void prelux_live_clean(struct prelux_dirty *d, const struct prelux_object *obj, uint64_t cache_ino); /* that is the cache file of obj now */
void prelux_live_start(struct prelux_stage *g, const struct prelux_dirty *d); /* it is in the tables just now; with a name or without */
void prelux_live_named(struct prelux_stage *g, struct prelux_dirty *d, char *path); /* a nameless one has a name now; takes path */
const char *prelux_dirty_name(const struct prelux_dirty *d); /* its path, or words for messages */
/* Nobody wants d's bytes any more: row, staging name and slots go, who has it open keeps it. d is the caller's, and gone on success. */
int prelux_stage_discard(struct prelux_stage *g, struct prelux_dirty *d);
/* The same of one that nobody has ever had: it goes whatever the journal says, which follows when it can be written. */
void prelux_stage_undo(struct prelux_stage *g, struct prelux_dirty *d);
/* d, the caller's, was being renamed to d->row.to on the remote when a daemon died: a look says whether that was done, and d has the name it has
 * there. -ESTALE: that path was written anew since; or the remote's error: not known yet, all is as before. (stage_names.c) */
int prelux_dirty_decide(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why);
/* The name of a staging file, and the folder in which it lies; -1: that is not there. */
int prelux_stage_name(const struct prelux_stage *g, uint64_t ino, char ret[24]);
int prelux_stage_tree(struct prelux_stage *g, struct prelux_tree *t); /* its owed_id is set: a number in the journal is made for it */
int prelux_stage_journal(struct prelux_stage *g, enum prelux_edit_kind kind, struct prelux_pending *row); /* one change */
/* d's row is `next` in the journal; behind changes of its name, for which it gets a new number: rows are sent in the order of these. */
int prelux_stage_journal_name(struct prelux_stage *g, const struct prelux_dirty *d, struct prelux_pending *next);
int prelux_stage_reopen(const struct prelux_stage *g, uint64_t ino, int flags); /* a descriptor of staging/<ino>, or -errno */
int prelux_stage_enqueue(struct prelux_stage *g, struct prelux_dirty *d);       /* READY: to be sent when its turn comes */
/* The loser of a conflict is sent under a name of its own, when its rules say so (on_conflict: keep): 1, *why says which name; 0: they do not, or
 * that failed. rc: what the first put failed with. */
int prelux_stage_keep(struct prelux_stage *g, struct prelux_dirty *d, int fd, int rc, struct prelux_problem *why);
/* Such a file goes, and its close may not have been told: remembered by its number, until another file has that (both with stage.lock held). */
void prelux_loser_note(struct prelux_stage *g, uint64_t ino, const struct prelux_problem *why);
void prelux_loser_forget(struct prelux_stage *g, uint64_t ino);
/* Whoever closed it is told now. False: it is none. */
bool prelux_loser_told(struct prelux_stage *g, uint64_t ino, struct prelux_problem *why);
/* One file: parts in parallel where the remote can, else one put. As the backend's put; -EUNKNOWN too. */
int prelux_stage_upload(struct prelux_stage *g, struct prelux_dirty *d, const char *path, int fd, const struct prelux_able *able,
                        const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
/* The row says that this upload is under way; NULL: none. d is the caller's. Another one that it named is given up. */
int prelux_stage_note_upload(struct prelux_stage *g, struct prelux_dirty *d, const char *token);
uint64_t prelux_stage_part_size(uint64_t part, uint64_t size, const struct prelux_able *able);
/* Parts that are sent while a file grows (stage_grow.c). */
void prelux_grow_init(struct prelux_stage *g);
void prelux_grow_kick(struct prelux_stage *g); /* somebody has opened a file for writing */
void prelux_grow_end(struct prelux_stage *g);  /* nothing is sent or begun any more */
void prelux_grow_forget(struct prelux_stage *g); /* after that, when no dirty file is left */
bool prelux_grow_round(struct prelux_stage *g, size_t *ret_n); /* looks once, and sends; the thread's */
void prelux_grow_lose(struct prelux_stage *g, struct prelux_dirty *d); /* nobody will complete its upload; stage.lock held */
void prelux_grow_wake(struct prelux_stage *g); /* there is an upload to be given up; stage.lock held */
/* Uploads that are to be aborted, again when the remote cannot be reached (stage_lost.c). put: stage.lock held; add: not. */
void prelux_lost_put(struct prelux_stage *g, struct prelux_tree *t, const char *path, const char *token);
void prelux_lost_add(struct prelux_stage *g, struct prelux_tree *t, const char *path, const char *token);
void prelux_lost_row(struct prelux_stage *g, const struct prelux_dirty *d); /* that which d's row names, if any; stage.lock held */
void prelux_lost_round(struct prelux_stage *g);  /* those that are due */
void prelux_lost_forget(struct prelux_stage *g);
/* The upload of d, the caller's, which sends `size` bytes as `path` now; NULL: there is none that would do. Waits for parts under way. It is
 * the caller's to complete or abort, its token stands in d's row. */
struct prelux_grow *prelux_grow_take(struct prelux_stage *g, struct prelux_dirty *d, const char *path, uint64_t size, const struct prelux_able *able,
                                     uint64_t *ret_part_size);
/* Part n has been sent, and the file has the same bytes there. */
bool prelux_grow_has(const struct prelux_grow *w, size_t n, int fd, uint64_t len, char tag[PRELUX_TAG_MAX]);
void prelux_grow_free(struct prelux_grow *w); /* NULL is allowed */
/* Waits until whatever is written from here on gets other stamps than st has: a tick of the kernel's clock at most. */
void prelux_stage_tick(const struct stat *st);
bool prelux_stage_same(const struct stat *a, const struct stat *b); /* nothing was written between the two */
/* After a put of which nothing is known, and before one that has a condition: 1: the remote has the bytes of fd, *ret; 0: send them; -errno. */
int prelux_stage_settle_first(struct prelux_stage *g, struct prelux_dirty *d, int fd, struct prelux_object *ret, struct prelux_problem *why);
/* Bytes of d, the caller's, as its row tells of them: row.size of fd. *ret: the object as it now is; -PRELUX_EUNKNOWN never. *ret_lost: an answer
 * was, and the remote may get the bytes yet. unsure: there was such a put before. */
int prelux_stage_put(struct prelux_stage *g, struct prelux_dirty *d, int fd, bool unsure, struct prelux_object *ret, bool *ret_lost,
                     struct prelux_problem *why);
/* The remote gets d, the caller's and READY, now. *ret_gone: it has it, and d is out of the tables. */
int prelux_stage_send_now(struct prelux_stage *g, struct prelux_dirty *d, bool *ret_gone, struct prelux_problem *why);
/* Nobody has written to it since it was opened clean; st: of the file now. */
bool prelux_stage_untouched(const struct prelux_dirty *d, const struct stat *st);
/* Sends d, which is the caller's and READY. 0: the remote has it, d is gone. PRELUX_KEPT: the remote has it under another name, d is gone.
 * Else d stays, with the error in its row. */
int prelux_stage_send(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why);
bool prelux_stage_final(int err);              /* another try will not change it */
int64_t prelux_stage_next_try(uint32_t tries); /* CLOCK_REALTIME, after so many that failed before the last */
/* ---- stage_unsure.c ---- */
/* The remote may have got d's bytes, as they are or were. */
bool prelux_dirty_unsure(const struct prelux_dirty *d);
/* Whose is the object that the remote has at d's path? now: it may be d's bytes as they are in fd, not only as they were. -errno: not known. */
enum prelux_whose { PRELUX_NOBODYS, PRELUX_OURS, PRELUX_FORMER, PRELUX_OTHERS };
int prelux_stage_whose(const struct prelux_dirty *d, int fd, bool now, struct prelux_object *ret, struct prelux_problem *why);
/* What d's writer began from is this version on the remote. all: nothing else of it can be there. */
int prelux_stage_begin_from(struct prelux_stage *g, struct prelux_dirty *d, const char *version, bool all);
/* Size and hash of a file. */
int prelux_stage_word(int fd, char ret[PRELUX_WORD_MAX]);
/* A state of d, the caller's, which that word names and which has that size and time, is about to be sent while the file is written on. */
int prelux_stage_note_sending(struct prelux_stage *g, struct prelux_dirty *d, const char *word, uint64_t size, int64_t mtime_ns);
/* d's row becomes `next`, which has `sent` of its own (freed on failure), the same or none. */
int prelux_stage_set_row(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_pending *next);
/* d, the caller's, waits to be sent, perhaps was already, and is about to be written on. If the remote has its bytes, what is written from
 * here on begins from those; else what it may have is noted. -errno: of the journal. */
int prelux_stage_resolve(struct prelux_stage *g, struct prelux_dirty *d);
/* The remote has answered (rc >= 0), or failed. */
void prelux_stage_heard(struct prelux_tree *t, int rc);
/* It has taken something. After an outage all that was put off is tried at once. */
void prelux_stage_took(struct prelux_stage *g, struct prelux_tree *t);
bool prelux_stage_away(struct prelux_tree *t); /* it failed a moment ago, and has not been heard since */
/* As prelux_fresh_get(), for somebody who is about to write: asynchronously what is remembered will do while the remote is away. */
enum { PRELUX_ASK_AGAIN = 1 /* memory will not do, else */, PRELUX_ASK_MAKES = 2 /* the name may be new */, PRELUX_ASK_NEW = 4 /* and a guess will do */ };
int prelux_stage_ask(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, unsigned how, struct prelux_known *ret,
                     struct prelux_problem *why);
/* d was sent, which took from begun_ns (CLOCK_MONOTONIC) until now. */
void prelux_stage_rest(struct prelux_stage *g, const struct prelux_dirty *d, uint64_t begun_ns);
int64_t prelux_stage_rests(struct prelux_stage *g, const struct prelux_dirty *d); /* until then, CLOCK_REALTIME; 0: it does not */
/* ---- stage_linger.c: when the background begins to send ---- */
/* Something waits to be sent that was closed just now, and more may follow. */
void prelux_stage_closed_just_now(struct prelux_stage *g, const struct prelux_write_rules *rules);
/* With stage.lock held: senders wait until it is time; would they? Nobody waits; what waited has been sent. */
void prelux_stage_linger(struct prelux_stage *g);
bool prelux_stage_lingers(const struct prelux_stage *g);
void prelux_stage_no_pause(struct prelux_stage *g);
void prelux_stage_queue_done(struct prelux_stage *g);
/* Back-pressure: waits, not for long, until less waits to be sent than may. 0 or -ENOSPC. */
int prelux_stage_room(struct prelux_stage *g, struct prelux_problem *why);
/* Gives staging/<ino> its name in the tree, as clean and of version obj. d is the caller's, and gone on success. */
int prelux_stage_install(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj, struct prelux_problem *why);
/* Or the staging file goes, but for who has it open, and at most a copy of it is kept: d, the caller's, is gone on success. (stage_drop.c) */
int prelux_stage_let_go(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj);
/* ---- O_EXCL (stage_once.c) ---- */
int64_t prelux_once_mark(uint64_t once);                        /* mtime_ns of the row of a file that the request makes */
int64_t prelux_once_mtime(const struct prelux_pending *row);    /* its mtime_ns, if it is a time; else 0 */
bool prelux_once_made(const struct prelux_dirty *d, uint64_t once); /* that request has made it, and nobody has closed it since */
/* A daemon before has made it, and who asked for it may come again: it is not closed yet. d is the caller's. */
bool prelux_once_awaited(struct prelux_stage *g, const struct prelux_dirty *d);
/* ---- `fsync: remote` (stage_fsync.c) ---- */
/* A program's fsync of the file, or (ino 0) of the folder `object`: as prelux_stage_sync, and where the rules say so the remote has it. */
int prelux_fsync(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                 struct prelux_problem *why);
/* d, the caller's, is closed, fd a readable descriptor under the lease. 0: the remote has it by an fsync, d is gone; 1: not so; or -errno. */
int prelux_fsync_settle(struct prelux_stage *g, struct prelux_dirty *d, int fd, const struct stat *st, struct prelux_problem *why);
bool prelux_fsync_base(const struct prelux_dirty *d); /* what d began from is what an fsync has sent of it */
void prelux_fsync_renamed(struct prelux_dirty *d, const struct prelux_object *now); /* that was so, and the remote has it by d's new name now */
void prelux_fsync_free(struct prelux_fsynced *f); /* NULL is allowed */
/* ---- what a killed writer leaves (stage_crash.c) ---- */
void prelux_crash_writer(struct prelux_stage *g, uint64_t ino, int pid, int pidfd); /* see store.h */
/* The same of one who may have closed it since. hold() takes pidfd; NULL: there are too many. */
struct prelux_writer *prelux_crash_hold(struct prelux_stage *g, int pid, int pidfd);
void prelux_crash_let_go(struct prelux_stage *g, struct prelux_writer *w); /* NULL is allowed */
void prelux_crash_was_writer(struct prelux_stage *g, uint64_t ino, struct prelux_writer *w);
void prelux_crash_closing(struct prelux_stage *g, uint64_t ino, bool begins);
void prelux_crash_handing(struct prelux_stage *g, uint64_t ino, bool begins);
void prelux_crash_forget(struct prelux_stage *g, struct prelux_dirty *d); /* its writers do not matter any more; stage.lock held */
/* Its writers that are dead by now, *ret; they are to be given back. Whoever is dead before it is seen that somebody still has d, the caller's, was
 * not its end (outlived); who dies just behind that may be. d NULL: it is gone. */
unsigned prelux_crash_dead(struct prelux_stage *g, const struct prelux_dirty *d, struct prelux_writer *ret[PRELUX_FILE_WRITERS]);
void prelux_crash_outlived(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_writer *const *dead, unsigned n, bool outlived);
/* Nobody can write to d, the caller's, any more, and nobody has said that he closed it. 0: as if he had; PRELUX_KEPT: it is RECOVERED now;
 * -EINPROGRESS: not known before *ret_wait, which the caller waits for and gives back, or, NULL, before somebody looks again. */
int prelux_crash_judge(struct prelux_stage *g, struct prelux_dirty *d, const struct stat *st, bool waited, struct prelux_writer **ret_wait,
                       struct prelux_problem *why);
void prelux_crash_wait(struct prelux_stage *g, struct prelux_writer *w);
/* A file of a daemon before, WRITING. True: it waits for its writer, or for his word; false: it is as if he had said that he closed it. */
bool prelux_crash_orphan(struct prelux_stage *g, uint64_t ino);
bool prelux_crash_is_writer(const struct prelux_dirty *d, int pid); /* stage.lock held */
unsigned prelux_crash_writers(const struct prelux_dirty *d, int ret[PRELUX_FILE_WRITERS]); /* the same; their number */
void prelux_crash_find_writers(struct prelux_stage *g); /* of all that is WRITING: who has it open? Looks at all processes */
int prelux_stage_last_gone(int fd); /* 0: nobody can write to it, and who wants to waits until fd is closed; -EAGAIN: somebody can */
/* ---- `staging: DIR` (stage_scratch.c) ---- */
/* Opens what rows name of it, and says of rows whose bytes are gone that they are lost: once, before rows are used. */
int prelux_scratch_begin(struct prelux_stage *g, struct prelux_problem *why);
bool prelux_scratch_room(const struct prelux_store *s); /* is there one, with room for another file? */
/* A copy of staging file `ino` in fill/ under `name`, which is whole and has that time. Its row of the catalogue for obj; or -errno: there is
 * none. */
int prelux_scratch_copy(struct prelux_stage *g, const struct prelux_dirty *d, const struct prelux_object *obj, char name[32], struct prelux_row *ret);
/* As prelux_journal_durable, with the name of staging file `ino`. */
int prelux_stage_durable(struct prelux_stage *g, uint64_t ino, uint64_t mark);

#endif
