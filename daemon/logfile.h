/* The daemon's log file: opened again on SIGHUP, rotated once by size. */
#ifndef PRELUX_DAEMON_LOGFILE_H
#define PRELUX_DAEMON_LOGFILE_H

#include <pthread.h>
#include <stdbool.h>

#include "lib/base/log.h"

#define PRELUX_LOG_ROTATE_BYTES (8u << 20)
#define PRELUX_ERRORS_ROTATE_BYTES (4u << 20)

struct prelux_logfile {
  pthread_mutex_t lock;
  char *path;  /* NULL: stderr */
  bool pinned; /* given on the command line: configurations do not change it */
  bool level_pinned;
  bool json;
  enum prelux_log_level level;
};

/* path NULL: stderr. Copies it. 0 or -errno. */
int prelux_logfile_init(struct prelux_logfile *l, const char *path, enum prelux_log_level level);
void prelux_logfile_release(struct prelux_logfile *l);
void prelux_logfile_reopen(struct prelux_logfile *l);
void prelux_logfile_set_level(struct prelux_logfile *l, enum prelux_log_level level);
/* What a configuration says; members may be NULL. Later configurations win. */
void prelux_logfile_configure(struct prelux_logfile *l, const char *file, const char *level, const char *format);
/* Renames to "PATH.1" above PRELUX_LOG_ROTATE_BYTES and starts anew. */
void prelux_logfile_rotate(struct prelux_logfile *l);
/* malloc'd copy of the path, or NULL for stderr. */
char *prelux_logfile_path(struct prelux_logfile *l);

/* Renames dir/name to dir/name.1 when it is larger than `bytes`. True when done. */
bool prelux_rotate(const char *dir, const char *name, long long bytes);

#endif
