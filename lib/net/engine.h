/* Inside of lib/net: one transfer between the calling thread and the engine's thread.
 *
 * Who touches what: the caller fills the members above the line and queues the transfer; from then on until `done` they and
 * `easy` belong to the engine's thread, as does `answer` until the head of the answer is complete (the first byte in `fill`, or
 * done). The members below `lock` are shared under it. */
#ifndef PRELUX_NET_ENGINE_H
#define PRELUX_NET_ENGINE_H

#include <curl/curl.h>
#include <pthread.h>

#include "lib/net/net.h"

#define PRELUX_NET_BUFFER (1u << 20)      /* bytes between engine and sink, twice */
#define PRELUX_NET_WAKE (PRELUX_NET_BUFFER / 2) /* so many wake the caller */
#define PRELUX_NET_SMALL (256u << 10)     /* bodies up to that are passed on whole */
#define PRELUX_NET_HERE_MAX (1u << 20)    /* bodies up to that, on lone connections, are the caller's own affair (here.c) ... */
#define PRELUX_NET_HERE 16u               /* ... so many at once */
#define PRELUX_NET_SPARES 8u              /* such buffers kept: fresh memory costs a page fault each 4 KiB */
#define PRELUX_NET_HEADERS_MAX (64u << 10)
#define PRELUX_NET_OTHER_BODY_MAX (64u << 10) /* kept of an answer that is not 2xx though a sink is there */
#define PRELUX_NET_BODY_MAX (64u << 20)   /* default bound of an answer without a sink */

enum { PRELUX_NET_START = 1, PRELUX_NET_RESUME = 2, PRELUX_NET_STOP = 4 }; /* wishes of the caller */

struct prelux_net_transfer {
  const struct prelux_net_request *req;
  const char *url;
  bool foreign;                    /* another origin than the request's: no secrets go there */
  struct prelux_net_answer *answer;
  CURL *easy;
  struct curl_slist *headers;
  bool unset;                      /* an option could not be set: no memory */
  char origin[300];                /* what the limit of running transfers counts by */
  char curl_text[CURL_ERROR_SIZE];
  size_t header_bytes;
  size_t body_cap;
  bool trailers, body_cut;
  uint64_t received;
  unsigned requests;               /* times that it went out */
  atomic_llong sent_ms, head_ms;   /* when it went out first; when the head of its answer was there; 0: not yet */
  bool fresh;                      /* on a connection that nobody has used */
  int err;                         /* our own verdict, negative; 0: curl's counts */
  const char *err_text;
  /* engine's lists */
  struct prelux_net_transfer *next, *inbox_next;
  bool running;
  unsigned wishes;                 /* under the engine's lock, as is `over` */
  bool over;                       /* takes no more wishes: the caller may free it any moment */
  /* the caller's, who runs it himself */
  bool here, sunk;                 /* sunk: a byte has reached the sink */
  int sink_rc;
  /* receive.c */
  bool receives, whole;            /* may; all of the body is there */
  int socket, socket_made;         /* -1: not known to be the connection's */

  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool done, paused, stop;
  char *fill;                      /* of fill_cap bytes; when there is a sink: the caller's target, or a buffer of its call */
  size_t fill_len, fill_cap;
  CURLcode result;
  /* a body out of a file */
  char *supply;                    /* of PRELUX_NET_BUFFER bytes, the engine's: [supply_at, supply_at + supply_len) of the body */
  size_t supply_len;
  uint64_t supply_at, read_at;     /* read_at: what curl asks for next */
  bool starving;                   /* paused, for that is not there */
  struct { char *buffer; size_t len; uint64_t at; } ahead; /* the caller's: what it has read already */
};

#define PRELUX_NET_ORIGINS 32u /* of which it is remembered how long answers take ... */
#define PRELUX_NET_TIMES 64u   /* ... so many of each */
struct prelux_net_heads {
  uint64_t of, seen, given_up; /* of: hash of origin and kind of request, 0: nobody's */
  uint32_t times[PRELUX_NET_TIMES]; /* ms */
};

struct prelux_net {
  CURLM *multi;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;          /* ending was set, or users reached 0 */
  bool ending;
  unsigned users;                  /* calls under way, the second engine's too */
  struct prelux_net *second;       /* NULL: not needed yet */
  unsigned turn;                   /* whose it is */
  unsigned here;                   /* transfers that callers run themselves */
  CURLM *multis[PRELUX_NET_HERE];  /* for them */
  unsigned n_multis;
  char *spares[PRELUX_NET_SPARES];
  unsigned n_spares;
  struct prelux_net_heads heads[PRELUX_NET_ORIGINS];
  struct prelux_net_transfer *inbox; /* transfers with wishes, the newest first */
  /* a share (limit.c): what it is of, and its turns; nothing else is used but lock and changed. NULL: an engine */
  struct prelux_net *whole;
  unsigned most, now, large;
  /* the engine's thread only */
  struct prelux_net_transfer *waiting, *active;
};

/* Makes t->easy. -ENOMEM. */
int prelux_net_set_up(struct prelux_net_transfer *t);

/* limit.c: waits for a turn of a share (NULL: there are no turns); -ECANCELED: given up, or the engine ends. And when the transfer is over. */
int prelux_net_turn_take(struct prelux_net *share, const struct prelux_net_request *req);
void prelux_net_turn_give(struct prelux_net *share, const struct prelux_net_request *req);

/* patience.c. May a request be asked a second time because it takes long; ms after which its answer's head is late (INT64_MAX: never); and how long it took. */
bool prelux_net_patience_may(const struct prelux_net_request *req);
int64_t prelux_net_patience_ms(struct prelux_net *net, const struct prelux_net_transfer *t);
void prelux_net_patience_learn(struct prelux_net *net, const struct prelux_net_transfer *t, bool given_up);

/* An engine without what start.c sets up. */
int prelux_net_engine_new(struct prelux_net **ret);

/* here.c: the transfer, by the calling thread. What the sink said, and t as it is when the engine is done with it; -EAGAIN: not so. */
int prelux_net_here(struct prelux_net *net, struct prelux_net_transfer *t);
bool prelux_net_here_fits(const struct prelux_net_request *req);
size_t prelux_net_here_body(struct prelux_net_transfer *t, const char *data, size_t n);

/* receive.c: options of t->easy; the connection is there. */
void prelux_net_receive_set_up(struct prelux_net_transfer *t);
void prelux_net_receive_connected(struct prelux_net_transfer *t, int local_port);
/* The engine's thread, t->lock held, when a piece that curl brought is stored (not more of it than clip says). True: the body is whole, and the
 * transfer is to be ended. */
size_t prelux_net_receive_clip(struct prelux_net_transfer *t, size_t n);
bool prelux_net_receive(struct prelux_net_transfer *t);

/* Asks the engine's thread for something. False: the engine ends, START was not taken. */
bool prelux_net_wish(struct prelux_net *net, struct prelux_net_transfer *t, unsigned wish);

/* The engine that is to do it. */
struct prelux_net *prelux_net_pick(struct prelux_net *net, const struct prelux_net_request *req);

/* A buffer of PRELUX_NET_BUFFER bytes, NULL: no memory; and back, when it is not needed any more (NULL is allowed). */
char *prelux_net_buffer_take(struct prelux_net *net);
void prelux_net_buffer_put(struct prelux_net *net, char *buffer);

int64_t prelux_net_now_ms(void); /* CLOCK_MONOTONIC */

/* upload.c, the engine's half: what curl calls. */
size_t prelux_net_supply_read(char *out, size_t size, size_t count, void *transfer);
int prelux_net_supply_seek(void *transfer, curl_off_t to, int whence);
/* The caller's half, t->lock held (and let go while it reads). 1: something was done, look again; 0: nothing to be done but to
 * wait; or -errno of the file, -EINVAL: it ended early. */
int prelux_net_supply_more(struct prelux_net *net, struct prelux_net_transfer *t);
int prelux_net_supply_open(struct prelux_net *net, struct prelux_net_transfer *t); /* -ENOMEM */
void prelux_net_supply_close(struct prelux_net *net, struct prelux_net_transfer *t);

/* answer.c */
void prelux_net_head_reset(struct prelux_net_answer *a);
/* One header line as curl passes it. -EPROTO: it means nothing. */
int prelux_net_head_line(struct prelux_net_answer *a, const char *line, size_t len);

#endif
