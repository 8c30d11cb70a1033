/* HTTP for backends: the only code that includes <curl/curl.h>. One engine a process: one thread runs a
 * curl multi handle (connection reuse, limits); calls block the calling pool thread, are thread-safe, and end by
 * their own time-outs (connect 10 s; no byte for `stall` 30 s). */
#ifndef PRELUX_NET_NET_H
#define PRELUX_NET_NET_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/problem.h"

struct prelux_net;
struct prelux_net_answer;

int prelux_net_create(struct prelux_net **ret);
void prelux_net_free(struct prelux_net *net); /* calls under way end with -ECANCELED */

struct prelux_net_tls { const char *ca_file; int insecure; };

struct prelux_net_request {
  const char *method;          /* "GET", "HEAD", "POST" */
  const char *url;             /* already percent-encoded */
  const char *const *headers;  /* "Name: value", NULL-terminated; may be NULL */
  const void *body;            /* POST */
  size_t body_len;
  const struct prelux_net_tls *tls;
  uint64_t off, len;           /* len > 0: Range: bytes=off-(off+len-1) is sent */
  uint64_t max_body;           /* more than this is an error (-EPROTO), 0: 64 MiB without a sink */
  int max_redirects;           /* 0: a redirect is an answer like any other; never to a foreign host with headers kept */
  int retries;                 /* of connection errors, 429, 5xx; with back-off 0.1 s * 2^n, Retry-After honoured up to 10 s.
                                * Never after a byte has reached `sink` (the caller restarts at its own offset). */
  /* Body of a 2xx answer as it comes, if set; others' bodies are kept in the answer. Called on the engine's
   * thread: must not block on the network; disk writes are fine. -errno stops the transfer. `status` and headers are known. */
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
};

struct prelux_net_answer {
  int status;               /* HTTP status, 0: no answer */
  char *body;               /* NUL-terminated behind body_len bytes; NULL with sink or HEAD */
  size_t body_len;
  uint64_t content_length;  /* UINT64_MAX: not said */
  uint64_t received;        /* body bytes */
  char etag[256];           /* as sent */
  char last_modified[64];
  char content_range[96];
  char content_type[96];
  char location[1024];
  char content_md5[64];
};

/* 0 when an HTTP answer came, whatever its status (fill *ret; free with prelux_net_answer_free); else -EIO, -ETIMEDOUT,
 * -ECONNREFUSED, -EPROTO (body shorter or longer than Content-Length, headers above 64 KiB, ...), or the sink's -errno.
 * On failure ret holds status and received for what came. */
int prelux_net_call(struct prelux_net *net, const struct prelux_net_request *req, struct prelux_net_answer *ret,
                    struct prelux_problem *why);
void prelux_net_answer_free(struct prelux_net_answer *a);

/* Percent-encodes all but unreserved characters and '/' ; length or -ENAMETOOLONG. */
long prelux_url_encode(char *out, size_t cap, const char *s, size_t len);
/* Decodes %XX; length or -EINVAL/-ENAMETOOLONG. May not yield NUL. */
long prelux_url_decode(char *out, size_t cap, const char *s, size_t len);
/* "Sun, 06 Nov 1994 08:49:37 GMT" -> ns since the epoch, or 0. */
int64_t prelux_http_date(const char *s);

#endif
