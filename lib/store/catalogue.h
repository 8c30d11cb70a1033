/* Inside the catalogue: catalogue.c (the file, its statements, what is asked of it), catalogue_files.c (rows of cached files) and catalogue_own.c
 * (what this node keeps of its own). */
#ifndef PRELUX_STORE_CATALOGUE_H
#define PRELUX_STORE_CATALOGUE_H

#include <sqlite3.h>

#include "lib/store/private.h"

enum stmt {
  BEGIN, COMMIT, ROLLBACK, META, SET_META, TREE, ADD_TREE, GET, FILL, FINISH, ABORT, DEL, BYTES, TOUCH,
  IDENTITY, ONCE_OLDEST, ONCE_NEWEST, AGAIN_OLDEST, NEWEST, BELOW, BELOW_FIRST, UNFINISHED, LATER, PROMOTE, TOTALS, RECOVERED,
  NUMBERS, SET_NUMBER, FIRST_NUMBER, PRUNE_NUMBERS, TIMES, SET_TIME, DROP_TIME, ATTRS, ATTRS_BELOW, SET_ATTR, DROP_ATTR, LINKS, SET_LINK,
  DROP_LINK, PARTIALS, SET_PARTIAL, DROP_PARTIAL, PINS, SET_PIN, DROP_PIN, MARK_PINNED, UNMARK_PINNED,
  STATEMENTS
};

struct prelux_catalogue {
  pthread_mutex_t lock;
  sqlite3 *db;
  sqlite3_stmt *stmts[STATEMENTS];
  uint64_t epoch;
  char *path;
  pthread_mutex_t newcomers_lock; /* guards the next; taken under `lock`, or alone */
  struct prelux_newcomer *newcomers; /* who wait for `lock` to have their rows written (catalogue_files.c) */
  bool corrupt; /* a statement found a page that cannot be: put aside when closed */
};

/* Objects of a segment (victims.c): ONCE_OLDEST and AGAIN_OLDEST used after that instant, oldest first; ONCE_NEWEST used before it, newest
 * first. Number of rows or -errno; caller frees their paths. */
int prelux_catalogue_victims(struct prelux_catalogue *c, enum stmt which, int64_t than_ns, struct prelux_victim *ret, int n);

int prelux_catalogue_pins(struct prelux_catalogue *c, int (*fn)(void *arg, int64_t tree, const char *path), void *arg);
int prelux_catalogue_set_pin(struct prelux_catalogue *c, int64_t tree, const char *path, bool on);
/* n rows (tree, path), in one transaction. */
int prelux_catalogue_mark_pinned(struct prelux_catalogue *c, const struct prelux_victim *rows, int n);

/* Lock held. */

/* -EUCLEAN: the file is damaged; who owns the store closes it and opens it anew. */
int prelux_catalogue_fault(struct prelux_catalogue *c, int rc);
/* A statement with tree and path bound. */
sqlite3_stmt *prelux_catalogue_bind(struct prelux_catalogue *c, enum stmt which, int64_t tree, const char *path);
void prelux_catalogue_done(sqlite3_stmt *st);
int prelux_catalogue_run(struct prelux_catalogue *c, sqlite3_stmt *st);
/* Writes a row of numbers by SET_NUMBER or FIRST_NUMBER. */
int prelux_catalogue_put_number(struct prelux_catalogue *c, enum stmt which, int64_t tree, const struct prelux_number *n, int64_t at);
/* Ends a transaction that began with ret: committed, or undone. */
int prelux_catalogue_end(struct prelux_catalogue *c, int ret);

#endif
