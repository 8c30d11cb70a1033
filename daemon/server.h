/* The loop: listener, connections, flights, timers, signals. One thread; others reach it by prelux_server_land only. */
#ifndef PRELUX_DAEMON_SERVER_H
#define PRELUX_DAEMON_SERVER_H

#include "daemon/conn.h"
#include "daemon/daemon.h"
#include "daemon/turns.h"

struct prelux_server;
struct event_base;

#define PRELUX_CONN_MAX 16384u /* or half of RLIMIT_NOFILE; more wait in the kernel's backlog */
#define PRELUX_GRACE_MS 5000u  /* what is under way when the daemon is told to end may go on for so long */

/* listener: a listening, non-blocking socket (taken). Makes d->pool. 0 or -errno. */
int prelux_server_create(struct prelux_daemon *d, int listener, struct prelux_server **ret);
/* Serves until told to end. True: nothing is under way any more and all can be taken down; false: work hangs, just
 * exit. */
bool prelux_server_run(struct prelux_server *s);
void prelux_server_free(struct prelux_server *s); /* after the pool */
/* Begins the end: the socket's name goes, what has come is served. Loop thread. */
void prelux_server_stop(struct prelux_server *s);

/* Hands a flight whose answer is made to the loop. Any thread. */
void prelux_server_land(struct prelux_server *s, struct prelux_flight *f);
/* Submits a new flight (key or not) that c waits for. Frees it and answers on failure. */
void prelux_server_launch(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f);
/* The same for what may ask a remote: of another user when it is his turn (turns.h). */
void prelux_server_launch_in_turn(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f, enum prelux_turn turn);
/* The same when the work is done by others, who call prelux_server_land. */
void prelux_server_launched(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f);
/* The last waiter of f has gone: when it waits for its turn it is freed. */
void prelux_server_left(struct prelux_server *s, struct prelux_flight *f);

struct prelux_daemon *prelux_server_daemon(struct prelux_server *s);
struct prelux_flights *prelux_server_flights(struct prelux_server *s);
struct event_base *prelux_server_base(struct prelux_server *s);
void *prelux_server_buffer(struct prelux_server *s); /* PRELUX_MSG_MAX bytes, for the message at hand */
void prelux_server_link(struct prelux_server *s, struct prelux_conn *c);
void prelux_server_unlink(struct prelux_server *s, struct prelux_conn *c);

void prelux_server_count(struct prelux_server *s); /* one request more */

struct prelux_server_stats {
  unsigned clients, sessions;
  uint64_t requests;
};
void prelux_server_stats(struct prelux_server *s, struct prelux_server_stats *ret); /* loop thread */

#endif
