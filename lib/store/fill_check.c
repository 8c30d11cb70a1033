#include "lib/store/fill_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/os.h"

#define PIECE (1u << 20)

void prelux_check_begin(struct prelux_check *c, const struct prelux_object *obj, const struct prelux_sum *sum)
{
  *c = (struct prelux_check){.crc = sum && !sum->md5[0]};
  if (sum)
    c->sum = *sum;
  else
    memcpy(c->sum.md5, obj->md5, sizeof c->sum.md5);
  c->md5 = c->sum.md5[0] ? EVP_MD_CTX_new() : NULL;
  if (c->md5 && EVP_DigestInit_ex(c->md5, EVP_md5(), NULL) != 1)
    prelux_check_release(c);
}

void prelux_check_release(struct prelux_check *c)
{
  EVP_MD_CTX_free(c->md5);
  c->md5 = NULL;
}

bool prelux_check_any(const struct prelux_check *c)
{
  return c->crc || c->md5;
}

int prelux_check_add(struct prelux_check *c, const void *bytes, size_t len)
{
  if (c->crc)
    c->now = prelux_crc(c->sum.kind, c->now, bytes, len);
  return !c->md5 || EVP_DigestUpdate(c->md5, bytes, len) == 1 ? 0 : -EIO;
}

int prelux_check_file(struct prelux_check *c, int fd, uint64_t from, uint64_t to)
{
  char *buf = malloc(PIECE);
  ssize_t n = buf ? 0 : -1;
  for (uint64_t at = from; n >= 0 && at < to; at += n > 0 ? (uint64_t)n : 0)
  {
    n = prelux_os.pread(fd, buf, to - at < PIECE ? to - at : PIECE, (off_t)at);
    if (n < 0 && errno == EINTR)
      n = 0;
    else if (n == 0 || (n > 0 && prelux_check_add(c, buf, (size_t)n) < 0))
      n = -1;
  }
  free(buf);
  return n >= 0 ? 0 : -EIO;
}

#define HEX (2 * EVP_MAX_MD_SIZE + 1)

static const char *const crcs[PRELUX_CRC_KINDS] = {[PRELUX_CRC32] = "CRC-32", [PRELUX_CRC32C] = "CRC-32C", [PRELUX_CRC64NVME] = "CRC-64/NVME"};

/* In hex; a CRC's digits are as many as it has. */
static int finish(struct prelux_check *c, char ret[HEX])
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (c->crc)
    snprintf(ret, HEX, "%0*llx", (int)(2 * prelux_crc_size(c->sum.kind)), (unsigned long long)c->now);
  else if (EVP_DigestFinal_ex(c->md5, digest, &n) != 1)
    return -EIO;
  for (unsigned i = 0; i < n; i++)
    snprintf(ret + 2 * i, 3, "%02x", digest[i]);
  return 0;
}

int prelux_check_end(struct prelux_check *c, const char *object, const struct prelux_object *obj, struct prelux_problem *why)
{
  char is[HEX], should[HEX];
  if (!prelux_check_any(c))
    return 0;
  snprintf(should, sizeof should, "%s", c->sum.md5);
  if (c->crc)
    snprintf(should, sizeof should, "%0*llx", (int)(2 * prelux_crc_size(c->sum.kind)), (unsigned long long)c->sum.value);
  int rc = finish(c, is);
  prelux_check_release(c);
  if (rc < 0)
    return prelux_problem(why, EIO, "%.200s: no checksum", object);
  if (strcmp(is, should) == 0)
    return 0;
  return prelux_problem(why, EPROTO, "%.200s: the bytes have %s %s, the remote says %s", object, c->crc ? crcs[c->sum.kind] : "MD5", is, should);
}

int prelux_check_version(const struct prelux_view *v, const char *object, const struct prelux_object *obj, struct prelux_problem *why)
{
  struct prelux_object now = {0};
  if ((v->backend->ops->caps & PRELUX_CAP_CONDITIONAL) && obj->version[0])
    return 0;
  int rc = v->backend->ops->stat(v->backend, object, &now, why);
  if (rc < 0)
    return rc == -ENOENT ? -ESTALE : rc;
  /* A remote that shows neither version nor time: equal length is all there is to see. */
  bool blind = !obj->version[0] && !now.version[0] && (!obj->mtime_ns || obj->mtime_rough);
  if (blind ? now.type == obj->type && now.size == obj->size : prelux_object_same(&now, obj))
    return 0;
  return prelux_problem(why, ESTALE, "%.200s: changed on the remote while it was read", object);
}

/* The kernel must be able to run programs and scripts that lie there. */
static bool runnable(const struct prelux_object *obj, const unsigned char head[4])
{
  return (obj->mode & 0111) || (head[0] == '#' && head[1] == '!') || memcmp(head, "\x7f" "ELF", 4) == 0;
}

int prelux_dress(struct prelux_store *s, const struct prelux_object *obj, int fd, const unsigned char head[4])
{
  struct timespec ts[2] = {{.tv_nsec = UTIME_NOW},
                           {.tv_sec = obj->mtime_ns / 1000000000, .tv_nsec = obj->mtime_ns % 1000000000}};
  if (ts[1].tv_nsec < 0)
  {
    ts[1].tv_sec--;
    ts[1].tv_nsec += 1000000000;
  }
  if (prelux_os.fchmod(fd, s->read_bits | (runnable(obj, head) ? s->exec_bits : 0)) < 0)
    return -errno;
  return obj->mtime_ns && prelux_os.futimens(fd, ts) < 0 ? -errno : 0;
}
