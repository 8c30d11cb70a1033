/* A page of the worker's S3 LIST (PROTOCOLS 2B): no prolog, elements in any order, so the continuation and the prefix it is about
 * are known only at its end. Pure. */
#ifndef PRELUX_BACKEND_ALLUXIO_XML_H
#define PRELUX_BACKEND_ALLUXIO_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRELUX_ALLUXIO_XML_TEXT 8192

struct prelux_alluxio_key {
  const char *name; /* whole key; a folder ends with a slash */
  uint64_t size;
  int64_t mtime_ms;
};

struct prelux_alluxio_xml {
  int (*each)(void *arg, const struct prelux_alluxio_key *key); /* -errno to stop */
  void *arg;
  bool truncated;
  char prefix[PRELUX_ALLUXIO_XML_TEXT], token[512];
};

/* 0; -EPROTO: no such page, declares entities, names too long, truncated without a token; -ENOMEM; or what `each` said. */
int prelux_alluxio_xml_read(struct prelux_alluxio_xml *page, const char *text, size_t len);
/* "2026-11-21T11:16:23.332Z" -> ms since the epoch; INT64_MIN: it is none. */
int64_t prelux_alluxio_xml_time(const char *s);

#endif
