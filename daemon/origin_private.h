/* Inside of origin.c (instances) and switch.c. */
#ifndef PRELUX_DAEMON_ORIGIN_PRIVATE_H
#define PRELUX_DAEMON_ORIGIN_PRIVATE_H

#include <pthread.h>

#include "daemon/origin.h"
#include "lib/net/net.h"

struct prelux_instance {
  struct prelux_origins *origins;
  struct prelux_instance *next;
  struct prelux_backend *backend;
  struct prelux_net *share; /* `max_connections`; NULL: there is no limit of its own */
  unsigned char digest[32]; /* of its configuration, secrets included: tells equal ones, stays in memory */
  char *identity;
  uint32_t number;
  unsigned refs; /* guarded by origins->lock */
};

struct prelux_origins {
  pthread_mutex_t lock;
  struct prelux_instance *instances;
  struct prelux_net *net;
  const struct prelux_backend_ops *(*find)(const char *type);
  uint32_t numbers;
};

#endif
