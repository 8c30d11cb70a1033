/* What is counted of each mapping, by the name that programs see: it outlives tables, so that a configuration that was edited goes on counting.
 * Opens that programs answer by themselves from the index cost no daemon, and are not seen here. */
#ifndef PRELUX_DAEMON_MEASURE_H
#define PRELUX_DAEMON_MEASURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { PRELUX_MEASURE_OPS = 3 }; /* PRELUX_ASK_STAT, _OPEN, _LIST */
enum prelux_measure_result { PRELUX_MEASURE_HIT, PRELUX_MEASURE_MISS, PRELUX_MEASURE_ERROR, PRELUX_MEASURE_RESULTS };
#define PRELUX_MEASURE_TIMES 9u /* and one for longer ones */

extern const double prelux_measure_bounds[PRELUX_MEASURE_TIMES]; /* seconds */
extern const char *const prelux_measure_ops[PRELUX_MEASURE_OPS];
extern const char *const prelux_measure_results[PRELUX_MEASURE_RESULTS];

struct prelux_measure {
  struct prelux_measure *next, *chain; /* of all; of those with a hash like it */
  char *local;
  _Atomic uint64_t requests[PRELUX_MEASURE_OPS][PRELUX_MEASURE_RESULTS];
  _Atomic uint64_t times[PRELUX_MEASURE_OPS][PRELUX_MEASURE_TIMES + 1], sum_us[PRELUX_MEASURE_OPS];
  _Atomic uint64_t remote_bytes, remote_requests;
};

/* The one of this name, made when it is not there; never goes. NULL: no memory. Any thread. */
struct prelux_measure *prelux_measure_of(const char *local);
uint64_t prelux_measure_looks(void); /* how many others were compared on the way so far */
/* All of them, in no order. */
void prelux_measure_each(void (*fn)(const struct prelux_measure *m, void *arg), void *arg);
void prelux_measure_done(struct prelux_measure *m, int op, enum prelux_measure_result result, uint64_t ns); /* m may be NULL */

uint64_t prelux_measure_now(void); /* ns, monotonic */

/* Requests to remotes of the calling thread so far; and one more. */
uint64_t prelux_measure_asked(void);
void prelux_measure_ask(void);
/* Those of this thread since then, and what came by them, are for this mapping. m may be NULL. */
void prelux_measure_remote(struct prelux_measure *m, uint64_t asked_before, uint64_t bytes);

#endif
