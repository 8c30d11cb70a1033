/* Alluxio's hash ring against the vectors of real clusters and of Alluxio's own golden files (PROTOCOLS 2D.3). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/backend/alluxio_ring.h"
#include "lib/backend/murmur3.h"

static void murmur_vectors(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    int32_t hash;
  } vectors[] = {
      {"", 0},
      {"a", 1009084850},
      {"ab", -1681926305},
      {"abc", -1277324294},
      {"abcd", 1139631978},
      {"hello, world", 345750399},
      {"\xc3\xa9\xf0\x9d\x84\x9e", -612386355},
  };
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
    assert_int_equal((int32_t)prelux_murmur3_32(vectors[i].text, strlen(vectors[i].text), 0), vectors[i].hash);
  uint8_t all[256];
  for (int i = 0; i < 256; i++)
    all[i] = (uint8_t)i;
  assert_int_equal((int32_t)prelux_murmur3_32(all, sizeof all, 0), -469103018);
}

static void key_vectors(void **state)
{
  (void)state;
  assert_int_equal(prelux_alluxio_ring_key("s3://bucket/a.txt", 1), -560135248);
  assert_int_equal(prelux_alluxio_ring_key("s3://bucket/a.txt", 2), -847578369);
  assert_int_equal(prelux_alluxio_ring_key("file:///data/x", 1), -249968202);
  assert_int_equal(prelux_alluxio_ring_key("/tmp/underFSStorage/x", 1), 1871248360);
}

/* A path too long for the stack is the same hash as in one piece. */
static void long_keys(void **state)
{
  (void)state;
  enum { LONG = 20000 };
  char *path = malloc(LONG + 5);
  assert_non_null(path);
  memset(path, 'x', LONG);
  path[LONG] = 0;
  int32_t key = prelux_alluxio_ring_key(path, 0x04030201);
  memcpy(path + LONG, "\1\2\3\4", 4);
  assert_int_equal(key, (int32_t)prelux_murmur3_32(path, LONG + 4, 0));
  free(path);
}

static struct prelux_alluxio_identity of_host(const char *host)
{
  struct prelux_alluxio_identity id;
  assert_int_equal(prelux_alluxio_identity_of_host(host, &id), 0);
  return id;
}

static int ascending(const void *a, const void *b)
{
  const int32_t *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

/* The points of a ring of one worker, sorted, are these. */
static void check_points(const struct prelux_alluxio_identity *id, const int32_t *points, size_t n)
{
  struct prelux_alluxio_ring r;
  int32_t sorted[16];
  assert_int_equal(prelux_alluxio_ring_init(&r, id, 1, (unsigned)n), 0);
  assert_int_equal(r.n_points, n);
  memcpy(sorted, points, n * sizeof *points);
  qsort(sorted, n, sizeof *sorted, ascending);
  for (size_t i = 0; i < n; i++)
    assert_int_equal(r.points[i].hash, sorted[i]);
  prelux_alluxio_ring_release(&r);
}

static void host_vectors(void **state)
{
  (void)state;
  static const struct {
    const char *host, *identity;
    int32_t points[5];
  } vectors[] = {
      {"localhost", "421aa90e079f3326b6494f812ad13e79", {-1774348271, -2076976842, -1716151406, 337351572, -1552272562}},
      {"worker1", "ebad64149cc737baa6ef069819279fd5", {1582892386, 138868292, 741530990, -680699647, 657120561}},
      {"worker2", "01925b7892e23a198993afdd20a7c761", {-36601180, -1025292451, 1946073326, 327488655, 739076151}},
  };
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
  {
    struct prelux_alluxio_identity id = of_host(vectors[i].host), parsed;
    assert_int_equal(prelux_alluxio_identity_parse(vectors[i].identity, 1, &parsed), 0);
    assert_memory_equal(id.bytes, parsed.bytes, 16);
    check_points(&id, vectors[i].points, 5);
  }
}

static void old_identity(void **state)
{
  (void)state;
  static const int32_t points[] = {1358759969, -1136818933};
  struct prelux_alluxio_identity id;
  assert_int_equal(prelux_alluxio_identity_parse("0000011f71fb04cb", 0, &id), 0);
  check_points(&id, points, 2);
}

static void identities(void **state)
{
  (void)state;
  struct prelux_alluxio_identity a, b;
  assert_int_equal(prelux_alluxio_identity_parse("11111111-1111-4111-8111-111111111111", 1, &a), 0);
  assert_int_equal(prelux_alluxio_identity_parse("11111111111141118111111111111111", 1, &b), 0);
  assert_memory_equal(&a, &b, sizeof a);
  assert_int_equal(prelux_alluxio_identity_parse("1111111111114111811111111111111", 1, &a), -EINVAL);
  assert_int_equal(prelux_alluxio_identity_parse("111111111111411181111111111111111", 1, &a), -EINVAL);
  assert_int_equal(prelux_alluxio_identity_parse("1111111111114111811111111111111g", 1, &a), -EINVAL);
  assert_int_equal(prelux_alluxio_identity_parse("11111111111141118111111111111111", 0, &a), -EINVAL);
  assert_int_equal(prelux_alluxio_identity_parse("11111111111141118111111111111111", 2, &a), -EINVAL);
  assert_int_equal(prelux_alluxio_identity_parse("", 1, &a), -EINVAL);
}

static void owner_vectors(void **state)
{
  (void)state;
  struct prelux_alluxio_identity ids[] = {of_host("worker1"), of_host("worker2")};
  static const struct {
    const char *path;
    int owners[3];
  } vectors[] = {
      {"s3://bucket/a.txt", {2, 1, 2}},
      {"s3://bucket/b.txt", {1, 2, 1}},
      {"s3://bucket/c.txt", {2, 1, 1}},
      {"file:///data/x", {2, 2, 2}},
  };
  struct prelux_alluxio_ring r;
  assert_int_equal(prelux_alluxio_ring_init(&r, ids, 2, 5), 0);
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
  {
    uint32_t order[4] = {9, 9, 9, 9};
    for (int a = 0; a < 3; a++)
      assert_int_equal(prelux_alluxio_ring_owner(&r, vectors[i].path, a + 1) + 1, vectors[i].owners[a]);
    assert_int_equal(prelux_alluxio_ring_owners(&r, vectors[i].path, 4, order), 2);
    assert_int_equal(order[0] + 1, vectors[i].owners[0]);
    assert_int_equal(order[0] + order[1], 1);
    assert_int_equal(order[2], 9);
    assert_int_equal(prelux_alluxio_ring_owners(&r, vectors[i].path, 1, order), 1);
  }
  prelux_alluxio_ring_release(&r);
}

/* Where a real cluster of two redirected to (tests/data: alluxio-313-wire.jsonl). */
static void recorded(void **state)
{
  (void)state;
  struct prelux_alluxio_identity ids[2];
  struct prelux_alluxio_ring r;
  assert_int_equal(prelux_alluxio_identity_parse("11111111111141118111111111111111", 1, &ids[0]), 0);
  assert_int_equal(prelux_alluxio_identity_parse("22222222222242228222222222222222", 1, &ids[1]), 0);
  assert_int_equal(prelux_alluxio_ring_init(&r, ids, 2, 5), 0);
  assert_int_equal(prelux_alluxio_ring_owner(&r, "file:///tmp/ufs/b/big.bin", 1), 1);
  assert_int_equal(prelux_alluxio_ring_owner(&r, "file:///tmp/ufs/b/a.txt", 1), 1);
  assert_int_equal(prelux_alluxio_ring_owner(&r, "file:///tmp/ufs/b/new.txt", 1), 0);
  prelux_alluxio_ring_release(&r);
}

/* A key that equals a point belongs to it (Java's ceiling; Python's bisect_right differs). One above the last wraps. */
static void edges(void **state)
{
  (void)state;
  struct prelux_alluxio_point points[3] = {{.worker = 0}, {.worker = 1}, {.worker = 2}};
  struct prelux_alluxio_ring r = {.points = points, .n_points = 3, .n_workers = 3};
  int32_t key = prelux_alluxio_ring_key("s3://bucket/a.txt", 1);
  points[0].hash = INT32_MIN;
  points[1].hash = key;
  points[2].hash = INT32_MAX;
  assert_int_equal(prelux_alluxio_ring_owner(&r, "s3://bucket/a.txt", 1), 1);
  points[1].hash = key - 1;
  assert_int_equal(prelux_alluxio_ring_owner(&r, "s3://bucket/a.txt", 1), 2);
  points[2].hash = key - 1;
  points[1].hash = key - 2;
  assert_int_equal(prelux_alluxio_ring_owner(&r, "s3://bucket/a.txt", 1), 0);
}

/* A cluster of 305 to 309: 2000 points each; more workers than 100 attempts name. */
static void many(void **state)
{
  (void)state;
  enum { WORKERS = 300, POINTS = 2000 };
  struct prelux_alluxio_identity *ids = calloc(WORKERS, sizeof *ids);
  uint32_t owners[WORKERS], seen[WORKERS] = {0}, share[WORKERS] = {0};
  struct prelux_alluxio_ring r;
  char name[64];
  assert_non_null(ids);
  for (int i = 0; i < WORKERS; i++)
  {
    snprintf(name, sizeof name, "worker%d", i);
    ids[i] = of_host(name);
  }
  assert_int_equal(prelux_alluxio_ring_init(&r, ids, WORKERS, POINTS), 0);
  for (size_t i = 1; i < r.n_points; i++)
    assert_true(r.points[i - 1].hash < r.points[i].hash);
  assert_int_equal(prelux_alluxio_ring_owners(&r, "s3://bucket/a.txt", WORKERS, owners), WORKERS);
  for (int i = 0; i < WORKERS; i++)
    assert_int_equal(seen[owners[i]]++, 0);
  for (int i = 0; i < 30000; i++)
  {
    snprintf(name, sizeof name, "s3://bucket/%d", i);
    share[prelux_alluxio_ring_owner(&r, name, 1)]++;
  }
  for (int i = 0; i < WORKERS; i++)
    assert_in_range(share[i], 50, 160);
  prelux_alluxio_ring_release(&r);
  free(ids);
}

static void nobody(void **state)
{
  (void)state;
  struct prelux_alluxio_ring r;
  uint32_t out[1];
  assert_int_equal(prelux_alluxio_ring_init(&r, NULL, 0, 5), 0);
  assert_true(prelux_alluxio_ring_owner(&r, "x", 1) == SIZE_MAX);
  assert_int_equal(prelux_alluxio_ring_owners(&r, "x", 1, out), 0);
  prelux_alluxio_ring_release(&r);
}

/* Two of one identity: still an order, and no worker twice. */
static void doubles(void **state)
{
  (void)state;
  struct prelux_alluxio_identity ids[] = {of_host("worker1"), of_host("worker1"), of_host("worker2")};
  struct prelux_alluxio_ring r;
  uint32_t out[3];
  assert_int_equal(prelux_alluxio_ring_init(&r, ids, 3, 5), 0);
  assert_int_equal(r.n_points, 10);
  assert_int_equal(prelux_alluxio_ring_owners(&r, "s3://bucket/a.txt", 3, out), 2);
  assert_int_equal(out[0], 2);
  assert_int_equal(out[1], 0);
  prelux_alluxio_ring_release(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(murmur_vectors), cmocka_unit_test(key_vectors),  cmocka_unit_test(long_keys), cmocka_unit_test(host_vectors),
      cmocka_unit_test(old_identity),   cmocka_unit_test(identities),   cmocka_unit_test(owner_vectors), cmocka_unit_test(recorded), cmocka_unit_test(edges),
      cmocka_unit_test(many),           cmocka_unit_test(nobody),       cmocka_unit_test(doubles),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
