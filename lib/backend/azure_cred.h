/* Who we are to Azure Storage: one credential a backend, chosen when it is made, by the order of the table in azure_cred.c. */
#ifndef PRELUX_BACKEND_AZURE_CRED_H
#define PRELUX_BACKEND_AZURE_CRED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/problem.h"

struct cJSON;
struct prelux_conf_backend;
struct prelux_net;
struct prelux_azure_cred;

/* URL of the account without a slash at the end: the configuration's, else the environment's, else Azure's own. */
int prelux_azure_endpoint(const struct prelux_conf_backend *conf, char *out, size_t cap, struct prelux_problem *why);

/* Opens no connection. -EINVAL with why: a credential that cannot be used as it is. */
int prelux_azure_cred_create(const struct prelux_conf_backend *conf, const char *endpoint, struct prelux_net *net,
                             struct prelux_azure_cred **ret, struct prelux_problem *why);
void prelux_azure_cred_free(struct prelux_azure_cred *c);

/* What one request has to carry: at most one of both is set. */
struct prelux_azure_pass {
  const char *query; /* SAS, borrowed */
  char *header;      /* "Authorization: ...", secret */
  unsigned number;   /* of the token */
};
/* `url` and `headers` are what will be sent, but for the pass itself. May block (tokens). -EACCES, -EIO. */
int prelux_azure_cred_pass(struct prelux_azure_cred *c, const char *method, const char *url, const char *const *headers,
                           struct prelux_azure_pass *ret, struct prelux_problem *why);
void prelux_azure_pass_release(struct prelux_azure_pass *p);
/* The store said 401 to it. True: ask once more, with another. */
bool prelux_azure_cred_reject(struct prelux_azure_cred *c, const struct prelux_azure_pass *p);

bool prelux_azure_cred_none(const struct prelux_azure_cred *c); /* anonymous */
/* May it do what a SAS says by this letter ('r', 'w', 'd', ...), as far as the credential itself tells? */
bool prelux_azure_cred_may(const struct prelux_azure_cred *c, char what);
const char *prelux_azure_cred_query(const struct prelux_azure_cred *c); /* the SAS; NULL: it is none. A secret */
/* What to do about a 403; `date_ns` is the server's clock, 0: not known. */
void prelux_azure_cred_advice(const struct prelux_azure_cred *c, int64_t date_ns, char *out, size_t cap);
/* "credentials": which source won, and how long a token is still good. Never a secret. */
void prelux_azure_cred_report(struct prelux_azure_cred *c, struct cJSON *into);

#endif
