/* Staging files made ahead. Who makes file after file (tar x, a checkout) waits at each open for a new inode and its name, the larger half of
 * what the open costs here; so while new files come in quick succession some lie ready, without a row. A file that is taken is empty, and its
 * times are those of the open. They go when nobody has made a file for a while, and with the daemon; what a killed one leaves the next start removes:
 * a file of staging/ that is empty, bears its own number and stands in no row was never anybody's (stage_recover.c). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/base/os.h"
#include "lib/store/stage.h"

#define QUICK_NS 20000000u /* files that come no farther apart are in quick succession */
#define QUICK_FILES 8u     /* so many of them, and there will be more */
#define BURST_NS 100000000u
#define IDLE_NS 2000000000u
#define SCARCE_BYTES (256u << 20)
#define SCARCE_FILES 10000u

/* A name that no inode number is, until it has its own. -EEXIST: something else has that; *ret_held keeps the number from coming again at once. */
static int try_one(struct prelux_stage *g, const char *temporary, uint64_t *ret, int *ret_held)
{
  struct stat st;
  char name[24];
  prelux_os.unlinkat(g->fd, temporary, 0);
  if (prelux_os.mknodat(g->fd, temporary, S_IFREG | 0600, 0) < 0)
    return -errno;
  int rc = prelux_os.fstatat(g->fd, temporary, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
  snprintf(name, sizeof name, "%llu", (unsigned long long)st.st_ino);
  if (rc == 0 && prelux_os.renameat2(g->fd, temporary, g->fd, name, RENAME_NOREPLACE) < 0)
    rc = -errno;
  if (rc == -EEXIST)
    *ret_held = prelux_os.openat(g->fd, temporary, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (rc < 0)
    prelux_os.unlinkat(g->fd, temporary, 0);
  *ret = st.st_ino;
  return rc;
}

static int make_one(struct prelux_stage *g, const char *temporary, uint64_t *ret)
{
  int held[PRELUX_STRANGERS], n = 0, rc;
  do
  {
    held[n] = -1;
    rc = try_one(g, temporary, ret, &held[n]);
  } while (held[n] >= 0 && ++n < PRELUX_STRANGERS);
  while (n > 0)
    prelux_os.close(held[--n]);
  return rc;
}

static void remove_one(struct prelux_stage *g, uint64_t ino)
{
  char name[24];
  snprintf(name, sizeof name, "%llu", (unsigned long long)ino);
  prelux_os.unlinkat(g->fd, name, 0);
}

void prelux_spare_back(struct prelux_stage *g, uint64_t ino)
{
  remove_one(g, ino);
}

/* Where room is scarce none is made: inodes and names are somebody else's last ones. */
static bool scarce(const struct prelux_stage *g)
{
  struct statfs st;
  if (prelux_os.fstatfs(g->fd, &st) < 0)
    return true;
  return (uint64_t)st.f_bavail * (uint64_t)st.f_bsize < SCARCE_BYTES || (st.f_files && st.f_ffree < SCARCE_FILES);
}

bool prelux_spare_wanted(struct prelux_stage *g)
{
  struct prelux_spares *p = &g->spares;
  pthread_mutex_lock(&g->lock);
  bool wanted = p->quick >= QUICK_FILES && p->n < PRELUX_SPARES / 2 && !p->making;
  p->making |= wanted;
  pthread_mutex_unlock(&g->lock);
  return wanted;
}

bool prelux_spare_burst(struct prelux_stage *g)
{
  const struct prelux_spares *p = &g->spares;
  pthread_mutex_lock(&g->lock);
  bool burst = p->quick >= QUICK_FILES && prelux_store_now() - p->last_ns < BURST_NS;
  pthread_mutex_unlock(&g->lock);
  return burst;
}

void prelux_spare_make(struct prelux_stage *g)
{
  struct prelux_spares *p = &g->spares;
  bool more = true, none = scarce(g);
  while (more)
  {
    uint64_t ino = 0;
    bool made = !none && make_one(g, PRELUX_SPARE_NAME, &ino) == 0;
    pthread_mutex_lock(&g->lock);
    if (made)
      p->ino[p->n++] = ino;
    more = made && p->n < PRELUX_SPARES;
    p->quick = made ? p->quick : 0; /* not at each file from now on */
    p->making = more;
    pthread_mutex_unlock(&g->lock);
  }
}

/* The last one, or 0. */
static uint64_t pop(struct prelux_stage *g)
{
  struct prelux_spares *p = &g->spares;
  uint64_t now = prelux_store_now();
  pthread_mutex_lock(&g->lock);
  p->quick = now - p->last_ns > QUICK_NS ? 0 : p->quick < QUICK_FILES ? p->quick + 1 : p->quick;
  p->last_ns = now;
  uint64_t ino = p->n ? p->ino[--p->n] : 0;
  pthread_mutex_unlock(&g->lock);
  return ino;
}

bool prelux_spare_take(struct prelux_stage *g, mode_t mode, struct stat *ret)
{
  char name[24];
  uint64_t ino = pop(g);
  if (!ino)
    return false;
  snprintf(name, sizeof name, "%llu", (unsigned long long)ino);
  if (prelux_os.utimensat(g->fd, name, NULL, AT_SYMLINK_NOFOLLOW) < 0 || (mode != 0600 && prelux_os.fchmodat(g->fd, name, mode, 0) < 0) ||
      prelux_os.fstatat(g->fd, name, ret, AT_SYMLINK_NOFOLLOW) < 0 || ret->st_ino != ino || !S_ISREG(ret->st_mode) || ret->st_size != 0)
  {
    remove_one(g, ino); /* somebody was here */
    return false;
  }
  return true;
}

bool prelux_spare_new(struct prelux_stage *g, struct stat *ret)
{
  char name[24];
  uint64_t ino;
  if (scarce(g) || make_one(g, PRELUX_SPARE_NOW, &ino) < 0)
    return false;
  snprintf(name, sizeof name, "%llu", (unsigned long long)ino);
  return prelux_os.fstatat(g->fd, name, ret, AT_SYMLINK_NOFOLLOW) == 0 && ret->st_ino == ino;
}

void prelux_spare_drop(struct prelux_stage *g, bool all)
{
  struct prelux_spares *p = &g->spares;
  for (bool more = true; more;)
  {
    pthread_mutex_lock(&g->lock);
    more = p->n > 0 && (all || prelux_store_now() - p->last_ns > IDLE_NS);
    uint64_t ino = more ? p->ino[--p->n] : 0;
    pthread_mutex_unlock(&g->lock);
    if (more)
      remove_one(g, ino);
  }
}
