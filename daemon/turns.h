/* Turns of a node's users (`preluxd --node`): requests of one of them hold so many threads at once, and the rest of his waits, so that what he asks of a
 * remote that is slow, or hangs, leaves the others theirs. Loop thread. */
#ifndef PRELUX_DAEMON_TURNS_H
#define PRELUX_DAEMON_TURNS_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/flight.h"

#define PRELUX_TURNS 12u     /* a quarter of what a backend may hold */
#define PRELUX_TURNS_CREW 6u /* what works with several threads, and then with no more than these */

struct prelux_turns {
  struct prelux_turns_of *users; /* of whom something is under way */
};

/* Sets f->turn_of and f->turns. False: it is queued, until prelux_turns_next() says that it is its turn. */
bool prelux_turns_begin(struct prelux_turns *t, uid_t uid, unsigned turns, struct prelux_flight *f);
/* f, which had its turn, is over; or f, which is queued, is to be no longer. After either prelux_turns_next() until there is none. */
void prelux_turns_end(struct prelux_turns *t, const struct prelux_flight *f);
void prelux_turns_leave(struct prelux_turns *t, struct prelux_flight *f);
/* His next one whose turn it is now. NULL: none. */
struct prelux_flight *prelux_turns_next(struct prelux_turns *t, uid_t uid);
/* With nothing queued. */
void prelux_turns_free(struct prelux_turns *t);

#endif
