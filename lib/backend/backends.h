/* The tables that registry.c lists; nobody else names a backend in code. */
#ifndef PRELUX_BACKEND_BACKENDS_H
#define PRELUX_BACKEND_BACKENDS_H

#include "lib/backend/backend.h"

extern const struct prelux_backend_ops prelux_backend_file;
extern const struct prelux_backend_ops prelux_backend_http;
extern const struct prelux_backend_ops prelux_backend_alluxio_proxy;
extern const struct prelux_backend_ops prelux_backend_alluxio;
extern const struct prelux_backend_ops prelux_backend_alluxio_ee;
extern const struct prelux_backend_ops prelux_backend_s3;
extern const struct prelux_backend_ops prelux_backend_azure;

/* For `examine`: whether the remote answered a question of it (rc >= 0), else `why` not. */
void prelux_backend_reachable(struct cJSON *into, int rc, const struct prelux_problem *why);

#endif
