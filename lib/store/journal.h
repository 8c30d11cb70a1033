/* The journal: what programs were told is done and the remote has not got yet, and files that are being written. In a database
 * of its own beside the catalogue: the catalogue can be made again from files and remote, the journal cannot. So it is
 * never put aside on its own: a journal that cannot be read is an error, and its store takes no writes.
 *
 * A committed change survives SIGKILL of every process. It survives power loss from the next prelux_journal_durable() on; one
 * such call serves all changes committed before it began (group commit), with the names that were made meanwhile in the folder
 * beside it.
 *
 * Rows keep their order by id: it is the order in which things were done on this node. Trees have numbers of the journal's own, by
 * identity: a catalogue made anew gives its numbers to whoever comes first. Thread-safe; every call may wait for the disk. */
#ifndef PRELUX_STORE_JOURNAL_H
#define PRELUX_STORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/backend/backend.h"
#include "lib/base/problem.h"

struct prelux_journal;

enum prelux_intent { PRELUX_INTENT_PUT, PRELUX_INTENT_REMOVE, PRELUX_INTENT_RENAME, PRELUX_INTENT_MKDIR, PRELUX_INTENT_RMDIR, PRELUX_INTENT_ATTR };

enum prelux_pending_state {
  PRELUX_PENDING_WRITING,   /* PUT only: somebody may still write to the staging file */
  PRELUX_PENDING_READY,     /* to be sent, or being sent */
  PRELUX_PENDING_REFUSED,   /* the remote said no (conflict, rights, quota): kept until a person decides */
  PRELUX_PENDING_RECOVERED  /* its writer was killed in the middle (stage_crash.c, stage_power.c): kept, never sent unasked */
};

enum {
  PRELUX_PENDING_NEW = 0x1,   /* the object must not exist on the remote */
  PRELUX_PENDING_OVER = 0x2,  /* whatever the remote has is overwritten (O_TRUNC) */
  PRELUX_PENDING_MODE = 0x4,  /* mode is to be set on the remote */
  PRELUX_PENDING_MTIME = 0x8, /* so is mtime_ns */
  PRELUX_PENDING_FRESH = 0x10, /* the file was made here: prelux_number_fresh() tells its number */
  PRELUX_PENDING_FORCE = 0x20, /* on_conflict: overwrite */
  PRELUX_PENDING_KEEP = 0x40,  /* on_conflict: keep */
  PRELUX_PENDING_SAFE = 0x80,  /* READY: its bytes were on this node's medium before the row was */
  PRELUX_PENDING_UNSURE = 0x100, /* READY: the remote may have these bytes, or get them yet: an answer was lost, or whoever waited for it died */
  PRELUX_PENDING_DROP = 0x200, /* after_upload: drop */
  PRELUX_PENDING_SENT = 0x400, /* the remote has it: its file may be gone */
  PRELUX_PENDING_TOLD = 0x800, /* it was READY, and all of that is in it still: nobody has opened it with O_TRUNC since */
  PRELUX_PENDING_PUBLISH = 0x1000 /* on_crash: publish */
};

struct prelux_pending {
  int64_t id;      /* 0: not in the journal yet */
  int64_t tree;    /* prelux_journal_tree()'s */
  uint32_t intent; /* enum prelux_intent */
  uint32_t state;  /* enum prelux_pending_state */
  uint32_t flags;
  char *path;      /* object path; NULL: a staging file without a name, which is never sent */
  char *to;        /* RENAME: the new path, else NULL */
  uint64_t ino;    /* PUT: of the staging file, which is named by it; with PRELUX_INO_SCRATCH where it lies elsewhere. 0: its bytes are lost */
  uint64_t size;   /* PUT, from READY on */
  uint32_t mode;
  int64_t mtime_ns; /* PUT, FRESH: before 1823 it is none (stage_once.c) */
  int64_t made_ns; /* CLOCK_REALTIME */
  int64_t next_ns; /* CLOCK_REALTIME: not tried again before; 0: at once */
  uint32_t tries;
  int32_t err;     /* of the last try, positive errno; 0: none yet */
  char base[PRELUX_VERSION_MAX]; /* the version that the writer began from; "": none */
  char *upload;    /* the backend's token of a multipart upload under way, or NULL */
  char *cause;     /* of err, or NULL */
  char *sent;      /* what the file was when it was sent and no answer came, before it was written on (stage_unsure.c), or NULL */
  uint64_t mark;   /* in memory only: of its last change, see prelux_journal_durable() */
};
/* Frees the strings. */
void prelux_pending_release(struct prelux_pending *p);

/* The identity of the tree that the catalogue knows by that number: a journal of version 1 has those. -ENOENT: it does not. */
typedef int (*prelux_journal_name_fn)(void *arg, int64_t tree, char *ret, size_t cap);

/* name is asked while a journal of version 1 is brought up to date; NULL: nothing is known of its trees. -EUCLEAN: damaged; -EPROTO: made by
 * a newer prelux; -ENOSPC, -EIO, -ENOMEM. */
int prelux_journal_open(const char *path, prelux_journal_name_fn name, void *arg, struct prelux_journal **ret, struct prelux_problem *why);
void prelux_journal_free(struct prelux_journal *j); /* NULL is allowed */

#define PRELUX_IDENTITY_MAX 8192 /* bytes of a tree's identity, the NUL counted */

/* The number that rows call the tree of this identity by, for ever. make: a new one when it has none; else -ENOENT. */
int prelux_journal_tree(struct prelux_journal *j, const char *identity, bool make, int64_t *ret);
int prelux_journal_identity(struct prelux_journal *j, int64_t tree, char *ret, size_t cap); /* -ENOENT */

/* Several changes that happen together or not at all. */
enum prelux_edit_kind { PRELUX_EDIT_ADD, PRELUX_EDIT_SET, PRELUX_EDIT_DROP };
struct prelux_edit {
  enum prelux_edit_kind kind;
  struct prelux_pending *row; /* ADD sets its id. SET: all but id and made_ns. DROP: id alone counts. ADD and SET set its mark */
};
/* 0; -ENOENT a row to SET or DROP is not there; -ENOSPC, -EIO, -EUCLEAN. On failure nothing was changed. */
int prelux_journal_change(struct prelux_journal *j, const struct prelux_edit *edits, size_t n);

/* Calls fn for every row, by id; not under a lock of the journal, so fn may change it. What it gets is its own to read until it
 * returns. Stops at fn's first negative result and returns it. */
int prelux_journal_each(struct prelux_journal *j, int (*fn)(void *arg, const struct prelux_pending *row), void *arg);
int prelux_journal_count(struct prelux_journal *j, uint64_t *ret);

/* Drops a row that means nothing any more. When that cannot be written it is done with the next change that can, by forget_again() or by free(), so that
 * nobody is told of it for ever; and the next start finds what such a row is worth. */
int prelux_journal_forget(struct prelux_journal *j, int64_t id);
void prelux_journal_forget_again(struct prelux_journal *j);

/* Small things beside the rows, by key. 0, *ret "" when there is none; or -errno. */
int prelux_journal_meta(struct prelux_journal *j, const char *key, char *ret, size_t cap);
int prelux_journal_set_meta(struct prelux_journal *j, const char *key, const char *value);

/* A folder (the fd is borrowed) whose names rows speak of: durable() syncs it first. */
void prelux_journal_beside(struct prelux_journal *j, int fd);
/* A name was made there just now: the mark of it. */
uint64_t prelux_journal_mark(struct prelux_journal *j);
/* What has this mark, and all before it, is on the medium when it returns 0; UINT64_MAX: all that was done before the call. Once it has
 * failed it fails until the journal is opened anew. */
int prelux_journal_durable(struct prelux_journal *j, uint64_t mark);

#endif
