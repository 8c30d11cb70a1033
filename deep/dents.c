/* Folders that a supervised program lists: our descriptor stays the same from one getdents64 to the next, because the library keeps with its
 * number how far it has come. */
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deep/call.h"
#include "lib/base/sys.h"

enum { KEPT = 64 };
static struct kept {
  pid_t tid;
  int number, fd;
  bool busy;
  dev_t dev;
  ino_t ino;
  unsigned used;
} kept[KEPT];
static unsigned clock_hand;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is(const struct kept *k, pid_t tid, int number, const struct stat *st)
{
  return k->tid == tid && k->number == number && k->dev == st->st_dev && k->ino == st->st_ino;
}

int prelux_deep_dents_take(pid_t tid, int number, int fd)
{
  struct stat st;
  struct kept *best = NULL;
  if (prelux_sys(SYS_fstat, fd, &st) < 0)
    return fd;
  pthread_mutex_lock(&lock);
  for (struct kept *k = kept; k < kept + KEPT; k++)
  {
    if (k->tid && is(k, tid, number, &st))
    {
      k->busy = true;
      pthread_mutex_unlock(&lock);
      close(fd);
      return k->fd;
    }
    if (!k->busy && (!best || !k->tid || (best->tid && k->used < best->used)))
      best = k;
  }
  int old = -1;
  if (best)
  {
    old = best->tid ? best->fd : -1;
    *best = (struct kept){.tid = tid, .number = number, .fd = fd, .busy = true, .dev = st.st_dev, .ino = st.st_ino, .used = ++clock_hand};
  }
  pthread_mutex_unlock(&lock);
  if (old >= 0)
    close(old);
  return fd;
}

bool prelux_deep_dents_give(int fd, bool ended)
{
  bool found = false;
  pthread_mutex_lock(&lock);
  for (struct kept *k = kept; k < kept + KEPT && !found; k++)
    if (k->busy && k->fd == fd)
    {
      found = !ended;
      k->busy = false;
      k->used = ++clock_hand;
      if (ended)
        k->tid = 0;
      break;
    }
  pthread_mutex_unlock(&lock);
  return found;
}
