/* Snapshot of a configuration, RUNTIME/tables/HEX.conf: what a later daemon needs to serve the table HEX again: the
 * texts of its files, folder, home and the names (never values) of the environment it used. Secrets' files are read
 * anew.
 *
 * Format: a line "prelux-snapshot 1", then records "KEY LENGTH\n" LENGTH bytes "\n". A file is two records, `file` (its
 * path) and `text`. */
#ifndef PRELUX_DAEMON_SNAPSHOT_H
#define PRELUX_DAEMON_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct prelux_source_file {
  char *path;
  char *text; /* NULL: a secret's file, or one that could not be read */
  size_t len;
  int err;        /* 0, or why it could not be read (-errno): it may appear later */
  struct stat st; /* as it was when read */
};

struct prelux_snapshot {
  char *source; /* absolute path of the configuration */
  char *cwd;
  char *home; /* "" none */
  bool bare;
  struct prelux_source_file *files;
  size_t n_files;
  char **env; /* names, sorted */
  size_t n_env;
};

void prelux_snapshot_release(struct prelux_snapshot *s);
/* Takes path and text (moves). 0 or -ENOMEM (they are freed). */
int prelux_snapshot_add_file(struct prelux_snapshot *s, char *path, char *text, size_t len, int err,
                             const struct stat *st);
/* Copies the name unless it is there. */
int prelux_snapshot_add_env(struct prelux_snapshot *s, const char *name);
const struct prelux_source_file *prelux_snapshot_file(const struct prelux_snapshot *s, const char *path);
/* None of its files has changed, come or gone since they were read. */
bool prelux_snapshot_current(const struct prelux_snapshot *s);

/* dir/name. 0 or -errno. */
int prelux_snapshot_write(const struct prelux_snapshot *s, const char *dir, const char *name);
int prelux_snapshot_read(const char *path, struct prelux_snapshot *ret);

#endif
