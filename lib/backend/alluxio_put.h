/* Changes through a worker's S3 port (alluxio_put.c); errors as backend.h has them. */
#ifndef PRELUX_BACKEND_ALLUXIO_PUT_H
#define PRELUX_BACKEND_ALLUXIO_PUT_H

#include "lib/backend/alluxio.h"

#define PRELUX_ALLUXIO_PUT_MAX (8u << 20) /* longer ones may hang a worker and leave a cut file (PROTOCOLS 0.2) */

int prelux_alluxio_put_able(struct prelux_alluxio *x, struct prelux_able *ret, struct prelux_problem *why);
int prelux_alluxio_put(struct prelux_alluxio *x, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                       struct prelux_object *ret, struct prelux_problem *why);
int prelux_alluxio_put_remove(struct prelux_alluxio *x, const char *path, const struct prelux_condition *cond, struct prelux_problem *why);
int prelux_alluxio_put_mkdir(struct prelux_alluxio *x, const char *path, struct prelux_problem *why);
int prelux_alluxio_put_rmdir(struct prelux_alluxio *x, const char *path, struct prelux_problem *why);

#endif
