/* Tokens. State under one lock: the token at hand, when it ends, when it should be renewed, and whether somebody is at it.
 * The request itself runs without the lock. A renewal that fails is tried again PAUSE_S later while the old token is still
 * valid, and after FAILURE_MS when there is none: until then everybody gets the same refusal, so that a thousand files do
 * not knock a thousand times. */
#include "lib/backend/azure_token.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "lib/base/os.h"
#include "lib/net/net.h"

#define RESOURCE "https%3A%2F%2Fstorage.azure.com%2F"
#define SCOPE "https%3A%2F%2Fstorage.azure.com%2F.default"
#define AUTHORITY "https://login.microsoftonline.com"
#define MACHINE "http://169.254.169.254"
#define EARLY_S 300 /* renewed so long before it ends, or in the last quarter of a short life */
#define PAUSE_S 30
#define FAILURE_MS 2000
#define CONNECT_MS 2000 /* of an identity service beside us */
#define STALL_S 10
#define RETRIES 2
#define YOUNG_MS 5000 /* a token refused so soon is refused for what it is, not for its age */
#define TOKEN_MAX 32768
#define BODY_MAX (2 * TOKEN_MAX)

struct prelux_azure_token {
  struct prelux_net *net;
  enum prelux_azure_grant grant;
  char *tenant, *client, *secret, *file, *authority, *endpoint;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* Guarded by lock. Instants in ms of CLOCK_MONOTONIC. */
  char *token;
  unsigned number;
  int64_t since, ends, renew, no_earlier;
  bool busy;
  struct prelux_problem failure; /* of the last renewal; err 0: it went well */
};

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wipe(char *s)
{
  if (s)
    explicit_bzero(s, strlen(s));
  free(s);
}

/* Setting up. */

bool prelux_azure_url_is_safe(const char *url)
{
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0)
    return false;
  return u.https || (strncmp(u.host, "127.", 4) == 0 && strspn(u.host, "0123456789.") >= u.host_len) ||
         (u.host_len == 9 && strncmp(u.host, "localhost", 9) == 0) || (u.host_len == 5 && strncmp(u.host, "[::1]", 5) == 0);
}

static char *without_slash(const char *url)
{
  size_t len = strlen(url);
  while (len && url[len - 1] == '/')
    len--;
  return strndup(url, len);
}

static int check(const struct prelux_azure_token *t, struct prelux_problem *why)
{
  struct prelux_url u;
  if ((t->grant == PRELUX_AZURE_SECRET || t->grant == PRELUX_AZURE_FEDERATED) && !prelux_azure_url_is_safe(t->authority))
    return prelux_problem(why, EINVAL, "AZURE_AUTHORITY_HOST: an https URL is needed: a secret is sent there");
  if ((t->grant == PRELUX_AZURE_APP_SERVICE || t->grant == PRELUX_AZURE_MACHINE) && prelux_url_parse(t->endpoint, &u) < 0)
    return prelux_problem(why, EINVAL, "the identity service's URL cannot be used");
  for (const char *p = t->secret ? t->secret : ""; *p; p++)
    if ((unsigned char)*p < ' ' || *p == 0x7f)
      return prelux_problem(why, EINVAL, "a secret or token holds a control character");
  return 0;
}

static char *copy(const char *s)
{
  return s ? strdup(s) : NULL;
}

int prelux_azure_token_create(struct prelux_net *net, const struct prelux_azure_grant_info *info,
                              struct prelux_azure_token **ret, struct prelux_problem *why)
{
  struct prelux_azure_token *t = calloc(1, sizeof(*t));
  if (!t)
    return prelux_problem(why, ENOMEM, "no memory");
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->changed, &attr);
  pthread_condattr_destroy(&attr);
  t->net = net;
  t->grant = info->grant;
  t->tenant = copy(info->tenant);
  t->client = copy(info->client);
  t->secret = copy(info->secret);
  t->file = copy(info->file);
  t->authority = without_slash(info->authority ? info->authority : AUTHORITY);
  t->endpoint = without_slash(info->endpoint ? info->endpoint : MACHINE);
  bool whole = t->authority && t->endpoint && !t->tenant == !info->tenant && !t->client == !info->client &&
               !t->secret == !info->secret && !t->file == !info->file;
  int rc = whole ? check(t, why) : prelux_problem(why, ENOMEM, "no memory");
  if (rc == 0 && t->grant == PRELUX_AZURE_FIXED)
  {
    t->token = t->secret;
    t->secret = NULL;
    t->ends = t->renew = INT64_MAX;
  }
  if (rc < 0)
    prelux_azure_token_free(t);
  else
    *ret = t;
  return rc;
}

void prelux_azure_token_free(struct prelux_azure_token *t)
{
  if (!t)
    return;
  wipe(t->token);
  wipe(t->secret);
  free(t->tenant);
  free(t->client);
  free(t->file);
  free(t->authority);
  free(t->endpoint);
  pthread_cond_destroy(&t->changed);
  pthread_mutex_destroy(&t->lock);
  free(t);
}

/* Asking for one. */

/* The federated token: a short file that somebody renews. malloc'd. */
static int slurp(const char *path, char **ret, struct prelux_problem *why)
{
  char *text = malloc(TOKEN_MAX);
  int fd = text ? prelux_os.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
  ssize_t n = -1;
  int err = text ? errno : ENOMEM;
  if (fd >= 0)
  {
    n = prelux_os.read(fd, text, TOKEN_MAX - 1);
    err = n < 0 ? errno : EINVAL;
    prelux_os.close(fd);
  }
  while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ' || text[n - 1] == '\r'))
    n--;
  if (n > 0)
  {
    text[n] = 0;
    *ret = text;
    return 0;
  }
  free(text);
  return prelux_problem(why, EACCES, "AZURE_FEDERATED_TOKEN_FILE %s: %s", path, n == 0 ? "is empty" : strerror(err));
}

/* Adds "name=value", the value encoded also where '/' stands. */
static void form_field(FILE *out, const char *name, const char *value)
{
  fprintf(out, "%s=", name);
  for (const char *p = value; *p; p++)
  {
    char c[8];
    if (*p == '/')
      fputs("%2F", out);
    else if (prelux_url_encode(c, sizeof(c), p, 1) > 0)
      fputs(c, out);
  }
}

/* The form for the token server; malloc'd, secret. */
static int make_form(const struct prelux_azure_token *t, char **ret, size_t *ret_len, struct prelux_problem *why)
{
  char *assertion = NULL;
  if (t->grant == PRELUX_AZURE_FEDERATED)
  {
    int rc = slurp(t->file, &assertion, why);
    if (rc < 0)
      return rc;
  }
  FILE *out = open_memstream(ret, ret_len);
  if (!out)
  {
    wipe(assertion);
    return prelux_problem(why, ENOMEM, "no memory");
  }
  fputs("grant_type=client_credentials&scope=" SCOPE "&", out);
  form_field(out, "client_id", t->client);
  if (assertion)
    fputs("&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer", out);
  form_field(out, assertion ? "&client_assertion" : "&client_secret", assertion ? assertion : t->secret);
  wipe(assertion);
  return fclose(out) == 0 ? 0 : prelux_problem(why, ENOMEM, "no memory");
}

static int say_refused(const struct prelux_net_answer *a, const char *who, struct prelux_problem *why)
{
  cJSON *json = a->body ? cJSON_ParseWithLength(a->body, a->body_len) : NULL;
  const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
  char code[64] = "";
  for (const char *p = cJSON_IsString(error) ? error->valuestring : ""; *p && strlen(code) + 1 < sizeof(code); p++)
    if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_')
      strncat(code, p, 1);
  cJSON_Delete(json);
  bool refused = a->status == 400 || a->status == 401 || a->status == 403;
  int rc = prelux_problem(why, refused ? EACCES : EIO, "no token: %s says HTTP %d%s%s", who, a->status, code[0] ? " " : "", code);
  if (why && refused)
    snprintf(why->advice, sizeof(why->advice), "check the identity (tenant, client, secret or assignment) that this uses");
  return rc;
}

/* {"access_token": ..., "expires_in": seconds as number or string} */
static int take(const struct prelux_net_answer *a, const char *who, char **ret_token, int64_t *ret_life_s,
                struct prelux_problem *why)
{
  cJSON *json = a->body ? cJSON_ParseWithLength(a->body, a->body_len) : NULL;
  const cJSON *token = cJSON_GetObjectItemCaseSensitive(json, "access_token");
  const cJSON *in = cJSON_GetObjectItemCaseSensitive(json, "expires_in"), *on = cJSON_GetObjectItemCaseSensitive(json, "expires_on");
  double life = cJSON_IsNumber(in) ? in->valuedouble : cJSON_IsString(in) ? strtod(in->valuestring, NULL) : 0;
  if (!in && on)
    life = (cJSON_IsNumber(on) ? on->valuedouble : cJSON_IsString(on) ? strtod(on->valuestring, NULL) : 0) - (double)time(NULL);
  bool good = cJSON_IsString(token) && token->valuestring[0] && strlen(token->valuestring) < TOKEN_MAX;
  for (const char *p = good ? token->valuestring : ""; *p; p++)
    good = good && *p > ' ' && *p < 0x7f;
  *ret_token = good ? strdup(token->valuestring) : NULL;
  *ret_life_s = life > 1 && life < 1e8 ? (int64_t)life : 60;
  if (cJSON_IsString(token))
    explicit_bzero(token->valuestring, strlen(token->valuestring));
  cJSON_Delete(json);
  return *ret_token ? 0 : prelux_problem(why, EPROTO, "no token: the answer of %s holds none", who);
}

static int ask(struct prelux_azure_token *t, struct prelux_net_request *req, const char *who, char **ret_token,
               int64_t *ret_life_s, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  req->max_body = BODY_MAX;
  req->retries = RETRIES;
  req->stall_s = STALL_S;
  int rc = prelux_net_call(t->net, req, &a, why);
  if (rc < 0)
    rc = -EIO;
  else if (a.status != 200)
    rc = say_refused(&a, who, why);
  else
    rc = take(&a, who, ret_token, ret_life_s, why);
  if (a.body)
    explicit_bzero(a.body, a.body_len);
  prelux_net_answer_free(&a);
  return rc;
}

static int ask_authority(struct prelux_azure_token *t, char **ret_token, int64_t *ret_life_s, struct prelux_problem *why)
{
  static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", "Accept: application/json", NULL};
  char url[2048], tenant[512], *form = NULL;
  size_t len = 0;
  if (prelux_url_encode(tenant, sizeof(tenant), t->tenant, strlen(t->tenant)) < 0 ||
      snprintf(url, sizeof(url), "%s/%s/oauth2/v2.0/token", t->authority, tenant) >= (int)sizeof(url))
    return prelux_problem(why, EACCES, "AZURE_TENANT_ID or AZURE_AUTHORITY_HOST is too long");
  int rc = make_form(t, &form, &len, why);
  struct prelux_net_request req = {.method = "POST", .url = url, .headers = headers, .body = form, .body_len = len};
  if (rc == 0)
    rc = ask(t, &req, "the token server", ret_token, ret_life_s, why);
  wipe(form);
  return rc;
}

static int ask_identity(struct prelux_azure_token *t, char **ret_token, int64_t *ret_life_s, struct prelux_problem *why)
{
  bool app = t->grant == PRELUX_AZURE_APP_SERVICE;
  char url[2048], client[512] = "", *secret = NULL;
  const char *headers[] = {"Metadata: true", NULL};
  if (t->client && prelux_url_encode(client, sizeof(client), t->client, strlen(t->client)) < 0)
    return prelux_problem(why, EACCES, "the client id is too long");
  int n = snprintf(url, sizeof(url), "%s%s&resource=%s%s%s", t->endpoint,
                   app ? "?api-version=2019-08-01" : "/metadata/identity/oauth2/token?api-version=2018-02-01", RESOURCE,
                   client[0] ? "&client_id=" : "", client);
  if (n < 0 || n >= (int)sizeof(url))
    return prelux_problem(why, EACCES, "the identity service's URL is too long");
  if (app && asprintf(&secret, "X-IDENTITY-HEADER: %s", t->secret) < 0)
    return prelux_problem(why, ENOMEM, "no memory");
  if (app)
    headers[0] = secret;
  struct prelux_net_request req = {.method = "GET", .url = url, .headers = headers, .direct = true, .connect_ms = CONNECT_MS};
  int rc = ask(t, &req, "the identity service", ret_token, ret_life_s, why);
  wipe(secret);
  if (rc == -EIO && why && !app)
    snprintf(why->advice, sizeof(why->advice), "is this an Azure machine with an identity that may read the container?");
  return rc;
}

static int fetch(struct prelux_azure_token *t, char **ret_token, int64_t *ret_life_s, struct prelux_problem *why)
{
  bool authority = t->grant == PRELUX_AZURE_SECRET || t->grant == PRELUX_AZURE_FEDERATED;
  return authority ? ask_authority(t, ret_token, ret_life_s, why) : ask_identity(t, ret_token, ret_life_s, why);
}

/* Renewing. t->lock is held on entry and return, not while the server is asked. */
static void renew(struct prelux_azure_token *t)
{
  struct prelux_problem failure = {0};
  char *token = NULL;
  int64_t life_s = 0;
  t->busy = true;
  pthread_mutex_unlock(&t->lock);
  int rc = fetch(t, &token, &life_s, &failure);
  pthread_mutex_lock(&t->lock);
  int64_t now = now_ms(), early_s = life_s / 4 < EARLY_S ? life_s / 4 : EARLY_S;
  t->busy = false;
  t->failure = failure;
  t->failure.err = -rc;
  if (rc == 0)
  {
    wipe(t->token);
    t->token = token;
    t->number++;
    t->since = now;
    t->ends = now + life_s * 1000;
    t->renew = t->ends - early_s * 1000;
    t->no_earlier = 0;
  }
  else
    t->no_earlier = now + (t->token && now < t->ends ? PAUSE_S * 1000 : FAILURE_MS);
  pthread_cond_broadcast(&t->changed);
}

int prelux_azure_token_get(struct prelux_azure_token *t, char **ret, unsigned *ret_number, struct prelux_problem *why)
{
  int rc = 0;
  pthread_mutex_lock(&t->lock);
  for (;;)
  {
    int64_t now = now_ms();
    bool valid = t->token && now < t->ends;
    if (valid && (now < t->renew || t->busy || now < t->no_earlier))
      break;
    if (!valid && !t->busy && t->failure.err && now < t->no_earlier)
    {
      rc = -t->failure.err;
      if (why)
        *why = t->failure;
      break;
    }
    if (t->busy)
      pthread_cond_wait(&t->changed, &t->lock);
    else
      renew(t);
  }
  if (rc == 0)
  {
    *ret_number = t->number;
    if (asprintf(ret, "Authorization: Bearer %s", t->token) < 0)
      rc = prelux_problem(why, ENOMEM, "no memory");
  }
  pthread_mutex_unlock(&t->lock);
  return rc;
}

bool prelux_azure_token_reject(struct prelux_azure_token *t, unsigned number)
{
  if (t->grant == PRELUX_AZURE_FIXED)
    return false;
  pthread_mutex_lock(&t->lock);
  bool young = t->number == number && now_ms() - t->since < YOUNG_MS;
  if (t->number == number && !young)
    t->ends = t->renew = 0;
  pthread_mutex_unlock(&t->lock);
  return !young;
}

int64_t prelux_azure_token_left(struct prelux_azure_token *t)
{
  pthread_mutex_lock(&t->lock);
  int64_t left = !t->token ? -1 : t->ends == INT64_MAX ? INT64_MAX : (t->ends - now_ms()) / 1000;
  pthread_mutex_unlock(&t->lock);
  return left < -1 ? -1 : left;
}
