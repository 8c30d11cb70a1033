/* The reply to a request, made on a pool thread or on the loop, sent by the loop. */
#ifndef PRELUX_DAEMON_ANSWER_H
#define PRELUX_DAEMON_ANSWER_H

#include <stdbool.h>

#include "lib/base/problem.h"
#include "lib/ipc/msg.h"

struct prelux_answer {
  struct prelux_msg msg; /* buf NULL: no answer was made (no memory, the daemon ends): -EIO */
  int fd;                /* passed with it; -1: none. Owned. */
  bool reopen;           /* each receiver gets an open file description of its own */
};

void prelux_answer_init(struct prelux_answer *a);
void prelux_answer_release(struct prelux_answer *a);

/* Starts a reply with STATUS and room for an ATTR and a line of TEXT; what an earlier begin made is dropped (the fd is
 * closed). False: no memory. */
bool prelux_answer_begin(struct prelux_answer *a, int status);
/* The same with room for all that a message can hold. */
bool prelux_answer_begin_large(struct prelux_answer *a, int status);
/* A reply that says why it failed. `why` may be NULL. */
void prelux_answer_fail(struct prelux_answer *a, int status, const struct prelux_problem *why);
/* A TEXT field, cut to what fits. */
void prelux_answer_text(struct prelux_answer *a, const char *text);

#endif
