/* What the library does for `prelux run --deep`; nothing where it was not given. */
#ifndef PRELUX_SHIM_DEEP_H
#define PRELUX_SHIM_DEEP_H

#include "lib/ipc/client.h"
#include "shim/exec.h"

/* At the start. */
void prelux_deep_remember(char *const envp[]);
/* PRELUX_DEEP as this process was started with, or NULL. */
const char *prelux_deep_value(void);
/* t: what is about to be executed by libc, or with `flags` (execveat's). A program that needs a supervisor becomes the launcher: 1. 0: it does not;
 * -ENOMEM. *ret_fd goes to prelux_deep_launched() when nothing was executed. */
int prelux_deep_launch(struct prelux_target *t, int flags, int *ret_fd);
void prelux_deep_launched(int fd);
/* prelux_daemon_start(), done by the supervisor where there is one. */
int prelux_deep_start(const struct prelux_client_opts *opts);
/* PRELUX_DEEP_ROUTE of deep/deep.h. */
long prelux_deep_route(int dirfd, const char *path, unsigned how, void *more);

#endif
