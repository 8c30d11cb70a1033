/* What the parts of one preluxd share. Made in main.c (or a test) in the order of its members, taken down in
 * reverse. */
#ifndef PRELUX_DAEMON_DAEMON_H
#define PRELUX_DAEMON_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/bound.h"
#include "daemon/logfile.h"
#include "daemon/origin.h"
#include "daemon/pool.h"
#include "daemon/stores.h"
#include "daemon/tables.h"

#define PRELUX_IDLE_SECONDS 600u

struct prelux_ahead;
struct prelux_node;
struct prelux_server;
struct prelux_index_writer;
struct prelux_watch;

struct prelux_daemon {
  char *runtime;     /* absolute path of the runtime folder */
  char *tables_dir;  /* RUNTIME/tables */
  char *exe;         /* path of this program, for tables */
  int runtime_fd;    /* O_PATH */
  int lock_fd;       /* RUNTIME/daemon.lock */
  bool activated;    /* the socket is a service manager's: it keeps its name when we end */
  unsigned idle_s;   /* --idle, 0: as configurations say */
  struct prelux_node *node; /* it serves several users; NULL: its own alone */
  uint64_t started_ms;
  unsigned char key[PRELUX_BOUND_KEY];
  struct prelux_logfile log;
  struct prelux_index_writer *index;
  struct prelux_net *net;
  struct prelux_origins *origins;
  struct prelux_stores *stores;
  struct prelux_tables *tables;
  pthread_mutex_t compiling; /* configurations are compiled one after the other */
  struct prelux_ahead *ahead;
  struct prelux_pool *pool;
  struct prelux_server *server;
  struct prelux_watch *watch;         /* the server's */
  uint64_t pending;                   /* files not on the remote, as counted last (loop thread) */
  bool owing;                         /* some of them go on their own */
  _Atomic int64_t send_due_ns;        /* CLOCK_REALTIME of the next retry of an upload, 0: none */
  atomic_bool lost; /* a cache folder was removed or damaged under us: the loop ends, the next daemon begins anew */
};

#endif
