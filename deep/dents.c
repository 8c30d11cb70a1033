/* Folders that a supervised program lists: our descriptor stays the same from one getdents64 to the next, because the library keeps with its
 * number what it has listed. It is that of the program's open file, however many numbers, threads and processes share it; where such a one
 * cannot be had (pidfd_getfd), ours is kept since it was handed over. */
#include <errno.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deep/call.h"
#include "lib/base/sys.h"

enum { KEPT = 64 };
static struct kept {
  pid_t pid; /* 0: free */
  int number, fd;
  unsigned users, used;
  bool over; /* closed by the last of them */
  dev_t dev;
  ino_t ino;
} kept[KEPT];
static unsigned clock_hand;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Numbers are opened again, for the same folder, too. */
static bool is(const struct kept *k, pid_t pid, int number, int fd, const struct stat *st)
{
  if (!k->pid || k->over || k->dev != st->st_dev || k->ino != st->st_ino)
    return false;
  long other = prelux_deep_shares_fds() ? prelux_sys(SYS_kcmp, getpid(), getpid(), KCMP_FILE, k->fd, fd) : -ENOSYS;
  return other >= 0 ? other == 0 : k->pid == pid && k->number == number;
}

static void end(struct kept *k)
{
  k->over = true;
  if (k->users > 0)
    return;
  close(k->fd);
  k->pid = 0;
}

static struct kept *add(pid_t pid, int number, int fd, const struct stat *st)
{
  struct kept *best = NULL;
  for (struct kept *k = kept; k < kept + KEPT; k++)
    if (k->users == 0 && (!best || !k->pid || (best->pid && k->used < best->used)))
      best = k;
  if (!best)
    return NULL;
  if (best->pid)
    end(best);
  *best = (struct kept){.pid = pid, .number = number, .fd = fd, .dev = st->st_dev, .ino = st->st_ino, .used = ++clock_hand};
  return best;
}

int prelux_deep_dents_take(pid_t pid, int number, int fd)
{
  struct stat st;
  struct kept *k = kept;
  if (prelux_sys(SYS_fstat, fd, &st) < 0)
    return fd;
  pthread_mutex_lock(&lock);
  while (k < kept + KEPT && !is(k, pid, number, fd, &st))
    k++;
  if (k < kept + KEPT)
    close(fd);
  else
    k = add(pid, number, fd, &st);
  if (k)
    k->users++;
  fd = k ? k->fd : fd;
  pthread_mutex_unlock(&lock);
  return fd;
}

bool prelux_deep_dents_give(int fd, bool ended)
{
  bool found = false;
  pthread_mutex_lock(&lock);
  for (struct kept *k = kept; k < kept + KEPT && !found; k++)
    if (k->pid && k->users > 0 && k->fd == fd)
    {
      found = true;
      k->users--;
      k->used = ++clock_hand;
      if (ended || k->over)
        end(k);
    }
  pthread_mutex_unlock(&lock);
  return found;
}

/* With the lock, so that who lists it at once waits until it is known. */
long prelux_deep_dents_hand_over(pid_t pid, int listener, struct seccomp_notif_addfd *what)
{
  struct stat st;
  pthread_mutex_lock(&lock);
  long rc = prelux_sys(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_ADDFD, what);
  for (struct kept *k = kept; k < kept + KEPT && rc >= 0; k++)
    if (k->pid == pid && k->number == (int)rc && !k->over)
      end(k);
  if (rc >= 0 && !prelux_deep_shares_fds() && prelux_sys(SYS_fstat, what->srcfd, &st) == 0)
  {
    int fd = dup((int)what->srcfd);
    if (fd >= 0 && !add(pid, (int)rc, fd, &st))
      close(fd);
  }
  pthread_mutex_unlock(&lock);
  return rc;
}
