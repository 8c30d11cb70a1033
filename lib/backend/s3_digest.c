/* Checksums of what is sent. Every server checks Content-MD5, and answers an ETag that is the same MD5 (but for objects
 * encrypted by a key service), which we check. What is signed of the bytes is their SHA-256 where everybody on the way
 * could change them (http), and nothing where TLS has the same duty. Both are had from one pass over the file.
 *
 * MD5 costs two to three times what sending does, here and at the server, which takes the one of the header besides the
 * one of the ETag. A server that has shown that it refuses what is not of the CRC-32C beside it (s3_able.c: of whole
 * objects, and of parts) gets that alone, which costs next to nothing, where nobody on the way could change bytes and
 * sum: over TLS, or within this machine. One that has shown the same of the signed SHA-256 gets parts with that alone,
 * over TLS, too. */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/crc.h"
#include "lib/backend/s3_write.h"
#include "lib/base/os.h"

#define BUFFER (256u << 10)

struct sums
{
  EVP_MD_CTX *md5, *sha;
  bool crc;
  uint32_t crc_now;
};

bool prelux_s3_trusts_way(const struct prelux_s3 *s)
{
  bool safe = s->loopback || (prelux_s3_https(s) && !s->tls.insecure);
  return s->sign == PRELUX_S3_SIGN_AUTO ? safe : s->sign == PRELUX_S3_SIGN_NEVER;
}

/* Within this machine only what has shown that it takes unsigned bytes gets them: some want TLS for that. */
static bool signs(const struct prelux_s3 *s)
{
  bool takes_unsigned = s->sign == PRELUX_S3_SIGN_NEVER || prelux_s3_https(s) || atomic_load(&s->checks_crc);
  return !prelux_s3_trusts_way(s) || !takes_unsigned;
}

void prelux_s3_crc_text(uint32_t crc, char out[PRELUX_S3_CRC_TEXT])
{
  const unsigned char bytes[] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16), (unsigned char)(crc >> 8),
                                 (unsigned char)crc};
  EVP_EncodeBlock((unsigned char *)out, bytes, sizeof(bytes));
}

static bool begin(struct sums *d, bool md5, bool sha)
{
  d->md5 = md5 ? EVP_MD_CTX_new() : NULL;
  d->sha = sha ? EVP_MD_CTX_new() : NULL;
  return (!md5 || (d->md5 && EVP_DigestInit_ex(d->md5, EVP_md5(), NULL) == 1)) &&
         (!sha || (d->sha && EVP_DigestInit_ex(d->sha, EVP_sha256(), NULL) == 1));
}

static int add(struct sums *d, const void *buf, size_t n)
{
  if (d->crc)
    d->crc_now = (uint32_t)prelux_crc(PRELUX_CRC32C, d->crc_now, buf, n);
  return (!d->md5 || EVP_DigestUpdate(d->md5, buf, n) == 1) && (!d->sha || EVP_DigestUpdate(d->sha, buf, n) == 1)
             ? 0
             : -ENOMEM;
}

static int pass_over(struct sums *d, int fd, uint64_t off, uint64_t len, struct prelux_problem *why)
{
  char *buf = malloc(BUFFER);
  int rc = buf ? 0 : -ENOMEM;
  for (uint64_t done = 0; done < len && rc == 0;)
  {
    size_t want = len - done < BUFFER ? (size_t)(len - done) : BUFFER;
    ssize_t n = prelux_os.pread(fd, buf, want, (off_t)(off + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      rc = prelux_problem(why, EIO, "the file to be sent cannot be read: %s", strerror(errno));
    else if (n == 0)
      rc = prelux_problem(why, EINVAL, "the file to be sent ends after %" PRIu64 " bytes", off + done);
    else
      rc = add(d, buf, (size_t)n);
    done += n > 0 ? (uint64_t)n : 0;
  }
  free(buf);
  return rc;
}

static int finish(struct sums *d, struct prelux_s3_digest *ret)
{
  unsigned char md5[EVP_MAX_MD_SIZE], sha[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  *ret = (struct prelux_s3_digest){.payload = PRELUX_AWS_UNSIGNED};
  if (d->md5 && (EVP_DigestFinal_ex(d->md5, md5, &n) != 1 || n != 16))
    return -ENOMEM;
  for (int i = 0; d->md5 && i < 16; i++)
    snprintf(ret->md5 + 2 * i, 3, "%02x", md5[i]);
  if (d->md5)
  {
    strcpy(ret->header, "Content-MD5: ");
    EVP_EncodeBlock((unsigned char *)ret->header + strlen(ret->header), md5, 16);
  }
  if (d->crc)
  {
    prelux_s3_crc_text(d->crc_now, ret->crc);
    snprintf(ret->header, sizeof(ret->header), "x-amz-checksum-crc32c: %s", ret->crc);
  }
  if (d->sha && (EVP_DigestFinal_ex(d->sha, sha, &n) != 1 || n != 32))
    return -ENOMEM;
  for (int i = 0; d->sha && i < 32; i++)
    snprintf(ret->payload + 2 * i, 3, "%02x", sha[i]);
  return 0;
}

enum
{
  MD5 = 1,
  SHA = 2,
  CRC = 4 /* not with MD5: there is one header */
};

static int digest(int fd, uint64_t off, uint64_t len, unsigned which, struct prelux_s3_digest *ret,
                  struct prelux_problem *why)
{
  struct sums d = {.crc = which & CRC};
  int rc = begin(&d, which & MD5, which & SHA) ? pass_over(&d, fd, off, len, why) : -ENOMEM;
  if (rc == 0)
    rc = finish(&d, ret);
  EVP_MD_CTX_free(d.md5);
  EVP_MD_CTX_free(d.sha);
  return rc == -ENOMEM ? prelux_problem(why, ENOMEM, "no memory for checksums") : rc;
}

int prelux_s3_digest(const struct prelux_s3 *s, int fd, uint64_t off, uint64_t len, struct prelux_s3_digest *ret,
                     struct prelux_problem *why)
{
  unsigned sum = atomic_load(&s->checks_crc_put) && prelux_s3_trusts_way(s) && !atomic_load(&s->wants_md5) ? CRC : MD5;
  return digest(fd, off, len, signs(s) ? sum | SHA : sum, ret, why);
}

bool prelux_s3_cheap_put(const struct prelux_s3 *s)
{
  return atomic_load(&s->checks_crc_put) && !signs(s) && !atomic_load(&s->wants_md5);
}

int prelux_s3_digest_part(const struct prelux_s3 *s, int fd, uint64_t off, uint64_t len, bool crc,
                          struct prelux_s3_digest *ret, struct prelux_problem *why)
{
  if (crc)
    return digest(fd, off, len, signs(s) ? CRC | SHA : CRC, ret, why);
  if (s->sign == PRELUX_S3_SIGN_NEVER || !atomic_load(&s->checks_sha) || atomic_load(&s->wants_md5))
    return digest(fd, off, len, signs(s) ? MD5 | SHA : MD5, ret, why);
  return digest(fd, off, len, SHA, ret, why);
}

bool prelux_s3_digest_denied(const struct prelux_s3_digest *d, const struct prelux_net_answer *a)
{
  char told[PRELUX_S3_CRC_TEXT];
  return d->crc[0] && prelux_net_header(a, "x-amz-checksum-crc32c", told, sizeof(told)) == PRELUX_S3_CRC_TEXT - 1 && strcmp(told, d->crc) != 0;
}

bool prelux_s3_says_damaged(const struct prelux_net_answer *a)
{
  static const char *const damaged[] = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", NULL};
  return a->status == 400 && prelux_s3_says(a, damaged);
}

bool prelux_s3_digest_agrees(const struct prelux_s3 *s, const struct prelux_s3_digest *d,
                             const struct prelux_object *stored)
{
  return s->no_md5 || !stored->md5[0] || !d->md5[0] || strcmp(stored->md5, d->md5) == 0;
}
