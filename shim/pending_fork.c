/* Pending files of processes that begin others. */
#include "shim/pending.h"

#include "shim/pending_slot.h"

/* As prelux_slot_peek. What moves is waited for: that is a matter of some system calls, and a large file that is on its way to another slot need not
 * be whole. */
static int peek(struct prelux_slot *p, int *fd, uint64_t *size)
{
  int state;
  while ((state = prelux_slot_peek(p, fd, size)) == SLOT_MOVING && *size > PRELUX_STREAM_LARGE && !prelux_in_shared_child() && prelux_slot_mine(p))
    prelux_sys(SYS_sched_yield);
  return state;
}

typedef int look_fn(struct prelux_slot *p, int *fd, uint64_t *size);
typedef bool choose_fn(int state, int fd, uint64_t size);

/* Settles those that `chosen` says, of all that there are, also of one that takes another's place just now. True: there was one. */
static bool settle_chosen(look_fn *look, choose_fn *chosen)
{
  bool any = false;
  int before;
  do {
    before = prelux_slot_heirs();
    for (int i = 0; i < PRELUX_SLOTS; i++) {
      int fd, state;
      uint64_t size;
      if ((state = look(&prelux_slots[i], &fd, &size)) == SLOT_FREE) continue;
      any = true;
      if (chosen(state, fd, size)) prelux_pending_settle(fd);
    }
  } while (before != prelux_slot_heirs());
  return any;
}

static bool is_large(int state, uint64_t size)
{
  return state != SLOT_MOVING && size > PRELUX_STREAM_LARGE;
}

static bool ends_at_exec(int fd)
{
  return prelux_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC;
}

static bool before_fork(int state, int fd, uint64_t size)
{
  (void)fd;
  return !is_large(state, size);
}

/* Nothing that the program has done yet says that a large one with close-on-exec gets to the child's program. */
static bool before_vfork(int state, int fd, uint64_t size)
{
  return !(is_large(state, size) && ends_at_exec(fd));
}

static bool each(int state, int fd, uint64_t size)
{
  (void)state, (void)fd, (void)size;
  return true;
}

static bool stays_at_exec(int state, int fd, uint64_t size)
{
  (void)state, (void)size;
  return !ends_at_exec(fd);
}

/* Large ones are the child's, too, with their offsets; also one that takes another's place just now. Signals are blocked. */
static void share(void)
{
  int before;
  do {
    before = prelux_slot_heirs();
    for (int i = 0; i < PRELUX_SLOTS; i++) {
      struct prelux_slot *p = &prelux_slots[i];
      while (prelux_slot_load(&p->state) == SLOT_MOVING && prelux_slot_mine(p)) prelux_sys(SYS_sched_yield);
      if (prelux_slot_load(&p->state) == SLOT_OPEN && p->attr.size > PRELUX_STREAM_LARGE) p->shared = true;
    }
  } while (before != prelux_slot_heirs());
}

pid_t prelux_pending_fork(pid_t (*real)(void))
{
  uint64_t old;
  bool any = settle_chosen(peek, before_fork);
  if (!any || prelux_in_shared_child()) return real();
  prelux_no_signals(&old);
  int parent = (int)prelux_sys(SYS_getpid);
  share();
  pid_t pid = real();
  int saved = errno;
  if (pid == 0) prelux_slots_forked(parent);
  prelux_signals(&old);
  errno = saved;
  return pid;
}

void prelux_pending_settle_vfork(void)
{
  settle_chosen(peek, before_vfork);
}

void prelux_pending_settle_all(bool not_cloexec)
{
  int saved = errno;
  settle_chosen(prelux_slot_peek, not_cloexec || prelux_in_shared_child() ? stays_at_exec : each);
  errno = saved;
}
