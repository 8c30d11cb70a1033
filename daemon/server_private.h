/* What server.c and server_end.c share: all of the loop thread, but for what `lock` guards. */
#ifndef PRELUX_DAEMON_SERVER_PRIVATE_H
#define PRELUX_DAEMON_SERVER_PRIVATE_H

#include <event2/event.h>
#include <pthread.h>

#include "daemon/flight.h"
#include "daemon/server.h"
#include "daemon/turns.h"

enum prelux_phase { SERVING, STOPPING };

struct prelux_server {
  struct prelux_daemon *d;
  struct event_base *base;
  struct event *accept_event, *done_event, *signal_event, *tick, *stop_step;
  int listener, done_fd, signal_fd, meet_fd;
  bool accepting;
  enum prelux_phase phase;
  bool hidden; /* the socket's name is gone */
  bool homeless, clean;
  uint64_t stop_ms;     /* when STOPPING began */
  unsigned signo;       /* told by it to end; 0: nobody told */
  uint64_t drain_ms;    /* told to end by a signal: uploads may go on until then, and so do we; 0: nobody told */
  uint64_t active_ms;   /* last time somebody was here */
  uint64_t store_ms;    /* last housekeeping of the stores */
  bool housekeeping;    /* it runs */
  struct prelux_conn conns; /* list head */
  struct prelux_server_stats stats;
  struct prelux_flights flights;
  unsigned under_way; /* flights given to others */
  struct prelux_turns turns;
  unsigned max_clients;
  pthread_mutex_t lock; /* guards landed */
  struct prelux_flight *landed, **landed_end;
  uint64_t buffer[PRELUX_MSG_MAX / 8];
};

int prelux_server_accept(struct prelux_server *s); /* number of connections taken */

/* server_end.c */
void prelux_server_end_tick(struct prelux_server *s, uint64_t now);
void prelux_server_stop_step(struct prelux_server *s);
/* Told to end, perhaps while files wait to be sent: served and sent on, until all are or the grace is over; a second signal ends that. */
void prelux_server_drain(struct prelux_server *s, unsigned signo);

#endif
