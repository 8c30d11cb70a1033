/* Shared by the files of backend `alluxio` (alluxio.c tells how they work together). */
#ifndef PRELUX_BACKEND_ALLUXIO_H
#define PRELUX_BACKEND_ALLUXIO_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/backend/alluxio_doubt.h"
#include "lib/backend/alluxio_health.h"
#include "lib/backend/alluxio_members.h"
#include "lib/backend/alluxio_names.h"
#include "lib/backend/alluxio_options.h"
#include "lib/backend/alluxio_page.h"
#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/net/net.h"

#define PRELUX_ALLUXIO_CONNECT_MS 2000
#define PRELUX_ALLUXIO_STALL_S 10        /* a cold range may take the under store seconds */
#define PRELUX_ALLUXIO_META_STALL_S 5
#define PRELUX_ALLUXIO_RANGE_MAX PRELUX_PARALLEL_PART /* above the JVM's direct memory a range poisons the worker */
#define PRELUX_ALLUXIO_OWNERS 8          /* workers looked at for one object */
#define PRELUX_ALLUXIO_PATIENCE_MS 40000 /* without an under store: a death is over after 28 s (PROTOCOLS 0.3) */

/* How changes get to the remote: the choices of `write_through`, in their order. */
enum prelux_alluxio_through { PRELUX_ALLUXIO_AUTO, PRELUX_ALLUXIO_BY_WORKER, PRELUX_ALLUXIO_BY_UNDER };

struct prelux_alluxio {
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  struct prelux_alluxio_options options;
  struct prelux_alluxio_health *health;
  struct prelux_alluxio_members *members;
  struct prelux_backend *under; /* NULL: none */
  enum prelux_alluxio_through through; /* never AUTO once it is made */
  atomic_bool written;          /* a mapping writes by it: what is there the under store says, if there is one (alluxio_write.c) */
  atomic_bool sumless;          /* the under store gave no MD5 of what was put */
  atomic_bool old_listings;     /* alluxio_put.c */
  char *authorization;          /* header: names the user, signs nothing */
  bool whole_seconds;           /* times of the under store are not more precise than that */
  struct prelux_alluxio_pages *pages;
  atomic_ulong redirects, answered; /* ranges that a worker sent elsewhere, and served itself: does the ring agree? */
  struct prelux_alluxio_doubts doubts;
  struct prelux_parallel parallel;
};

/* alluxio_doubt.c */
/* Is the cluster to be passed over for this path? */
bool prelux_alluxio_doubted(struct prelux_alluxio *x, const char *path);
/* This node has changed it: workers may know what was there before. */
void prelux_alluxio_doubt_own(struct prelux_alluxio *x, const char *path);
/* The op. */
bool prelux_alluxio_distrust(struct prelux_backend *b, const char *path);
/* Has the under store, if it can be asked, the file that the cluster tells of? No: the path is doubted from now on. */
bool prelux_alluxio_under_agrees(struct prelux_alluxio *x, const char *path, const struct prelux_object *expect);

struct prelux_conf_backend;

/* One object that an op is about. Large: on the heap, or once on a stack. */
struct prelux_alluxio_name {
  const char *path; /* object path; borrowed */
  enum prelux_alluxio_way way;
  char *ufs;        /* full UFS path */
  char *s3;         /* "/BUCKET/KEY" for the S3 port; its room suffices for one more slash */
  bool key;         /* it has a key: what lies in the root itself is a bucket to the S3 API, which cannot read it */
};
/* -EOPNOTSUPP: no port can carry it. Release in any case. */
int prelux_alluxio_name_init(struct prelux_alluxio *x, struct prelux_alluxio_name *n, const char *path, struct prelux_problem *why);
void prelux_alluxio_name_release(struct prelux_alluxio_name *n);

/* Who may be asked, in order. */
struct prelux_alluxio_round {
  const struct prelux_alluxio_view *view; /* NULL: nobody is known */
  const struct prelux_alluxio_worker *workers[PRELUX_ALLUXIO_OWNERS];
  size_t n;
};
/* 0, or -EIO: nobody is known. `key`: what the ring hashes. Release in any case. */
int prelux_alluxio_round_init(struct prelux_alluxio *x, struct prelux_alluxio_round *r, const char *key, struct prelux_problem *why);
void prelux_alluxio_round_release(struct prelux_alluxio_round *r);
/* Is any of them fit to be asked, by the one door or the other? */
enum prelux_alluxio_plight prelux_alluxio_round_plight(const struct prelux_alluxio_round *r);

/* A caller that goes round the workers again and again. */
struct prelux_alluxio_patience {
  int rounds;
  int64_t since_ms;
};
/* Waits before the next round: 0, or -EIO (with the reason of the last one in *why) when it has lasted long enough: a few rounds
 * where an under store is there to turn to, PRELUX_ALLUXIO_PATIENCE_MS where none is. */
int64_t prelux_alluxio_now_ms(void); /* CLOCK_MONOTONIC */
int prelux_alluxio_wait(struct prelux_alluxio *x, struct prelux_alluxio_patience *p, struct prelux_problem *why);

/* What one question to one worker came to. */
enum prelux_alluxio_word {
  PRELUX_ALLUXIO_YES,    /* 0 is to be returned */
  PRELUX_ALLUXIO_FINAL,  /* an -errno that another worker would not change */
  PRELUX_ALLUXIO_SILENT, /* the connection was closed without a byte: a miss or an error */
  PRELUX_ALLUXIO_OTHER   /* ask another: this one failed or sent us on */
};

/* alluxio_info.c: by the HTTP port. *ret_rc: 0 or -errno with FINAL. fresh: on a connection of its own. */
enum prelux_alluxio_word prelux_alluxio_info(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                             const struct prelux_alluxio_worker *w, const struct prelux_alluxio_name *n, bool fresh,
                                             struct prelux_object *ret, int *ret_rc, struct prelux_problem *why);
int prelux_alluxio_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why);
/* As stat, asking workers only: is the object still the one that was read? */
int prelux_alluxio_stat_workers(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                                struct prelux_object *ret, struct prelux_problem *why);
/* alluxio_list.c */
int prelux_alluxio_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
/* Does the listing of the folder above show the name? 0 and the object, -ENOENT, or another -errno: it cannot be told. */
int prelux_alluxio_list_one(struct prelux_alluxio *x, const struct prelux_alluxio_name *n, struct prelux_object *ret,
                            struct prelux_problem *why);

/* The header that names the user to a worker's S3 port; malloc'd, NULL: no memory. */
char *prelux_alluxio_authorization(const struct prelux_conf_backend *conf);

/* An object of `size` bytes and `mtime_ms` as the rest of prelux knows it. */
void prelux_alluxio_describe_as(bool whole_seconds, bool folder, uint64_t size, int64_t mtime_ms, struct prelux_object *ret);
void prelux_alluxio_describe(const struct prelux_alluxio *x, bool folder, uint64_t size, int64_t mtime_ms, struct prelux_object *ret);
/* What an under store says of an object, as the cluster would; without a time nothing can be compared: the version then is "". */
void prelux_alluxio_translate(bool whole_seconds, const struct prelux_object *under, struct prelux_object *ret);
/* Is the under store's file the one that the cluster tells? A file whose time the under store does not tell may be any version. */
bool prelux_alluxio_fits(const struct prelux_object *under, const struct prelux_object *expect);
/* The same file by length and time; where one of them knows whole seconds only, to the second. A time of 0 is unknown: it fits. */
bool prelux_alluxio_equal(const struct prelux_object *a, const struct prelux_object *b);
/* One FileInfo; -EPROTO: it is none. *ret_ufs and *ret_name point into it; ret_ufs may be NULL there. */
struct cJSON;
int prelux_alluxio_file_info(const struct prelux_alluxio *x, const struct cJSON *info, struct prelux_object *ret,
                             const char **ret_name, const char **ret_ufs);

/* alluxio_s3.c. HEAD; slash: asks for the folder of that name. YES and *ret, FINAL -ENOENT, or OTHER. */
enum prelux_alluxio_word prelux_alluxio_head(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w,
                                             const struct prelux_alluxio_name *n, bool slash, struct prelux_object *ret, int *ret_rc,
                                             struct prelux_problem *why);

/* A part of an object on its way: what is still wanted and whom it goes to. Whoever fetches moves `pos`. */
struct prelux_alluxio_part {
  const struct prelux_alluxio_name *name;
  const struct prelux_object *expect;
  uint64_t pos, end;
  prelux_read_fn sink;
  void *arg;
  struct prelux_alluxio_place { char *buf; uint64_t from, cap; } place; /* memory for the bytes from `from` on, which the sink then finds where
                                                                 * they belong; buf NULL: none */
  int stopped; /* what the sink said: final */
  const atomic_bool *cancel; /* true: nobody wants it any more; NULL: never */
};
int prelux_alluxio_pass(struct prelux_alluxio_part *p, const void *buf, size_t len); /* to the sink */
/* The request's answer, of `len` bytes from p->pos on, comes to its place, if it has one. */
void prelux_alluxio_target(const struct prelux_alluxio_part *p, uint64_t len, struct prelux_net_request *req);
/* A range [part->pos, to), `to` at or behind part->end; what is behind end is read and dropped. OTHER with *ret_next: it sent us to
 * that member. */
enum prelux_alluxio_word prelux_alluxio_range(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                              const struct prelux_alluxio_worker *w, struct prelux_alluxio_part *part, uint64_t to,
                                              const struct prelux_alluxio_worker **ret_next, int *ret_rc, struct prelux_problem *why);
/* "HEAD" or "GET" answers of the S3 port name a version: is it the expected one? Unknown counts as yes. */
bool prelux_alluxio_same(const struct prelux_alluxio *x, const struct prelux_net_answer *a, uint64_t size,
                         const struct prelux_object *expect);

/* alluxio_read.c */
int prelux_alluxio_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                        prelux_read_fn sink, void *arg, struct prelux_problem *why);

/* alluxio_under.c: the same from the under store, within its budget, which does not count where it rules. -EAGAIN: no budget, or no under store: stay with the workers;
 * `why` then holds what these said. */
int prelux_alluxio_under_stat(struct prelux_alluxio *x, const char *path, enum prelux_alluxio_plight plight,
                              struct prelux_object *ret, struct prelux_problem *why);
int prelux_alluxio_under_list(struct prelux_alluxio *x, const char *path, enum prelux_alluxio_plight plight, prelux_list_fn add,
                              void *arg, struct prelux_problem *why);
int prelux_alluxio_under_read(struct prelux_alluxio *x, struct prelux_alluxio_part *part, enum prelux_alluxio_plight plight,
                              struct prelux_problem *why);

/* alluxio_write.c. Is it the under store that says what is there? Then objects are its own, version and all. */
bool prelux_alluxio_under_rules(const struct prelux_alluxio *x);
/* Can workers tell this version of a file from all those that were at its path before, by length and time? */
bool prelux_alluxio_distinct(const struct prelux_alluxio *x, const struct prelux_object *obj);
void prelux_alluxio_write_init(struct prelux_alluxio *x, const struct prelux_conf_backend *conf); /* x->under is made */
void prelux_alluxio_use(struct prelux_backend *b, const struct prelux_conf_backend *conf);
extern const struct prelux_backend_write prelux_alluxio_write;
#define PRELUX_ALLUXIO_WRITE_CAPS \
  (PRELUX_CAP_WRITE | PRELUX_CAP_PUT_ABSENT | PRELUX_CAP_PUT_VERSION | PRELUX_CAP_REMOVE_VERSION | PRELUX_CAP_MULTIPART | \
   PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_DIR | PRELUX_CAP_RENAME_ATOMIC | PRELUX_CAP_RENAME_NOREPLACE | \
   PRELUX_CAP_RENAME_EXCHANGE | PRELUX_CAP_MKDIR | PRELUX_CAP_MKDIR_MARKER | PRELUX_CAP_KEEP_MODE | PRELUX_CAP_SET_ATTR | \
   PRELUX_CAP_COPY)

/* alluxio_doctor.c */
void prelux_alluxio_examine(struct prelux_backend *b, struct cJSON *into);

/* alluxio_cluster.c */
int prelux_alluxio_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                           struct prelux_problem *why);
int prelux_alluxio_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap);

#endif
