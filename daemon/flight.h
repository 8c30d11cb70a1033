/* Single flight: equal questions asked at the same time are worked on once, and all who asked get the answer. A flight
 * belongs to the loop thread; a pool thread has it only while its work() runs. */
#ifndef PRELUX_DAEMON_FLIGHT_H
#define PRELUX_DAEMON_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/answer.h"
#include "daemon/pool.h"

struct prelux_flight;

/* Somebody who waits for a flight; part of a connection. */
struct prelux_waiter {
  struct prelux_waiter *next, *prev;
  struct prelux_flight *flight; /* NULL: waits for nothing */
};

struct prelux_flight {
  struct prelux_job job;
  void (*work)(struct prelux_flight *f); /* pool thread: fills `answer` */
  void (*drop)(struct prelux_flight *f); /* frees what `arg` holds; may be NULL */
  /* Loop thread, while it is under way: what a PROGRESS frame says; nothing: "". May be NULL */
  void (*tell)(struct prelux_flight *f, char *text, size_t cap);
  /* Loop thread, behind work(), while somebody waits: goes on with it. False: others do, who call prelux_server_land() (perhaps already). May be NULL */
  bool (*then)(struct prelux_flight *f);
  void *arg;
  struct prelux_answer answer;
  atomic_bool started;   /* work() runs or ran */
  atomic_bool abandoned; /* nobody waits any more */
  int direct;          /* a descriptor of the only waiter's connection, -1: none: the pool thread answers, the loop only clears up */
  uint32_t serial;     /* of his request */
  bool answered;       /* so it did */
  bool asked;          /* by a request: leases end before it is worked on (gate.h) */
  bool looks;          /* it changes no name */
  bool object;         /* it is about an object: it must see all that was made before */
  bool keeps;          /* the lease that it is about goes on */
  uint64_t number;     /* of the request, from gate.h */
  struct prelux_waiter waiters; /* list head */
  unsigned n_waiters;
  void *home;                         /* the server */
  struct prelux_flight *chain_landed; /* the server's list of finished ones, or its user's of those that wait (turns.h) */
  unsigned turn; /* of that user's, of this kind (turns.h), it holds one, or waits for it; 0: none */
  uid_t turn_of;
  bool queued; /* it waits */
  struct prelux_flight *chain; /* hash chain */
  uint64_t hash;
  size_t key_len;
  unsigned char key[]; /* 0 bytes: never joined */
};

#define PRELUX_FLIGHT_BUCKETS 1024u
struct prelux_flights {
  struct prelux_flight *buckets[PRELUX_FLIGHT_BUCKETS];
  unsigned count;
};

/* NULL: no memory. Not yet in the table. */
struct prelux_flight *prelux_flight_new(const void *key, size_t key_len);
/* A flight with this key that is under way. fresh: only one whose work has not begun, for askers who must not get an
 * answer older than their question. NULL: none. */
struct prelux_flight *prelux_flights_find(struct prelux_flights *all, const void *key, size_t key_len, bool fresh);
/* Makes it findable, ahead of an older one with the same key. */
void prelux_flights_add(struct prelux_flights *all, struct prelux_flight *f);
/* No more joins: called before its answer is handed out. */
void prelux_flights_land(struct prelux_flights *all, struct prelux_flight *f);
/* With no waiters left. NULL is allowed. */
void prelux_flight_free(struct prelux_flight *f);

void prelux_flight_join(struct prelux_flight *f, struct prelux_waiter *w);
/* The waiter goes away; work under way goes on. */
void prelux_flight_leave(struct prelux_waiter *w);

#endif
