/* Inside of backend `alluxio-proxy` (alluxio_proxy*.c): what its files share. Not for others.
 *
 * Paths are object paths as in backend.h. Errors too; -PRELUX_EUNKNOWN only where it is said. */
#ifndef PRELUX_BACKEND_ALLUXIO_PROXY_H
#define PRELUX_BACKEND_ALLUXIO_PROXY_H

#include <cjson/cJSON.h>
#include <pthread.h>

#include "lib/backend/alluxio_rest.h"
#include "lib/backend/backend.h"
#include "lib/backend/hidden.h"

#define PRELUX_PROXY_TRIES 3           /* of a change whose outcome was looked at: it was not done */
#define PRELUX_PROXY_QUERY_MAX (PRELUX_URL_MAX / 2)

/* Option messages that the configuration fills (alluxio_proxy_options.c). */
enum prelux_proxy_message
{
  PRELUX_PROXY_STATUS, /* get-status and list-status */
  PRELUX_PROXY_OPEN,
  PRELUX_PROXY_CREATE,
  PRELUX_PROXY_MKDIR,
  PRELUX_PROXY_MESSAGES
};

struct prelux_proxy
{
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *url;              /* without a slash at the end */
  char *root;             /* Alluxio path without slashes at the ends */
  cJSON *messages[PRELUX_PROXY_MESSAGES];
  bool persists;     /* a write type that has the bytes in the under store when the file is closed */
  bool streams;      /* reading goes by open-file, since there are options for it */
  uint32_t mode;     /* of what is made without one; 0: not configured */
  unsigned timeout_s; /* silence that ends a call; 0: lib/net's */
  struct prelux_net_tls tls;
  char *ca_file;
  _Atomic int release; /* enum prelux_proxy_release */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct prelux_proxy_turn *turns; /* under way; under lock */
};

/* Who is at work below these paths (second: NULL for none), or renames these folders (alluxio_proxy_turns.c). */
struct prelux_proxy_turn
{
  const char *paths[2];
  bool folder;
  struct prelux_proxy_turn *next;
};
void prelux_proxy_turn_begin(struct prelux_proxy *p, struct prelux_proxy_turn *t);
void prelux_proxy_turn_end(struct prelux_proxy *p, struct prelux_proxy_turn *t);

enum prelux_proxy_release
{
  PRELUX_PROXY_UNKNOWN,
  PRELUX_PROXY_2, /* a master's proxy: 2.x */
  PRELUX_PROXY_3  /* Dora's: other answers (PROTOCOLS 0.4), nothing to tell a file by */
};

/* FileInfo of one path. */
struct prelux_proxy_info
{
  struct prelux_object obj; /* size UINT64_MAX and no version while somebody writes it */
  char id[32];              /* fileId: one inode, whatever its name */
  bool complete, mount; /* mount: a mount point */
  char owner[128], group[128]; /* "" where there is none, or a longer one */
  char persistence[24];     /* NOT_PERSISTED, TO_BE_PERSISTED, PERSISTED, LOST */
  enum prelux_proxy_release release;
};

/* alluxio_proxy_options.c */
struct prelux_conf_backend;
int prelux_proxy_options(struct prelux_proxy *p, const struct prelux_conf_backend *conf);
void prelux_proxy_options_free(struct prelux_proxy *p);
/* A configured message as text; with a mode, where it is not UINT32_MAX. Malloced, NULL: no memory. */
char *prelux_proxy_message(const struct prelux_proxy *p, enum prelux_proxy_message which, uint32_t mode);
/* {"ownerBits": ..., ...} of 0777 bits, as member "mode". */
bool prelux_proxy_add_mode(cJSON *to, uint32_t mode);

/* alluxio_proxy.c */
int prelux_proxy_describe(const cJSON *info, struct prelux_proxy_info *ret);
/* The `list` op, with hidden names. */
int prelux_proxy_each(struct prelux_proxy *p, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);

/* alluxio_proxy_call.c */
struct prelux_proxy_call
{
  const char *action;
  const char *path;
  const char *query; /* "?dst=...", encoded; NULL: none */
  const char *body;  /* JSON; NULL: {} */
};
/* What becomes of a change. */
struct prelux_proxy_outcome
{
  int err;    /* -errno of what was answered */
  bool again; /* a state that may pass */
  char code[24]; /* the statusCode, or "" */
  char said[256]; /* its message, or "" */
};
/* The request of a call that changes nothing; req: max_body, sink and arg are the caller's. */
int prelux_proxy_post(struct prelux_proxy *p, const struct prelux_proxy_call *c, struct prelux_net_request *req,
                      struct prelux_net_answer *a, struct prelux_problem *why);
/* What lib/net failed with, as an op returns it. */
int prelux_proxy_failed(int rc);
/* get-status. -EBUSY never: see `complete`. */
int prelux_proxy_status(struct prelux_proxy *p, const char *path, struct prelux_proxy_info *ret, struct prelux_problem *why);
/* One request that changes something, sent once. 0; -errno: surely not done; -PRELUX_EUNKNOWN: perhaps, see *o.
 * *ret_body: malloced, what was answered; NULL: not wanted. */
int prelux_proxy_change(struct prelux_proxy *p, const struct prelux_proxy_call *c, struct prelux_proxy_outcome *o, char **ret_body,
                        struct prelux_problem *why);
/* The same, and when its outcome is not clear `done` looks: 1 it was done, 0 it was not (then it is sent again, where that
 * may help), -errno: cannot tell. -PRELUX_EUNKNOWN: still not clear. */
typedef int (*prelux_proxy_done_fn)(struct prelux_proxy *p, void *arg);
int prelux_proxy_settle(struct prelux_proxy *p, const struct prelux_proxy_call *c, prelux_proxy_done_fn done, void *arg,
                        struct prelux_problem *why);
/* "?NAME=/ROOT/PATH", encoded; malloced. */
char *prelux_proxy_query(const struct prelux_proxy *p, const char *name, const char *path);
/* A stream of the proxy: upload NULL: nothing is sent. */
int prelux_proxy_stream(struct prelux_proxy *p, const char *id, const char *op, const struct prelux_net_upload *upload,
                        struct prelux_proxy_outcome *o, char **ret_body, struct prelux_problem *why);

/* alluxio_proxy_write.c */
extern const struct prelux_backend_write prelux_proxy_write;
#define PRELUX_PROXY_WRITE_CAPS                                                                                               \
  (PRELUX_CAP_WRITE | PRELUX_CAP_PUT_ABSENT | PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_DIR | PRELUX_CAP_RENAME_NOREPLACE |    \
   PRELUX_CAP_MKDIR | PRELUX_CAP_KEEP_MODE | PRELUX_CAP_SET_ATTR | PRELUX_CAP_KEEP_OWNER | PRELUX_CAP_RENAME_SAME)
/* 0, or why nothing can be made of that name or on this proxy. */
int prelux_proxy_may_make(struct prelux_proxy *p, const char *path, struct prelux_problem *why);
/* 0 when the proxy is one that can be written through. */
int prelux_proxy_writable(struct prelux_proxy *p, struct prelux_problem *why);
int prelux_proxy_no_version(const struct prelux_condition *cond, struct prelux_problem *why);

/* alluxio_proxy_swap.c: names that exist are never written over by Alluxio, so they are moved aside first. */
/* `from` (a file, inode `id`) becomes `path`. -EEXIST: something is there, and `replace` is false; -EISDIR: a folder is. */
int prelux_proxy_publish(struct prelux_proxy *p, const char *from, const char *id, const char *path, bool replace,
                         struct prelux_problem *why);
/* rename in one step, which fails where something is: -EEXIST. `id` tells whether a lost one was done. */
int prelux_proxy_move(struct prelux_proxy *p, const char *from, const char *id, const char *to, struct prelux_problem *why);
/* Removes inode `id` at `path`, a file or an empty folder. 0 also when it is gone. */
int prelux_proxy_drop(struct prelux_proxy *p, const char *path, const char *id, struct prelux_problem *why);

/* alluxio_proxy_names.c */
int prelux_proxy_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why);
int prelux_proxy_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                        struct prelux_problem *why);
int prelux_proxy_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
int prelux_proxy_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why);
int prelux_proxy_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                          const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why);
/* NULL or "": stays. The cluster may refuse one and take the other. -EPERM. */
int prelux_proxy_set_owner(struct prelux_proxy *p, const char *path, const char *owner, const char *group, struct prelux_problem *why);
/* A folder, empty: made, or there already when nobody can have made it but us (a hidden name). */
int prelux_proxy_make_folder(struct prelux_proxy *p, const char *path, uint32_t mode, struct prelux_problem *why);

/* alluxio_proxy_clean.c */
int prelux_proxy_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);

/* alluxio_proxy_cluster.c */
int prelux_proxy_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                         struct prelux_problem *why);

int prelux_proxy_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap);

/* alluxio_proxy_read.c */
int prelux_proxy_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                      prelux_read_fn sink, void *arg, struct prelux_problem *why);

#endif
