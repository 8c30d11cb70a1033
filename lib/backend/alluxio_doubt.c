/* A cluster may know a file by what it was long ago (its metadata are renewed seldom, by default never), keep some of its pages, and
 * load the others from what lies in the under store now. Its answers then tell the old version over bytes of both. The
 * workers cannot tell; the under store can: after a read of more than one page its length and time must be those that the cluster
 * tells. Where they are not, the cluster is passed over for that path, for a time: look-ups and reads go to the under store.
 *
 * An under store that cannot be asked says nothing against the cluster, and is left alone for a while. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/base/log.h"

#define DOUBT_MS 600000
#define UNDER_REST_MS 30000 /* after it could not be asked */
#define PLACES 65536u

void prelux_alluxio_doubts_init(struct prelux_alluxio_doubts *d)
{
  atomic_init(&d->until_ms, NULL);
}

void prelux_alluxio_doubts_release(struct prelux_alluxio_doubts *d)
{
  free(atomic_load(&d->until_ms));
}

static size_t place_of(const char *path)
{
  return XXH3_64bits(path, strlen(path)) % PLACES;
}

bool prelux_alluxio_doubts_has(struct prelux_alluxio_doubts *d, const char *path)
{
  atomic_llong *until_ms = atomic_load(&d->until_ms);
  int64_t all_ms = atomic_load(&d->all_until_ms);
  if (!until_ms && !all_ms)
    return false;
  int64_t now = prelux_alluxio_now_ms();
  return all_ms > now || (until_ms && atomic_load(&until_ms[place_of(path)]) > now);
}

void prelux_alluxio_doubts_add(struct prelux_alluxio_doubts *d, const char *path)
{
  atomic_llong *until_ms = atomic_load(&d->until_ms), *none = NULL;
  int64_t end = prelux_alluxio_now_ms() + DOUBT_MS;
  if (!until_ms && (until_ms = calloc(PLACES, sizeof *until_ms)) && !atomic_compare_exchange_strong(&d->until_ms, &none, until_ms))
  {
    free(until_ms);
    until_ms = none;
  }
  atomic_store(until_ms ? &until_ms[place_of(path)] : &d->all_until_ms, end);
}

int64_t prelux_alluxio_doubts_age_ms(struct prelux_alluxio_doubts *d, const char *path)
{
  atomic_llong *until_ms = atomic_load(&d->until_ms);
  int64_t end = until_ms ? atomic_load(&until_ms[place_of(path)]) : atomic_load(&d->all_until_ms);
  return end ? prelux_alluxio_now_ms() - (end - DOUBT_MS) : INT64_MAX;
}

void prelux_alluxio_doubts_tell(struct prelux_alluxio_doubts *d, const char *path, const char *backend)
{
  prelux_alluxio_doubts_add(d, path);
  if (!atomic_exchange(&d->told, true))
    prelux_warn("backend %s: /%s is another file in the under store than the cluster knows: its metadata are old, and such files are read "
                "from the under store (see alluxio.user.file.metadata.sync.interval)",
                backend, path);
}

bool prelux_alluxio_doubts_rests(const struct prelux_alluxio_doubts *d)
{
  return prelux_alluxio_now_ms() < atomic_load(&d->rest_until_ms);
}

void prelux_alluxio_doubts_rest(struct prelux_alluxio_doubts *d)
{
  atomic_store(&d->rest_until_ms, prelux_alluxio_now_ms() + UNDER_REST_MS);
}

/* Of backend `alluxio` */

bool prelux_alluxio_doubted(struct prelux_alluxio *x, const char *path)
{
  return x->under && prelux_alluxio_doubts_has(&x->doubts, path);
}

void prelux_alluxio_doubt_own(struct prelux_alluxio *x, const char *path)
{
  if (x->under)
    prelux_alluxio_doubts_add(&x->doubts, path);
}

/* A worker may have an older file of this very length and time: an object store tells whole seconds. */
bool prelux_alluxio_distrust(struct prelux_backend *b, const char *path)
{
  struct prelux_alluxio *x = (struct prelux_alluxio *)b;
  bool news = x->under && !prelux_alluxio_doubted(x, path);
  prelux_alluxio_doubt_own(x, path);
  return news;
}

bool prelux_alluxio_under_agrees(struct prelux_alluxio *x, const char *path, const struct prelux_object *expect)
{
  struct prelux_object now;
  if (!x->under || prelux_alluxio_doubts_rests(&x->doubts))
    return true;
  int rc = x->under->ops->stat(x->under, path, &now, NULL);
  if (rc < 0 && rc != -ENOENT)
    prelux_alluxio_doubts_rest(&x->doubts);
  bool rules = rc == 0 && prelux_alluxio_under_rules(x) && now.version[0] && expect->version[0];
  if (rules && now.type == PRELUX_FILE && strcmp(now.version, expect->version) == 0)
    return true;
  if (!rules && (rc < 0 || now.mtime_ns == 0 || now.mtime_rough || now.size == UINT64_MAX))
    return true;
  if (!rules && now.type == PRELUX_FILE && prelux_alluxio_equal(&now, expect))
    return true;
  prelux_alluxio_doubts_tell(&x->doubts, path, x->options.name);
  return false;
}
