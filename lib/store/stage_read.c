/* What is here of a file that is not sent yet: its attributes, and a descriptor for who reads it. See stage.h. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/store/stage.h"

/* 0: it is not here; else the number of its staging file. */
static uint64_t look_up(struct prelux_stage *g, const struct prelux_tree *t, const char *object, struct prelux_known *ret)
{
  struct stat st;
  char name[24];
  uint64_t ino = 0;
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_path(g, t, object);
  if (d)
  {
    *ret = (struct prelux_known){.obj = {.type = PRELUX_FILE, .mode = d->row.mode, .size = d->row.size, .mtime_ns = prelux_once_mtime(&d->row)},
                                 .cache_ino = d->row.ino, .live = true, .ino = d->shown};
    ino = d->row.ino;
  }
  pthread_mutex_unlock(&g->lock);
  if (!ino)
    return 0;
  int folder = prelux_stage_name(g, ino, name);
  if (prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == PRELUX_INO(ino))
  {
    ret->obj.size = (uint64_t)st.st_size;
    ret->obj.mtime_ns = prelux_stat_mtime(&st);
  }
  return ino;
}

int prelux_stage_known(struct prelux_stage *g, const struct prelux_tree *t, const char *object, struct prelux_known *ret)
{
  return g->count && look_up(g, t, object, ret) != 0;
}

/* The number may be another file's when it is opened: it was this one's if the table says so afterwards, too. */
int prelux_stage_read(struct prelux_stage *g, const struct prelux_tree *t, const char *object, struct prelux_known *k, int *ret_fd)
{
  for (uint64_t ino = g->count ? look_up(g, t, object, k) : 0; ino;)
  {
    struct prelux_known was = *k;
    int fd = prelux_stage_reopen(g, ino, O_RDONLY);
    if (fd < 0)
      return fd;
    uint64_t now = look_up(g, t, object, k);
    if (now == ino && k->ino == was.ino)
    {
      *ret_fd = fd;
      return 0;
    }
    prelux_os.close(fd);
    ino = now;
  }
  return -ENOENT;
}
