#include "lib/backend/aws_sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/path.h"
#include "lib/conf/conf.h"

#define PATH_BYTES 4096

const char *prelux_aws_env(const struct prelux_aws_sources *s, const char *name)
{
  size_t n = strlen(name);
  for (char **e = s->env; e && *e; e++)
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
      return (*e)[n + 1] ? *e + n + 1 : NULL;
  return NULL;
}

static void wipe(char *s)
{
  if (s)
    explicit_bzero(s, strlen(s));
  free(s);
}

int prelux_aws_set_make(struct prelux_aws_set *ret, const char *access, const char *secret, const char *token,
                        int64_t expires_s)
{
  bool with = token && token[0];
  if (!access || !secret || !access[0] || !secret[0] || strpbrk(access, "\r\n") || (with && strpbrk(token, "\r\n")))
    return -EINVAL; /* access and token go into headers */
  struct prelux_aws_set set = {
      .access = strdup(access), .secret = strdup(secret), .token = with ? strdup(token) : NULL, .expires_s = expires_s};
  if (!set.access || !set.secret || (with && !set.token))
  {
    prelux_aws_set_release(&set);
    return -ENOMEM;
  }
  *ret = set;
  return 0;
}

void prelux_aws_set_release(struct prelux_aws_set *set)
{
  wipe(set->access);
  wipe(set->secret);
  wipe(set->token);
  *set = (struct prelux_aws_set){.expires_s = 0};
}

/* The path of one of the two files; NULL: nobody knows where it would be. -EINVAL: relative, and to what nobody knows.
 */
static int file_path(const struct prelux_aws_sources *s, const char *variable, const char *usual, char out[PATH_BYTES],
                     bool *ret_known, struct prelux_problem *why)
{
  const char *named = prelux_aws_env(s, variable), *home = prelux_aws_env(s, "HOME");
  char joined[PATH_BYTES];
  snprintf(joined, sizeof(joined), "~/.aws/%s", usual);
  long n = prelux_path_expand(out, PATH_BYTES, home, named ? named : joined);
  *ret_known = n > 0 && out[0] == '/';
  if (!*ret_known && named)
    return prelux_problem(why, EINVAL, "%s must be an absolute path or begin with ~/", variable);
  return 0;
}

int prelux_aws_sources_profile(const struct prelux_aws_sources *s, struct prelux_aws_profile *ret,
                               struct prelux_problem *why)
{
  static const struct
  {
    const char *variable, *usual;
    bool config;
  } files[] = {{"AWS_SHARED_CREDENTIALS_FILE", "credentials", false}, {"AWS_CONFIG_FILE", "config", true}};
  struct prelux_aws_profile p = {.n = 0};
  int rc = 0;
  for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && rc == 0; i++)
  {
    char path[PATH_BYTES];
    bool known;
    rc = file_path(s, files[i].variable, files[i].usual, path, &known, why);
    if (rc == 0 && known)
      rc = prelux_aws_profile_add(&p, path, s->profile ? s->profile : "default", files[i].config, why);
  }
  if (rc < 0)
    prelux_aws_profile_release(&p);
  else
    *ret = p;
  return rc;
}

static int copy_env(struct prelux_aws_sources *s, char *const *env)
{
  size_t n = 0;
  while (env && env[n])
    n++;
  s->env = calloc(n + 1, sizeof(*s->env));
  for (size_t i = 0; s->env && i < n; i++)
    if (!(s->env[i] = strdup(env[i])))
      return -ENOMEM;
  return s->env ? 0 : -ENOMEM;
}

static int copy(char **to, const char *from)
{
  *to = from && from[0] ? strdup(from) : NULL;
  return from && from[0] && !*to ? -ENOMEM : 0;
}

static const char *first(const char *a, const char *b)
{
  return a ? a : b;
}

/* Region and endpoint: the environment before the profile. A profile that cannot be read only matters when its keys are
 * needed. */
static int settle(struct prelux_aws_sources *s, const char *region)
{
  struct prelux_aws_profile p = {.n = 0};
  prelux_aws_sources_profile(s, &p, NULL);
  region = first(region, first(prelux_aws_env(s, "AWS_REGION"), prelux_aws_env(s, "AWS_DEFAULT_REGION")));
  const char *endpoint = first(prelux_aws_env(s, "AWS_ENDPOINT_URL_S3"), prelux_aws_env(s, "AWS_ENDPOINT_URL"));
  int rc = copy(&s->region, first(region, prelux_aws_profile_get(&p, "region")));
  if (rc == 0)
    rc = copy(&s->endpoint, first(endpoint, prelux_aws_profile_get(&p, "endpoint_url")));
  prelux_aws_profile_release(&p);
  return rc;
}

int prelux_aws_sources_init(struct prelux_aws_sources *s, const struct prelux_conf_backend *conf,
                            struct prelux_net *net, struct prelux_problem *why)
{
  const char *profile = prelux_conf_str(conf, "profile");
  *s = (struct prelux_aws_sources){.net = net, .profile_chosen = profile && profile[0]};
  int rc = copy_env(s, conf->env);
  if (rc == 0)
    rc = copy(&s->access, prelux_conf_str(conf, "access_key"));
  if (rc == 0)
    rc = copy(&s->secret, prelux_conf_str(conf, "secret_key"));
  if (rc == 0)
    rc = copy(&s->token, prelux_conf_str(conf, "session_token"));
  if (rc == 0)
    rc = copy(&s->profile, s->profile_chosen ? profile : prelux_aws_env(s, "AWS_PROFILE"));
  if (rc == 0)
    rc = settle(s, prelux_conf_str(conf, "region"));
  if (rc < 0)
  {
    prelux_aws_sources_release(s);
    return prelux_problem(why, -rc, "backend %s: no memory", conf->name);
  }
  return 0;
}

void prelux_aws_sources_release(struct prelux_aws_sources *s)
{
  for (char **e = s->env; e && *e; e++)
    wipe(*e);
  free(s->env);
  wipe(s->access);
  wipe(s->secret);
  wipe(s->token);
  free(s->profile);
  free(s->region);
  free(s->endpoint);
  *s = (struct prelux_aws_sources){.net = NULL};
}
