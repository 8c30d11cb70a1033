/* Paths of which a cluster's metadata were found to be old: passed over for a time. Shared by `alluxio` and `alluxio-ee`. */
#ifndef PRELUX_BACKEND_ALLUXIO_DOUBT_H
#define PRELUX_BACKEND_ALLUXIO_DOUBT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zeroed, then initialised. */
struct prelux_alluxio_doubts {
  atomic_bool told;
  atomic_llong rest_until_ms; /* the under store could not be asked: left alone until then */
  atomic_llong all_until_ms;  /* there was no memory: every path is passed over until then */
  /* By hash of the path: until when it is passed over. Two paths may share one, so some are passed over with others; none is forgotten before its
   * time, however many there are. NULL: none yet. */
  _Atomic(atomic_llong *) until_ms;
};
void prelux_alluxio_doubts_init(struct prelux_alluxio_doubts *d);
void prelux_alluxio_doubts_release(struct prelux_alluxio_doubts *d);
bool prelux_alluxio_doubts_has(struct prelux_alluxio_doubts *d, const char *path);
void prelux_alluxio_doubts_add(struct prelux_alluxio_doubts *d, const char *path);
/* Since it was added; INT64_MAX: never. */
int64_t prelux_alluxio_doubts_age_ms(struct prelux_alluxio_doubts *d, const char *path);
/* As add; the first time a line in the log about the backend of that name says why. */
void prelux_alluxio_doubts_tell(struct prelux_alluxio_doubts *d, const char *path, const char *backend);
bool prelux_alluxio_doubts_rests(const struct prelux_alluxio_doubts *d);
void prelux_alluxio_doubts_rest(struct prelux_alluxio_doubts *d);

#endif
