/* S3's XML, taken apart while it comes: pages of ListObjectsV2 and errors. A document with a DTD is refused, so there
 * are no entities to explode; depth and length of texts are bounded. Pure. */
#ifndef PRELUX_BACKEND_S3_XML_H
#define PRELUX_BACKEND_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRELUX_S3_TOKEN_MAX 4096
#define PRELUX_S3_ETAG_MAX 256

/* One key of a page, or one common prefix (etag, modified and size are empty then). Valid during the call only. */
struct prelux_s3_entry
{
  const char *key;
  size_t key_len;
  bool prefix;
  uint64_t size;                 /* UINT64_MAX: not said */
  int64_t modified_s;            /* 0: not said; whole seconds, as a HEAD says it */
  char etag[PRELUX_S3_ETAG_MAX]; /* as in the XML, "" when there is none or it is too long */
};

struct prelux_s3_page; /* a page in the making */

struct prelux_s3_page *prelux_s3_page_new(void);
void prelux_s3_page_free(struct prelux_s3_page *p);
/* 0, -EPROTO (no XML, not a listing, a DTD, too deep, too long), -ENOMEM; sticky. */
int prelux_s3_page_feed(struct prelux_s3_page *p, const void *data, size_t len);
/* The document is whole: its keys are decoded. */
int prelux_s3_page_end(struct prelux_s3_page *p);

/* After end(). Entries in the order of the document. */
size_t prelux_s3_page_count(const struct prelux_s3_page *p);
void prelux_s3_page_entry(const struct prelux_s3_page *p, size_t i, struct prelux_s3_entry *ret);
bool prelux_s3_page_truncated(const struct prelux_s3_page *p);
const char *prelux_s3_page_token(const struct prelux_s3_page *p); /* "" when there is none */
bool prelux_s3_page_encoded(const struct prelux_s3_page *p); /* keys came percent-encoded, so every byte is right */

struct prelux_s3_error
{
  char code[64], message[240], region[48];
};

/* The body of an error; fields that are not there are "". Texts are printable. */
void prelux_s3_error_parse(const char *body, size_t len, struct prelux_s3_error *ret);

/* "2009-10-12T17:50:30.000Z" -> seconds since the epoch, 0 when it is none. */
int64_t prelux_s3_time(const char *s);

#endif
