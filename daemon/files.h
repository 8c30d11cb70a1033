/* Small whole files of the runtime folder. */
#ifndef PRELUX_DAEMON_FILES_H
#define PRELUX_DAEMON_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Reads a regular file of at most `max` bytes. malloc'd, a NUL behind it. st (may be NULL): as it was before reading.
 * 0 or -errno (-EFBIG). */
int prelux_file_read(const char *path, size_t max, char **ret, size_t *ret_len, struct stat *st);
/* Puts dir/name there whole, 0600, by rename. 0 or -errno. */
int prelux_files_write(const char *dir, const char *name, const void *bytes, size_t len);
/* The last `max` bytes of a file, from the start of a line on. malloc'd; an absent file is "". */
int prelux_file_tail(const char *path, size_t max, char **ret, size_t *ret_len);
/* malloc'd "a/b", or NULL. b "": just a. a "": just b. */
char *prelux_join(const char *a, const char *b);

#endif
