/* A page of List Blobs, taken apart while it comes. */
#ifndef PRELUX_BACKEND_AZURE_XML_H
#define PRELUX_BACKEND_AZURE_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prelux_azure_xml;

struct prelux_azure_entry {
  const char *name; /* full blob name or prefix, decoded, NUL-terminated */
  size_t name_len;
  bool prefix;      /* a BlobPrefix */
  bool folder;      /* a blob that stands for a folder */
  bool archived;
  bool pending;     /* being copied by the server: of no version yet */
  uint64_t size;    /* UINT64_MAX: not said */
  int64_t mtime_ns; /* Last-Modified */
  int64_t kept_mtime_ns; /* what the metadata say, where has_mtime is set */
  bool has_mtime;
  uint32_t mode;    /* what the metadata say, 0: nothing */
  char etag[160];   /* bare or quoted, "" when not said */
  char md5[33];
};

/* on_entry: 0 to go on, -errno to stop: feed() then returns that. */
struct prelux_azure_xml *prelux_azure_xml_create(int (*on_entry)(void *arg, const struct prelux_azure_entry *e), void *arg);
void prelux_azure_xml_free(struct prelux_azure_xml *x);
/* 0, -EPROTO: no page of a listing, or broken, or with a DTD; -ENOMEM; or what on_entry said. */
int prelux_azure_xml_feed(struct prelux_azure_xml *x, const void *buf, size_t len);
/* The page is whole. *ret_marker (malloc'd): where the next begins, NULL: this was the last. */
int prelux_azure_xml_end(struct prelux_azure_xml *x, char **ret_marker);

#endif
