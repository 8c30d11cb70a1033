/* Backend `azure`: blobs of one container of Azure Storage, by its REST protocol (2021-12-02).
 *
 * What is a folder, and what tells versions apart: azure_look.c. azure_cred.c knows who we are, azure_call.c sends, azure_list.c
 * lists, azure_read.c reads. Writing begins in azure_write.c. */
#include "lib/backend/azure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "lib/backend/backends.h"
#include "lib/backend/http.h"
#include "lib/conf/conf.h"

#define ENDPOINT_MAX 2048

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

/* Setting up. */

static void azure_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_azure *z = self(b);
  prelux_azure_cred_free(z->cred);
  free(z->account);
  free(z->container);
  free(z->prefix);
  free(z->url);
  free(z->ca_file);
  prelux_parallel_release(&z->parallel);
  free(z);
}

/* "$root" and "$web" too. What else Azure allows it knows itself. */
static bool container_name(const char *s)
{
  size_t len = strlen(s);
  return len >= 3 && len <= 63 && strspn(s + (s[0] == '$'), "abcdefghijklmnopqrstuvwxyz0123456789-") == len - (s[0] == '$');
}

static bool account_name(const char *s)
{
  return s[0] && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(s);
}

/* "/a//b/" -> "a/b/" */
static char *prefix_of(const char *given)
{
  char *out = malloc(strlen(given) + 2), *p = out;
  for (; out && *given; given++)
    if (*given != '/' || (p > out && p[-1] != '/'))
      *p++ = *given;
  if (out && p > out && p[-1] != '/')
    *p++ = '/';
  if (out)
    *p = 0;
  return out;
}

static int set_names(struct prelux_azure *z, const struct prelux_conf_backend *conf, const char *endpoint)
{
  const char *prefix = prelux_conf_str(conf, "prefix"), *ca_file = prelux_conf_str(conf, "tls.ca_file");
  z->account = strdup(prelux_conf_str(conf, "account"));
  z->container = strdup(prelux_conf_str(conf, "container"));
  z->prefix = prefix_of(prefix ? prefix : "");
  z->ca_file = ca_file ? strdup(ca_file) : NULL;
  z->tls = (struct prelux_net_tls){.ca_file = z->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  if (!z->account || !z->container || !z->prefix || (ca_file && !z->ca_file))
    return -ENOMEM;
  return asprintf(&z->url, "%s/%s", endpoint, z->container) < 0 ? -ENOMEM : 0;
}

static int azure_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                        struct prelux_problem *why)
{
  char endpoint[ENDPOINT_MAX];
  const char *account = prelux_conf_str(conf, "account"), *container = prelux_conf_str(conf, "container");
  if (!account || !account_name(account))
    return prelux_problem(why, EINVAL, "backend %s: account: the name of a storage account is needed", conf->name);
  if (!container || !container_name(container))
    return prelux_problem(why, EINVAL, "backend %s: container: 3 to 63 of a-z, 0-9 and - are needed, or $root, $web", conf->name);
  int rc = prelux_azure_endpoint(conf, endpoint, sizeof(endpoint), why);
  if (rc < 0)
    return rc;
  struct prelux_azure *z = calloc(1, sizeof(*z));
  if (!z)
    return -ENOMEM;
  z->base.ops = &prelux_backend_azure;
  z->net = net;
  prelux_parallel_init(&z->parallel);
  rc = set_names(z, conf, endpoint);
  if (rc == 0)
    rc = prelux_azure_cred_create(conf, endpoint, net, &z->cred, why);
  if (rc < 0)
    azure_free(&z->base);
  else
    *ret = &z->base;
  return rc;
}

static int azure_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_azure *z = (const struct prelux_azure *)b;
  return prelux_http_identity(z->url, "azure:", z->prefix, buf, cap);
}

/* Telling. */

static void azure_report(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_azure *z = self(b);
  cJSON_AddStringToObject(into, "endpoint", z->url);
  prelux_azure_cred_report(z->cred, into);
}

static void azure_examine(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_problem why = {0};
  int rc = prelux_azure_has_children(self(b), "", &why);
  azure_report(b, into);
  prelux_backend_reachable(into, rc, &why);
}

const struct prelux_backend_ops prelux_backend_azure = {
    .type = "azure",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL | PRELUX_CAP_LIST_ALL | PRELUX_AZURE_WRITE_CAPS,
    .create = azure_create,
    .free = azure_free,
    .identity = azure_identity,
    .stat = prelux_azure_stat,
    .list = prelux_azure_list,
    .read = prelux_azure_read,
    .report = azure_report,
    .examine = azure_examine,
    .write = &prelux_azure_write,
};
