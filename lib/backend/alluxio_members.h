/* Who the workers of a cluster are: from etcd, a fixed list, or DNS; and the hash ring over them.
 *
 * Theory of operation. A view is an immutable snapshot {workers, ring}, reference counted. The first prelux_alluxio_view_get starts
 * a thread that fetches the membership, publishes a view when it differs from the one before, and goes on doing so every
 * `refresh_ms`; requests never wait for it but for the first view. When etcd cannot be asked the last view stays, and so do, for
 * some seconds after a silence, workers it has lost and that answer (alluxio_absent.c). Without any
 * view a get fails with -EIO that names etcd, after PRELUX_ALLUXIO_FIRST_WAIT_MS at most and at once while the thread is backing
 * off; the thread goes on trying, so it heals by itself. A fixed list needs no thread. */
#ifndef PRELUX_BACKEND_ALLUXIO_MEMBERS_H
#define PRELUX_BACKEND_ALLUXIO_MEMBERS_H

#include "lib/backend/alluxio_health.h"
#include "lib/backend/alluxio_options.h"
#include "lib/backend/alluxio_ring.h"
#include "lib/backend/backend.h"
#include "lib/net/net.h"

#define PRELUX_ALLUXIO_FIRST_WAIT_MS 8000
#define PRELUX_ALLUXIO_WORKERS_MAX 4096

struct prelux_alluxio_worker {
  char *address;                /* "host:http_port", as `map` shows it; IPv6 in brackets */
  char *host;                   /* as registered; IPv6 in brackets */
  unsigned http_port, s3_port;
  char *http, *s3;              /* "http://host:port", to be followed by a path */
  struct prelux_alluxio_identity identity;
  int64_t birth;                /* etcd: revision at which it registered; 0 otherwise */
  struct prelux_alluxio_patient *health;
};

/* How much the ring is worth. */
enum prelux_alluxio_trust {
  PRELUX_ALLUXIO_RING_KNOWN,    /* identities as registered */
  PRELUX_ALLUXIO_RING_LIKELY,   /* identities made of the hosts of a fixed list: right when the cluster itself uses that list */
  PRELUX_ALLUXIO_RING_GUESSED   /* DNS, or workers before 305: a stable order, no more. Pages may be anywhere */
};

struct prelux_alluxio_view {
  uint64_t generation;          /* 1, and one more at each change */
  int64_t born_ms;              /* CLOCK_MONOTONIC, when the change was learned: connections made before it have the old ring
                                 * (net's born_after_ms). 0 in the first view */
  enum prelux_alluxio_trust trust;
  size_t n;                     /* may be 0: nobody is registered */
  const struct prelux_alluxio_worker *workers; /* sorted by identity and address */
  struct prelux_alluxio_ring ring; /* indices into workers */
};

struct prelux_alluxio_members;

/* options, health and net are borrowed and must outlive it. Opens no connection, starts no thread. 0, -ENOMEM or -EINVAL. */
int prelux_alluxio_members_create(const struct prelux_alluxio_options *options, struct prelux_alluxio_health *health,
                                  struct prelux_net *net, struct prelux_alluxio_members **ret, struct prelux_problem *why);
/* Ends the thread: a request under way is given up, within a quarter of a second. NULL is allowed. */
void prelux_alluxio_members_free(struct prelux_alluxio_members *m);

/* 0 and a view to be put, or -EIO (never a view and nobody to ask). */
int prelux_alluxio_view_get(struct prelux_alluxio_members *m, const struct prelux_alluxio_view **ret, struct prelux_problem *why);
void prelux_alluxio_view_put(const struct prelux_alluxio_view *v); /* NULL is allowed */

/* Has there ever been a worker? Does not wait. */
bool prelux_alluxio_members_known(struct prelux_alluxio_members *m);

/* Workers for an object, the owner first; at most max, all distinct; sick ones are not left out. ufs_path as
 * prelux_alluxio_ufs_path gives it (a folder's listing: with a slash at the end). How many. */
size_t prelux_alluxio_view_owners(const struct prelux_alluxio_view *v, const char *ufs_path, size_t max,
                                  const struct prelux_alluxio_worker **out);
/* The member that a redirect's host (brackets or not) and port mean, NULL: a stranger, whom nothing is to be sent. By name, also of
 * those who were members in the last two minutes, since workers hear of a change later than we do; and where the membership has addresses and the redirect a name, by what the name resolves to (may block for DNS, remembered). */
const struct prelux_alluxio_worker *prelux_alluxio_view_member(struct prelux_alluxio_members *m, const struct prelux_alluxio_view *v,
                                                               const char *host, size_t host_len, unsigned s3_port);

/* Something contradicts the view (an owner by redirect who is not the ring's, 500 after a death, all refuse): look again soon, at most
 * once a second. Does not wait. */
void prelux_alluxio_members_stir(struct prelux_alluxio_members *m);

/* Adds "trouble": text when no worker is known or none answers; "membership": {from: etcd|list|dns, workers, generation, age_s, ring: known|likely|guessed, virtual_nodes, lost_by_etcd, error,
 * error_age_s},
 * and what prelux_alluxio_health_report adds for the workers of the view. Never blocks, starts nothing. */
void prelux_alluxio_members_report(struct prelux_alluxio_members *m, struct cJSON *into);

/* alluxio_load.c: a load job, asked of any worker that is well. ufs_path: of the file or folder, no slash at its end; a name
 * that the HTTP port carries. -EIO, -EINVAL as the op `load` says (backend.h). */
int prelux_alluxio_load(struct prelux_alluxio_members *m, struct prelux_net *net, const char *ufs_path, enum prelux_load_verb verb,
                        const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why);
/* What a worker's answer about the progress of a job says; false: nothing. */
struct cJSON;
bool prelux_alluxio_load_told(const struct cJSON *answer, struct prelux_load *ret);

#endif
