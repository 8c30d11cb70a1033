/* Leases: a process that makes file after file in one folder need not ask for each of them.
 *
 * Who has made PRELUX_LEASE_STREAK new files in one folder, and nobody has asked for anything meanwhile, is granted a lease on it: numbers of
 * staging files that lie ready, and a folder .prelux/lease/K, in which a name stands for each that the leased folder has. To make the file NAME he
 * opens staging/INO and gives it the name lease/K/NAME by link(2), which fails if there is one already (then he asks as ever): the kernel
 * decides between two who want one name, and no daemon is needed for it. Each number is used once, by the process that got it.
 *
 * From the grant on nobody else is told anything of the folder's names without asking: its listing, its slot and "not there" below it are not
 * published (prelux_lease_hides). And before any request is looked at, the lease ends (the daemon's gate): its staging files that have got no name
 * lose theirs, so that they can get none any more (a link of a file without any fails), those that have one get their rows, as if they had just
 * been opened. So whoever asks sees all that was made before he asked. As long as nobody does, the rows are made now and then, when the kernel
 * tells of closes, and now and then.
 *
 * A daemon that dies leaves the folder: the next one makes the rows before it looks at any other (prelux_lease_recover). lease/K.of, a link to
 * nothing, says what they are to have in common. A name whose row was made stands for itself only: it leads to an empty file, the same for all.
 *
 * Not for files that promise more at once (O_SYNC, O_DIRECT, async_durable), lie elsewhere (staging: DIR) or may be run; the library takes none in a
 * child that shares its memory. What a program does by the file itself (fsync, fchmod, link) asks, and finds its row. */
#ifndef PRELUX_STORE_STAGE_LEASE_H
#define PRELUX_STORE_STAGE_LEASE_H

#include "lib/store/stage.h"

#define PRELUX_LEASE_STREAK 8u          /* new files in a row */
#define PRELUX_LEASE_KNOWN 4096u        /* names: a larger folder is not leased */
#define PRELUX_LEASE_NAMES 32768u       /* with those that were made since */
#define PRELUX_LEASE_MAX_NS 60000000000ull /* from the grant on, if what is known of the folder is believed so long */
#define PRELUX_LEASE_FIRST 16u          /* files; then twice as many each time, up to PRELUX_GRANT_FILES */

#define PRELUX_LEASE_IDLE_NS 1000000000u /* and from the last grant on */
#define PRELUX_LEASE_PLACEHOLDER "0"    /* in lease/: what names lead to that have rows, or are others' */
#define PRELUX_LEASE_CLOSED ".closed"   /* behind the name of a folder to which nothing can be added any more */

/* With no lock held, all of them. */
/* The folder of leases, at the start; what a daemon before has left gets its rows, before any is looked at. Where it cannot be made none are granted;
 * where it cannot be read, or rows cannot be made, there may be files that nobody would see: -errno. */
int prelux_lease_begin(struct prelux_stage *g, struct prelux_problem *why);
int prelux_lease_recover(struct prelux_stage *g);
/* The names that were given get rows; the lease stays. */
void prelux_lease_adopt(struct prelux_stage *g);
bool prelux_lease_stop(struct prelux_stage *g); /* it ends, if there is one. False: rows could not be made, and what was made is not known to the store */
void prelux_lease_tick(struct prelux_stage *g); /* now and then: the same of one that nobody has used for a while, else as adopt */
void prelux_lease_free(struct prelux_stage *g); /* the store is about to be closed */
/* A staging file that has no row yet and may get one: nobody else's. */
bool prelux_lease_has(struct prelux_stage *g, uint64_t ino);
/* store.lock held: nothing is to be published of the object itself if it is a folder, nor that it is not there. */
bool prelux_lease_hides(const struct prelux_tree *t, const char *object, size_t len, bool dir);

/* ---- stage_lease_folder.c ---- */

/* What the rows of a lease have in common. */
struct prelux_lease_what {
  int64_t number, tree; /* tree: the journal's number of it */
  uint32_t flags, mode;
  const char *folder;
};
int prelux_lease_make_folder(struct prelux_stage *g, const struct prelux_lease_what *w); /* a descriptor of it, or -errno */
void prelux_lease_remove_folder(struct prelux_stage *g, int64_t number, int fd);

#endif
