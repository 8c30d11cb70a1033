/* Parts of the library's start that others use too. */
#ifndef PRELUX_SHIM_INIT_H
#define PRELUX_SHIM_INIT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/map/prefixes.h"

/* Absolute path of libprelux.so as it was loaded. Length or -errno. */
long prelux_self_path(char *out, size_t cap);

/* preluxd to start, or NULL when there is none to be found. */
const char *prelux_daemon_path(void);

/* From now on there is none: this process has another root. */
void prelux_daemon_never(void);

/* REGISTER: of a configuration file (absolute path), or of a known table by its hash. `folder`: where the file was first
 * loaded, by `prelux run` or its like; NULL: here and now, by a bare preload. path (may be NULL) gets the table file, or
 * on failure the daemon's words. 0, -ENOTCONN, -ETIMEDOUT, -EPROTO, or the daemon's -errno. */
int prelux_register(const char *config, const char *folder, const unsigned char *hash, char *path, size_t cap);

/* The same for a table in use that the daemon can find no trace of: from its source. -ENOENT: that makes another table. */
int prelux_register_again(const struct prelux_table *t);

/* 0 and the table, -ENOEXEC when the file is not a table (so: YAML), or -errno. */
int prelux_load_table(const char *path, const struct prelux_table **ret);

/* `config` is no table, but was: PRELUX_PREFIXES tells of it. Then true, and either prelux_state.table is there, loaded from
 * `path`, or prelux_state.lost with *ret_why. */
bool prelux_heal(const char *config, char *const envp[], char *path, size_t cap, const char **ret_why);

/* Prefixes of a YAML file that could not be compiled (shim/lost.c); NULL: none. was_on: it was in use, also if it is an azfuse
 * list, whatever the environment says about those now. */
const struct prelux_prefixes *prelux_lost_prefixes(const char *config, const char *cwd, bool was_on);

/* Sum of azfuse's switches (USE_FUSE, TSV_USE_FUSE); *ret_given: there is one; *ret_wrong: one is no whole number. */
long prelux_azfuse_switch(char *const envp[], bool *ret_given, bool *ret_wrong);

/* A copy of the first `max` bytes of s (NULL: none) that lives as long as the process; "" when there is no room. Only while
 * the library starts. */
const char *prelux_keep(const char *s, size_t max);

/* Keeps what children must find again when the program drops it from their environment (shim/exec_env.c). Once, last. */
void prelux_exec_remember(char *const envp[]);

#endif
