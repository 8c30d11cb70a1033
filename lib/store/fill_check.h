/* Whether what came is what the remote has: its checksum, where one is offered, and its version; and what the file becomes then. */
#ifndef PRELUX_STORE_FILL_CHECK_H
#define PRELUX_STORE_FILL_CHECK_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/store/private.h"

/* A checksum that is being computed. */
struct prelux_check {
  EVP_MD_CTX *md5; /* NULL, and no crc: there is nothing to compare with, or this host forbids MD5 (FIPS) */
  bool crc;
  struct prelux_sum sum; /* what the crc shall be */
  uint64_t now;
};
/* sum NULL: the MD5 that obj has, if it has one. */
void prelux_check_begin(struct prelux_check *c, const struct prelux_object *obj, const struct prelux_sum *sum);
bool prelux_check_any(const struct prelux_check *c);
int prelux_check_add(struct prelux_check *c, const void *bytes, size_t len); /* 0 or -EIO */
/* [from, to) of what lies on the disk. 0 or -EIO. */
int prelux_check_file(struct prelux_check *c, int fd, uint64_t from, uint64_t to);
/* Its end, and no more is held. 0; -EPROTO: these are other bytes, says *why (may be NULL); -EIO. */
int prelux_check_end(struct prelux_check *c, const char *object, const struct prelux_object *obj, struct prelux_problem *why);
void prelux_check_release(struct prelux_check *c);
/* 0: the remote still has this version, of which all bytes have come. */
int prelux_check_version(const struct prelux_view *v, const char *object, const struct prelux_object *obj, struct prelux_problem *why);
/* mtime and mode of a cache file that is whole; head: its first bytes. 0 or -errno. */
int prelux_dress(struct prelux_store *s, const struct prelux_object *obj, int fd, const unsigned char head[4]);

#endif
