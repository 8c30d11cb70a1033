/* The sources of keys, region and endpoint: what a backend's configuration, its environment and its profile say. Shared
 * by aws_credentials.c (which keys are in use) and aws_remote.c (sources that are servers). Immutable once made. */
#ifndef PRELUX_BACKEND_AWS_SOURCES_H
#define PRELUX_BACKEND_AWS_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/backend/aws_profile.h"
#include "lib/backend/aws_sign.h"
#include "lib/base/problem.h"

struct prelux_conf_backend;
struct prelux_net;

struct prelux_aws_sources
{
  struct prelux_net *net;        /* borrowed */
  char **env;                    /* "NAME=value", as conf->env */
  char *access, *secret, *token; /* of the configuration */
  char *profile;                 /* by its name; NULL: "default" will do if there is one */
  bool profile_chosen;           /* the configuration names it: environment keys are passed over */
  char *region;                  /* NULL: nobody says it */
  char *endpoint;                /* of environment or profile; NULL: none */
};

/* Keys with their end. */
struct prelux_aws_set
{
  char *access, *secret, *token; /* token NULL: none */
  int64_t expires_s;             /* 0: never */
};

int prelux_aws_sources_init(struct prelux_aws_sources *s, const struct prelux_conf_backend *conf,
                            struct prelux_net *net, struct prelux_problem *why);
void prelux_aws_sources_release(struct prelux_aws_sources *s);
const char *prelux_aws_env(const struct prelux_aws_sources *s, const char *name); /* NULL: not set, or empty */
/* Reads the profile's files anew. */
int prelux_aws_sources_profile(const struct prelux_aws_sources *s, struct prelux_aws_profile *ret,
                               struct prelux_problem *why);

/* Copies. token "" or NULL: none. -EINVAL: no access key or no secret, or what would end a header's line. */
int prelux_aws_set_make(struct prelux_aws_set *ret, const char *access, const char *secret, const char *token,
                        int64_t expires_s);
void prelux_aws_set_release(struct prelux_aws_set *set);

/* One source. 0; -ENOENT: it is not configured, *why says in a few words what is missing; else it is, and failed. */
typedef int (*prelux_aws_source_fn)(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                                    struct prelux_problem *why);

/* aws_remote.c */
int prelux_aws_from_web_identity(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                                 struct prelux_problem *why);
int prelux_aws_from_container(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                              struct prelux_problem *why);
int prelux_aws_from_instance(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                             struct prelux_problem *why);
/* AssumeRoleWithWebIdentity: role, token file and session name as given (session NULL: one is made). */
int prelux_aws_assume_by_token(const struct prelux_aws_sources *s, const char *role, const char *token_file,
                               const char *session, struct prelux_aws_set *ret, struct prelux_problem *why);
/* AssumeRole, signed with `by`: role_arn, external_id, duration_seconds, role_session_name of the profile. */
int prelux_aws_assume_by_keys(const struct prelux_aws_sources *s, const struct prelux_aws_profile *p,
                              const struct prelux_aws_keys *by, struct prelux_aws_set *ret, struct prelux_problem *why);
/* A host to which the SDKs send a container's authorization over plain http: loopback, ECS and EKS. */
bool prelux_aws_container_url(const char *url);

#endif
