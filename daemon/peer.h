/* Who is at the other end of a connection, and what the rules of a mapping (`readers`, `writers`) let him do. Only a daemon of a node
 * (node.h) has peers that are not its own user. */
#ifndef PRELUX_DAEMON_PEER_H
#define PRELUX_DAEMON_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/acl.h"
#include "lib/base/problem.h"

/* As the kernel knew them when he connected. Immutable. */
struct prelux_peer {
  uid_t uid;
  unsigned n_groups;
  gid_t groups[]; /* his own and the supplementary ones */
};

/* 0 or -errno; free() it. */
int prelux_peer_of(int fd, struct prelux_peer **ret);

/* What the kernel says of a user or group that has no number here, from a user namespace: anybody. */
static inline bool prelux_peer_is_unknown(unsigned id)
{
  return id == 65534u;
}

struct prelux_who {
  bool all;
  uid_t *uids;
  gid_t *gids;
  unsigned n_uids, n_gids;
};

/* "alice", "@group", numbers, "*". A name that this machine does not know is an error. */
int prelux_who_add(struct prelux_who *w, const char *text, struct prelux_problem *why);
bool prelux_who_has(const struct prelux_who *w, const struct prelux_peer *p);
void prelux_who_release(struct prelux_who *w);
/* In order, each once; then it can be compared, and given to lib/base/acl.h. */
void prelux_who_sort(struct prelux_who *w);
bool prelux_who_equal(const struct prelux_who *a, const struct prelux_who *b);
static inline struct prelux_allowed prelux_who_allowed(const struct prelux_who *w)
{
  return (struct prelux_allowed){.all = w->all, .uids = w->uids, .gids = w->gids, .n_uids = w->n_uids, .n_gids = w->n_gids};
}

enum { PRELUX_MAY_READ = 1, PRELUX_MAY_WRITE = 2 };

#endif
