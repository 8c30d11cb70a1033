/* The sources of credentials are the rows of `sources`; the first that is there wins, and what it gives is used or refused,
 * never passed over for the next. What the configuration names keeps the environment's keys out. Environment variables that
 * belong to another account (AZURE_STORAGE_ACCOUNT, AccountName) do not count. The machine's own identity is only asked
 * where the configuration wants it: off Azure that question costs a time-out. */
#include "lib/backend/azure_cred.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "lib/backend/azure_sign.h"
#include "lib/backend/azure_token.h"
#include "lib/conf/conf.h"
#include "lib/net/net.h"

#define KEY_MAX 512
#define TEXT_MAX 8192 /* of a value in a connection string */
#define SKEW_S 300

struct prelux_azure_cred {
  const char *source; /* label of the row that won */
  char *account;
  unsigned char *key; /* SharedKey */
  size_t key_len;
  char *sas;
  struct prelux_azure_token *token;
};

struct pick {
  const struct prelux_conf_backend *conf;
  const char *account;
  struct prelux_net *net;
  struct prelux_azure_cred *c;
  struct prelux_problem *why;
};

static const char *env(const struct prelux_conf_backend *conf, const char *name)
{
  const char *value = prelux_conf_backend_env(conf, name);
  return value && value[0] ? value : NULL;
}

/* Environment. */

/* A field of AZURE_STORAGE_CONNECTION_STRING ("Name=value;..."), when that string is of our account. */
static bool connection_field(const struct prelux_conf_backend *conf, const char *name, char *out, size_t cap)
{
  const char *text = env(conf, "AZURE_STORAGE_CONNECTION_STRING");
  size_t len = strlen(name);
  while (text && *text)
  {
    size_t n = strcspn(text, ";");
    if (n > len && strncasecmp(text, name, len) == 0 && text[len] == '=')
    {
      snprintf(out, cap, "%.*s", (int)(n - len - 1), text + len + 1);
      return n - len - 1 < cap && n > len + 1;
    }
    text += n + (text[n] == ';');
  }
  return false;
}

static bool connection(const struct prelux_conf_backend *conf, const char *account, const char *name, char *out, size_t cap)
{
  char theirs[256];
  if (connection_field(conf, "AccountName", theirs, sizeof(theirs)) && strcmp(theirs, account) != 0)
    return false;
  return connection_field(conf, name, out, cap);
}

static bool env_is_ours(const struct prelux_conf_backend *conf, const char *account)
{
  const char *theirs = env(conf, "AZURE_STORAGE_ACCOUNT");
  return !theirs || strcmp(theirs, account) == 0;
}

/* "{account}" in an end point of the environment stands for ours: one variable then serves many accounts. */
static int put_account(const char *text, const char *account, char *out, size_t cap)
{
  const char *mark = strstr(text, "{account}");
  int n = mark ? snprintf(out, cap, "%.*s%s%s", (int)(mark - text), text, account, mark + strlen("{account}"))
               : snprintf(out, cap, "%s", text);
  return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

static int find_endpoint(const struct prelux_conf_backend *conf, const char *account, char *out, size_t cap)
{
  const char *given = prelux_conf_str(conf, "endpoint"), *blob = env(conf, "AZURE_STORAGE_BLOB_ENDPOINT");
  char text[1024], scheme[16] = "https";
  if (given)
    return snprintf(out, cap, "%s", given) >= (int)cap ? -ENAMETOOLONG : 0;
  if (blob && (strstr(blob, "{account}") || env_is_ours(conf, account)))
    return put_account(blob, account, out, cap);
  if (connection(conf, account, "BlobEndpoint", text, sizeof(text)))
    return put_account(text, account, out, cap);
  if (!connection(conf, account, "EndpointSuffix", text, sizeof(text)))
    strcpy(text, "core.windows.net");
  connection(conf, account, "DefaultEndpointsProtocol", scheme, sizeof(scheme));
  return snprintf(out, cap, "%s://%s.blob.%s", scheme, account, text) >= (int)cap ? -ENAMETOOLONG : 0;
}

int prelux_azure_endpoint(const struct prelux_conf_backend *conf, char *out, size_t cap, struct prelux_problem *why)
{
  struct prelux_url u;
  int rc = find_endpoint(conf, prelux_conf_str(conf, "account"), out, cap);
  if (rc < 0 || prelux_url_parse(out, &u) < 0 || u.has_query || u.has_user)
    return prelux_problem(why, EINVAL, "backend %s: endpoint: an http or https URL without user, ? and # is needed", conf->name);
  for (size_t len = strlen(out); len > u.origin_len && out[len - 1] == '/'; len--)
    out[len - 1] = 0;
  return 0;
}

/* Taking. Each: 1 taken, 0 not there, or -errno. */

static int take_key(struct pick *p, const char *text)
{
  unsigned char key[KEY_MAX];
  long n = prelux_azure_base64(text, key, sizeof(key));
  if (n <= 0)
    return prelux_problem(p->why, EINVAL, "backend %s: the account key is not base64", p->conf->name);
  p->c->key = malloc((size_t)n);
  if (p->c->key)
    memcpy(p->c->key, key, (size_t)n);
  explicit_bzero(key, sizeof(key));
  p->c->key_len = (size_t)n;
  return p->c->key ? 1 : prelux_problem(p->why, ENOMEM, "no memory");
}

static int take_sas(struct pick *p, const char *text)
{
  text += strspn(text, " \t\r\n?&");
  size_t len = strlen(text);
  while (len && strchr(" \t\r\n", text[len - 1]))
    len--;
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f || strchr("#?\"<>", text[i]))
      return prelux_problem(p->why, EINVAL, "backend %s: the SAS token holds what no URL can", p->conf->name);
  if (len == 0)
    return prelux_problem(p->why, EINVAL, "backend %s: the SAS token is empty", p->conf->name);
  p->c->sas = strndup(text, len);
  return p->c->sas ? 1 : prelux_problem(p->why, ENOMEM, "no memory");
}

static int take_token(struct pick *p, const struct prelux_azure_grant_info *info)
{
  int rc = prelux_azure_token_create(p->net, info, &p->c->token, p->why);
  return rc < 0 ? rc : 1;
}

static int conf_sas(struct pick *p)
{
  const char *text = prelux_conf_str(p->conf, "sas_token");
  return text ? take_sas(p, text) : 0;
}

static int conf_key(struct pick *p)
{
  const char *text = prelux_conf_str(p->conf, "account_key");
  return text ? take_key(p, text) : 0;
}

static int conf_bearer(struct pick *p)
{
  const char *text = prelux_conf_str(p->conf, "bearer");
  return text ? take_token(p, &(struct prelux_azure_grant_info){.grant = PRELUX_AZURE_FIXED, .secret = text}) : 0;
}

static int env_connection(struct pick *p)
{
  char text[TEXT_MAX];
  int rc = 0;
  if (connection(p->conf, p->account, "AccountKey", text, sizeof(text)))
    rc = take_key(p, text);
  else if (connection(p->conf, p->account, "SharedAccessSignature", text, sizeof(text)))
    rc = take_sas(p, text);
  explicit_bzero(text, sizeof(text));
  return rc;
}

static int env_key(struct pick *p)
{
  const char *text = env(p->conf, "AZURE_STORAGE_KEY");
  if (!text)
    text = env(p->conf, "AZURE_STORAGE_ACCESS_KEY");
  return text && env_is_ours(p->conf, p->account) ? take_key(p, text) : 0;
}

static int env_sas(struct pick *p)
{
  const char *text = env(p->conf, "AZURE_STORAGE_SAS_TOKEN");
  return text && env_is_ours(p->conf, p->account) ? take_sas(p, text) : 0;
}

static int service_principal(struct pick *p)
{
  struct prelux_azure_grant_info info = {
      .grant = PRELUX_AZURE_SECRET,
      .tenant = env(p->conf, "AZURE_TENANT_ID"),
      .client = env(p->conf, "AZURE_CLIENT_ID"),
      .secret = env(p->conf, "AZURE_CLIENT_SECRET"),
      .authority = env(p->conf, "AZURE_AUTHORITY_HOST"),
  };
  return info.tenant && info.client && info.secret ? take_token(p, &info) : 0;
}

static int workload_identity(struct pick *p)
{
  struct prelux_azure_grant_info info = {
      .grant = PRELUX_AZURE_FEDERATED,
      .tenant = env(p->conf, "AZURE_TENANT_ID"),
      .client = env(p->conf, "AZURE_CLIENT_ID"),
      .file = env(p->conf, "AZURE_FEDERATED_TOKEN_FILE"),
      .authority = env(p->conf, "AZURE_AUTHORITY_HOST"),
  };
  return info.tenant && info.client && info.file ? take_token(p, &info) : 0;
}

static const char *client_id(const struct pick *p)
{
  const char *given = prelux_conf_str(p->conf, "client_id");
  return given ? given : env(p->conf, "AZURE_CLIENT_ID");
}

static int app_service(struct pick *p)
{
  struct prelux_azure_grant_info info = {
      .grant = PRELUX_AZURE_APP_SERVICE,
      .client = client_id(p),
      .endpoint = env(p->conf, "IDENTITY_ENDPOINT"),
      .secret = env(p->conf, "IDENTITY_HEADER"),
  };
  return info.endpoint && info.secret ? take_token(p, &info) : 0;
}

static int machine(struct pick *p)
{
  struct prelux_azure_grant_info info = {
      .grant = PRELUX_AZURE_MACHINE,
      .client = client_id(p),
      .endpoint = env(p->conf, "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
  };
  return take_token(p, &info);
}

/* When a row counts: the configuration says... */
enum {
  NAMED = 1,    /* its key: the row itself looks */
  SILENT = 2,   /* nothing of credentials */
  DEFAULT = 4,  /* default_credential */
  IDENTITY = 8, /* managed_identity */
};

static const struct source {
  const char *label;
  unsigned when;
  int (*take)(struct pick *p);
} sources[] = {
    {"sas_token of the configuration", NAMED, conf_sas},
    {"account_key of the configuration", NAMED, conf_key},
    {"bearer of the configuration", NAMED, conf_bearer},
    {"AZURE_STORAGE_CONNECTION_STRING", SILENT, env_connection},
    {"AZURE_STORAGE_KEY", SILENT, env_key},
    {"AZURE_STORAGE_SAS_TOKEN", SILENT, env_sas},
    {"service principal (AZURE_CLIENT_SECRET)", SILENT | DEFAULT, service_principal},
    {"workload identity (AZURE_FEDERATED_TOKEN_FILE)", SILENT | DEFAULT, workload_identity},
    {"managed identity (IDENTITY_ENDPOINT)", SILENT | DEFAULT | IDENTITY, app_service},
    {"managed identity of the machine", DEFAULT | IDENTITY, machine},
};

static int choose(struct pick *p)
{
  unsigned now = NAMED;
  if (prelux_conf_num(p->conf, "default_credential"))
    now |= DEFAULT;
  else if (prelux_conf_num(p->conf, "managed_identity"))
    now |= IDENTITY;
  else
    now |= SILENT;
  for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
  {
    int rc = sources[i].when & now ? sources[i].take(p) : 0;
    if (rc < 0)
      return rc;
    if (rc > 0)
    {
      p->c->source = sources[i].label;
      return 0;
    }
  }
  p->c->source = "none (anonymous)";
  return 0;
}

int prelux_azure_cred_create(const struct prelux_conf_backend *conf, const char *endpoint, struct prelux_net *net,
                             struct prelux_azure_cred **ret, struct prelux_problem *why)
{
  struct prelux_azure_cred *c = calloc(1, sizeof(*c));
  struct pick p = {.conf = conf, .account = prelux_conf_str(conf, "account"), .net = net, .c = c, .why = why};
  if (!c || !(c->account = strdup(p.account)))
  {
    free(c);
    return prelux_problem(why, ENOMEM, "no memory");
  }
  int rc = choose(&p);
  if (rc == 0 && c->token && !prelux_azure_url_is_safe(endpoint))
    rc = prelux_problem(why, EINVAL, "backend %s: endpoint: https is needed, since a token is sent there", conf->name);
  if (rc < 0)
    prelux_azure_cred_free(c);
  else
    *ret = c;
  return rc;
}

static void wipe(void *secret, size_t len)
{
  if (secret)
    explicit_bzero(secret, len);
  free(secret);
}

void prelux_azure_cred_free(struct prelux_azure_cred *c)
{
  if (!c)
    return;
  wipe(c->key, c->key_len);
  wipe(c->sas, c->sas ? strlen(c->sas) : 0);
  prelux_azure_token_free(c->token);
  free(c->account);
  free(c);
}

/* Using. */

static int sign(const struct prelux_azure_cred *c, const char *method, const char *url, const char *const *headers,
                char **ret, struct prelux_problem *why)
{
  char signature[45];
  char *text = prelux_azure_string_to_sign(method, url, headers, c->account);
  if (!text)
    return prelux_problem(why, EIO, "%s: a request that cannot be signed", method);
  int rc = prelux_azure_signature(c->key, c->key_len, text, signature);
  free(text);
  if (rc < 0)
    return prelux_problem(why, EIO, "%s: libcrypto made no signature", method);
  return asprintf(ret, "Authorization: SharedKey %s:%s", c->account, signature) < 0
             ? prelux_problem(why, ENOMEM, "no memory")
             : 0;
}

int prelux_azure_cred_pass(struct prelux_azure_cred *c, const char *method, const char *url, const char *const *headers,
                           struct prelux_azure_pass *ret, struct prelux_problem *why)
{
  *ret = (struct prelux_azure_pass){.query = c->sas};
  if (c->key)
    return sign(c, method, url, headers, &ret->header, why);
  return c->token ? prelux_azure_token_get(c->token, &ret->header, &ret->number, why) : 0;
}

void prelux_azure_pass_release(struct prelux_azure_pass *p)
{
  wipe(p->header, p->header ? strlen(p->header) : 0);
  p->header = NULL;
}

bool prelux_azure_cred_reject(struct prelux_azure_cred *c, const struct prelux_azure_pass *p)
{
  return c->token && prelux_azure_token_reject(c->token, p->number);
}

bool prelux_azure_cred_none(const struct prelux_azure_cred *c)
{
  return !c->key && !c->sas && !c->token;
}

const char *prelux_azure_cred_query(const struct prelux_azure_cred *c)
{
  return c->sas;
}

/* Telling. */

/* A field of the SAS, decoded. */
static bool sas_field(const char *sas, const char *name, char *out, size_t cap)
{
  for (const char *p = sas; p && *p; p += *p == '&')
  {
    size_t len = strcspn(p, "&"), n = strlen(name);
    if (len > n && strncmp(p, name, n) == 0 && p[n] == '=' && prelux_url_decode(out, cap, p + n + 1, len - n - 1) > 0)
      return true;
    p += len;
  }
  return false;
}

/* A time of the SAS (st, se) in seconds, 0: not there or not readable. */
static int64_t sas_time(const char *sas, const char *name)
{
  char text[40];
  struct tm tm = {0};
  if (!sas_field(sas, name, text, sizeof(text)))
    return 0;
  return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) || strptime(text, "%Y-%m-%dT%H:%M", &tm) || strptime(text, "%Y-%m-%d", &tm)
             ? (int64_t)timegm(&tm)
             : 0;
}

bool prelux_azure_cred_may(const struct prelux_azure_cred *c, char what)
{
  char permissions[40];
  if (prelux_azure_cred_none(c))
    return strchr("rl", what) != NULL;
  return !sas_field(c->sas, "sp", permissions, sizeof(permissions)) || strchr(permissions, what); /* without: a stored policy knows */
}

static void sas_advice(const struct prelux_azure_cred *c, int64_t now_s, char *out, size_t cap)
{
  int64_t start = sas_time(c->sas, "st"), end = sas_time(c->sas, "se");
  if (end && end <= now_s)
    snprintf(out, cap, "the SAS token has expired: make a new one");
  else if (start > now_s)
    snprintf(out, cap, "the SAS token is not valid yet");
  else
    snprintf(out, cap, "the SAS token is refused: is it whole, of this account and container, with sp=rl, and not revoked?");
}

void prelux_azure_cred_advice(const struct prelux_azure_cred *c, int64_t date_ns, char *out, size_t cap)
{
  int64_t now_s = (int64_t)time(NULL), skew_s = date_ns ? now_s - date_ns / 1000000000 : 0;
  if (c->sas)
    sas_advice(c, date_ns ? date_ns / 1000000000 : now_s, out, cap);
  else if (c->key && (skew_s > SKEW_S || skew_s < -SKEW_S))
    snprintf(out, cap, "this machine's clock is %" PRId64 " s %s of the server's: set it right", skew_s < 0 ? -skew_s : skew_s,
             skew_s < 0 ? "behind" : "ahead");
  else if (c->key)
    snprintf(out, cap, "is the account key (%s) that of account %s?", c->source, c->account);
  else if (c->token)
    snprintf(out, cap, "give the identity the role Storage Blob Data Reader (Contributor, to write) on the container");
  else
    snprintf(out, cap, "the container is not public: give account_key, sas_token or an identity");
}

void prelux_azure_cred_report(struct prelux_azure_cred *c, struct cJSON *into)
{
  cJSON_AddStringToObject(into, "credentials", c->source);
  int64_t left = c->token ? prelux_azure_token_left(c->token) : -1;
  int64_t end = c->sas ? sas_time(c->sas, "se") : 0;
  if (end)
    left = end > (int64_t)time(NULL) ? end - (int64_t)time(NULL) : 0;
  if (left >= 0 && left != INT64_MAX)
    cJSON_AddNumberToObject(into, "credentials_valid_s", (double)left);
}
