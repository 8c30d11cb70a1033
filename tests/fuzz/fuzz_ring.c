/* Membership as it is configured, identities as they are registered, and the ring of them: each worker once, the same again, whoever leaves changes
 * nobody else's turn. */
#include <errno.h>

#include "lib/backend/alluxio_roster.h"
#include "lib/backend/alluxio_view.h"
#include "tests/fuzz/rig.h"

enum { WORKERS = 24 };

static void ring_of(const struct prelux_alluxio_identity *ids, size_t n, const char *path)
{
  struct prelux_alluxio_ring ring = {0}, less = {0};
  uint32_t all[WORKERS], few[WORKERS];
  FUZZ_CHECK(prelux_alluxio_ring_init(&ring, ids, n, 7) == 0);
  size_t got = prelux_alluxio_ring_owners(&ring, path, WORKERS, all);
  FUZZ_CHECK(got == ring.n_workers || got <= n);
  bool seen[WORKERS] = {false};
  for (size_t i = 0; i < got; i++)
  {
    FUZZ_CHECK(all[i] < n && !seen[all[i]]);
    seen[all[i]] = true;
  }
  size_t some = prelux_alluxio_ring_owners(&ring, path, 2, few);
  FUZZ_CHECK(some == (got < 2 ? got : 2) && memcmp(few, all, some * sizeof *few) == 0);
  if (n > 1) /* the last one leaves: owners that were not it stay owners */
  {
    FUZZ_CHECK(prelux_alluxio_ring_init(&less, ids, n - 1, 7) == 0);
    size_t before = prelux_alluxio_ring_owner(&ring, path, 1), after = prelux_alluxio_ring_owner(&less, path, 1);
    bool twin = false;
    for (size_t i = 0; i + 1 < n; i++)
      twin |= memcmp(&ids[i], &ids[n - 1], sizeof *ids) == 0;
    FUZZ_CHECK(twin || before == n - 1 || before == after);
  }
  prelux_alluxio_ring_release(&less);
  prelux_alluxio_ring_release(&ring);
}

static void view_of(const struct prelux_alluxio_options *o, struct prelux_alluxio_roster *r)
{
  struct prelux_alluxio_health *health = NULL;
  struct prelux_alluxio_view *v = NULL;
  const struct prelux_alluxio_worker *owners[4];
  if (prelux_alluxio_health_create(&health) < 0)
    return;
  if (prelux_alluxio_view_make(o, health, PRELUX_ALLUXIO_RING_LIKELY, r, &v) == 0)
  {
    size_t n = prelux_alluxio_view_owners(v, "s3://data/x", 4, owners);
    FUZZ_CHECK(n <= v->n && n <= 4);
    for (size_t i = 0; i < v->n; i++)
    {
      struct prelux_url u;
      FUZZ_CHECK_TEXT(prelux_url_parse(v->workers[i].http, &u) == 0 && u.path_len == 0, v->workers[i].http);
      FUZZ_CHECK_TEXT(prelux_url_parse(v->workers[i].s3, &u) == 0, v->workers[i].s3);
    }
    prelux_alluxio_view_put(v);
  }
  prelux_alluxio_health_free(health);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct prelux_alluxio_identity ids[WORKERS];
  struct prelux_alluxio_roster r = {0};
  char *places[WORKERS];
  size_t n = 0, n_places = 0, len;
  char *path = fuzz_piece(&data, &size, "\n", &len);
  while (size && n < WORKERS && n_places < WORKERS)
  {
    char *line = fuzz_piece(&data, &size, "\n", &len);
    memset(&ids[n], 0, sizeof ids[n]);
    int version = line[0] == '0' ? 0 : 1, rc = prelux_alluxio_identity_parse(line + (len > 1 && line[1] == ' ' ? 2 : 0), version, &ids[n]);
    FUZZ_CHECK(rc == 0 || rc == -EINVAL);
    FUZZ_CHECK(rc < 0 || ids[n].len == (version ? 16 : 8));
    if (rc == 0)
      n++;
    else if (strlen(line) == len && len)
    {
      rc = prelux_alluxio_roster_add(&r, line, len, 28080, NULL, 0);
      FUZZ_CHECK(rc == 0 || rc == -EINVAL);
      if (rc == 0)
        places[n_places++] = strdup(line);
    }
    free(line);
  }
  ring_of(ids, n, path);
  const struct prelux_alluxio_options o = {.name = "b", .membership = PRELUX_ALLUXIO_LIST, .places = places, .n_places = n_places, .http_port = 28080,
                                           .s3_port = 29998, .virtual_nodes = 5};
  view_of(&o, &r);
  prelux_alluxio_roster_release(&r);
  for (size_t i = 0; i < n_places; i++)
    free(places[i]);
  free(path);
  return 0;
}
