/* The runtime folder: socket, lock, index, tables/, errors, log. */
#ifndef PRELUX_IPC_RUNTIME_H
#define PRELUX_IPC_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

/* PRELUX_RUNTIME_DIR, $XDG_RUNTIME_DIR/prelux, /tmp/prelux-UID, in that order, from `envp`
 * (NULL: none set). Pure: creates nothing. Length, or -ENAMETOOLONG. Shim-safe. */
long prelux_runtime_path(char *out, size_t cap, char *const envp[]);

/* Creates it (0700) where missing and opens it O_PATH: owner must be the caller, mode no wider than 0700,
 * and it may not be a symlink. fd or -errno. Shim-safe: raw system calls. */
int prelux_runtime_open(const char *path);

/* The folder is one of `preluxd --node` (0711), to be believed. */
bool prelux_runtime_of_node(const char *path);

/* envp look-up without libc's environ. NULL when unset. */
const char *prelux_env_get(char *const envp[], const char *name);

#endif
