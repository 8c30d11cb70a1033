/* Reading by GETs over HTTP: one answer, continued by further ones when the connection breaks; what backends http, s3 and azure have in
 * common. Bytes of two versions are never put together: the head of every answer is checked before its first byte is passed on, and an
 * object that has nothing to tell versions apart by is read in one answer or not at all. */
#ifndef PRELUX_BACKEND_READ_ON_H
#define PRELUX_BACKEND_READ_ON_H

#include <stdatomic.h>

#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/net/net.h"

struct prelux_read_on {
  struct prelux_net *net;
  const char *what;  /* for texts: the URL or key without secrets */
  const struct prelux_object *expect;
  uint64_t pos, end; /* still to be read */
  bool parts;        /* the version can be pinned: answers may be put together */
  prelux_read_fn sink;
  void *arg;
  struct prelux_problem *why;
  /* One GET of [pos, end), of the whole without a Range; sink prelux_read_on_bytes, its arg `r`. 0, or net's error; *a in any case. */
  int (*ask)(struct prelux_read_on *r, struct prelux_net_answer *a);
  /* Is it what was asked for, of the expected version? Called for 2xx, before the first byte. */
  int (*check)(struct prelux_read_on *r, const struct prelux_net_answer *a);
  /* An answer that had no byte for the sink, or too few: 0 (it is all there is), or -errno. */
  int (*empty)(struct prelux_read_on *r, const struct prelux_net_answer *a);
  int (*failed)(int rc); /* net's error as the ops promise it */
  void *of;              /* the backend's own, for the four; parts share it, several at once */
  struct prelux_parallel *parallel; /* large reads go by several connections (read_parts.c); NULL: all by one */
  /* inside */
  char *place;             /* memory for the bytes from place_from on, where the sink finds them; NULL: none */
  uint64_t place_from;
  const atomic_bool *over; /* true: nobody wants it any more; NULL: never */
  bool whole_came;         /* a range was answered by the whole */
  bool checked; /* the head of the answer at hand */
  int verdict;  /* a check's or the sink's -errno: final */
  int broke;    /* how the last answer broke off */
};

/* 0: all of it was passed on; or -errno. */
int prelux_read_on(struct prelux_read_on *r);
/* Is it large, of one version for sure, and from a server that sends parts? */
bool prelux_read_on_worth(const struct prelux_read_on *r);
/* read_parts.c: that read. 1: the server sends wholes only, and nothing was passed on. */
int prelux_read_on_parts(struct prelux_read_on *r);
/* One answer after another. */
int prelux_read_on_single(struct prelux_read_on *r);
/* Where the bytes that are asked for next are to be put, as `target` of lib/net; NULL: anywhere. */
char *prelux_read_on_target(const struct prelux_read_on *r, size_t *ret_len);
int prelux_read_on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);

/* The whole object is asked for: no Range is sent. */
bool prelux_read_on_whole(const struct prelux_read_on *r);
/* Content-Range is exactly what was asked for. *ret_size: the object's length that it tells, else the expected one. */
int prelux_read_on_range(const struct prelux_read_on *r, const struct prelux_net_answer *a, uint64_t *ret_size);
/* The answer is of the expected version and length (UINT64_MAX: not said), by what lib/backend/http_version.h makes of it. */
int prelux_read_on_same(const struct prelux_read_on *r, const struct prelux_net_answer *a, uint64_t size);
/* The same of an answer whose version is the expected one. -ESTALE: it is not; -EPROTO: nor was it the times before. */
int prelux_read_on_length(const struct prelux_read_on *r, uint64_t size);
/* 416: the object is another one than expected (-ESTALE); or the server lies: it tells that length, and refuses a part of it. */
int prelux_read_on_beyond(const struct prelux_read_on *r, const struct prelux_net_answer *a);
/* `err` negated, and a text with two numbers. */
int prelux_read_on_say(const struct prelux_read_on *r, int err, const char *text, uint64_t a, uint64_t b);
int prelux_read_on_unable(struct prelux_read_on *r);        /* -EPROTO: the whole came instead of a part */
int prelux_read_on_short(const struct prelux_read_on *r);   /* -EPROTO: less than asked for */
int prelux_read_on_changed(const struct prelux_read_on *r); /* -ESTALE */

#endif
