/* Shared by the files of backend `azure`. */
#ifndef PRELUX_BACKEND_AZURE_H
#define PRELUX_BACKEND_AZURE_H

#include "lib/backend/azure_cred.h"
#include "lib/backend/azure_meta.h"
#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/net/net.h"

#define PRELUX_AZURE_VERSION "2021-12-02" /* of the protocol */

struct prelux_azure {
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *account, *container;
  char *prefix; /* of blob names: "" or "a/b/" */
  char *url;    /* of the container, without a slash at the end */
  struct prelux_net_tls tls;
  char *ca_file;
  struct prelux_azure_cred *cred;
  struct prelux_parallel parallel;
};

/* azure_call.c */
struct prelux_azure_call {
  const char *method;
  const char *url;                  /* encoded, without credentials */
  const char *etag;                 /* If-Match: only this version, NULL: any */
  bool absent;                      /* If-None-Match: * */
  const char *const *headers;       /* more of them, NULL-terminated; NULL: none */
  uint64_t off, len;                /* len > 0: a range */
  const void *body;                 /* of PUT, out of memory ... */
  size_t body_len;
  const struct prelux_net_upload *upload; /* ... or out of a file */
  bool once;                        /* as in prelux_net_request, as the next: */
  bool (*again)(const struct prelux_net_answer *answer);
  uint64_t max_body;                /* as in prelux_net_request */
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
  void *target;                     /* the same, as the next */
  size_t target_len;
  const atomic_bool *cancel;
};
/* One request with our credentials; a token that is refused is renewed once. As prelux_net_call(), but -EACCES too: no token. */
int prelux_azure_call(struct prelux_azure *z, const struct prelux_azure_call *call, struct prelux_net_answer *ret,
                      struct prelux_problem *why);
/* A failure of prelux_azure_call as the ops promise it. */
int prelux_azure_failed(int rc);
/* What an answer that is not the hoped-for is to the caller of an op; fills *why. */
int prelux_azure_refused(struct prelux_azure *z, const struct prelux_net_answer *a, const char *method, const char *url,
                         struct prelux_problem *why);

/* azure_look.c */
/* -EOPNOTSUPP for a name that Azure cannot carry. */
int prelux_azure_blob_url(const struct prelux_azure *z, const char *path, char *out, size_t cap, struct prelux_problem *why);
/* The same for one that is to be made: -EOPNOTSUPP, -ENAMETOOLONG. */
int prelux_azure_may_make(const struct prelux_azure *z, const char *path, struct prelux_problem *why);
/* Version ("e:ETAG") of an ETag, quoted or bare; false: it is none. */
bool prelux_azure_version(const char *etag, char out[PRELUX_VERSION_MAX]);

struct prelux_azure_seen {
  struct prelux_object obj;         /* type PRELUX_NONE: nothing is there */
  char version[PRELUX_VERSION_MAX]; /* of the blob of this name, also one that marks a folder; "": there is none */
  struct prelux_net_answer answer;  /* to HEAD of it */
};
/* 0 also when nothing is there. Free it in any case. */
int prelux_azure_look(struct prelux_azure *z, const char *path, struct prelux_azure_seen *ret, struct prelux_problem *why);
void prelux_azure_seen_free(struct prelux_azure_seen *s);
int prelux_azure_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why);

/* azure_list.c */
int prelux_azure_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
/* 1: there is a blob below "path/"; 0: there is none; or -errno. */
int prelux_azure_has_children(struct prelux_azure *z, const char *path, struct prelux_problem *why);

/* 1: nothing below "path/" but, with *ret_own, a blob of that very name; 0: something is there; or -errno. */
int prelux_azure_is_empty(struct prelux_azure *z, const char *path, bool *ret_own, struct prelux_problem *why);
/* All blobs below, by their names from there on, also those that are made of blocks which nobody committed: these have size 0 and
 * no version. */
int prelux_azure_list_flat(struct prelux_azure *z, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);

/* azure_read.c */
int prelux_azure_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                      uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);

/* azure_write.c */
extern const struct prelux_backend_write prelux_azure_write;

#define PRELUX_AZURE_WRITE_CAPS                                                                                         \
  (PRELUX_CAP_WRITE | PRELUX_CAP_PUT_ABSENT | PRELUX_CAP_PUT_VERSION | PRELUX_CAP_REMOVE_VERSION | PRELUX_CAP_MULTIPART | \
   PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_NOREPLACE | PRELUX_CAP_MKDIR_MARKER | PRELUX_CAP_KEEP_MODE |               \
   PRELUX_CAP_KEEP_MTIME | PRELUX_CAP_SET_ATTR | PRELUX_CAP_COPY)

#endif
