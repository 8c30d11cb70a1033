/* AWS Signature Version 4: the headers that prove who sends a request. Pure but for libcrypto; knows nothing of S3. */
#ifndef PRELUX_BACKEND_AWS_SIGN_H
#define PRELUX_BACKEND_AWS_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prelux_aws_keys
{
  const char *access, *secret;
  const char *token; /* of temporary keys; NULL: none */
};

#define PRELUX_AWS_UNSIGNED "UNSIGNED-PAYLOAD"
#define PRELUX_AWS_HEADERS 4

struct prelux_aws_request
{
  const char *method;
  const char *url; /* as it is sent: its path is the canonical one, names and values of its query are encoded */
  const char *const *headers; /* "Name: value", to be signed beside host and ours; NULL-terminated, may be NULL */
  const char *payload;        /* hex SHA-256 of the body, or PRELUX_AWS_UNSIGNED; NULL: there is no body */
  const char *region, *service;
  int64_t when_s;      /* seconds since the epoch */
  bool content_header; /* x-amz-content-sha256 too: S3 wants it */
};

/* Header lines to be sent, NULL-terminated; secret. */
struct prelux_aws_headers
{
  char *lines[PRELUX_AWS_HEADERS + 1];
};

/* 0, -EINVAL (a URL that cannot be read, a control character in a key), -ENOMEM. Release *ret after success. */
int prelux_aws_sign(const struct prelux_aws_keys *keys, const struct prelux_aws_request *request,
                    struct prelux_aws_headers *ret);
void prelux_aws_headers_release(struct prelux_aws_headers *h);

/* Hex SHA-256 of a body. */
int prelux_aws_payload(const void *body, size_t len, char out[65]);

/* Appends "name=value", the value encoded (every byte but the unreserved), with '?' or '&' before it. Length of out, or
 * -ENAMETOOLONG. */
long prelux_aws_query(char *out, size_t cap, const char *name, const char *value, size_t value_len);

#endif
