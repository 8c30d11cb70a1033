/* Answers of etcd's JSON gateway, one by one; the ring of those who are registered has each worker once. */
#include <errno.h>

#include "lib/backend/alluxio_roster.h"
#include "tests/fuzz/rig.h"

static void look(struct prelux_alluxio_roster *r)
{
  struct prelux_alluxio_identity *ids = calloc(r->n + 1, sizeof *ids);
  struct prelux_alluxio_ring ring = {0};
  uint32_t out[8];
  size_t known = 0;
  for (size_t i = 0; i < r->n; i++)
  {
    FUZZ_CHECK(r->entries[i].host && r->entries[i].host[0] && r->entries[i].http_port < 65536);
    FUZZ_CHECK(!strpbrk(r->entries[i].host, " /\r\n@?#"));
    if (r->entries[i].identified)
      ids[known++] = r->entries[i].identity;
  }
  if (prelux_alluxio_ring_init(&ring, ids, known, 5) == 0)
  {
    size_t n = prelux_alluxio_ring_owners(&ring, "s3://data/x", 8, out);
    FUZZ_CHECK(n <= known && n <= 8);
    for (size_t i = 0; i < n; i++)
      for (size_t k = 0; k <= i; k++)
        FUZZ_CHECK(out[i] < known && (k == i || out[k] != out[i]));
    size_t owner = prelux_alluxio_ring_owner(&ring, "s3://data/x", 1);
    FUZZ_CHECK(owner == SIZE_MAX ? known == 0 : owner < known);
  }
  prelux_alluxio_ring_release(&ring);
  free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static atomic_bool stop;
  static char *places[] = {"http://e1:2379", "http://e2:2379"};
  const bool user = size && data[0] == 'U';
  const struct prelux_alluxio_options options = {.name = "b", .places = places, .n_places = 2, .cluster = "C", .http_port = 28080, .s3_port = 29998,
                                                 .etcd_user = user ? "u" : NULL, .etcd_password = user ? FUZZ_SECRET : NULL};
  struct prelux_alluxio_etcd e = {.options = &options, .net = fuzz_net(), .stop = &stop};
  size_t skip = size ? 1 : 0;
  fuzz_log();
  fuzz_answers(data + skip, size - skip);
  for (int round = 0; round < 2; round++)
  {
    struct prelux_alluxio_roster r = {0};
    struct prelux_problem why = {0};
    int rc = prelux_alluxio_etcd_fetch(&e, &r, &why);
    FUZZ_CHECK(rc == 0 || rc == -EIO || rc == -E2BIG);
    FUZZ_CHECK_TEXT(!fuzz_tells(why.text) && (rc == 0 || why.text[0]), why.text);
    if (rc == 0)
      look(&r);
    prelux_alluxio_roster_release(&r);
  }
  prelux_alluxio_etcd_release(&e);
  fuzz_log_check();
  return 0;
}
