/* Verbs of the CLI: include/prelux/ctl.h says what each takes and gives. One row of the table in ctl.c is one verb. */
#ifndef PRELUX_DAEMON_CTL_H
#define PRELUX_DAEMON_CTL_H

#include <cjson/cJSON.h>

#include "daemon/conn.h"
#include "daemon/daemon.h"
#include "daemon/request.h"

#define PRELUX_CTL_ARGS 512
#define PRELUX_TOLD 9u

/* A verb under way: the arg of its flight. */
struct prelux_ctl {
  struct prelux_daemon *d;
  struct prelux_flight *flight;
  struct prelux_live_table *table; /* held, or NULL */
  void *msg;                       /* a copy of the message; args point into it */
  const char *args[PRELUX_CTL_ARGS];
  unsigned n_args;
  unsigned char *may;              /* by mapping: what he may who asks (PRELUX_MAY_*); NULL: all */
  const struct prelux_verb *verb;
  _Atomic uint64_t told[PRELUX_TOLD]; /* of a verb that works on many files: how far it is, for the loop thread */
};

enum prelux_told {
  PRELUX_TOLD_FILES,       /* done */
  PRELUX_TOLD_BYTES,       /* of them */
  PRELUX_TOLD_CACHED,      /* of them: were in the cache before */
  PRELUX_TOLD_FOLDERS,     /* listed */
  PRELUX_TOLD_FAILED,
  PRELUX_TOLD_FOUND_FILES, /* that are known of: all of them once nothing is OPEN */
  PRELUX_TOLD_FOUND_BYTES,
  PRELUX_TOLD_CAME,        /* bytes from the remote, also of files that are not done */
  PRELUX_TOLD_OPEN,        /* folders that are not listed yet, paths of which nothing is known */
};

struct prelux_verb {
  const char *name;
  bool table;                  /* needs TABLE */
  bool on_loop;                /* reads what only the loop thread may, at once */
  bool ends;                   /* at once, whatever leases there are */
  bool others;                 /* also for other users than the daemon's own, within what they may read */
  bool crew;                   /* run() starts a crew, on the loop thread; who is last lands the flight */
  unsigned min_args, max_args;
  /* True: the flight's answer is made. False (crew): prelux_server_land() is called by others, perhaps already. */
  bool (*run)(struct prelux_ctl *x);
};

/* Takes table (may be NULL). Loop thread. */
void prelux_ctl(struct prelux_conn *c, struct prelux_live_table *table, const void *msg, size_t len);

/* Makes the answer; takes out (NULL: no memory). True, for `return prelux_ctl_answer(...)`. */
bool prelux_ctl_answer(struct prelux_ctl *x, cJSON *out);
bool prelux_ctl_fail(struct prelux_ctl *x, int status, const struct prelux_problem *why);

/* Length of the valid UTF-8 sequence at p, or 0. */
int prelux_utf8_length(const unsigned char *p);
/* A string that is valid UTF-8 whatever the bytes were; bytes that are not are taken for Latin-1, and KEY_hex is
 * added. */
void prelux_json_text(cJSON *o, const char *key, const char *text);

/* All members of an object to the end of another one. */
void prelux_json_move(cJSON *from, cJSON *to);

/* How far it is, as a flight's `tell`, and as the members of an answer. */
void prelux_ctl_tell(struct prelux_flight *f, char *text, size_t cap);
void prelux_ctl_told(struct prelux_ctl *x, cJSON *out);
static inline void prelux_ctl_count(struct prelux_ctl *x, enum prelux_told which, uint64_t n)
{
  atomic_fetch_add_explicit(&x->told[which], n, memory_order_relaxed);
}

/* Where a logical path lies: 1 mapped (*ret is filled; caller releases it), 0 not, -errno. *ret_below (may be NULL):
 * there are mappings below it. */
int prelux_ctl_target(struct prelux_ctl *x, const char *path, struct prelux_target *ret, bool *ret_below);

/* What lies at PATH, if it is mapped, and the roots of all mappings below it. malloc'd; 0 or -errno. */
int prelux_ctl_targets(struct prelux_ctl *x, const char *path, struct prelux_target **ret, size_t *ret_n);
/* The same to the end of a list of n; -ENOENT, with why, when that is nothing. */
int prelux_ctl_targets_add(struct prelux_ctl *x, const char *path, struct prelux_target **list, size_t *n, struct prelux_problem *why);
bool prelux_ctl_may(const struct prelux_ctl *x, uint32_t mapping); /* may he read that one? */
void prelux_ctl_targets_free(struct prelux_target *list, size_t n);
/* "s3:/bucket/x", as logical paths are normalised -> "s3://bucket/x"; "file:/x" -> "file:///x". malloc'd; NULL: no URI, or no memory. */
char *prelux_ctl_uri(const char *path);
const char *prelux_freshness_name(uint32_t freshness);

bool prelux_ctl_status(struct prelux_ctl *x);
bool prelux_ctl_daemon_status(struct prelux_ctl *x);
bool prelux_ctl_daemon_stop(struct prelux_ctl *x);
bool prelux_ctl_errors(struct prelux_ctl *x);
bool prelux_ctl_log_level(struct prelux_ctl *x);
bool prelux_ctl_log(struct prelux_ctl *x);
bool prelux_ctl_tables(struct prelux_ctl *x);
bool prelux_ctl_map(struct prelux_ctl *x);
bool prelux_ctl_stat(struct prelux_ctl *x);
bool prelux_ctl_ls(struct prelux_ctl *x);
bool prelux_ctl_evict(struct prelux_ctl *x);
bool prelux_ctl_prefetch(struct prelux_ctl *x);
bool prelux_ctl_pin(struct prelux_ctl *x);
bool prelux_ctl_unpin(struct prelux_ctl *x);
bool prelux_ctl_pins(struct prelux_ctl *x);
bool prelux_ctl_verify(struct prelux_ctl *x);
bool prelux_ctl_metrics(struct prelux_ctl *x);
bool prelux_ctl_stats(struct prelux_ctl *x);
bool prelux_ctl_doctor(struct prelux_ctl *x);
bool prelux_ctl_pending(struct prelux_ctl *x);
bool prelux_ctl_flush(struct prelux_ctl *x);
bool prelux_ctl_pending_retry(struct prelux_ctl *x);
bool prelux_ctl_pending_drop(struct prelux_ctl *x);
bool prelux_ctl_load(struct prelux_ctl *x);
bool prelux_ctl_cluster(struct prelux_ctl *x);

#endif
