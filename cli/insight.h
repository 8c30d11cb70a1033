/* `prelux run --report`: what the programs of a run did, and which of them the library did not get into.
 *
 *   insight.c       the memory that the library counts in (include/prelux/report.h), begin and end
 *   insight_tree.c  a look at /proc now and then: programs that nobody told of
 *   insight_sum.c   all of it as one JSON object
 *   insight_text.c, insight_html.c   that object, to be read */
#ifndef PRELUX_CLI_INSIGHT_H
#define PRELUX_CLI_INSIGHT_H

#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "cli/cli.h"
#include "include/prelux/report.h"

/* ---- insight_tree.c */

#define PRELUX_TREE_WHY 320
#define PRELUX_TREE_EXE 256

/* One program in one process, as /proc showed it. */
struct prelux_tree_image {
  pid_t pid, parent; /* parent: as of the first look */
  int64_t began_ns, seen_ns; /* CLOCK_BOOTTIME: the process's start, the first look at the program */
  unsigned looks;
  bool reached, gone;
  bool told; /* insight.c has heard that it was reached */
  char exe[PRELUX_TREE_EXE]; /* the end of its path */
  char why[PRELUX_TREE_WHY]; /* what keeps the library out; "": not known */
};

struct prelux_tree {
  const char *own; /* this program's own file: the child before it becomes another */
  struct prelux_tree_image *images;
  size_t n, cap;
};

/* Looks at `root` and everything below it, and at what once was. */
void prelux_tree_look(struct prelux_tree *t, pid_t root);
size_t prelux_tree_alive(const struct prelux_tree *t);
void prelux_tree_release(struct prelux_tree *t);
int64_t prelux_tree_clock(void); /* CLOCK_BOOTTIME, ns */

/* ---- insight.c */

enum { PRELUX_INSIGHT_POINTS = 240 };

struct prelux_insight_point {
  double at_s;
  uint64_t calls, asked;
  unsigned alive;
};

struct prelux_insight {
  struct prelux_cli *cli;
  struct prelux_report *report;
  int fd, out; /* the memory; where the report goes */
  enum { PRELUX_INSIGHT_TEXT, PRELUX_INSIGHT_JSON, PRELUX_INSIGHT_HTML } form;
  const char *file; /* NULL: the standard error */
  int64_t began_ns, ended_ns, wall_ns;
  int64_t settled_ns; /* programs executed later are not looked for */
  pid_t child;
  int status;
  cJSON *before, *after; /* STATUS of the daemon, or NULL */
  struct prelux_tree tree;
  struct prelux_insight_point points[PRELUX_INSIGHT_POINTS];
  unsigned n_points;
  int64_t step_ns, next_point_ns;
};

/* The options of `run`. 0: *ret is NULL when no report is wanted; or an exit status after saying why. Puts PRELUX_REPORT into the
 * environment. */
int prelux_insight_begin(struct prelux_cli *cli, struct prelux_insight **ret);
/* While the program runs: looks around, and says how long to wait until the next look. */
struct timespec prelux_insight_look(struct prelux_insight *x, pid_t child);
/* The program has ended. */
void prelux_insight_ended(struct prelux_insight *x, int status);
/* Writes the report; says so when it cannot. */
void prelux_insight_end(struct prelux_insight *x);

/* ---- the rest */
/* Some program has been executed, lives, and has said nothing, though the library could be in it. */
bool prelux_insight_begins(const struct prelux_insight *x);
cJSON *prelux_insight_sum(const struct prelux_insight *x);
void prelux_insight_text(FILE *f, const cJSON *sum);
void prelux_insight_html(FILE *f, const cJSON *sum);

#endif
