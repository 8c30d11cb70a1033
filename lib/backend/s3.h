/* Shared by the files of backend `s3`. */
#ifndef PRELUX_BACKEND_S3_H
#define PRELUX_BACKEND_S3_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/backend/aws_credentials.h"
#include "lib/backend/backend.h"
#include "lib/backend/parallel.h"
#include "lib/backend/s3_xml.h"
#include "lib/net/net.h"

#define PRELUX_S3_RETRIES 4
#define PRELUX_S3_KEY_MAX 8192
#define PRELUX_S3_REGION_MAX 48

/* Names that begin so are ours, and there for nobody: what `able` tries a server with (s3_able.c). */
#define PRELUX_S3_HIDDEN ".prelux~"

/* The most; prelux_able says what one server does. */
#define PRELUX_S3_WRITE_CAPS                                                                                           \
  (PRELUX_CAP_WRITE | PRELUX_CAP_PUT_ABSENT | PRELUX_CAP_PUT_VERSION | PRELUX_CAP_REMOVE_VERSION |                     \
   PRELUX_CAP_MULTIPART | PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_NOREPLACE | PRELUX_CAP_MKDIR_MARKER |             \
   PRELUX_CAP_COPY)

/* Is the SHA-256 of what is sent signed (`sign_payload`)? */
enum prelux_s3_sign
{
  PRELUX_S3_SIGN_AUTO, /* where somebody on the way could change it: not over TLS that is verified, nor within this machine */
  PRELUX_S3_SIGN_ALWAYS,
  PRELUX_S3_SIGN_NEVER
};

enum prelux_s3_count
{
  PRELUX_S3_HEADS,
  PRELUX_S3_GETS,
  PRELUX_S3_LISTS,
  PRELUX_S3_PUTS, /* of objects, parts and copies */
  PRELUX_S3_POSTS,
  PRELUX_S3_DELETES,
  PRELUX_S3_CORRECTED,
  PRELUX_S3_COUNTS
};

/* A checksum that an answer told. */
struct prelux_s3_sum
{
  uint64_t of; /* hash of key and version; 0: none */
  struct prelux_sum sum;
};
#define PRELUX_S3_SUMS 64u

struct prelux_s3
{
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *bucket;
  char *prefix; /* of all keys, without a slash at either end; "" for none */
  char
      *endpoint; /* "https://host[:port][/path]", lower-case host, no slash at the end; NULL: AWS's own of the region */
  bool path_style, no_md5, no_sums, anonymous;
  bool loopback; /* the endpoint is this machine, by no proxy */
  enum prelux_s3_sign sign;
  uint64_t multipart_threshold; /* bytes; 0: as s3_able.c thinks */
  struct prelux_net_tls tls;
  char *ca_file;
  struct prelux_aws_credentials *credentials; /* of region and endpoint, too; not asked for keys when anonymous */
  pthread_mutex_t lock;
  char region[PRELUX_S3_REGION_MAX]; /* guarded; what a server told us replaces what was configured */
  int64_t skew_s;                    /* guarded; the server's clock less ours */
  atomic_bool knows_start_after;     /* a server that has shown it: s3_list.c */
  atomic_bool no_ranges;             /* one whose listings are not in order, or do not begin where asked: s3_ranges.c */
  atomic_bool refuses_sums;          /* it takes no request that asks for checksums: s3_sums.c */
  atomic_uint sumless;               /* objects in a row of which it told none */
  struct prelux_s3_sum sums[PRELUX_S3_SUMS]; /* guarded */
  atomic_bool bare_etags;            /* it sends ETags without quotes: who knows how it would compare them */
  atomic_bool plain_listings;        /* it does not encode what XML cannot carry */
  atomic_bool checks_sha;            /* it refuses bytes that are not of the SHA-256 signed for them: s3_able.c */
  atomic_bool checks_crc;            /* it refuses parts whose bytes are not of the CRC-32C beside them: s3_able.c */
  atomic_bool checks_crc_put;        /* the same of whole objects */
  atomic_bool wants_md5;             /* it checks SHA-256 and takes no part without Content-MD5 all the same (object lock) */
  atomic_ullong counts[PRELUX_S3_COUNTS];
  struct prelux_parallel parallel;
  pthread_mutex_t able_lock;         /* held while the server is tried */
  struct prelux_able able;           /* guarded by able_lock */
  int64_t able_until_ms;             /* guarded: how long that is good, CLOCK_MONOTONIC; 0: nothing is known */
};

/* One request. */
struct prelux_s3_ask
{
  enum prelux_s3_count kind; /* says the method */
  const char *key;           /* NULL: the bucket itself */
  const char *query;         /* of prelux_aws_query, beginning with '?'; NULL: none */
  const char *condition;     /* a header, not signed; NULL: none */
  uint64_t off, len;         /* as in struct prelux_net_request */
  uint64_t max_body;
  const char *const *headers;              /* signed ones, "Name: value", NULL-terminated; NULL: none */
  const char *body;                        /* text, of POSTS and PUTS; NULL: none */
  const struct prelux_net_upload *upload;  /* of PUTS; NULL: no bytes */
  const char *payload;                     /* hex SHA-256 of the upload, or PRELUX_AWS_UNSIGNED; NULL: that of the body */
  bool once;                               /* as in struct prelux_net_request */
  unsigned stall_s;                        /* the same */
  int (*sink)(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len);
  void *arg;
  void *target;                            /* the same, as the next */
  size_t target_len;
  const atomic_bool *cancel;
};

/* s3_request.c */
bool prelux_s3_https(const struct prelux_s3 *s);
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
/* A quoted ETag, perhaps with more behind it, that has the form of an MD5. */
bool prelux_s3_like_md5(const char *etag);
/* The MD5 that an answer's ETag is, for sure; "". */
void prelux_s3_md5_of(const struct prelux_net_answer *a, char out[33]);
/* The object of `size` bytes that an answer describes. */
void prelux_s3_file_of(struct prelux_s3 *s, struct prelux_net_answer *a, uint64_t size, struct prelux_object *ret);
/* Some component of the path is a name of ours. */
bool prelux_s3_hidden(const char *path);

/* s3_sums.c */
#define PRELUX_S3_SUM_MODE "x-amz-checksum-mode: ENABLED" /* a header of GET and HEAD: the checksums of the whole, too */
/* Is it worth to send that? */
bool prelux_s3_sums_wanted(struct prelux_s3 *s);
/* The answer, of 2xx, is about the whole object of that version: what it tells is remembered. */
void prelux_s3_sums_note(struct prelux_s3 *s, const char *key, const char *version, const struct prelux_net_answer *a);
int prelux_s3_sum(struct prelux_backend *b, const char *path, const struct prelux_object *expect, bool ask, const atomic_bool *over,
                  struct prelux_sum *ret);

/* s3_list.c */
int prelux_s3_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                   struct prelux_problem *why);
/* 1: there are keys below `path`, or the server calls it a folder; 0: not; or -errno. Of the root: 0 says that it is
 * empty. */
int prelux_s3_is_folder(struct prelux_s3 *s, const char *path, struct prelux_problem *why);
/* The first keys (a number, as text) that begin with `prefix`, those with a further slash as common prefixes. Free *ret. */
int prelux_s3_first_keys(struct prelux_s3 *s, const char *prefix, const char *keys, struct prelux_s3_page **ret,
                         struct prelux_problem *why);

/* s3_write.c */
extern const struct prelux_backend_write prelux_s3_write;

/* s3_read.c */
int prelux_s3_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                   uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why);

#endif
