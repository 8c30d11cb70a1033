/* A cluster that looks at the under store seldom may tell of the old file over bytes of both, as OSS workers do (alluxio_doubt.c). Where an
 * under store is configured it is asked after a read of more than a page.
 *
 * Nothing is known of when these workers bring to the under store what was written by them. So an under store that has less, an older file
 * or none, says nothing against the cluster; only a later file does: it was written behind the cluster's back. Of such a path the later of
 * both is shown for a time, and a version is read from whoever has it. */
#include <errno.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"

bool prelux_ee_doubted(struct prelux_ee *e, const char *path)
{
  return e->under && prelux_alluxio_doubts_has(&e->doubts, path);
}

/* The under store's file as the cluster would describe it; false: it cannot tell. */
static bool ask(struct prelux_ee *e, const char *path, struct prelux_object *ret)
{
  struct prelux_object now;
  if (prelux_alluxio_doubts_rests(&e->doubts))
    return false;
  int rc = e->under->ops->stat(e->under, path, &now, NULL);
  if (rc < 0 && rc != -ENOENT)
    prelux_alluxio_doubts_rest(&e->doubts);
  if (rc < 0 || now.type != PRELUX_FILE || now.mtime_ns == 0 || now.mtime_rough || now.size == UINT64_MAX)
    return false;
  prelux_alluxio_translate(e->whole_seconds, &now, ret);
  return true;
}

static bool later(const struct prelux_object *under, const struct prelux_object *cluster)
{
  return cluster->type == PRELUX_FILE && !prelux_alluxio_equal(under, cluster) && under->mtime_ns >= cluster->mtime_ns;
}

bool prelux_ee_outdated(struct prelux_ee *e, const char *path, const struct prelux_object *expect)
{
  struct prelux_object now;
  if (!e->under || !ask(e, path, &now) || !later(&now, expect))
    return false;
  prelux_alluxio_doubts_tell(&e->doubts, path, e->options.name);
  return true;
}

void prelux_ee_later(struct prelux_ee *e, const char *path, struct prelux_object *obj)
{
  struct prelux_object now;
  if (ask(e, path, &now) && later(&now, obj))
    *obj = now;
}
