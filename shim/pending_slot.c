#include "shim/pending_slot.h"

#include <sys/mman.h>

#include "shim/fds.h"

enum { MASK = 8 /* bytes of the kernel's signal set */ };

int prelux_pending_count;
struct prelux_slot prelux_slots[PRELUX_SLOTS];
static int heirs; /* atomic: counts slots that took another's place: who looks through them may have missed it */

bool prelux_is_inode(int fd, uint64_t dev, uint64_t ino)
{
  struct stat st;
  return prelux_fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void prelux_no_signals(uint64_t *old)
{
  uint64_t all = UINT64_MAX;
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, MASK);
}

void prelux_signals(const uint64_t *old)
{
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, MASK);
}

/* Others look at the numbers before they hold the slot. */
static void nowhere(struct prelux_slot *p)
{
  __atomic_store_n(&p->real, -1, __ATOMIC_RELAXED);
  __atomic_store_n(&p->fd, -1, __ATOMIC_RELAXED);
}

/* Whoever comes first of those who leave an ended slot closes what it holds. */
static void release(struct prelux_slot *p)
{
  for (;;) {
    if (!prelux_slot_becomes(p, SLOT_ENDING, SLOT_TAKEN)) return;
    if (prelux_slot_load(&p->users) == 0) break;
    /* Another file's by now, which somebody reads: he comes here when he leaves. */
    __atomic_store_n(&p->state, SLOT_ENDING, __ATOMIC_SEQ_CST);
    if (prelux_slot_load(&p->users) != 0) return;
  }
  if (p->real >= 0 && prelux_is_inode(p->real, p->real_dev, p->real_ino)) prelux_fd_let_go(p->real);
  if (p->map) prelux_sys(SYS_munmap, p->map, p->map_bytes);
  p->map = NULL;
  nowhere(p);
  __atomic_store_n(&p->state, SLOT_FREE, __ATOMIC_SEQ_CST);
  __atomic_fetch_sub(&prelux_pending_count, 1, __ATOMIC_SEQ_CST);
}

void prelux_slot_drop(struct prelux_slot *p)
{
  if (__atomic_sub_fetch(&p->users, 1, __ATOMIC_SEQ_CST) == 0 && prelux_slot_load(&p->state) == SLOT_ENDING) release(p);
}

void prelux_slot_end(struct prelux_slot *p)
{
  __atomic_store_n(&p->state, SLOT_ENDING, __ATOMIC_SEQ_CST);
  if (prelux_slot_load(&p->users) == 0) release(p);
}

bool prelux_slot_any_free(void)
{
  for (int i = 0; i < PRELUX_SLOTS; i++)
    if (prelux_slot_load(&prelux_slots[i].state) == SLOT_FREE) return true;
  return false;
}

/* Page after page of offsets; the first word of each counts those in use. */
enum { OFFSETS = 512 };
static uint64_t *offsets; /* atomic */

uint64_t *prelux_slot_offset(void)
{
  for (;;) {
    uint64_t *page = __atomic_load_n(&offsets, __ATOMIC_SEQ_CST);
    uint64_t i = page ? __atomic_add_fetch(page, 1, __ATOMIC_SEQ_CST) : OFFSETS;
    if (i < OFFSETS) return page + i;
    long more = prelux_sys(SYS_mmap, NULL, OFFSETS * sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0L);
    if (more < 0 && more > -4096) return NULL;
    if (!__atomic_compare_exchange_n(&offsets, &page, (uint64_t *)more, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      prelux_sys(SYS_munmap, more, OFFSETS * sizeof(*page));
  }
}

/* Other threads are not there any more, whatever they were at. */
void prelux_slots_forked(int parent)
{
  int me = (int)prelux_sys(SYS_getpid);
  offsets = NULL;
  for (int i = 0; i < PRELUX_SLOTS; i++) {
    struct prelux_slot *p = &prelux_slots[i];
    int state = prelux_slot_load(&p->state);
    p->users = 0;
    if (state == SLOT_OPEN && p->shared && p->pid == parent) p->pid = me;
    if (state == SLOT_ENDING) release(p);
    if (state == SLOT_TAKEN && prelux_slot_becomes(p, SLOT_TAKEN, SLOT_FREE)) __atomic_fetch_sub(&prelux_pending_count, 1, __ATOMIC_SEQ_CST);
    if (prelux_slot_load(&p->state) == SLOT_FREE) p->offset = NULL;
    p->shared = true;
  }
}

struct prelux_slot *prelux_slot_take(void)
{
  for (int i = 0; i < PRELUX_SLOTS; i++) {
    struct prelux_slot *p = &prelux_slots[i];
    if (prelux_slot_load(&p->state) != SLOT_FREE || prelux_slot_load(&p->users) != 0 || !prelux_slot_becomes(p, SLOT_FREE, SLOT_TAKEN)) continue;
    __atomic_fetch_add(&prelux_pending_count, 1, __ATOMIC_SEQ_CST);
    p->map = NULL;
    nowhere(p);
    p->told = 0;
    if (!p->offset || p->shared) p->offset = prelux_slot_offset();
    p->shared = false;
    if (!p->offset) {
      prelux_slot_end(p);
      return NULL;
    }
    *p->offset = 0;
    p->run = p->run_end = p->last = 0;
    return p;
  }
  return NULL;
}

bool prelux_slot_inherit(struct prelux_slot *p, struct prelux_slot *next)
{
  if (!prelux_slot_becomes(p, SLOT_OPEN, SLOT_MOVING)) return false;
  next->offset = p->offset; /* who reads by the old slot yet moves it for the new one, too */
  next->shared = p->shared;
  p->shared = true;
  __atomic_store_n(&next->fd, p->fd, __ATOMIC_RELAXED);
  next->pid = p->pid;
  next->flags = p->flags;
  next->mark_dev = p->mark_dev;
  next->mark_ino = p->mark_ino;
  next->mapping = p->mapping;
  next->last = __atomic_load_n(&p->last, __ATOMIC_RELAXED);
  next->attr = p->attr;
  memcpy(next->logical, p->logical, sizeof(p->logical));
  __atomic_store_n(&next->state, SLOT_OPEN, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&heirs, 1, __ATOMIC_SEQ_CST);
  prelux_slot_end(p);
  return true;
}

int prelux_slot_heirs(void)
{
  return prelux_slot_load(&heirs);
}

/* The slot is held meanwhile: what it says is of one file. */
int prelux_slot_peek(struct prelux_slot *p, int *fd, uint64_t *size)
{
  uint64_t old;
  int state = prelux_slot_load(&p->state);
  if (state != SLOT_OPEN && state != SLOT_MOVING) return SLOT_FREE;
  if (prelux_in_shared_child()) { /* writes nothing of its parent's */
    *fd = __atomic_load_n(&p->fd, __ATOMIC_RELAXED);
    *size = p->attr.size;
    return state;
  }
  prelux_no_signals(&old);
  __atomic_fetch_add(&p->users, 1, __ATOMIC_SEQ_CST);
  state = prelux_slot_load(&p->state);
  if (state == SLOT_OPEN || state == SLOT_MOVING) {
    *fd = __atomic_load_n(&p->fd, __ATOMIC_RELAXED);
    *size = p->attr.size;
  } else {
    state = SLOT_FREE;
  }
  prelux_slot_drop(p);
  prelux_signals(&old);
  return state;
}

static bool moves(const struct prelux_slot *p, int fd)
{
  return prelux_slot_load(&p->state) == SLOT_MOVING && __atomic_load_n(&p->fd, __ATOMIC_RELAXED) == fd;
}

struct prelux_slot *prelux_slot_hold(int fd)
{
  int before = prelux_slot_load(&heirs);
  for (int i = 0; i < PRELUX_SLOTS || before != prelux_slot_load(&heirs); i++) {
    if (i >= PRELUX_SLOTS) {
      before = prelux_slot_load(&heirs);
      i = 0;
    }
    struct prelux_slot *p = &prelux_slots[i];
    /* Somebody puts the real file there, or another stream: that is a matter of some system calls, made without signals. */
    while (moves(p, fd) && prelux_slot_mine(p)) prelux_sys(SYS_sched_yield);
    if (prelux_slot_load(&p->state) != SLOT_OPEN || __atomic_load_n(&p->fd, __ATOMIC_RELAXED) != fd) continue;
    __atomic_fetch_add(&p->users, 1, __ATOMIC_SEQ_CST);
    if (prelux_slot_load(&p->state) == SLOT_OPEN && p->fd == fd && prelux_is_inode(fd, p->mark_dev, p->mark_ino)) return p;
    bool again = prelux_slot_load(&p->state) == SLOT_MOVING;
    prelux_slot_drop(p);
    if (again) i = -1;
  }
  return NULL;
}

/* Some slot may be of this number. */
static bool known(int fd)
{
  int before;
  do {
    before = prelux_slot_load(&heirs);
    for (int i = 0; i < PRELUX_SLOTS && fd >= 0; i++) {
      int state = prelux_slot_load(&prelux_slots[i].state);
      if ((state == SLOT_OPEN || state == SLOT_MOVING) && __atomic_load_n(&prelux_slots[i].fd, __ATOMIC_RELAXED) == fd) return true;
    }
  } while (before != prelux_slot_load(&heirs));
  return false;
}

struct prelux_slot *prelux_slot_enter(int fd, uint64_t *old)
{
  if (!known(fd) || prelux_in_shared_child()) return NULL;
  prelux_no_signals(old);
  struct prelux_slot *p = prelux_slot_hold(fd);
  if (!p) prelux_signals(old);
  return p;
}

void prelux_slot_leave(struct prelux_slot *p, const uint64_t *old)
{
  prelux_slot_drop(p);
  prelux_signals(old);
}
