/* Lanes of the pool: jobs of one lane may all hang for one reason, and then hold its share of the threads and no more. */
#ifndef PRELUX_DAEMON_LANES_H
#define PRELUX_DAEMON_LANES_H

#include <stdint.h>

#define PRELUX_LANES 64u

enum prelux_lane {
  PRELUX_LANE_HOUSE = 0,    /* what is in no other: housekeeping, retries */
  PRELUX_LANE_BACKENDS = 1, /* from here on requests of programs, by backend: prelux_lane_of() */
  PRELUX_LANE_REGISTER = 57,
  PRELUX_LANE_VERBS,        /* of the command: those that ask a remote may hang */
  PRELUX_LANE_ADVICE,       /* nobody waits for it */
  PRELUX_LANE_WATCH,        /* files that were closed */
  PRELUX_LANE_SENDER,       /* uploads in the background never take the threads that programs wait for */
  PRELUX_LANE_CREW,         /* reading ahead, verify, doctor */
  PRELUX_LANE_PREFETCH,
};

/* Of a backend's instance: numbers only grow, and later ones share a lane with each other, never with what is named above. */
static inline uint32_t prelux_lane_of(uint32_t instance)
{
  return PRELUX_LANE_BACKENDS + (instance ? instance - 1 : 0) % (PRELUX_LANE_REGISTER - PRELUX_LANE_BACKENDS);
}

#endif
