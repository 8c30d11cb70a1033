/* What the library does for `prelux run --deep`; nothing where it was not given. */
#ifndef PRELUX_SHIM_DEEP_H
#define PRELUX_SHIM_DEEP_H

#include "lib/ipc/client.h"
#include "shim/exec.h"

/* At the start. */
void prelux_deep_remember(char *const envp[]);
/* PRELUX_DEEP as this process was started with, or NULL. */
const char *prelux_deep_value(void);
/* t: what libc is about to execute. A program that needs a supervisor becomes the launcher. 0 or -ENOMEM. */
int prelux_deep_launch(struct prelux_target *t);
/* prelux_daemon_start(), done by the supervisor where there is one. */
int prelux_deep_start(const struct prelux_client_opts *opts);
/* PRELUX_DEEP_ROUTE of deep/deep.h. */
long prelux_deep_route(int dirfd, const char *path, unsigned how, void *more);

#endif
