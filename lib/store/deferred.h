/* Names that were changed in an `async` mapping: between the program that was told that it is done and the remote.
 *
 * Theory of operation. unlink, rmdir, mkdir and the rename of a file become a row of the journal each. From then on the row decides what its
 * paths show, whatever the remote says: the last row that names a path, as `path` or as `to`, is asked. Below a folder that such a row has made,
 * removed or replaced there is nothing but what has rows, or is being written, itself. Files being written win over rows, for they were begun
 * later. No index slot is published for a path that a row names; memory goes on telling of the remote.
 *
 * Rows go to the remote in stage.order, together with files; while the remote fails they are tried again and again. Done: memory, cache and
 * numbers are put right under the flights of the paths, then the row leaves journal and table. Refused: the paths show the remote again, the row
 * stays for a person to decide.
 *
 * Whoever has to do with the remote's objects at these paths at once (a fill of what was renamed, a `sync` mapping of the same tree, a folder's
 * rename) drains them first: the rows that touch the paths are sent now. That waits for other rows alone, never for a file, so who holds a
 * file that is being written may drain; who holds a flight or a claim may not.
 *
 * Locks: all of it under stage.lock. */
#ifndef PRELUX_STORE_DEFERRED_H
#define PRELUX_STORE_DEFERRED_H

#include "include/prelux/msg.h"
#include "lib/store/name.h"

struct prelux_deferred_end { /* one path of a row, in the table */
  struct prelux_deferred_end *chain; /* older ones behind */
  struct prelux_deferred *of;
  const char *path; /* NULL: not in use */
  size_t len;
};

struct prelux_deferred {
  struct prelux_deferred *by_id;       /* chain */
  struct prelux_deferred *next, **at;  /* of all, in no order */
  struct prelux_tree *tree;
  struct prelux_pending row;
  struct prelux_known known;           /* what `path` shows (MKDIR), or `to` (RENAME); else NONE */
  struct prelux_setattr owner;         /* RENAME: whose it is */
  struct prelux_deferred_end ends[2];
  bool decides;                        /* its paths show what it says: READY */
  bool busy;                           /* a thread sends it */
  bool resumed;                        /* a daemon before may have sent it */
  bool done;                           /* the remote has it, and the journal could not be told yet; its sender's */
};

/* ---- deferred.c: the table ---- */

/* stage.lock held. */
struct prelux_deferred *prelux_deferred_by_id(struct prelux_stage *g, int64_t id);
/* The last row that names the path; NULL: none. */
struct prelux_deferred *prelux_deferred_newest(struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len);
void prelux_deferred_insert(struct prelux_stage *g, struct prelux_deferred *d); /* READY: it decides, and stands in the order */
/* All that decide stand in the order. False: there is no memory for it, and nothing may be sent: what was done later might pass what was done before. */
bool prelux_deferred_placed(struct prelux_stage *g);
void prelux_deferred_hide(struct prelux_stage *g, struct prelux_deferred *d);   /* it does not decide any more, nor is it sent */
void prelux_deferred_take_out(struct prelux_stage *g, struct prelux_deferred *d); /* hidden, and out of the table */
/* Has somebody begun to use the folder that d removes, or removed the one that d needs? -ENOTEMPTY, -ENOENT. */
int prelux_deferred_overtaken(struct prelux_stage *g, const struct prelux_deferred *d, struct prelux_problem *why);
/* One that touches a path (second may be NULL) and that no other row has to go before; NULL: none touches them. */
struct prelux_deferred *prelux_deferred_first(struct prelux_stage *g, const struct prelux_tree *t, const char *path, const char *second);

/* Without a lock. */
int prelux_deferred_create(struct prelux_stage *g);
void prelux_deferred_free(struct prelux_stage *g);
/* A copy of a row that a daemon before has left; NULL: no memory. */
struct prelux_deferred *prelux_deferred_taken_up(struct prelux_tree *t, const struct prelux_pending *row);
void prelux_deferred_release(struct prelux_deferred *d); /* one that is in no table */
bool prelux_deferred_touch(const struct prelux_tree *t, const char *path, const char *second);

/* ---- deferred.c: what readers see ---- */

/* Does a row name this very path? store.lock may be held. */
bool prelux_deferred_has(const struct prelux_tree *t, const char *object, size_t len);
/* 1 and *ret when rows decide what is there (type NONE: nothing); 0: the remote does. ret->pending: the remote does not have it by that name: it
 * is drained before its bytes can be fetched, or written on. store.lock may be held. */
int prelux_deferred_known(const struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret);
/* Names in the folder that rows have made, and those that they have removed (`gone`). */
int prelux_deferred_names(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m);
/* The folder was made by a row that waits: the remote need not be asked for its listing. */
bool prelux_deferred_made(const struct prelux_tree *t, const char *folder);

/* ---- deferred.c: putting off. The caller holds a claim on the paths ---- */

/* to: RENAME's, else NULL. NULL: no memory. */
struct prelux_deferred *prelux_deferred_new(struct prelux_tree *t, enum prelux_intent intent, const char *path, const char *to);
/* d is in the journal, and decides; `gone` (or NULL) is not in the journal any more. d is taken, whatever happens. -ENOTEMPTY, -ENOENT: what was
 * looked at before has changed. */
int prelux_deferred_queue(struct prelux_stage *g, struct prelux_deferred *d, struct prelux_dirty *gone, struct prelux_problem *why);
/* What was put off survives what the rules promise; rc: of putting off. */
int prelux_deferred_safe(struct prelux_stage *g, const struct prelux_write_rules *rules, int rc, struct prelux_problem *why);
/* Attributes of a folder that a row makes go into that row: 1 and *ret, what it shows now; 0: there is no such row, or it is being sent, or
 * this is no matter of a row's; or -errno of the journal. */
int prelux_deferred_set(struct prelux_tree *t, const char *object, const struct prelux_setattr *set, struct prelux_known *ret);
/* What this node knows and keeps of a name that a row has removed just now. */
void prelux_deferred_left(struct prelux_tree *t, const char *object);
void prelux_deferred_show(struct prelux_tree *t, const char *object); /* its slots, as the tables say now */

/* ---- deferred_send.c ---- */

/* d is busy by the caller, and is not afterwards. 0: the remote has it, d is gone; else the error is in its row, or it is refused. */
int prelux_deferred_send(struct prelux_stage *g, struct prelux_deferred *d, struct prelux_problem *why);
/* When nothing touches the paths any more: 0. Else what a try failed with. */
int prelux_deferred_drain(struct prelux_tree *t, const char *path, const char *second, struct prelux_problem *why);
/* A claim on paths that no row touches. Dropped by prelux_claim_drop(), on success only. */
int prelux_claim_settled(struct prelux_claim *c, const struct prelux_view *v, const char *path, const char *second, struct prelux_problem *why);

/* ---- deferred_send.c: for people ---- */

/* -ENOENT: no row here has that number. */
int prelux_deferred_retry(struct prelux_stage *g, int64_t id, struct prelux_problem *why);
int prelux_deferred_drop(struct prelux_stage *g, int64_t id, struct prelux_problem *why);

#endif
