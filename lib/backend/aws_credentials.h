/* Where the keys of an AWS-like service come from. The first source of this order that is configured at all wins; one
 * that is configured and fails is an error, not a reason to look further:
 *
 *   1 config        access_key, secret_key, session_token of the backend
 *   2 environment   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (skipped when the backend names a
 * profile) 3 profile       the backend's `profile`, else AWS_PROFILE, else "default": AWS_SHARED_CREDENTIALS_FILE
 *                   (~/.aws/credentials), then AWS_CONFIG_FILE (~/.aws/config). Nothing further is asked when a profile
 * is named 4 web identity  AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME, by STS 5 container
 * AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN(_FILE) 6 instance      IMDSv2,
 * unless AWS_EC2_METADATA_DISABLED; AWS_EC2_METADATA_SERVICE_ENDPOINT
 *
 * The environment is that in which `prelux run` started. Temporary keys are renewed five minutes before they end, by
 * one thread, while the others go on with the old ones; in the last minute everybody waits. */
#ifndef PRELUX_BACKEND_AWS_CREDENTIALS_H
#define PRELUX_BACKEND_AWS_CREDENTIALS_H

#include <stdbool.h>

#include "lib/backend/aws_sign.h"
#include "lib/base/problem.h"

struct cJSON;
struct prelux_conf_backend;
struct prelux_net;
struct prelux_aws_credentials;

/* Keys in use; they stay valid for their holder when others take their place. */
struct prelux_aws_lease
{
  struct prelux_aws_keys keys;
};

/* conf is borrowed for the call. Reads the profile's files, asks no server. */
int prelux_aws_credentials_create(const struct prelux_conf_backend *conf, struct prelux_net *net,
                                  struct prelux_aws_credentials **ret, struct prelux_problem *why);
void prelux_aws_credentials_free(struct prelux_aws_credentials *c);

/* As configuration, environment (AWS_REGION, AWS_DEFAULT_REGION) or profile say it; NULL: nobody does. */
const char *prelux_aws_credentials_region(const struct prelux_aws_credentials *c);
/* As environment (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) or profile say it. */
const char *prelux_aws_credentials_endpoint(const struct prelux_aws_credentials *c);

/* May ask a server. -EACCES: there are none, or their source failed; -EKEYEXPIRED: those we had have ended, and it gives no others just now. */
int prelux_aws_credentials_get(struct prelux_aws_credentials *c, struct prelux_aws_lease **ret,
                               struct prelux_problem *why);
void prelux_aws_lease_drop(struct prelux_aws_lease *lease);

/* The service says that these are no longer good. True: get() may give others now. */
bool prelux_aws_credentials_refused(struct prelux_aws_credentials *c, const struct prelux_aws_lease *lease);

/* Adds "source", "access_key" (its last four characters), "expires", "looked_at" to `into`. */
void prelux_aws_credentials_report(struct prelux_aws_credentials *c, struct cJSON *into);

#endif
