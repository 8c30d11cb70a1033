/* Why something failed, carried from where it is known to where it is reported. */
#ifndef PRELUX_BASE_PROBLEM_H
#define PRELUX_BASE_PROBLEM_H

#include <stddef.h>

#define PRELUX_PROBLEM_MAX 512

struct prelux_problem {
  int err;                       /* positive errno, 0: none */
  char text[PRELUX_PROBLEM_MAX]; /* what, where; one line */
  char advice[192];              /* what to do, or "" */
};

/* Fills *why (NULL is allowed) and returns -err. */
int prelux_problem(struct prelux_problem *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* What a server said, as it may stand in a record, a log or on a terminal: whatever is not printable ASCII becomes a dot. text NULL: "". */
void prelux_problem_said(char *out, size_t cap, const char *text, size_t len);

#endif
