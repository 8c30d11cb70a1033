/* Backend `alluxio-proxy`, writing: what the dead leave (hidden.h), found and removed by its calls. */
#include <errno.h>

#include "lib/backend/alluxio_proxy.h"

static int type_of(void *arg, const char *path, uint8_t *ret, struct prelux_problem *why)
{
  struct prelux_proxy_info it;
  int rc = prelux_proxy_status(arg, path, &it, why);
  if (rc == 0)
    *ret = it.obj.type;
  return rc;
}

static int each(void *arg, const char *path, prelux_list_fn add, void *add_arg, struct prelux_problem *why)
{
  return prelux_proxy_each(arg, path, add, add_arg, why);
}

static int move(void *arg, const char *from, const char *to)
{
  struct prelux_proxy_info it;
  int rc = prelux_proxy_status(arg, from, &it, NULL);
  return rc == 0 ? prelux_proxy_move(arg, from, it.id, to, NULL) : rc;
}

static int drop(void *arg, const char *path)
{
  struct prelux_proxy_info it;
  int rc = prelux_proxy_status(arg, path, &it, NULL);
  return rc == 0 ? prelux_proxy_drop(arg, path, it.id, NULL) : rc;
}

static const struct prelux_hidden_ops ops = {.type = type_of, .each = each, .move = move, .drop = drop};

int prelux_proxy_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct prelux_proxy *p = (struct prelux_proxy *)b;
  int rc = prelux_proxy_writable(p, why);
  return rc == 0 ? prelux_hidden_clean(&ops, p, path, idle_s, why) : rc;
}
