/* Turns of a node's users (`preluxd --node`): of one of them so much is worked on at once, and the rest of his waits, so that what he asks of a remote
 * that is slow, or hangs, leaves the others threads. What takes long by nature takes no turn of what programs wait for. Loop thread. */
#ifndef PRELUX_DAEMON_TURNS_H
#define PRELUX_DAEMON_TURNS_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/flight.h"

enum prelux_turn {
  PRELUX_TURN_NONE,
  PRELUX_TURN_ONE,  /* holds a thread */
  PRELUX_TURN_CREW, /* works with PRELUX_TURNS_CREW of them at most */
  PRELUX_TURN_KINDS,
};

#define PRELUX_TURNS 12u /* a quarter of what a lane may hold; of crews: threads */
#define PRELUX_TURNS_CREW 6u

struct prelux_turns {
  struct prelux_turns_of *users; /* of whom something is under way */
};

/* Sets f->turn_of and f->turn. False: it is queued, until prelux_turns_end() says that it is its turn. */
bool prelux_turns_begin(struct prelux_turns *t, uid_t uid, enum prelux_turn turn, struct prelux_flight *f);
/* f, which had its turn, is over. Whose turn it is now; NULL: nobody's. */
struct prelux_flight *prelux_turns_end(struct prelux_turns *t, const struct prelux_flight *f);
/* f, which is queued, is to be no longer. */
void prelux_turns_leave(struct prelux_turns *t, struct prelux_flight *f);
/* With nothing queued. */
void prelux_turns_free(struct prelux_turns *t);

#endif
