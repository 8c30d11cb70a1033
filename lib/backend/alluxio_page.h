/* Pages of a worker's HTTP port, and the proof that the cluster's pages are as long as we think. */
#ifndef PRELUX_BACKEND_ALLUXIO_PAGE_H
#define PRELUX_BACKEND_ALLUXIO_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/backend/backend.h"

struct cJSON;
struct prelux_alluxio;
struct prelux_alluxio_name;
struct prelux_alluxio_part;
struct prelux_alluxio_pages; /* what is known of the page size; one per backend; thread-safe */
struct prelux_alluxio_round;
struct prelux_alluxio_worker;

#define PRELUX_ALLUXIO_SAMPLE 256u
#define PRELUX_ALLUXIO_PROOF_MS 300000 /* a proof is good for so long, and for one life of a worker */

int prelux_alluxio_pages_create(const char *backend, uint64_t configured, struct prelux_alluxio_pages **ret); /* backend: borrowed */
void prelux_alluxio_pages_free(struct prelux_alluxio_pages *p);
/* The size to work with: as configured, until another one is proven. */
uint64_t prelux_alluxio_page_size(struct prelux_alluxio_pages *p);
/* Have this worker's pages been proven to be of this size? */
bool prelux_alluxio_page_proven(struct prelux_alluxio_pages *p, const struct prelux_alluxio_worker *w, uint64_t size);
/* Pages are asked for where they have been found lately; a miss costs a connection. */
bool prelux_alluxio_page_worth(struct prelux_alluxio_pages *p);
void prelux_alluxio_page_found(struct prelux_alluxio_pages *p, bool hit);
/* Adds "pages": {size, configured, verdict: proven|unproven|larger|other, workers_proven}. */
void prelux_alluxio_pages_report(struct prelux_alluxio_pages *p, struct cJSON *into);

/* What is left of part within the page at part->pos (not beyond part->end). YES: all of it was passed on; FINAL: see *ret_rc;
 * SILENT: a miss, also for a page that is shorter than it must be; OTHER: the worker failed. */
int prelux_alluxio_page_get(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_worker *w,
                            const char *id, uint64_t page_size, struct prelux_alluxio_part *part, int *ret_rc,
                            struct prelux_problem *why); /* enum prelux_alluxio_word */

/* Some bytes of a read by the S3 port, to be held against pages. */
struct prelux_alluxio_sample {
  uint64_t at;
  unsigned len, have;
  unsigned char bytes[PRELUX_ALLUXIO_SAMPLE];
};
struct prelux_alluxio_proof {
  void *known; /* NULL: no proof is wanted */
  uint64_t page_size;
  struct prelux_alluxio_sample full; /* the end of a full page */
  struct prelux_alluxio_sample tail; /* the end of the object */
};
/* Before a read of [off, end) from w by its S3 port: is a proof wanted, and of what? */
void prelux_alluxio_proof_begin(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w, const struct prelux_object *expect,
                                uint64_t off, uint64_t end, struct prelux_alluxio_proof *p);
void prelux_alluxio_proof_taste(struct prelux_alluxio_proof *p, uint64_t off, const void *buf, size_t len);
/* After it: a few requests of some bytes. Never fails: what could not be proven stays unproven. id NULL: the read was no good for
 * it. Must follow each begin. */
void prelux_alluxio_proof_end(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                              const char *id, const struct prelux_object *expect, struct prelux_alluxio_proof *p);
/* After pages of this size have been read from w: has it been the size all the time? A few bytes are asked for, twice. */
bool prelux_alluxio_proof_stands(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                 const struct prelux_alluxio_worker *w, uint64_t size);

#endif
