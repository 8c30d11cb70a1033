/* Shared by the files of backend `azure`. */
#ifndef PRELUX_BACKEND_AZURE_H
#define PRELUX_BACKEND_AZURE_H

#include "lib/backend/azure_cred.h"
#include "lib/backend/backend.h"
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
};

/* azure_call.c */
struct prelux_azure_call {
  const char *method;
  const char *url;                  /* encoded, without credentials */
  const char *etag;                 /* only this version, NULL: any */
  uint64_t off, len;                /* len > 0: a range */
  uint64_t max_body;                /* as in prelux_net_request */
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
};
/* One request with our credentials; a token that is refused is renewed once. As prelux_net_call(), but -EACCES too: no token. */
int prelux_azure_call(struct prelux_azure *z, const struct prelux_azure_call *call, struct prelux_net_answer *ret,
                      struct prelux_problem *why);
/* A failure of prelux_azure_call as the ops promise it. */
int prelux_azure_failed(int rc);
/* What an answer that is not the hoped-for is to the caller of an op; fills *why. */
int prelux_azure_refused(struct prelux_azure *z, const struct prelux_net_answer *a, const char *method, const char *url,
                         struct prelux_problem *why);

/* azure.c */
/* -EOPNOTSUPP for a name that Azure cannot carry. */
int prelux_azure_blob_url(const struct prelux_azure *z, const char *path, char *out, size_t cap, struct prelux_problem *why);
/* Version ("e:ETAG") of an ETag, quoted or bare; false: it is none. */
bool prelux_azure_version(const char *etag, char out[PRELUX_VERSION_MAX]);

/* azure_list.c */
int prelux_azure_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
/* 1: there is a blob below "path/"; 0: there is none; or -errno. */
int prelux_azure_has_children(struct prelux_azure *z, const char *path, struct prelux_problem *why);

/* azure_read.c */
int prelux_azure_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                      uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);

#endif
