/* How far bulk work is: a bar on a terminal, else lines, of text or JSON; all to the standard error. */
#ifndef PRELUX_CLI_PROGRESS_H
#define PRELUX_CLI_PROGRESS_H

#include <cjson/cJSON.h>
#include <stdbool.h>

enum prelux_progress_form { PRELUX_PROGRESS_NONE, PRELUX_PROGRESS_BAR, PRELUX_PROGRESS_LINES, PRELUX_PROGRESS_JSON };

struct prelux_progress_state {
  double files, bytes;             /* done */
  double all_files, all_bytes;     /* as far as known; 0: not */
  double came;                     /* bytes that were moved: what the rate is of */
  double failed;
  bool complete;                   /* all_* are all */
};

struct prelux_progress {
  const char *verb; /* "prefetch" */
  enum prelux_progress_form form;
  struct prelux_progress_state before; /* of requests that have ended: what a frame says is added */
  double began, shown, rate, rate_at, rate_came; /* seconds; bytes a second */
  bool more;   /* others will follow the request under way: nothing is complete */
  bool drawn;  /* a bar stands in the last line */
};

/* `word`: --progress: auto, bar, lines, json, none; NULL: auto. quiet: auto is none where there is no terminal. False: no such word. */
bool prelux_progress_begin(struct prelux_progress *p, const char *verb, const char *word, bool quiet);
/* SIGINT and SIGTERM take the bar away and say that, and what, before they end the command. */
void prelux_progress_catch(const struct prelux_progress *p, const char *what);
/* The same as begin, with the signals left alone: whoever waits decides what they do. */
bool prelux_progress_start(struct prelux_progress *p, const char *verb, const char *word, bool quiet);
/* A PROGRESS frame of the daemon (struct prelux_client_opts). */
void prelux_progress_frame(void *progress, const void *frame);
void prelux_progress_show(struct prelux_progress *p, const struct prelux_progress_state *s);
/* A request has ended, with these numbers: files, bytes, found_files, ... */
void prelux_progress_add(struct prelux_progress *p, const cJSON *answer);
/* The bar goes. Also by a signal that ends the command: then it is said how to go on, and the command dies of the signal. */
void prelux_progress_end(struct prelux_progress *p);
double prelux_progress_seconds(const struct prelux_progress *p); /* since the beginning */

#endif
