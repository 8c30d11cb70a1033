/* Paths of which a cluster's metadata were found to be old: passed over for a time. Shared by `alluxio` and `alluxio-ee`. */
#ifndef PRELUX_BACKEND_ALLUXIO_DOUBT_H
#define PRELUX_BACKEND_ALLUXIO_DOUBT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PRELUX_ALLUXIO_DOUBTS 256 /* paths remembered */

/* Zeroed, then initialised. */
struct prelux_alluxio_doubts {
  pthread_mutex_t lock; /* guards rows */
  atomic_bool any, told;
  atomic_llong rest_until_ms; /* the under store could not be asked: left alone until then */
  struct {
    uint64_t hash;
    int64_t until_ms;
  } rows[PRELUX_ALLUXIO_DOUBTS];
};
void prelux_alluxio_doubts_init(struct prelux_alluxio_doubts *d);
void prelux_alluxio_doubts_release(struct prelux_alluxio_doubts *d);
bool prelux_alluxio_doubts_has(struct prelux_alluxio_doubts *d, const char *path);
void prelux_alluxio_doubts_add(struct prelux_alluxio_doubts *d, const char *path);
/* As add; the first time a line in the log about the backend of that name says why. */
void prelux_alluxio_doubts_tell(struct prelux_alluxio_doubts *d, const char *path, const char *backend);
bool prelux_alluxio_doubts_rests(const struct prelux_alluxio_doubts *d);
void prelux_alluxio_doubts_rest(struct prelux_alluxio_doubts *d);

#endif
