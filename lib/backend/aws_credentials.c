/* Theory of operation. `current` is the set of keys in use; whoever signs holds a reference, so a set lives until its
 * last request is signed. A set goes through three ages by the seconds it has left: above RENEW_S it is simply used;
 * between RENEW_S and LAST_S one thread asks the source for the next one while the others go on with this one; below
 * LAST_S everybody waits for that thread. A source that fails is not asked again before `retry_ms`, and meanwhile
 * everybody gets its error, or the old set as long as that lives: a thousand opens do not become a thousand questions.
 */
#include "lib/backend/aws_credentials.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/backend/aws_sources.h"
#include "lib/base/log.h"

#define RENEW_S 300
#define LAST_S 60
#define RETRY_MS 5000 /* after a failure, after a set that is nearly over, and between refusals */
#define NOTES_MAX 1024
#define ROLES_MAX 5 /* one taken by another */

static int from_config(const struct prelux_aws_sources *s, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  if (!s->access)
    return prelux_problem(why, ENOENT, "no access_key");
  return prelux_aws_set_make(ret, s->access, s->secret, s->token, 0);
}

static int from_environment(const struct prelux_aws_sources *s, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  const char *access = prelux_aws_env(s, "AWS_ACCESS_KEY_ID"), *secret = prelux_aws_env(s, "AWS_SECRET_ACCESS_KEY");
  if (s->profile_chosen)
    return prelux_problem(why, ENOENT, "passed over for the profile");
  if (!access && !secret)
    return prelux_problem(why, ENOENT, "AWS_ACCESS_KEY_ID is not set");
  if (!access || !secret)
    return prelux_problem(why, EACCES, "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set");
  return prelux_aws_set_make(ret, access, secret, prelux_aws_env(s, "AWS_SESSION_TOKEN"), 0);
}

/* Ways to keys that a profile may name and that we do not go. Running a program that a file names, with the daemon's
 * rights and environment instead of the user's shell's, would surprise. */
static const struct
{
  const char *setting, *text;
} not_served[] = {
    {"credential_process", "credential_process is not run by the daemon"},
    {"mfa_serial", "nobody is there to say a code (mfa_serial)"},
    {"credential_source", "role_arn with credential_source is not supported"},
    {"sso_session", "single sign-on is not supported"},
    {"sso_start_url", "single sign-on is not supported"},
};

static int refuse(const struct prelux_aws_profile *p, const char *name, struct prelux_problem *why)
{
  for (size_t i = 0; i < sizeof(not_served) / sizeof(not_served[0]); i++)
    if (prelux_aws_profile_get(p, not_served[i].setting))
    {
      prelux_problem(why, EACCES, "profile %s: %s", name, not_served[i].text);
      if (why)
        snprintf(
            why->advice, sizeof(why->advice),
            "put keys into the environment: eval \"$(aws configure export-credentials --profile %.60s --format env)\"",
            name);
      return -EACCES;
    }
  return 0;
}

static int profile_keys(const struct prelux_aws_sources *s, const struct prelux_aws_profile *p, const char *name,
                        int depth, struct prelux_aws_set *ret, struct prelux_problem *why);

/* A role that the keys of another profile may take; that one may be such a role itself. A profile that names itself
 * means its own keys. */
static int role_of_profile(const struct prelux_aws_sources *s, const struct prelux_aws_profile *p, const char *name,
                           int depth, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  const char *source = prelux_aws_profile_get(p, "source_profile");
  struct prelux_aws_sources as = *s; /* shallow: another profile's files */
  struct prelux_aws_profile other = {.n = 0};
  struct prelux_aws_set set = {.expires_s = 0};
  if (depth == ROLES_MAX)
    return prelux_problem(why, EACCES, "profile %s: more than %d roles on the way, or in circles", name, ROLES_MAX);
  as.profile = (char *)source;
  int rc = strcmp(source, name) == 0 ? prelux_aws_set_make(&set, prelux_aws_profile_get(p, "aws_access_key_id"),
                                                           prelux_aws_profile_get(p, "aws_secret_access_key"),
                                                           prelux_aws_profile_get(p, "aws_session_token"), 0)
                                     : prelux_aws_sources_profile(&as, &other, why);
  if (rc == -EINVAL)
    rc = prelux_problem(why, EACCES, "profile %s names itself and holds no keys", name);
  if (rc == 0 && !set.access)
    rc = profile_keys(s, &other, source, depth + 1, &set, why);
  if (rc == 0)
    rc = prelux_aws_assume_by_keys(s, p, &(struct prelux_aws_keys){set.access, set.secret, set.token}, ret, why);
  prelux_aws_set_release(&set);
  prelux_aws_profile_release(&other);
  if (rc == -ENOENT && why)
    why->err = EACCES;
  return rc == -ENOENT ? -EACCES : rc;
}

static int profile_keys(const struct prelux_aws_sources *s, const struct prelux_aws_profile *p, const char *name,
                        int depth, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  const char *role = prelux_aws_profile_get(p, "role_arn"),
             *file = prelux_aws_profile_get(p, "web_identity_token_file");
  const char *access = prelux_aws_profile_get(p, "aws_access_key_id"),
             *secret = prelux_aws_profile_get(p, "aws_secret_access_key");
  if (role && file)
    return prelux_aws_assume_by_token(s, role, file, prelux_aws_profile_get(p, "role_session_name"), ret, why);
  if (access && secret && !role)
    return prelux_aws_set_make(ret, access, secret, prelux_aws_profile_get(p, "aws_session_token"), 0);
  if (refuse(p, name, why) < 0)
    return -EACCES;
  if (role && prelux_aws_profile_get(p, "source_profile"))
    return role_of_profile(s, p, name, depth, ret, why);
  if (access || secret)
    return prelux_problem(why, EACCES, "profile %s: of aws_access_key_id and aws_secret_access_key only one is there",
                          name);
  return prelux_problem(why, ENOENT, "profile %s holds no keys", name);
}

static int from_profile(const struct prelux_aws_sources *s, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  struct prelux_aws_profile p;
  const char *name = s->profile ? s->profile : "default";
  int rc = prelux_aws_sources_profile(s, &p, why);
  if (rc < 0)
    return rc;
  if (p.found)
    rc = profile_keys(s, &p, name, 0, ret, why);
  else
    rc = prelux_problem(why, ENOENT, "there is no profile %s", name);
  prelux_aws_profile_release(&p);
  if (rc != -ENOENT || !s->profile)
    return rc;
  if (why)
    why->err = EACCES;
  return -EACCES; /* it was asked for by name */
}

static const struct source
{
  const char *name;
  prelux_aws_source_fn fetch;
  bool fixed; /* asking again gives the same */
} sources[] = {
    {.name = "config", .fetch = from_config, .fixed = true},
    {.name = "environment", .fetch = from_environment, .fixed = true},
    {.name = "profile", .fetch = from_profile},
    {.name = "web identity", .fetch = prelux_aws_from_web_identity},
    {.name = "container", .fetch = prelux_aws_from_container},
    {.name = "instance", .fetch = prelux_aws_from_instance},
};
#define N_SOURCES (sizeof(sources) / sizeof(sources[0]))

struct held
{
  struct prelux_aws_lease lease; /* first: a lease is cast to its set */
  struct prelux_aws_set set;
  const struct source *source;
  int64_t since_ms; /* monotonic */
  unsigned refs;    /* guarded by `lock` of the owner */
  struct prelux_aws_credentials *owner;
};

struct prelux_aws_credentials
{
  struct prelux_aws_sources from; /* immutable */
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct held *current;
  bool had;         /* keys, at some time: those that end may come again */
  bool busy;        /* somebody asks the sources */
  int64_t retry_ms; /* monotonic: not before */
  struct prelux_problem failed;
  char notes[NOTES_MAX]; /* what the last round found where */
};

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int prelux_aws_credentials_create(const struct prelux_conf_backend *conf, struct prelux_net *net,
                                  struct prelux_aws_credentials **ret, struct prelux_problem *why)
{
  struct prelux_aws_credentials *c = calloc(1, sizeof(*c));
  if (!c)
    return prelux_problem(why, ENOMEM, "no memory for credentials");
  int rc = prelux_aws_sources_init(&c->from, conf, net, why);
  if (rc < 0)
  {
    free(c);
    return rc;
  }
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, NULL);
  *ret = c;
  return 0;
}

const char *prelux_aws_credentials_region(const struct prelux_aws_credentials *c)
{
  return c->from.region;
}

const char *prelux_aws_credentials_endpoint(const struct prelux_aws_credentials *c)
{
  return c->from.endpoint;
}

/* Lock held. */
static void drop(struct held *h)
{
  if (!h || --h->refs > 0)
    return;
  prelux_aws_set_release(&h->set);
  free(h);
}

void prelux_aws_credentials_free(struct prelux_aws_credentials *c)
{
  if (!c)
    return;
  drop(c->current);
  prelux_aws_sources_release(&c->from);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

void prelux_aws_lease_drop(struct prelux_aws_lease *lease)
{
  if (!lease)
    return;
  struct held *h = (struct held *)lease;
  struct prelux_aws_credentials *c = h->owner;
  pthread_mutex_lock(&c->lock);
  drop(h);
  pthread_mutex_unlock(&c->lock);
}

/* Asking the sources, without the lock. */

static void note(char notes[NOTES_MAX], const char *source, const char *text)
{
  size_t n = strlen(notes);
  snprintf(notes + n, NOTES_MAX - n, "%s%s: %.160s", n ? "; " : "", source, text);
}

static int ask_sources(struct prelux_aws_credentials *c, struct prelux_aws_set *ret, const struct source **ret_source,
                       char notes[NOTES_MAX], struct prelux_problem *why)
{
  struct prelux_problem said = {0};
  notes[0] = 0;
  for (size_t i = 0; i < N_SOURCES; i++)
  {
    int rc = sources[i].fetch(&c->from, ret, &said);
    note(notes, sources[i].name, rc == 0 ? "found" : said.text);
    if (rc == 0)
    {
      *ret_source = &sources[i];
      return 0;
    }
    if (rc != -ENOENT)
    {
      prelux_problem(why, EACCES, "no keys from %s: %.400s", sources[i].name, said.text);
      if (why)
        snprintf(why->advice, sizeof(why->advice), "%s", said.advice);
      return -EACCES;
    }
  }
  prelux_problem(why, EACCES, "no keys anywhere (%.460s)", notes);
  if (why)
    snprintf(why->advice, sizeof(why->advice),
             "set access_key and secret_key, or AWS_ACCESS_KEY_ID where `prelux run` starts, or "
             "anonymous: true");
  return -EACCES;
}

static struct held *hold(struct prelux_aws_credentials *c, struct prelux_aws_set *set, const struct source *source)
{
  struct held *h = calloc(1, sizeof(*h));
  if (!h)
    return NULL;
  *h = (struct held){.set = *set, .source = source, .since_ms = now_ms(), .refs = 1, .owner = c};
  h->lease.keys = (struct prelux_aws_keys){.access = set->access, .secret = set->secret, .token = set->token};
  return h;
}

/* Lock held; released while the sources are asked. Fills current, or failed. */
static void renew(struct prelux_aws_credentials *c)
{
  struct prelux_aws_set set = {.expires_s = 0};
  const struct source *source = NULL;
  struct prelux_problem failed = {0};
  char notes[NOTES_MAX];
  c->busy = true;
  pthread_mutex_unlock(&c->lock);
  int rc = ask_sources(c, &set, &source, notes, &failed);
  struct held *h = rc == 0 ? hold(c, &set, source) : NULL;
  if (rc == 0 && !h)
    rc = prelux_problem(&failed, ENOMEM, "no memory for keys");
  if (rc < 0)
    prelux_aws_set_release(&set);
  pthread_mutex_lock(&c->lock);
  c->busy = false;
  memcpy(c->notes, notes, sizeof(notes));
  if (h && (!c->current || c->current->source != source))
    prelux_info("s3: keys from %s, access key ...%s", source->name,
                strlen(set.access) > 8 ? set.access + strlen(set.access) - 4 : "");
  if (h)
  {
    drop(c->current);
    c->current = h;
    c->had = true;
  }
  c->failed = failed;
  c->retry_ms = h && (!set.expires_s || set.expires_s - (int64_t)time(NULL) > RENEW_S) ? 0 : now_ms() + RETRY_MS;
  pthread_cond_broadcast(&c->changed);
}

/* Lock held. Seconds the current set is good for; 0: there is none. */
static int64_t left(const struct prelux_aws_credentials *c)
{
  if (!c->current)
    return 0;
  if (!c->current->set.expires_s)
    return INT64_MAX;
  int64_t s = c->current->set.expires_s - (int64_t)time(NULL);
  return s > 0 ? s : 0;
}

int prelux_aws_credentials_get(struct prelux_aws_credentials *c, struct prelux_aws_lease **ret,
                               struct prelux_problem *why)
{
  int rc = 0;
  pthread_mutex_lock(&c->lock);
  for (;;)
  {
    bool may_ask = now_ms() >= c->retry_ms;
    int64_t s = left(c);
    if (s > RENEW_S || (s > LAST_S && c->busy) || (s > 0 && !may_ask))
      break;
    if (c->busy)
      pthread_cond_wait(&c->changed, &c->lock);
    else if (may_ask)
      renew(c);
    else
    {
      rc = c->had ? -EKEYEXPIRED : -EACCES;
      break;
    }
  }
  if (rc == 0)
  {
    c->current->refs++;
    *ret = &c->current->lease;
  }
  else
  {
    if (c->failed.err && why)
    {
      *why = c->failed;
      why->err = -rc;
    }
    else
      prelux_problem(why, -rc, "the keys have ended");
  }
  pthread_mutex_unlock(&c->lock);
  return rc;
}

bool prelux_aws_credentials_refused(struct prelux_aws_credentials *c, const struct prelux_aws_lease *lease)
{
  const struct held *h = (const struct held *)lease;
  pthread_mutex_lock(&c->lock);
  bool other = c->current != h;
  if (!other && !h->source->fixed && now_ms() - h->since_ms > RETRY_MS)
  {
    c->current = NULL;
    c->retry_ms = 0;
    drop((struct held *)h); /* the caller's reference keeps it */
    other = true;
  }
  pthread_mutex_unlock(&c->lock);
  return other;
}

void prelux_aws_credentials_report(struct prelux_aws_credentials *c, cJSON *into)
{
  pthread_mutex_lock(&c->lock);
  const struct held *h = c->current;
  cJSON_AddStringToObject(into, "source", h ? h->source->name : "none");
  if (h)
  {
    size_t n = strlen(h->set.access);
    char shown[12];
    snprintf(shown, sizeof(shown), "...%s", n > 8 ? h->set.access + n - 4 : "");
    cJSON_AddStringToObject(into, "access_key", shown);
    cJSON_AddBoolToObject(into, "temporary", h->set.token != NULL);
    if (h->set.expires_s)
      cJSON_AddNumberToObject(into, "expires_in_s", (double)(h->set.expires_s - (int64_t)time(NULL)));
  }
  if (c->failed.err)
    cJSON_AddStringToObject(into, "problem", c->failed.text);
  if (c->notes[0])
    cJSON_AddStringToObject(into, "looked_at", c->notes);
  pthread_mutex_unlock(&c->lock);
}
