/* Names, inside lib/store: what name.c, name_move.c, name_memory.c and stage_names.c share.
 *
 * Theory of operation. A name is made, changed or removed on the remote first; then what this node knows and keeps of it is put right:
 * identity, memory, index, cache file with its row, files being written. Whoever asks the remote meanwhile may bring an older answer
 * later: memory keeps the later instant, and a listing that began before the change is known to be out of date (folder.c).
 *
 * A claim keeps others away from one or two paths for that time: nobody fills their cache files, begins to write them, or sends them.
 * Order: files being written, by path, then flights, by path; so no two claims, and no claim and no sender, wait for each other.
 *
 * What is there is removed or replaced, whoever put it there last: as a file system does, without a condition on the version known. */
#ifndef PRELUX_STORE_NAME_H
#define PRELUX_STORE_NAME_H

#include "lib/store/stage.h"

#define PRELUX_NAME_TRIES 3 /* of a change whose answer was lost and that was not done */

struct prelux_claim {
  const struct prelux_view *v;
  const char *path[2];           /* the second may be NULL */
  struct prelux_dirty *dirty[2]; /* the file being written at path[i], the caller's; NULL: none */
  struct prelux_flight flight[2];
};

/* ---- stage_names.c ---- */

/* Waits for whoever is at work on the paths. */
void prelux_claim_take(struct prelux_claim *c, const struct prelux_view *v, const char *path, const char *second);
void prelux_claim_drop(struct prelux_claim *c);
/* The claimed file, whose row the journal has dropped, loses its name and goes. claim->dirty[i] is NULL then. */
void prelux_claim_end(struct prelux_claim *c, int i);
/* Is there anything of it on the remote, as far as this node has to do with it? */
bool prelux_dirty_on_remote(const struct prelux_dirty *d);
/* The claimed file loses its name, and is never sent: descriptors of it stay good. claim->dirty[i] is NULL then. */
int prelux_claim_unlink(struct prelux_claim *c, int i, struct prelux_problem *why);
/* In the journal alone, before the remote is asked to rename the other one onto this: the file at path[i] is kept and never sent unasked, should the
 * daemon die before it is unlinked, and that of the other path is known to be on its way (prelux_dirty_decide); and back again. */
int prelux_claim_shelve(struct prelux_claim *c, int i, struct prelux_problem *why);
void prelux_claim_unshelve(struct prelux_claim *c, int i);
/* The claimed file c->dirty[0] gets the name c->path[1]; base: the version that the remote has of it under that name now, "": none. over: it
 * is to replace what is there. A file being written at that path loses its name in the same step. */
int prelux_claim_rename(struct prelux_claim *c, const char *base, bool over, struct prelux_problem *why);
/* The same of one that the remote has (something of) under the old name: left removes that later, and is taken. */
int prelux_claim_leave(struct prelux_claim *c, const char *base, bool over, struct prelux_deferred *left, struct prelux_problem *why);
/* Is any file being written below the folder? */
struct prelux_dirty *prelux_dirty_any_below(struct prelux_stage *g, const struct prelux_tree *t, const char *folder); /* stage.lock held */
bool prelux_dirty_below(const struct prelux_tree *t, const char *folder);
/* Until nothing below it that has been sent is on its way into the cache. */
void prelux_dirty_settle_below(struct prelux_tree *t, const char *folder);
/* The folder `from` is `to` now: so are the files being written below it. */
int prelux_dirty_move_below(struct prelux_tree *t, const char *from, const char *to, struct prelux_problem *why);

/* ---- name_memory.c: after the remote has done it ---- */

/* The name is gone, and what lay below it. The caller holds a claim on it. */
void prelux_name_gone(struct prelux_tree *t, const char *object);
/* k is there now (learned just now, with its number): in memory and index, for all views. */
void prelux_name_there(struct prelux_tree *t, const char *object, struct prelux_known *k);
/* The remote said something else than was known: it is asked anew. */
void prelux_name_forget(struct prelux_tree *t, const char *object);
/* A folder's contents have changed: listings that began before are out of date. */
void prelux_name_touch(struct prelux_tree *t, const char *object);
/* The cache file, and its row. The caller holds a claim. */
void prelux_cache_drop(struct prelux_tree *t, const char *object);
/* The cache file of version *was at `from` lies at `to`, as version *now; else none does. Its inode or 0. */
uint64_t prelux_cache_move(struct prelux_tree *t, const char *from, const struct prelux_object *was, const char *to,
                           const struct prelux_object *now);
/* All below a folder. */
void prelux_cache_move_below(struct prelux_tree *t, const char *from, const char *to);

/* ---- name.c ---- */

/* What the remote can do, for who does something at once: if prelux_name_may() could not tell. */
int prelux_name_able(const struct prelux_view *v, struct prelux_able *able, struct prelux_problem *why);
/* May this be changed at all? And what the remote can do; of one that is away, nothing is known where rules say async: caps are 0 then. */
int prelux_name_may(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_able *able,
                    struct prelux_problem *why);
enum prelux_name_op { PRELUX_DO_REMOVE, PRELUX_DO_RMDIR, PRELUX_DO_MKDIR };
/* Done on the remote, or not: -PRELUX_EUNKNOWN never. What is not done is tried again, for none of these harms when it is done twice. */
int prelux_name_do(const struct prelux_view *v, enum prelux_name_op op, const char *object, uint32_t mode, struct prelux_problem *why);
/* Is what stands at the new name what was renamed? By its version, where that goes along with it, else by its size. */
bool prelux_name_arrived(const struct prelux_view *v, const struct prelux_object *was, const struct prelux_object *now);
/* The same (name_move.c). was: what is renamed; *ret: as it is now, complete when its version is known. */
int prelux_name_move(const struct prelux_view *v, const char *from, const char *to, unsigned flags, const struct prelux_object *was,
                     struct prelux_object *ret, struct prelux_problem *why);
/* A version that can be compared later; a remote that did not say it is asked. */
void prelux_name_complete(const struct prelux_view *v, const char *object, struct prelux_object *obj);
/* The folder that is to hold a new name is there. */
int prelux_name_parent(const struct prelux_view *v, const char *object, struct prelux_problem *why);

#endif
