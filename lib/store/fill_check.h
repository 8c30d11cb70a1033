/* Whether what came is what the remote has: its checksum, where one is offered (MD5), and its version; and what the file becomes then. */
#ifndef PRELUX_STORE_FILL_CHECK_H
#define PRELUX_STORE_FILL_CHECK_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/store/private.h"

/* NULL on a host that forbids MD5 (FIPS): there are length and version still. Freed by EVP_MD_CTX_free. */
EVP_MD_CTX *prelux_check_begin(void);
/* Of what lies on the disk. 0 or -EIO. */
int prelux_check_file(EVP_MD_CTX *md5, int fd, uint64_t size);
/* Its end, in hex. 0 or -EIO. */
int prelux_check_end(EVP_MD_CTX *md5, char ret[2 * EVP_MAX_MD_SIZE + 1]);
/* 0: the remote still has this version, of which all bytes have come. */
int prelux_check_version(const struct prelux_view *v, const char *object, const struct prelux_object *obj, struct prelux_problem *why);
/* mtime and mode of a cache file that is whole; head: its first bytes. 0 or -errno. */
int prelux_dress(struct prelux_store *s, const struct prelux_object *obj, int fd, const unsigned char head[4]);

#endif
