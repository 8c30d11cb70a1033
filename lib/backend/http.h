/* Shared by the files of backend `http`. */
#ifndef PRELUX_BACKEND_HTTP_H
#define PRELUX_BACKEND_HTTP_H

#include <stdatomic.h>

#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/net/net.h"

#define PRELUX_HTTP_RETRIES 3
#define PRELUX_HTTP_REDIRECTS 5

enum prelux_http_index { PRELUX_INDEX_AUTO, PRELUX_INDEX_HTML, PRELUX_INDEX_JSON, PRELUX_INDEX_NONE };

struct prelux_http {
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *url;              /* without a slash at the end */
  char **headers;         /* "Name: value", NULL-terminated; secret */
  size_t n_headers;
  struct prelux_net_tls tls;
  char *ca_file;
  enum prelux_http_index index;
  struct prelux_parallel parallel;
  /* Learned while running; a wrong guess costs one more request. */
  atomic_bool no_head;         /* the server refused HEAD once */
  atomic_bool redirects_files; /* it redirected a file to elsewhere */
  atomic_bool redirects_slash; /* it redirected a folder to its name with a slash once: it will do so with all */
};

/* URL of an object ("" and slash = false: the root without its slash); -EOPNOTSUPP when it would be too long. */
int prelux_http_url(const struct prelux_http *h, const char *path, bool slash, char *out, size_t cap,
                    struct prelux_problem *why);
/* An identity: `before`, the URL in its canonical form, a slash, `after`. 0, -EINVAL, -ENAMETOOLONG. */
int prelux_http_identity(const char *url, const char *before, const char *after, char *buf, size_t cap);
/* What a status that is not what was hoped for is to the caller of an op; fills *why. */
int prelux_http_refused(const struct prelux_net_answer *a, const char *method, const char *url, struct prelux_problem *why);
/* A failure of net as the ops promise it. */
int prelux_http_failed(int rc);
/* http.c: what the answer to a GET of a whole, without redirects, says of the object.
 * plain_file: surely a file, *ret is filled as by stat. no_file: of a status that is not 2xx: 0 (a folder), 1 (to be looked at by stat) or
 * -errno. */
bool prelux_http_plain_file(const struct prelux_net_answer *a, const char *url, struct prelux_object *ret);
int prelux_http_no_file(struct prelux_http *h, const char *path, const char *url, const struct prelux_net_answer *a,
                        struct prelux_object *ret, struct prelux_problem *why);

/* http_list.c */
int prelux_http_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why);
/* 1: `path` with a slash is a page that lists a folder; 0: it is not; or -errno. */
int prelux_http_is_folder(struct prelux_http *h, const char *path, struct prelux_problem *why);
/* http_read.c */
int prelux_http_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                     uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);
int prelux_http_fetch(struct prelux_backend *b, const char *path, int (*begin)(void *arg, const struct prelux_object *obj),
                      prelux_read_fn sink, void *arg, struct prelux_object *ret, struct prelux_problem *why);
/* "bytes A-B/N" or "bytes *" "/N"; missing numbers are UINT64_MAX. */
bool prelux_http_content_range(const char *s, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size);

#endif
