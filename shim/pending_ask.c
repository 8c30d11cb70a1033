/* What a pending file's number says of itself, without a byte of it: see shim/pending.h. */
#include "shim/pending.h"
#include "shim/pending_slot.h"
#include "shim/stats.h"

bool prelux_pending_seek(int fd, int64_t off, int whence, int64_t *ret)
{
  uint64_t old;
  for (;;) {
    struct prelux_slot *p = prelux_slot_enter(fd, &old);
    if (!p) return false;
    uint64_t was = __atomic_load_n(p->offset, __ATOMIC_SEQ_CST);
    int64_t size = (int64_t)p->attr.size, to = -EINVAL;
    if (whence == SEEK_SET) to = off;
    else if (whence == SEEK_CUR && !__builtin_add_overflow((int64_t)(was & PRELUX_OFFSET_MAX), off, &to)) to = to < 0 ? -EINVAL : to;
    else if (whence == SEEK_END && !__builtin_add_overflow(size, off, &to)) to = to < 0 ? -EINVAL : to;
    else if (whence == SEEK_DATA) to = off < 0 || off >= size ? -ENXIO : off;
    else if (whence == SEEK_HOLE) to = off < 0 || off >= size ? -ENXIO : size;
    if ((to < 0 && to != -ENXIO) || to > (int64_t)PRELUX_OFFSET_MAX) to = -EINVAL;
    bool joins = (was & PRELUX_FROZEN) && p->shared;
    bool done = to < 0 || (!(was & PRELUX_FROZEN) && __atomic_compare_exchange_n(p->offset, &was, (uint64_t)to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    prelux_slot_leave(p, &old);
    int rc = joins ? prelux_pending_settle(fd) : 0;
    *ret = rc < 0 ? rc : to;
    if (rc < 0 || (done && !joins)) return true;
  }
}

bool prelux_pending_stat(int fd, struct stat *st)
{
  uint64_t old;
  struct prelux_slot *p = prelux_slot_enter(fd, &old);
  if (!p) return false;
  prelux_fill_stat(&prelux_table_mappings(prelux_state.table)[p->mapping], &p->attr, st);
  prelux_slot_leave(p, &old);
  return true;
}

bool prelux_pending_flags(int fd, int *ret)
{
  uint64_t old;
  struct prelux_slot *p = prelux_slot_enter(fd, &old);
  if (!p) return false;
  *ret = p->flags;
  prelux_slot_leave(p, &old);
  return true;
}

bool prelux_pending_is(int fd)
{
  uint64_t old;
  struct prelux_slot *p = prelux_slot_enter(fd, &old);
  if (p) prelux_slot_leave(p, &old);
  return p != NULL;
}
