#include "daemon/logfile.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"

int prelux_logfile_init(struct prelux_logfile *l, const char *path, enum prelux_log_level level)
{
  char *copy = path ? strdup(path) : NULL;
  if (path && !copy)
    return -ENOMEM;
  int ret = prelux_log_open(path, level, 0);
  if (ret < 0)
  {
    free(copy);
    return ret;
  }
  pthread_mutex_init(&l->lock, NULL);
  l->path = copy;
  l->level = level;
  return 0;
}

void prelux_logfile_release(struct prelux_logfile *l)
{
  prelux_log_open(NULL, l->level, 0);
  free(l->path);
  l->path = NULL;
  pthread_mutex_destroy(&l->lock);
}

static void open_again(struct prelux_logfile *l)
{
  prelux_log_open(l->path, l->level, l->json); /* failure: the log goes on where it went */
}

void prelux_logfile_reopen(struct prelux_logfile *l)
{
  pthread_mutex_lock(&l->lock);
  open_again(l);
  pthread_mutex_unlock(&l->lock);
}

void prelux_logfile_set_level(struct prelux_logfile *l, enum prelux_log_level level)
{
  pthread_mutex_lock(&l->lock);
  l->level = level;
  prelux_log_set_level(level);
  pthread_mutex_unlock(&l->lock);
}

void prelux_logfile_configure(struct prelux_logfile *l, const char *file, const char *level, const char *format)
{
  int parsed = level ? prelux_log_parse_level(level) : -EINVAL;
  pthread_mutex_lock(&l->lock);
  char *copy = file && !l->pinned ? strdup(file) : NULL;
  if (copy)
  {
    free(l->path);
    l->path = copy;
  }
  if (parsed >= 0 && !l->level_pinned)
    l->level = (enum prelux_log_level)parsed;
  if (format)
    l->json = strcmp(format, "json") == 0;
  open_again(l);
  pthread_mutex_unlock(&l->lock);
}

bool prelux_rotate(const char *dir, const char *name, long long bytes)
{
  char from[PATH_MAX], to[PATH_MAX];
  struct stat st;
  if (snprintf(from, sizeof from, "%s%s%s", dir, dir[0] ? "/" : "", name) >= (int)sizeof from ||
      snprintf(to, sizeof to, "%s.1", from) >= (int)sizeof to)
    return false;
  if (prelux_os.lstat(from, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= bytes)
    return false;
  return prelux_os.rename(from, to) == 0;
}

void prelux_logfile_rotate(struct prelux_logfile *l)
{
  pthread_mutex_lock(&l->lock);
  if (l->path && prelux_rotate("", l->path, PRELUX_LOG_ROTATE_BYTES))
    open_again(l);
  pthread_mutex_unlock(&l->lock);
}

char *prelux_logfile_path(struct prelux_logfile *l)
{
  pthread_mutex_lock(&l->lock);
  char *copy = l->path ? strdup(l->path) : NULL;
  pthread_mutex_unlock(&l->lock);
  return copy;
}
