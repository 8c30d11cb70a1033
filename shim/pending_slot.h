/* Slots of pending files: inside shim/pending*.c.
 *
 * A slot is found by its number, counted while it is used, and ended by one change of its state; whoever leaves an ended one last closes what it
 * holds. It is counted with signals blocked, and never while something is waited for: a handler may jump out of a call for good. */
#ifndef PRELUX_SHIM_PENDING_SLOT_H
#define PRELUX_SHIM_PENDING_SLOT_H

#include "include/prelux/attr.h"
#include "include/prelux/stream.h"
#include "shim/pending.h"

/* In an offset. FROZEN: it moves no more, the number is to be the real file's. By that descriptor's own offset, when it is the one that forked
 * processes share: PLACED when that stands where it should, LOST when it is another one. */
#define PRELUX_FROZEN ((uint64_t)1 << 63)
#define PRELUX_PLACED ((uint64_t)1 << 62)
#define PRELUX_LOST ((uint64_t)1 << 61)
#define PRELUX_OFFSET_MAX (((uint64_t)1 << 60) - 1)
enum { PRELUX_SLOTS = 32 };
enum prelux_slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_OPEN, SLOT_MOVING, SLOT_ENDING };

struct prelux_slot {
  int state;       /* atomic */
  int users;       /* atomic */
  int told;        /* atomic: the error of the stream was given to a read */
  int fd, real;    /* the placeholder, the file */
  int pid, flags;  /* who opened it; F_GETFL */
  uint64_t mark_dev, mark_ino, real_dev, real_ino;
  uint64_t *offset; /* atomic; in memory that forked processes share, and nobody unmaps */
  bool shared;      /* another process, or slot, may use `offset`, too: not for the next file */
  const struct prelux_stream *map;
  size_t map_bytes;
  uint64_t last; /* atomic: where the read before this one ended */
  uint64_t run, run_end; /* atomic: parts were asked for up to there, one behind the other, so many bytes ahead */
  uint32_t mapping;
  struct prelux_attr attr;
  char logical[PATH_MAX];
};

extern struct prelux_slot prelux_slots[PRELUX_SLOTS];

static inline int prelux_slot_load(const int *p)
{
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline bool prelux_slot_becomes(struct prelux_slot *p, int from, int to)
{
  return __atomic_compare_exchange_n(&p->state, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline bool prelux_slot_mine(const struct prelux_slot *p)
{
  return p->pid == (int)prelux_sys(SYS_getpid);
}

bool prelux_is_inode(int fd, uint64_t dev, uint64_t ino);
void prelux_no_signals(uint64_t *old);
void prelux_signals(const uint64_t *old);

/* The slot of a number, counted, with signals blocked; NULL: nothing is changed. */
struct prelux_slot *prelux_slot_enter(int fd, uint64_t *old);
void prelux_slot_leave(struct prelux_slot *p, const uint64_t *old);

/* SLOT_OPEN or SLOT_MOVING: its number, and the size of its file. SLOT_FREE: anything else. Takes no lock, and waits for nobody. */
int prelux_slot_peek(struct prelux_slot *p, int *fd, uint64_t *size);
/* Another number when a slot has taken another's place: who has looked through them all may have missed it, and looks again. */
int prelux_slot_heirs(void);

/* The rest with signals blocked. */
struct prelux_slot *prelux_slot_hold(int fd);
void prelux_slot_drop(struct prelux_slot *p);
/* TAKEN, and nothing in it; NULL: all are in use. */
struct prelux_slot *prelux_slot_take(void);
bool prelux_slot_any_free(void);
/* The next offset of a slot; NULL: no memory. */
uint64_t *prelux_slot_offset(void);
/* In a forked child: slots that were `shared` before are its own, too. */
void prelux_slots_forked(int parent);
/* It is over, by a state that only the caller can have set. */
void prelux_slot_end(struct prelux_slot *p);
/* Its place, with its offset, for a TAKEN one; false: it has ended. */
bool prelux_slot_inherit(struct prelux_slot *p, struct prelux_slot *next);

#endif
