/* What a message asks for, and who answers it. Loop thread. */
#ifndef PRELUX_DAEMON_REQUEST_H
#define PRELUX_DAEMON_REQUEST_H

#include "daemon/conn.h"
#include "daemon/daemon.h"

/* msg: a checked message of `len` bytes, valid during the call; its serial may be cleared. */
void prelux_request(struct prelux_conn *c, void *msg, size_t len);

/* Something was changed on this node, and the answer to who did it is about to go: who asks from now on gets no answer to a question that
 * was put before. Any thread. */
void prelux_request_changed(void);

/* An object below a mapping of a live table. */
struct prelux_target {
  struct prelux_live_table *table; /* held */
  uint32_t mapping;
  const char *rel;  /* below the mapping's root; borrowed or within `object` */
  char *object;     /* in the tree; malloc'd */
  _Atomic uint64_t *came; /* as prelux_came.also */
};
/* Copies and checks `rel` ("" or components without slashes at the ends, empty ones, "." or ".."). Takes table on
 * success. 0, -EINVAL, -ENAMETOOLONG, -ENOMEM. */
int prelux_target_init(struct prelux_target *t, struct prelux_live_table *table, uint32_t mapping, const char *rel);
void prelux_target_release(struct prelux_target *t);
const struct prelux_live_mapping *prelux_target_mapping(const struct prelux_target *t);
/* What is said of a mapping that is broken: -EIO, or PRELUX_STATUS_NO_TABLE when it is time to try again. Loop thread. */
int prelux_target_broken(const struct prelux_target *t, struct prelux_problem *why);

enum { PRELUX_ASK_STAT, PRELUX_ASK_OPEN, PRELUX_ASK_LIST };
/* Asks the store as this mapping's configuration would (credentials); reports what is worth a record. Pool thread.
 * store_flags: PRELUX_STORE_*. ret_fd may be NULL. */
int prelux_target_ask(struct prelux_daemon *d, const struct prelux_target *t, int what, unsigned store_flags,
                      struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why);

/* The same of an OPEN whose asker can be answered early. -EINPROGRESS: he was, and somebody else fills the file. */
struct prelux_early;
int prelux_target_stream(struct prelux_daemon *d, const struct prelux_target *t, struct prelux_early *early, struct prelux_attr *ret,
                         struct prelux_problem *why);
/* PARTS: -EAGAIN: there is no such stream. */
int prelux_target_parts(struct prelux_daemon *d, const struct prelux_target *t, uint64_t version, uint64_t from, uint64_t to,
                        struct prelux_problem *why);

void prelux_request_refuse(struct prelux_conn *c, int status, const struct prelux_problem *why);
/* A pool thread works on it in the lane of t's mapping, for this asker alone: f->arg is the job, `drop` frees it. -ENOMEM: the job is
 * the caller's still. */
int prelux_request_once(struct prelux_conn *c, const struct prelux_target *t, void *job, void (*work)(struct prelux_flight *f),
                        void (*drop)(struct prelux_flight *f), bool keeps);

#endif
