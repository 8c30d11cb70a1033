/* Shared by the files of backend `s3` that write: s3_write.c (the table of ops, put, what paths become), s3_change.c (one
 * request that changes something: conditions, what is asked again, what is unknown), s3_able.c (what a server honours),
 * s3_multipart.c (uploads in parts), s3_uploads.c (finding and sweeping them), s3_copy.c (copies within the remote,
 * rename), s3_names.c (remove, folders), s3_digest.c (checksums), s3_fields.c (small XML answers). */
#ifndef PRELUX_BACKEND_S3_WRITE_H
#define PRELUX_BACKEND_S3_WRITE_H

#include "lib/backend/s3.h"

#define PRELUX_S3_PUT_MAX (UINT64_C(5) << 30)
#define PRELUX_S3_PART_MIN (UINT64_C(5) << 20)
#define PRELUX_S3_PART_MAX (UINT64_C(5) << 30)
#define PRELUX_S3_PARTS_MAX 10000u
#define PRELUX_S3_SLOW_S 300u /* without a byte: a server that puts an object together says nothing meanwhile */
#define PRELUX_S3_TRIES 4     /* of what is to be done again after an answer */

/* s3_digest.c */
#define PRELUX_S3_CRC_TEXT 9 /* base64 of a CRC-32C */
struct prelux_s3_digest
{
  char md5[33];                 /* lower-case hex; "": not asked for */
  char crc[PRELUX_S3_CRC_TEXT]; /* "": the same */
  char header[48];              /* "Content-MD5: ..." or "x-amz-checksum-crc32c: ...", or "" */
  char payload[65];             /* what is signed for the bytes */
};
/* May bytes go without a signature of their own, if the server checks them by CRC-32C? */
bool prelux_s3_trusts_way(const struct prelux_s3 *s);
void prelux_s3_crc_text(uint32_t crc, char out[PRELUX_S3_CRC_TEXT]);
/* Of [off, off+len) of fd. -EINVAL: it ends before; else an errno of reading, -ENOMEM. */
int prelux_s3_digest(const struct prelux_s3 *s, int fd, uint64_t off, uint64_t len, struct prelux_s3_digest *ret,
                     struct prelux_problem *why);
/* The same of a part: without MD5 where the server needs none. crc: of an upload that was begun with PRELUX_S3_CRC_UPLOAD. */
int prelux_s3_digest_part(const struct prelux_s3 *s, int fd, uint64_t off, uint64_t len, bool crc,
                          struct prelux_s3_digest *ret, struct prelux_problem *why);
/* Do the bytes of a whole object go unsigned, with a sum that costs next to nothing? */
bool prelux_s3_cheap_put(const struct prelux_s3 *s);
/* Does the answer tell another CRC than went with the bytes? */
bool prelux_s3_digest_denied(const struct prelux_s3_digest *d, const struct prelux_net_answer *a);
/* It has refused them, for what arrived is not what was sent. */
bool prelux_s3_says_damaged(const struct prelux_net_answer *a);
/* Are these the bytes that the answer says it has stored? Yes, too, when it does not say. */
bool prelux_s3_digest_agrees(const struct prelux_s3 *s, const struct prelux_s3_digest *d,
                             const struct prelux_object *stored);

/* s3_change.c */

/* A condition as the wire wants it. */
struct prelux_s3_guard
{
  char header[PRELUX_VERSION_MAX + 32]; /* "": none */
  int unmet;                            /* errno when the server says it does not hold; 0: there is none */
};
/* -EOPNOTSUPP: this server does not keep it (`needs`: the cap that PRELUX_MUST_BE_VERSION asks for); -EINVAL; -ESTALE:
 * nothing is of such a version; an error of `able`. */
int prelux_s3_guard(struct prelux_s3 *s, const struct prelux_condition *cond, unsigned needs,
                    struct prelux_s3_guard *ret, struct prelux_problem *why);
/* A request whose effect lasts, sent with `once`. Asks again what surely was not done, and after answers that leave it
 * open (5xx). 0: a 2xx answer without an <Error> in it. -errno: nothing was changed, or -PRELUX_EUNKNOWN. Free *ret in
 * any case. */
int prelux_s3_change(struct prelux_s3 *s, const struct prelux_s3_ask *ask, const struct prelux_s3_guard *guard,
                     struct prelux_net_answer *ret, struct prelux_problem *why);
/* The same for what is harmless when done twice, so that nothing stays unknown: 0 or -errno, never -PRELUX_EUNKNOWN. */
int prelux_s3_harmless(struct prelux_s3 *s, const struct prelux_s3_ask *ask, struct prelux_net_answer *ret,
                       struct prelux_problem *why);
/* The answer is an <Error> of one of these codes (NULL-terminated). */
bool prelux_s3_says(const struct prelux_net_answer *a, const char *const *codes);
int prelux_s3_unknown(struct prelux_s3 *s, const char *key, const char *text, struct prelux_problem *why);

/* s3_write.c */

/* The key under which `path` is to be written. -EOPNOTSUPP, -ENAMETOOLONG. */
int prelux_s3_writable(struct prelux_s3 *s, const char *path, bool slash, char out[PRELUX_S3_KEY_MAX],
                       struct prelux_problem *why);
/* -EISDIR when the target is a folder, with PRELUX_MUST_BE_ABSENT -EEXIST. */
int prelux_s3_no_folder(struct prelux_s3 *s, const char *path, const struct prelux_condition *cond,
                        struct prelux_problem *why);
/* The object that an answer to a change tells of: size, version, time by the server's clock. */
void prelux_s3_made(struct prelux_s3 *s, struct prelux_net_answer *a, uint64_t size, struct prelux_object *ret);
/* Its ETag from the document `root` of the answer. 0, or -EPROTO: it is none. */
int prelux_s3_etag_of(struct prelux_net_answer *a, const char *root);

/* s3_able.c */
int prelux_s3_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why);
/* -EOPNOTSUPP unless all these bits are there. */
int prelux_s3_needs(struct prelux_s3 *s, unsigned caps, const char *what, struct prelux_problem *why);

/* s3_multipart.c */
int prelux_s3_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                    char token[PRELUX_TOKEN_MAX], struct prelux_problem *why);
int prelux_s3_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                   uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why);
int prelux_s3_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts,
                       size_t n, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                       struct prelux_problem *why);
int prelux_s3_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why);

/* The same by key and upload id. */
#define PRELUX_S3_UPLOAD_ID_MAX 1400
#define PRELUX_S3_CRC_UPLOAD "x-amz-checksum-algorithm: CRC32C" /* a header: each part brings its own, `complete` all ... */
#define PRELUX_S3_CRC_WHOLE "x-amz-checksum-type: FULL_OBJECT"   /* ... and the object has one of all its bytes, which reading asks for (s3_sums.c) */
int prelux_s3_upload_begin(struct prelux_s3 *s, const char *key, const char *const *headers,
                           char id[PRELUX_S3_UPLOAD_ID_MAX], struct prelux_problem *why);
int prelux_s3_upload_abort(struct prelux_s3 *s, const char *key, const char *id, struct prelux_problem *why);
/* A part that was sent. */
struct prelux_s3_sent
{
  const char *etag;             /* without quotes */
  char crc[PRELUX_S3_CRC_TEXT]; /* "": it went without */
};
/* parts: 1 to n. */
int prelux_s3_upload_complete(struct prelux_s3 *s, const char *key, const char *id, const struct prelux_s3_sent *parts,
                              size_t n, uint64_t size, const struct prelux_s3_guard *guard, struct prelux_object *ret,
                              struct prelux_problem *why);
/* The body of that request; free it. NULL: no memory. */
char *prelux_s3_parts_document(const struct prelux_s3_sent *parts, size_t n);
/* "?partNumber=N&uploadId=ID", or without a number (0). -EOPNOTSUPP: too long. */
int prelux_s3_upload_query(char *out, size_t cap, size_t number, const char *id, struct prelux_problem *why);
/* The token of an upload, with or without PRELUX_S3_CRC_UPLOAD. Length, or -EPROTO: too long. */
int prelux_s3_token(const char *key, const char *id, bool crc, char token[PRELUX_TOKEN_MAX],
                    struct prelux_problem *why);

/* s3_uploads.c */
int prelux_s3_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                      struct prelux_problem *why);
int prelux_s3_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);

/* s3_copy.c */
int prelux_s3_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                   const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
int prelux_s3_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                     struct prelux_object *ret, struct prelux_problem *why);

/* s3_names.c */
int prelux_s3_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                     struct prelux_problem *why);
int prelux_s3_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
int prelux_s3_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why);
int prelux_s3_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                       const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why);

#endif
