/* One call of the REST API of Alluxio's proxy (2.x, 3.x): the URL, the options, the errors. */
#ifndef PRELUX_BACKEND_ALLUXIO_REST_H
#define PRELUX_BACKEND_ALLUXIO_REST_H

#include "lib/base/problem.h"
#include "lib/net/net.h"

#define PRELUX_REST_RETRIES 3

/* URL of `action` on the Alluxio path ROOT/PATH; both without slashes at their ends, either may be "".
 * -EOPNOTSUPP: a name that the proxy would cut or change ('?', '\'), or too long. */
int prelux_rest_url(const char *server, const char *root, const char *path, const char *action, char *out, size_t cap,
                    struct prelux_problem *why);
/* What an answer that is not 200 means: an -errno of backend.h; fills *why. */
int prelux_rest_error(const struct prelux_net_answer *a, const char *action, const char *path, struct prelux_problem *why);
/* What of a server's message may be shown, cut: that of a mount repeats the options, which may hold keys, and says in its last line what is
 * wrong. */
void prelux_rest_said(const char *action, const char *message, char *out, size_t cap);
/* For prelux_net_request.again: the answer names a state that may pass. */
bool prelux_rest_again(const struct prelux_net_answer *a);
/* The same of a change, where it surely was not done. */
bool prelux_rest_not_done(const struct prelux_net_answer *a);
/* The answer does not say whether a change was done: get-status decides. */
bool prelux_rest_unclear(const struct prelux_net_answer *a);
/* "200 and an empty body": the REST API is not there. */
int prelux_rest_disabled(const char *action, const char *path, struct prelux_problem *why);
/* The row of the table for a statusCode: -errno, whether to try again, whether a change may have been done; false: it is none. */
bool prelux_rest_status(const char *code, int *ret_err, bool *ret_again, bool *ret_unclear);

#endif
