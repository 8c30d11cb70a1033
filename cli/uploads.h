/* What is not on the remote yet, and waiting for it. */
#ifndef PRELUX_CLI_UPLOADS_H
#define PRELUX_CLI_UPLOADS_H

#include <signal.h>

#include "cli/cli.h"
#include "cli/progress.h"

struct prelux_uploads {
  char **paths;            /* absolute; none: all of the configuration, or without `table` everything */
  int n_paths;
  bool table, quiet;
  bool pages;              /* all that there are, not the first thousand */
  const char *id;          /* that one only; NULL: all */
  bool progress;           /* a bar, on a terminal; */
  const char *form;        /* or --progress, NULL: auto; then lines where there is no terminal */
  int64_t after;           /* only files begun later (CLOCK_REALTIME, ns); 0: all */
  double limit_s;          /* 0: as long as something moves; else so long */
  const sigset_t *signals; /* blocked ones that are taken while waiting: SIGINT ends it, SIGTERM after grace_s; NULL: none */
  int64_t told_ns;         /* when SIGTERM came (CLOCK_REALTIME), 0: not yet */
  double grace_s;          /* out: as configured */
  struct prelux_progress bar; /* its own, and the next two */
  double sent_before, most_bytes;
};

int64_t prelux_cli_wall(void); /* CLOCK_REALTIME, ns */
/* PENDING or FLUSH. 0 and *ret (caller deletes), or an exit status. */
int prelux_cli_ask_uploads(struct prelux_cli *cli, const struct prelux_uploads *u, const char *verb, int64_t before, cJSON **ret);
/* Waits until what waits now has been sent, nothing moves any more for grace_s, or somebody has enough. 0 and what is left in *ret (caller
 * deletes), or an exit status. */
int prelux_cli_wait_uploads(struct prelux_cli *cli, struct prelux_uploads *u, cJSON **ret);
/* What one of them is about, printable: its path, of a rename both; malloc'd. */
char *prelux_cli_upload_path(const cJSON *f);
/* Names what is left on stderr; how many. */
int prelux_cli_list_uploads(const cJSON *o);

#endif
