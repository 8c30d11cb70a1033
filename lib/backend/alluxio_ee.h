/* Shared by the files of backend `alluxio-ee` (alluxio_ee.c tells how they work together). */
#ifndef PRELUX_BACKEND_ALLUXIO_EE_H
#define PRELUX_BACKEND_ALLUXIO_EE_H

#include <pthread.h>
#include <stdbool.h>

#include "lib/backend/alluxio_doubt.h"
#include "lib/backend/alluxio_options.h"
#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/net/net.h"

#define PRELUX_EE_CONNECT_MS 2000
#define PRELUX_EE_STALL_S 10
#define PRELUX_EE_HOST 272            /* "host:port" */
#define PRELUX_EE_HOSTS 8             /* asked for one object */
#define PRELUX_EE_OWNERS 256          /* paths whose owner is remembered */
#define PRELUX_EE_RESTING 16
#define PRELUX_EE_RANGE_MAX (8u << 20) /* as of OSS workers: a larger one can poison them */

struct cJSON;

/* What /v1/ufsInfo says, without its credentials. */
struct prelux_ee_mount {
  char *ufs;  /* full path without a slash at the end */
  char *path; /* in the cluster's own namespace, without a slash at the end */
};

struct prelux_ee {
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  struct prelux_alluxio_options options;
  char *coordinator;      /* host:port, NULL: none */
  char *authorization;    /* header: names the user, signs nothing */
  bool whole_seconds;     /* times of the under store are not more precise than that */
  struct prelux_backend *under; /* configured; NULL: none */
  struct prelux_alluxio_doubts doubts;
  struct prelux_parallel parallel;
  struct prelux_ee_nodes {
    pthread_mutex_t lock; /* guards all */
    struct {
      uint64_t hash;
      int64_t until_ms;
      char host[PRELUX_EE_HOST];
    } owners[PRELUX_EE_OWNERS];
    struct {
      int64_t until_ms;
      char host[PRELUX_EE_HOST];
    } resting[PRELUX_EE_RESTING];
    unsigned next; /* row of `resting` to be used next */
  } nodes; /* alluxio_ee_nodes.c */
  struct prelux_ee_mounts {
    pthread_mutex_t asking; /* held by the one who asks the cluster; taken before `lock` */
    pthread_mutex_t lock;   /* guards what follows */
    struct prelux_ee_mount *rows;
    size_t n;
    int64_t until_ms; /* asked again after this */
  } mounts; /* alluxio_ee_mounts.c */
  struct prelux_ee_learning {
    bool on;              /* fallback_to_ufs_enabled */
    pthread_mutex_t lock; /* guards what follows */
    struct prelux_ee_learnt *now; /* NULL: none */
    int64_t next_ms;
    int64_t refused_ms; /* not asked again before, for keys that the under store refuses */
  } learning; /* alluxio_ee_ufs.c */
};

/* Who may be asked about a path, in order: its owner, then the others that are configured; those that failed a moment ago last. */
struct prelux_ee_round {
  char hosts[PRELUX_EE_HOSTS][PRELUX_EE_HOST];
  size_t n;
};
void prelux_ee_nodes_init(struct prelux_ee_nodes *n);
void prelux_ee_nodes_release(struct prelux_ee_nodes *n);
void prelux_ee_round_init(struct prelux_ee *e, const char *ufs, struct prelux_ee_round *r); /* may ask /v1/node */
/* It did not serve the path: it rests, and who owns the path is asked anew. */
void prelux_ee_failed(struct prelux_ee *e, const char *host, const char *ufs);
size_t prelux_ee_resting(struct prelux_ee *e);

/* alluxio_ee_call.c */
/* The full UFS path of an object; malloc'd. -EOPNOTSUPP: no name that both ports surely carry unchanged. */
int prelux_ee_name(const struct prelux_ee *e, const char *path, char **ret, struct prelux_problem *why);
/* GET /v1/ACTION?path=UFS MORE of one worker; ufs NULL: without path. req: what is not said here; *a in any case. */
int prelux_ee_get(struct prelux_ee *e, const char *host, const char *action, const char *ufs, const char *more,
                  struct prelux_net_request *req, struct prelux_net_answer *a, struct prelux_problem *why);
/* What a status that is not 2xx means; fills *why with the worker's own message. */
int prelux_ee_refused(const struct prelux_net_answer *a, const char *action, const char *what, const char *host,
                      struct prelux_problem *why);
/* An -errno that no other worker would change. */
bool prelux_ee_final(int rc);
/* A failure as the ops promise it. */
int prelux_ee_error(int rc);

struct prelux_ee_info {
  struct prelux_object obj;
  const char *ufs; /* into the JSON */
  size_t ufs_len;  /* without a slash at the end */
  bool complete;
};
/* One FileInfo; -EPROTO: it is none. */
int prelux_ee_describe(const struct prelux_ee *e, const struct cJSON *o, struct prelux_ee_info *ret);

/* alluxio_ee_stat.c */
int prelux_ee_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why);
int prelux_ee_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
/* As stat, asking workers only. */
int prelux_ee_stat_workers(struct prelux_ee *e, const char *path, const char *ufs, struct prelux_object *ret, struct prelux_problem *why);
/* As list, asking workers only, with hidden names (hidden.h). */
int prelux_ee_each(struct prelux_ee *e, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);

/* alluxio_ee_mounts.c */
void prelux_ee_mounts_init(struct prelux_ee_mounts *m);
void prelux_ee_mounts_release(struct prelux_ee_mounts *m);
/* Where a UFS path lies in the cluster's namespace ("/mnt/x"), malloc'd. */
int prelux_ee_place(struct prelux_ee *e, const char *ufs, char **ret, struct prelux_problem *why);
/* The table is asked for anew by the next one who needs it. */
void prelux_ee_mounts_expire(struct prelux_ee_mounts *m);
/* Has the cluster something mounted at the object path? */
int prelux_ee_is_mount(struct prelux_ee *e, const char *path, bool *ret, struct prelux_problem *why);

/* alluxio_ee_read.c */
int prelux_ee_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                   prelux_read_fn sink, void *arg, struct prelux_problem *why);

/* alluxio_ee_ufs.c */
void prelux_ee_learning_init(struct prelux_ee_learning *l);
void prelux_ee_learning_release(struct prelux_ee_learning *l); /* nobody is reading by it */
/* Takes what is needed of a whole answer of /v1/ufsInfo. */
void prelux_ee_learn(struct prelux_ee *e, const struct cJSON *mounts);
/* The under store refused the keys of *one: asks the cluster whether there are others by now, not too often. True: there are. */
bool prelux_ee_learn_again(struct prelux_ee *e, const struct prelux_ee_learnt *one);
/* Before a look-up: may ask for the mounts, if it is time. */
void prelux_ee_keep_learning(struct prelux_ee *e);
/* The under store, configured or learnt; NULL: none. *ret is to be dropped afterwards (may be NULL). */
struct prelux_backend *prelux_ee_under_take(struct prelux_ee *e, struct prelux_ee_learnt **ret);
void prelux_ee_under_drop(struct prelux_ee *e, struct prelux_ee_learnt *one);
/* alluxio_ee_mounts.c: all strings in it. */
void prelux_ee_wipe(struct cJSON *o);

/* alluxio_ee_under.c: the same from the under store, after the workers failed with rc: where that is no answer, and there is an under store; else
 * rc again. `why` holds what the workers said. */
int prelux_ee_under_stat(struct prelux_ee *e, const char *path, int rc, struct prelux_object *ret, struct prelux_problem *why);
int prelux_ee_under_list(struct prelux_ee *e, const char *path, int rc, prelux_list_fn add, void *arg, struct prelux_problem *why);
int prelux_ee_under_read(struct prelux_ee *e, const char *path, int rc, const struct prelux_object *expect, uint64_t off, uint64_t len,
                         prelux_read_fn sink, void *arg, struct prelux_problem *why);

/* alluxio_ee_doubt.c */
/* Is the under store to be asked, too? */
bool prelux_ee_doubted(struct prelux_ee *e, const char *path);
/* Has the configured under store, if it can be asked, a later file than the cluster tells of? Then the path is doubted from now on. */
bool prelux_ee_outdated(struct prelux_ee *e, const char *path, const struct prelux_object *expect);
/* *obj is what the cluster tells of a doubted path: the under store's file where that is later. */
void prelux_ee_later(struct prelux_ee *e, const char *path, struct prelux_object *obj);

/* alluxio_ee_cluster.c */
int prelux_ee_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                      struct prelux_problem *why);
int prelux_ee_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap);

/* alluxio_ee_load.c */
int prelux_ee_load(struct prelux_backend *b, const char *path, enum prelux_load_verb verb, const struct prelux_load_options *options,
                   struct prelux_load *ret, struct prelux_problem *why);

#endif
