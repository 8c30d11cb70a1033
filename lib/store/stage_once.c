/* O_EXCL and a daemon that dies in the middle. The file has been made, and who asked for it has not heard: he asks the next daemon the same once more,
 * and is not to be told EEXIST for a file of his own; anybody else is. So such a request has a random number, which the row of the file it has made keeps
 * until its first close: there it stands for the time, which a file that was just made has not, as one of before 1823.
 *
 * Nobody has the file open between the two daemons. For a moment an empty one is therefore not taken for closed, and not sent. */
#include <fcntl.h>

#include "lib/base/os.h"
#include "lib/store/stage.h"

#define MARKS_BELOW (-(INT64_C(1) << 62))
#define AWAITED_NS 15000000000ll

int64_t prelux_once_mark(uint64_t once)
{
  return once ? INT64_MIN | (int64_t)(once >> 2) : 0;
}

static bool marked(const struct prelux_pending *row)
{
  return (row->flags & PRELUX_PENDING_FRESH) && row->mtime_ns < MARKS_BELOW;
}

int64_t prelux_once_mtime(const struct prelux_pending *row)
{
  return marked(row) ? 0 : row->mtime_ns;
}

bool prelux_once_made(const struct prelux_dirty *d, uint64_t once)
{
  return once && d->row.state == PRELUX_PENDING_WRITING && marked(&d->row) && d->row.mtime_ns == prelux_once_mark(once);
}

bool prelux_once_awaited(struct prelux_stage *g, const struct prelux_dirty *d)
{
  struct stat st;
  char name[24];
  int64_t age = prelux_store_wall() - d->row.made_ns;
  if (!d->resumed || d->row.state != PRELUX_PENDING_WRITING || !marked(&d->row) || age < 0 || age > AWAITED_NS ||
      prelux_left_before(g, d->row.ino))
    return false;
  int folder = prelux_stage_name(g, d->row.ino, name);
  return prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size == 0;
}
