/* Shared by the files of backend `s3`. */
#ifndef PRELUX_BACKEND_S3_H
#define PRELUX_BACKEND_S3_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/backend/aws_credentials.h"
#include "lib/backend/backend.h"
#include "lib/backend/s3_xml.h"
#include "lib/net/net.h"

#define PRELUX_S3_RETRIES 4
#define PRELUX_S3_KEY_MAX 8192
#define PRELUX_S3_REGION_MAX 48

enum prelux_s3_count
{
  PRELUX_S3_HEADS,
  PRELUX_S3_GETS,
  PRELUX_S3_LISTS,
  PRELUX_S3_CORRECTED,
  PRELUX_S3_COUNTS
};

struct prelux_s3
{
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *bucket;
  char *prefix; /* of all keys, without a slash at either end; "" for none */
  char
      *endpoint; /* "https://host[:port][/path]", lower-case host, no slash at the end; NULL: AWS's own of the region */
  bool path_style, no_md5, anonymous;
  struct prelux_net_tls tls;
  char *ca_file;
  struct prelux_aws_credentials *credentials; /* of region and endpoint, too; not asked for keys when anonymous */
  pthread_mutex_t lock;
  char region[PRELUX_S3_REGION_MAX]; /* guarded; what a server told us replaces what was configured */
  int64_t skew_s;                    /* guarded; the server's clock less ours */
  atomic_bool knows_start_after;     /* a server that has shown it: s3_list.c */
  atomic_bool bare_etags;            /* it sends ETags without quotes: who knows how it would compare them */
  atomic_ullong counts[PRELUX_S3_COUNTS];
};

/* One request. */
struct prelux_s3_ask
{
  enum prelux_s3_count kind; /* HEADS, GETS or LISTS */
  const char *key;           /* NULL: the bucket itself */
  const char *query;         /* of prelux_aws_query, beginning with '?'; NULL: none */
  const char *condition;     /* a header, not signed; NULL: none */
  uint64_t off, len;         /* as in struct prelux_net_request */
  uint64_t max_body;
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
};

/* s3_request.c */
/* As prelux_net_call, signed. What the answer says is wrong with region, clock or keys is put right and asked again,
 * once each. 0: an answer came, whatever its status (free it in any case); else as the ops promise (a sink's -errno is
 * lost). */
int prelux_s3_call(struct prelux_s3 *s, const struct prelux_s3_ask *ask, struct prelux_net_answer *ret,
                   struct prelux_problem *why);
/* What an answer that is not what was hoped for is to the caller of an op. */
int prelux_s3_refused(struct prelux_s3 *s, const struct prelux_s3_ask *ask, const struct prelux_net_answer *a,
                      struct prelux_problem *why);
/* A key for texts: encoded, cut to fit. */
#define PRELUX_S3_SHOWN 272
void prelux_s3_show(const struct prelux_s3 *s, const char *key, char out[PRELUX_S3_SHOWN]);
/* The key of a path; with slash: of the folder. Length, or -EOPNOTSUPP. */
long prelux_s3_key(const struct prelux_s3 *s, const char *path, bool slash, char out[PRELUX_S3_KEY_MAX],
                   struct prelux_problem *why);

/* s3.c */
/* Brings an answer's ETag into the form "..." whether or not the server quotes it, so that HEAD, GET and listing make
 * one version of it. */
void prelux_s3_quote_etag(char *etag, size_t cap);

/* s3_list.c */
int prelux_s3_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                   struct prelux_problem *why);
/* 1: there are keys below `path`, or the server calls it a folder; 0: not; or -errno. Of the root: 0 says that it is
 * empty. */
int prelux_s3_is_folder(struct prelux_s3 *s, const char *path, struct prelux_problem *why);

/* s3_read.c */
int prelux_s3_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                   uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);

#endif
