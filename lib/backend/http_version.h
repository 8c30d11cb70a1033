/* The version of an object from what an HTTP answer says of it, and back into a condition. Pure but for the random part. */
#ifndef PRELUX_BACKEND_HTTP_VERSION_H
#define PRELUX_BACKEND_HTTP_VERSION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/backend/backend.h"
#include "lib/net/net.h"

/* Version of the object of `size` bytes that answer `a` describes. */
void prelux_http_version(const struct prelux_net_answer *a, uint64_t size, char out[PRELUX_VERSION_MAX]);
/* The answer (of an object of `size` bytes) is of this version. Always true of a version without validators. */
bool prelux_http_version_same(const struct prelux_net_answer *a, uint64_t size, const char *version);
/* There is nothing to tell two versions apart by: parts of two answers must not be put together. */
bool prelux_http_version_none(const char *version);
/* "If-Match: ..." or "If-Unmodified-Since: ..." that holds for this version only; false: there is none. */
bool prelux_http_version_condition(const char *version, char *out, size_t cap);

#endif
