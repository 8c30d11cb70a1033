/* HTTP for backends: the only code that includes <curl/curl.h>. One engine a process: one thread (two for large bodies on lone
 * connections) runs a curl multi handle (connection reuse, limits); calls block the calling pool thread, are thread-safe, and end by
 * their own time-outs: connect 10 s; 30 s in which less than 1 KiB a second of body came (so also: without a byte, or
 * with headers only); 300 s for an answer without a sink; a GET or HEAD that has tries left and whose head takes ten times as long as others' (patience.c) is asked anew
 * at once; no retry begins later than 60 s after the call.
 * To one origin at most 16 calls with a sink (32 lone ones, and 16 lone ones of up to 1 MiB) and 16 without run at once: stat and list never wait behind large reads.
 * Content-Encoding is never decoded: bodies are what the server stores. Texts of problems show neither query nor user info
 * of a URL, and no header. */
#ifndef PRELUX_NET_NET_H
#define PRELUX_NET_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/problem.h"

struct prelux_net;
struct prelux_net_answer;

int prelux_net_create(struct prelux_net **ret);
void prelux_net_free(struct prelux_net *net); /* calls under way end with -ECANCELED */

/* A share of `net` for one backend, to be used as it: no more than `most` transfers at once through it, to whatever server. To be freed before
 * `net`, when no call is under way. No sink may call through the share that it is called by. */
int prelux_net_limited(struct prelux_net *net, unsigned most, struct prelux_net **ret);
void prelux_net_limited_free(struct prelux_net *share); /* NULL is allowed */

struct prelux_net_tls
{
  const char *ca_file;
  int insecure;
  const char *cert_file, *key_file; /* who we are: PEM; key_file NULL: it is in cert_file. NULL: nobody says. Not to foreign hosts */
};

/* A body out of a file: [off, off+len) of fd, read by pread in the calling thread as the connection takes it; Content-Length is
 * len. Bytes that change meanwhile are sent as they are found. */
struct prelux_net_upload {
  int fd;                      /* borrowed */
  uint64_t off, len;
  /* Called about five times a second and at each MiB, on the calling thread, without locks: bytes handed to the connection so far (fewer than
   * before when they have to be sent again). -errno stops the call, which returns it. NULL: nobody wants to know. */
  int (*progress)(void *arg, uint64_t done);
  void *arg;
};

struct prelux_net_request {
  const char *method;          /* "GET", "HEAD", "POST", "PUT", "DELETE" */
  const char *url;             /* already percent-encoded */
  const char *const *headers;  /* "Name: value", NULL-terminated; may be NULL */
  const void *body;            /* POST, PUT */
  size_t body_len;
  const struct prelux_net_upload *upload; /* POST, PUT: the body instead of `body`; NULL: that one. Has no time-out for the
                                           * whole answer; the rule for stalls counts bytes sent, too. A file that ends early is
                                           * -EINVAL, one that cannot be read its errno */
  bool expect;                 /* "Expect: 100-continue": a refusal comes before the body is sent (or one second is lost) */
  bool once;                   /* not harmless when done twice: what may have reached the server and had no answer is never sent
                                * again, not even after the server closed an idle connection. With it `again` must name
                                * only answers that mean "not done"; NULL: 408, 429 and 503 */
  const struct prelux_net_tls *tls;
  uint64_t off, len;           /* len > 0: Range: bytes=off-(off+len-1) is sent */
  uint64_t max_body;           /* more than this is an error (-EPROTO), 0: 64 MiB without a sink */
  bool lone;                   /* on a connection of its own, closed afterwards */
  bool direct;                 /* by no proxy, whatever http_proxy says: the server is this machine's own */
  int64_t born_after_ms;       /* not on a connection made before this instant of CLOCK_MONOTONIC (to about 2 s); 0: any will do */
  unsigned connect_ms, stall_s; /* other time-outs than the above; 0: those */
  const atomic_bool *cancel;   /* looked at five times a second: true ends the transfer with -ECANCELED; NULL: never */
  int max_redirects;           /* 0: a redirect is an answer like any other. GET and HEAD only, http and https only, never from
                                * https to http; to another origin only Accept, Range and If-* headers go along */
  int retries;                 /* of connection errors and of answers that `again` names; with back-off 0.1 s * 2^n, Retry-After
                                * honoured up to 10 s. Never after a byte has reached `sink` (the caller restarts at its own offset). */
  bool (*again)(const struct prelux_net_answer *answer); /* NULL: 408, 429 and 5xx but 501 and 505 */
  /* Body of a 2xx answer as it comes, if set; others' bodies are kept in the answer (their first 64 KiB). Called on the
   * thread that called prelux_net_call, without locks, so a slow one holds up nobody else. -errno stops the transfer.
   * `status` and headers of `head` are known, `received` and `body` not. Of more than 256 KiB the first bytes come at once, the
   * others gathered (up to 1 MiB), or when the transfer is over. */
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
  /* With a sink: memory of the caller's where the body of a 2xx answer is put, from its first byte on (so again from there at each
   * attempt), without another copy. The sink then is called with the first bytes, and with the others when the transfer is over;
   * `buf` lies in it. More than target_len bytes are an error (-EPROTO). NULL: `buf` is net's own. */
  void *target;
  size_t target_len;
};

struct prelux_net_answer {
  int status;               /* HTTP status, 0: no answer */
  bool sent;                /* it, or a beginning of it, may have reached a server at some attempt. After a failure false means that
                             * surely nothing was done; true is -PRELUX_EUNKNOWN for what changes something */
  int redirects;            /* followed; `location` then is where the answer came from */
  char *body;               /* NUL-terminated behind body_len bytes; NULL with sink or HEAD */
  size_t body_len;
  uint64_t content_length;  /* UINT64_MAX: not said */
  bool bounded;             /* the answer says where its body ends (Content-Length or chunks), so a cut one is noticed */
  uint64_t received;        /* body bytes ... */
  uint64_t straight;        /* ... of which so many did not pass through curl's buffer (receive.c) */
  char etag[256];           /* as sent */
  char last_modified[64];
  char content_range[96];
  char content_type[96];
  char *location;           /* as sent; NULL: none */
  char *head;               /* every header line as sent, '\n' between; see prelux_net_header */
  size_t head_len;
  char content_md5[64];
  char date[64];
  char retry_after[64];
};

/* 0 when an HTTP answer came, whatever its status (fill *ret; free with prelux_net_answer_free); else -EIO, -ETIMEDOUT,
 * -ECONNREFUSED, -EPROTO (body shorter or longer than Content-Length, headers above 64 KiB, ...), -ECANCELED (the engine
 * ends), or the sink's -errno. On failure ret holds status, header fields and received for what came; free it too. */
int prelux_net_call(struct prelux_net *net, const struct prelux_net_request *req, struct prelux_net_answer *ret,
                    struct prelux_problem *why);
void prelux_net_answer_free(struct prelux_net_answer *a);
/* A header of the answer by name (the first of that name). Its length, or -ENOENT; -ENAMETOOLONG: does not fit with a NUL. */
long prelux_net_header(const struct prelux_net_answer *a, const char *name, char *out, size_t cap);

/* Waits in the calling thread: the n-th (from 0) back-off of a caller that retries by itself. 0, or -ECANCELED: the engine ends. */
int prelux_net_backoff(struct prelux_net *net, int n);

/* Percent-encodes all but unreserved characters and '/' ; length or -ENAMETOOLONG. */
long prelux_url_encode(char *out, size_t cap, const char *s, size_t len);
/* Decodes %XX; length or -EINVAL/-ENAMETOOLONG. May not yield NUL. */
long prelux_url_decode(char *out, size_t cap, const char *s, size_t len);

#define PRELUX_URL_MAX 16384 /* an object path of 4096 bytes, each as %XX, and what stands before it */

/* An absolute http or https URL, cut into pieces that point into it. */
struct prelux_url {
  bool https;
  unsigned port;             /* 80 or 443 when not said */
  const char *host;          /* with brackets when an IPv6 address */
  size_t host_len;
  size_t origin_len;         /* bytes of "scheme://user@host:port" */
  bool has_user;             /* user info stands before the host */
  const char *path;          /* from the first slash; "" when there is none; ends before '?' and '#' */
  size_t path_len;
  bool has_query;
};
/* 0, or -EINVAL: not http(s), no host, bad port, a blank or control character. */
int prelux_url_parse(const char *url, struct prelux_url *ret);
bool prelux_url_same_origin(const struct prelux_url *a, const struct prelux_url *b);
/* What a reference (Location) means at `base`, dot segments kept as they are; length, -EINVAL or -ENAMETOOLONG. */
long prelux_url_join(char *out, size_t cap, const char *base, const char *ref);
/* One text for all ways to write a URL: "scheme://host:port/path", the host in small letters, the port always there, without user info and
 * query. Length, -EINVAL or -ENAMETOOLONG. */
long prelux_url_canonical(char *out, size_t cap, const char *url);
/* For texts: without user info and query. Cut to fit. */
void prelux_url_show(char *out, size_t cap, const char *url);

/* "Sun, 06 Nov 1994 08:49:37 GMT" -> ns since the epoch, or 0. */
int64_t prelux_http_date(const char *s);
/* The reverse, to the second; out of at least 32 bytes. */
void prelux_http_date_format(char *out, size_t cap, int64_t ns);

#endif
