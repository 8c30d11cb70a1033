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
  bool any = false;
  int before;
  do {
    before = prelux_slot_heirs();
    for (int i = 0; i < PRELUX_SLOTS; i++) {
      int fd, state;
      uint64_t size;
      if ((state = peek(&prelux_slots[i], &fd, &size)) == SLOT_FREE) continue;
      if (state == SLOT_MOVING || size <= PRELUX_STREAM_LARGE) prelux_pending_settle(fd);
      any = true;
    }
  } while (before != prelux_slot_heirs());
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

/* Nothing that the program has done yet says that a large one with close-on-exec gets to the child's program. */
void prelux_pending_settle_vfork(void)
{
  int before;
  do {
    before = prelux_slot_heirs();
    for (int i = 0; i < PRELUX_SLOTS; i++) {
      int fd, state;
      uint64_t size;
      if ((state = peek(&prelux_slots[i], &fd, &size)) == SLOT_FREE) continue;
      bool stays = state == SLOT_OPEN && size > PRELUX_STREAM_LARGE && (prelux_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC);
      if (!stays) prelux_pending_settle(fd);
    }
  } while (before != prelux_slot_heirs());
}

void prelux_pending_settle_all(bool not_cloexec)
{
  int saved = errno, before;
  not_cloexec |= prelux_in_shared_child();
  do {
    before = prelux_slot_heirs();
    for (int i = 0; i < PRELUX_SLOTS; i++) {
      int fd;
      uint64_t size;
      if (prelux_slot_peek(&prelux_slots[i], &fd, &size) == SLOT_FREE) continue;
      if (not_cloexec && (prelux_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC)) continue;
      prelux_pending_settle(fd);
    }
  } while (before != prelux_slot_heirs());
  errno = saved;
}
