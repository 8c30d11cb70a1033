#include "daemon/prune.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/tables.h"
#include "lib/base/log.h"
#include "lib/base/os.h"

#define YOUNG_SECONDS 86400

struct found {
  char hex[33];
  time_t used; /* when its snapshot was last written: each daemon that serves it does that */
};

static int by_age(const void *a, const void *b)
{
  time_t x = ((const struct found *)a)->used, y = ((const struct found *)b)->used;
  return x < y ? -1 : x > y;
}

static time_t last_use(int fd, const char *hex)
{
  char name[64];
  struct stat st;
  snprintf(name, sizeof name, "%s.conf", hex);
  if (prelux_os.fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
      prelux_os.fstatat(fd, hex, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return time(NULL);
  return st.st_mtim.tv_sec;
}

static size_t scan(DIR *d, struct found **list)
{
  unsigned char hash[16];
  size_t n = 0, cap = 0;
  for (struct dirent *e; (e = readdir(d));)
  {
    if (e->d_name[0] == '.' && strlen(e->d_name) > 32) /* "..." of a write that was cut off */
      prelux_os.unlinkat(dirfd(d), e->d_name, 0);
    if (prelux_unhex(e->d_name, hash) < 0)
      continue;
    if (n == cap)
    {
      struct found *more = realloc(*list, (cap = cap ? 2 * cap : 256) * sizeof *more);
      if (!more)
        break;
      *list = more;
    }
    memcpy((*list)[n].hex, e->d_name, 33);
    (*list)[n].used = last_use(dirfd(d), e->d_name);
    n++;
  }
  return n;
}

void prelux_prune_tables(const char *dir, size_t max)
{
  struct found *list = NULL;
  char name[64];
  DIR *d = prelux_os.opendir(dir);
  if (!d)
    return;
  size_t n = scan(d, &list), dropped = 0;
  if (n > max)
    qsort(list, n, sizeof *list, by_age);
  for (; n - dropped > max && list[dropped].used < time(NULL) - YOUNG_SECONDS; dropped++)
  {
    /* The table first: a snapshot alone is harmless. */
    prelux_os.unlinkat(dirfd(d), list[dropped].hex, 0);
    snprintf(name, sizeof name, "%s.conf", list[dropped].hex);
    prelux_os.unlinkat(dirfd(d), name, 0);
  }
  if (dropped)
    prelux_info("%zu tables of old configurations removed", dropped);
  closedir(d);
  free(list);
}
