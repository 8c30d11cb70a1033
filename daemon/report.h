/* Errors that programs get from us: which errno, and a record of why. */
#ifndef PRELUX_DAEMON_REPORT_H
#define PRELUX_DAEMON_REPORT_H

#include "daemon/daemon.h"
#include "lib/base/problem.h"

/* An errno that a program may see from a file call; others become -EIO. */
int prelux_report_errno(int err);
/* Log and RUNTIME/errors: `call` on `rel` below a mapping ended with err (-errno). What a healthy remote says of a path
 * (not there, not a folder, a folder) is no error and leaves nothing, but for the one name that we hide. */
void prelux_report(struct prelux_daemon *d, const struct prelux_live_table *t, uint32_t mapping, const char *rel,
                   const char *call, int err, const struct prelux_problem *why);
/* malloc'd logical path of `rel` below a mapping. */
char *prelux_report_path(const struct prelux_live_table *t, uint32_t mapping, const char *rel);

#endif
