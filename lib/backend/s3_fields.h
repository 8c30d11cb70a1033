/* S3's small XML answers (of uploads, copies, parts), as fields: pure, and as careful as s3_xml.h about what servers
 * send. */
#ifndef PRELUX_BACKEND_S3_FIELDS_H
#define PRELUX_BACKEND_S3_FIELDS_H

#include <stddef.h>

#define PRELUX_S3_NAME_MAX 48

/* One element that holds text: `outer` is the element that it stands in, "" when that is the document. A document's
 * elements come in its order, and after the last field of an `outer` comes that outer itself, with text "". -errno ends
 * it. */
typedef int (*prelux_s3_field_fn)(void *arg, const char *outer, const char *name, const char *text);

/* 0 and the name of the document, or -EPROTO (no XML, a DTD, too deep, a text too long), -ENOMEM, or add's. */
int prelux_s3_fields(const char *body, size_t len, char root[PRELUX_S3_NAME_MAX], prelux_s3_field_fn add, void *arg);

/* The text of one field of the document `root`, not of what is inside others: 0, -ENOENT (no such field), -EPROTO
 * (another document, no XML, does not fit). */
int prelux_s3_field(const char *body, size_t len, const char *root, const char *name, char *out, size_t cap);

#endif
