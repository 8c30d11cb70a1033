/* One read of backend `alluxio`, shared by its threads. */
#ifndef PRELUX_BACKEND_ALLUXIO_READ_H
#define PRELUX_BACKEND_ALLUXIO_READ_H

#include "lib/backend/alluxio.h"

struct prelux_alluxio_reading {
  struct prelux_parallel_job job; /* first */
  struct prelux_alluxio *x;
  const struct prelux_alluxio_name *name;
  const struct prelux_object *expect;
  char id[PRELUX_ALLUXIO_ID_SIZE];
  uint64_t page_size; /* the same for the whole read */
  atomic_bool pages;      /* ask for pages */
  atomic_bool stop;       /* somebody has failed: the others need not go on */
  atomic_bool some;       /* a range has brought bytes */
  atomic_bool unverified; /* bytes have come that only a later look can vouch for */
  atomic_bool strayed;    /* not all came from the owner's S3 port */
  pthread_mutex_t prime_lock;
  uint64_t primed; /* under it: pages loaded by their last byte, up to this number */
  char paged_by[320]; /* under it: the address whose pages are used */
  atomic_bool paged;  /* pages have brought bytes */
  /* The calling thread's: */
  struct prelux_alluxio_proof proof;
  prelux_read_fn sink;
  void *arg;
  uint64_t got;
  bool refused; /* the sink said no */
};

#endif
