#include "lib/backend/alluxio_ring.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/murmur3.h"

#define KEY_MAX 8192 /* longer paths are hashed from the heap */

static void put_le32(uint8_t *out, int32_t value)
{
  for (int i = 0; i < 4; i++)
    out[i] = (uint8_t)((uint32_t)value >> 8 * i);
}

static int by_hash(const void *a, const void *b)
{
  const struct prelux_alluxio_point *x = a, *y = b;
  if (x->hash != y->hash)
    return x->hash < y->hash ? -1 : 1;
  return (x->worker > y->worker) - (x->worker < y->worker);
}

int prelux_alluxio_ring_init(struct prelux_alluxio_ring *r, const struct prelux_alluxio_identity *workers, size_t n, unsigned virtual_nodes)
{
  *r = (struct prelux_alluxio_ring){.n_workers = n};
  if (n == 0 || virtual_nodes == 0)
    return 0;
  r->points = calloc(n, virtual_nodes * sizeof *r->points);
  if (!r->points)
    return -ENOMEM;
  for (size_t w = 0; w < n; w++)
  {
    uint8_t text[sizeof workers->bytes + 8];
    const size_t len = workers[w].len;
    memcpy(text, workers[w].bytes, len);
    put_le32(text + len, workers[w].version);
    for (unsigned i = 0; i < virtual_nodes; i++)
    {
      put_le32(text + len + 4, (int32_t)i);
      r->points[r->n_points++] =
          (struct prelux_alluxio_point){.hash = (int32_t)prelux_murmur3_32(text, len + 8, 0), .worker = (uint32_t)w};
    }
  }
  qsort(r->points, r->n_points, sizeof *r->points, by_hash);
  /* Two workers on one point: Alluxio's depends on the order of a set. Any choice will do that is always the same. */
  size_t kept = 0;
  for (size_t i = 0; i < r->n_points; i++)
    if (kept == 0 || r->points[kept - 1].hash != r->points[i].hash)
      r->points[kept++] = r->points[i];
  r->n_points = kept;
  return 0;
}

void prelux_alluxio_ring_release(struct prelux_alluxio_ring *r)
{
  free(r->points);
  *r = (struct prelux_alluxio_ring){0};
}

int32_t prelux_alluxio_ring_key(const char *ufs_path, int32_t attempt)
{
  uint8_t small[KEY_MAX];
  size_t len = strlen(ufs_path);
  uint8_t *text = len + 4 <= sizeof small ? small : malloc(len + 4);
  if (!text) /* no owner is wrong, only slower */
    return 0;
  memcpy(text, ufs_path, len);
  put_le32(text + len, attempt);
  int32_t key = (int32_t)prelux_murmur3_32(text, len + 4, 0);
  if (text != small)
    free(text);
  return key;
}

/* Index of the smallest point >= key, wrapped around. There is a point. */
static size_t ceiling(const struct prelux_alluxio_ring *r, int32_t key)
{
  size_t low = 0, high = r->n_points;
  while (low < high)
  {
    size_t middle = low + (high - low) / 2;
    if (r->points[middle].hash < key)
      low = middle + 1;
    else
      high = middle;
  }
  return low == r->n_points ? 0 : low;
}

size_t prelux_alluxio_ring_owner(const struct prelux_alluxio_ring *r, const char *ufs_path, int32_t attempt)
{
  if (r->n_points == 0)
    return SIZE_MAX;
  return r->points[ceiling(r, prelux_alluxio_ring_key(ufs_path, attempt))].worker;
}

static size_t add_new(uint32_t *out, size_t n, uint32_t worker)
{
  for (size_t i = 0; i < n; i++)
    if (out[i] == worker)
      return n;
  out[n] = worker;
  return n + 1;
}

size_t prelux_alluxio_ring_owners(const struct prelux_alluxio_ring *r, const char *ufs_path, size_t max, uint32_t *out)
{
  size_t n = 0;
  if (max > r->n_workers)
    max = r->n_workers;
  if (r->n_points == 0)
    return 0;
  for (int32_t attempt = 1; n < max && attempt <= PRELUX_ALLUXIO_ATTEMPTS; attempt++)
    n = add_new(out, n, r->points[ceiling(r, prelux_alluxio_ring_key(ufs_path, attempt))].worker);
  if (n == max)
    return n;
  size_t from = ceiling(r, prelux_alluxio_ring_key(ufs_path, 1));
  for (size_t i = 0; n < max && i < r->n_points; i++)
    n = add_new(out, n, r->points[(from + i) % r->n_points].worker);
  return n; /* a worker all of whose points are others' is none */
}

static int nibble(char c)
{
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int prelux_alluxio_identity_parse(const char *text, int32_t version, struct prelux_alluxio_identity *ret)
{
  struct prelux_alluxio_identity id = {.version = version, .len = version == 0 ? 8 : 16};
  size_t n = 0;
  if (version != 0 && version != 1)
    return -EINVAL;
  for (; *text; text++)
  {
    if (*text == '-' && version == 1)
      continue;
    int high = nibble(text[0]), low = high < 0 ? -1 : nibble(text[1]);
    if (low < 0 || n == id.len)
      return -EINVAL;
    id.bytes[n++] = (uint8_t)(high << 4 | low);
    text++;
  }
  if (n != id.len)
    return -EINVAL;
  *ret = id;
  return 0;
}

int prelux_alluxio_identity_of_host(const char *host, struct prelux_alluxio_identity *ret)
{
  struct prelux_alluxio_identity id = {.version = 1, .len = 16};
  unsigned len = 0;
  if (EVP_Digest(host, strlen(host), id.bytes, &len, EVP_md5(), NULL) != 1 || len != 16)
    return -EIO;
  id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x30);
  id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
  *ret = id;
  return 0;
}
