/* The backends of this preluxd. A new one is a file, a declaration in backends.h and a row here. */
#include <cjson/cJSON.h>
#include <string.h>

#include "lib/backend/backends.h"

static const struct prelux_backend_ops *const backends[] = {
    &prelux_backend_file,
    &prelux_backend_http,
    &prelux_backend_alluxio_proxy,
    &prelux_backend_alluxio,
    &prelux_backend_alluxio_ee,
    &prelux_backend_s3,
    &prelux_backend_azure,
};

const struct prelux_backend_ops *prelux_backend_find(const char *type)
{
  for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
    if (strcmp(backends[i]->type, type) == 0)
      return backends[i];
  return NULL;
}

void prelux_backend_reachable(struct cJSON *into, int rc, const struct prelux_problem *why)
{
  cJSON_AddBoolToObject(into, "reachable", rc >= 0);
  if (rc >= 0)
    return;
  cJSON_AddStringToObject(into, "problem", why->text);
  if (why->advice[0])
    cJSON_AddStringToObject(into, "advice", why->advice);
}
