/* A connection: one request, or a session. Loop thread only.
 *
 *   READING  accepted, its message is awaited       -> WAITING, SESSION, WRITING or closed after PRELUX_READ_MS
 *   WAITING  joined to a flight; gets progress      -> WRITING or closed when it lands; closed when the client leaves,
 *            but for what nobody can join (prelux_conn_direct): once begun that is done all the same
 *   WRITING  the reply did not fit into the socket  -> closed when sent, or after PRELUX_WRITE_MS
 *   SESSION  stays until the client leaves */
#ifndef PRELUX_DAEMON_CONN_H
#define PRELUX_DAEMON_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/answer.h"
#include "daemon/flight.h"
#include "daemon/peer.h"
#include "daemon/tables.h"

#define PRELUX_READ_MS 10000u
#define PRELUX_WRITE_MS 60000u

enum prelux_conn_state { PRELUX_CONN_READING, PRELUX_CONN_WAITING, PRELUX_CONN_WRITING, PRELUX_CONN_SESSION };

struct prelux_server;

struct prelux_conn {
  struct prelux_conn *next, *prev; /* the server's list */
  struct prelux_server *server;
  struct event event;
  bool watched; /* event is in use */
  int fd;
  enum prelux_conn_state state;
  uint64_t since_ms; /* when it came into this state */
  uint32_t serial;   /* of its request */
  struct prelux_peer *peer; /* somebody else than the daemon's own user and root (node.h); NULL: no */
  struct prelux_waiter waiter;
  struct prelux_live_table *session;
  void *out; /* WRITING: the reply */
  size_t out_len;
  int out_fd;
};

/* Takes fd and peer, and a message that lies there already: who was accepted first is heard first. */
void prelux_conn_new(struct prelux_server *s, int fd, struct prelux_peer *peer);
void prelux_conn_close(struct prelux_conn *c);
/* Sends the reply (last: the answer's fd may be given away) and closes, or keeps it to send later. */
void prelux_conn_answer(struct prelux_conn *c, struct prelux_answer *a, bool last);
/* Before prelux_conn_wait() of a flight that nobody can join: its pool thread answers by prelux_conn_answer_direct(), which spares who waits the way
 * over the loop. Whatever keeps it from that, the loop answers. */
void prelux_conn_direct(struct prelux_conn *c, struct prelux_flight *f);
void prelux_conn_answer_direct(struct prelux_flight *f); /* pool thread, once the answer is made */
/* Descriptors that were passed so before are not open here any more. Not on the loop. */
void prelux_conn_passed(void);
void prelux_conn_wait(struct prelux_conn *c, struct prelux_flight *f);
/* Has the client closed his end of this descriptor? -1: not known, false. Any thread. */
bool prelux_conn_left(int fd);
void prelux_conn_session(struct prelux_conn *c, struct prelux_live_table *t); /* takes t; answers 0 */
/* Each second: progress, time-outs. May close c. */
void prelux_conn_tick(struct prelux_conn *c, uint64_t now_ms);

static inline struct prelux_conn *prelux_conn_of(struct prelux_waiter *w)
{
  return (struct prelux_conn *)((char *)w - offsetof(struct prelux_conn, waiter));
}

#endif
