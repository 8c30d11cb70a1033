/* Parts of the library's start that others use too. */
#ifndef PRELUX_SHIM_INIT_H
#define PRELUX_SHIM_INIT_H

#include <stddef.h>

/* Absolute path of libprelux.so as it was loaded. Length or -errno. */
long prelux_self_path(char *out, size_t cap);

/* preluxd to start, or NULL when there is none to be found. */
const char *prelux_daemon_path(void);

/* REGISTER: of a configuration file (absolute path), or of a known table by its hash. path (may be NULL) gets the
 * table file, or on failure the daemon's words. 0, -ENOTCONN, -ETIMEDOUT, -EPROTO, or the daemon's -errno. */
int prelux_register(const char *config, const unsigned char *hash, char *path, size_t cap);

/* Prefixes of a YAML file that could not be compiled (shim/lost.c), in the form of prelux_state.lost; NULL: none. */
const char *prelux_lost_prefixes(const char *config, const char *cwd, char *const envp[]);

/* A copy of the first `max` bytes of s (NULL: none) that lives as long as the process; "" when there is no room. Only while
 * the library starts. */
const char *prelux_keep(const char *s, size_t max);

/* Keeps what children must find again when the program drops it from their environment (shim/exec_env.c). Once, last. */
void prelux_exec_remember(char *const envp[]);

#endif
