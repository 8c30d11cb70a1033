#ifndef PRELUX_DAEMON_CLOCK_H
#define PRELUX_DAEMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t prelux_clock_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
