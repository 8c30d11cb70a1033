/* Alluxio's consistent hash ring (PROTOCOLS 2D.3: 305 to 313; 5 or 2000 points a worker). Pure.
 *
 *   H(b)   = murmur3_x86_32(b, seed 0) as signed int32
 *   point  = H(identifier, int32le(version), int32le(i)), i = 0 .. virtual_nodes - 1
 *   key(k) = H(full UFS path, int32le(attempt)), attempt from 1
 *   owner  = that of the smallest point >= key (signed), else of the smallest of all
 */
#ifndef PRELUX_BACKEND_ALLUXIO_RING_H
#define PRELUX_BACKEND_ALLUXIO_RING_H

#include <stddef.h>
#include <stdint.h>

#define PRELUX_ALLUXIO_ATTEMPTS 100 /* Alluxio's own bound */

/* Identity of a worker: version 1 is a UUID of 16 bytes, version 0 a big-endian long of 8. */
struct prelux_alluxio_identity {
  uint8_t bytes[16];
  uint32_t len; /* 8 or 16; no member leaves a gap: identities are compared as bytes */
  int32_t version;
};

struct prelux_alluxio_point {
  int32_t hash;
  uint32_t worker; /* index of the identity it was made of */
};

struct prelux_alluxio_ring {
  struct prelux_alluxio_point *points; /* sorted by hash, each hash once */
  size_t n_points;
  size_t n_workers;
};

/* 0 or -ENOMEM. No workers: a ring without owners. Release it in any case. */
int prelux_alluxio_ring_init(struct prelux_alluxio_ring *r, const struct prelux_alluxio_identity *workers, size_t n, unsigned virtual_nodes);
void prelux_alluxio_ring_release(struct prelux_alluxio_ring *r);

int32_t prelux_alluxio_ring_key(const char *ufs_path, int32_t attempt);
/* The index of the worker that one attempt names; SIZE_MAX: there is none. */
size_t prelux_alluxio_ring_owner(const struct prelux_alluxio_ring *r, const char *ufs_path, int32_t attempt);
/* Distinct workers, the owner first, then as Alluxio's getMultiple gives them; what its 100 attempts do not name follows in
 * the order of the points. How many were put into out: the smaller of max and n_workers. */
size_t prelux_alluxio_ring_owners(const struct prelux_alluxio_ring *r, const char *ufs_path, size_t max, uint32_t *out);

/* "11111111-1111-..." or 32 (version 1) or 16 (version 0) hex digits. 0 or -EINVAL. */
int prelux_alluxio_identity_parse(const char *text, int32_t version, struct prelux_alluxio_identity *ret);
/* What a fixed list of workers gives each host: a UUID made of the MD5 of its name (Java's nameUUIDFromBytes). 0 or -EIO. */
int prelux_alluxio_identity_of_host(const char *host, struct prelux_alluxio_identity *ret);

#endif
