/* A daemon of a node (`preluxd --node FILE`): it serves several users, by one configuration, which it reads by itself. Programs are given its table,
 * RUNTIME/table, and never the configuration. Every request of somebody else than the daemon's own user and root is admitted here, or refused with EACCES;
 * what is not named here is refused. docs/SECURITY.md says what is kept from whom, and by what. */
#ifndef PRELUX_DAEMON_NODE_H
#define PRELUX_DAEMON_NODE_H

#include "daemon/conn.h"
#include "daemon/daemon.h"
#include "lib/conf/conf.h"

struct prelux_node {
  char *source; /* absolute path of the configuration */
  char *table;  /* RUNTIME/table */
  struct prelux_sent_env env; /* the daemon's own environment, which the configuration is bound to */
  unsigned char hash[16];     /* of its table */
};

/* RUNTIME of such a daemon: made or taken, ours, and nobody else may make names in it or list it (0711). An O_PATH fd, or -errno. */
int prelux_node_runtime(const char *path);
/* Reads FILE, which must be ours or root's and nobody else's to write. A mistake in it is the end. 0 or -errno with why. */
int prelux_node_begin(struct prelux_daemon *d, const char *file, struct prelux_problem *why);
void prelux_node_end(struct prelux_daemon *d);

/* `readers` and `writers` of a mapping. */
int prelux_node_rules(const struct prelux_conf_mapping *m, struct prelux_live_mapping *ret, struct prelux_problem *why);
/* When the rules of all mappings are known: opens the cache folders of those that show all of a tree to their readers (lib/store/share.h), and the index
 * to who may read all that there is. */
void prelux_node_share(struct prelux_index_writer *index, const struct prelux_live_mapping *list, unsigned n);
/* PRELUX_MAY_*. peer NULL: the daemon's own user, or root. */
unsigned prelux_node_may(const struct prelux_live_mapping *m, const struct prelux_peer *peer);

/* An inner mapping has the prefix that `rel` of this one lies at or below. */
bool prelux_node_hides(const struct prelux_live_table *t, uint32_t mapping, const char *rel);

/* Does REGISTER name what this daemon serves? 0, or -EPERM with why. */
int prelux_node_names(const struct prelux_node *n, const char *config, const char *cwd, const void *table, struct prelux_problem *why);
/* May he who is at the other end of c have that? 0, or the status of the answer. */
int prelux_node_admit(const struct prelux_conn *c, const struct prelux_live_table *t, const void *msg, struct prelux_problem *why);

#endif
