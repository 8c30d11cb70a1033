/* OAuth tokens for Azure Storage: asked for, kept, renewed before they end. Thread-safe; get may block. */
#ifndef PRELUX_BACKEND_AZURE_TOKEN_H
#define PRELUX_BACKEND_AZURE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/problem.h"

struct prelux_net;
struct prelux_azure_token;

enum prelux_azure_grant {
  PRELUX_AZURE_FIXED,       /* `secret` is the token itself */
  PRELUX_AZURE_SECRET,      /* service principal: tenant, client, secret at authority */
  PRELUX_AZURE_FEDERATED,   /* workload identity: tenant, client, file (read anew each time: it is rotated) at authority */
  PRELUX_AZURE_APP_SERVICE, /* endpoint, secret (IDENTITY_HEADER); client or NULL */
  PRELUX_AZURE_MACHINE,     /* the instance's metadata service at endpoint; client or NULL */
};

struct prelux_azure_grant_info {
  enum prelux_azure_grant grant;
  const char *tenant, *client, *secret, *file;
  const char *authority; /* URL of the token server, or NULL */
  const char *endpoint;  /* URL of the identity service, or NULL */
};

/* Copies what it needs. -EINVAL with why: what is given cannot be used (a secret over plain http to another machine). */
int prelux_azure_token_create(struct prelux_net *net, const struct prelux_azure_grant_info *info,
                              struct prelux_azure_token **ret, struct prelux_problem *why);
void prelux_azure_token_free(struct prelux_azure_token *t);

/* "Authorization: Bearer ..." in *ret (malloc'd; wipe it) and its number. One caller renews a token that ends soon; the others go
 * on with it while it is valid and wait when it is not. -EACCES: refused by the token server; -EIO: it did not answer. */
int prelux_azure_token_get(struct prelux_azure_token *t, char **ret, unsigned *ret_number, struct prelux_problem *why);
/* The store refused token `number`: the next get asks for another, unless somebody has done so. False: there is no other. */
bool prelux_azure_token_reject(struct prelux_azure_token *t, unsigned number);

/* A secret may be sent there: https, or this very machine. */
bool prelux_azure_url_is_safe(const char *url);

/* Seconds until the token at hand ends, -1: there is none, INT64_MAX: it does not say. */
int64_t prelux_azure_token_left(struct prelux_azure_token *t);

#endif
