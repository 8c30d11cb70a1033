/* One request, one connection. Raw system calls only, no allocation, no lock, no state: safe in a
 * signal handler, a vfork child, a thread while another forks. */
#ifndef PRELUX_IPC_CLIENT_H
#define PRELUX_IPC_CLIENT_H

#include "lib/ipc/msg.h"

/* One a thread (initial-exec TLS), initialised to {.fd = -1}: remembers the socket of a request under way, so that
 * the next request closes it when the program left the first by longjmp. */
struct prelux_client_slot {
  int fd;
  uint64_t ino;    /* of the socket: its number may be somebody else's by now */
  uintptr_t frame; /* stack address of the call that opened it */
};

struct prelux_client_opts {
  const char *runtime;   /* runtime folder */
  const char *daemon;    /* path of preluxd to start when nobody listens, or NULL: do not start */
  int (*start)(const struct prelux_client_opts *opts); /* does it in place of prelux_daemon_start(), or NULL */
  char *const *envp;     /* what the daemon may inherit: HOME, PATH, TZ, proxies, PRELUX_* (NULL: nothing) */
  unsigned timeout_ms;   /* silence (no frame) after which the daemon counts as hung: -ETIMEDOUT */
  int fd_cloexec;        /* the received fd gets FD_CLOEXEC */
  int needs_fd;          /* a good reply brings one, and to ask without a number for it would change something: -EMFILE, and nobody is asked */
  struct prelux_client_slot *slot; /* may be NULL */
  int *ret_held; /* may be NULL; see below */
  void (*progress)(void *arg, const void *frame); /* for each PROGRESS frame; may be NULL */
  void *progress_arg;
  int *ret_lost; /* may be NULL: counts the times that the daemon went away with the message, which it may or may not have obeyed */
};

/* Sends `m`, waits for the reply, which is received into `reply` (PRELUX_MSG_MAX bytes, 8-byte aligned).
 * *ret_fd (may be NULL: a passed fd is closed) gets the fd passed with the reply, the lowest free number, or -1.
 * Returns the reply's STATUS (0 or -errno, PRELUX_STATUS_*), or
 *   -ENOTCONN no daemon and none could be started, -ETIMEDOUT, -EPROTO the daemon went away in mid-request
 *   (after some repeats), -EPROTONOSUPPORT it is of another major version, -EMFILE/-ENFILE. EINTR is restarted. */
int prelux_client_call(const struct prelux_client_opts *opts, const struct prelux_msg *m, void *reply, size_t cap,
                       int *ret_fd);

/* Sends `m` to a daemon that runs and has room for one more, and waits for nothing. 0: sent; what becomes of it nobody tells. */
int prelux_client_tell(const struct prelux_client_opts *opts, const struct prelux_msg *m);

/* With opts->ret_held (and ret_fd NULL) the fd of a good reply is not received: it stays on its way, in the socket *ret_held (close-on-exec,
 * out of the low numbers; -1: an error). So its file is kept open for writing by nobody's descriptor, which is as good, and ends when
 * the socket is closed: closing a descriptor of a file drops all POSIX locks that the process has on it. */

/* The reply that came with it, once more: 0, or -errno when `fd` is no such socket. */
int prelux_client_held(int fd, void *reply, size_t cap);

/* Connected socket, or -errno; starts a daemon when opts->daemon is set and nobody listens. Caller closes. */
int prelux_client_connect(const struct prelux_client_opts *opts);

/* Starts preluxd detached (double clone with exit signal 0, everything reset) unless one runs; returns when it
 * listens. Serialised over RUNTIME/lock. 0 or -errno. (lib/ipc/spawn.c) */
int prelux_daemon_start(const struct prelux_client_opts *opts);

#endif
