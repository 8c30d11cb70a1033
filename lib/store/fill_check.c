#include "lib/store/fill_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/os.h"

#define PIECE (1u << 20)

EVP_MD_CTX *prelux_check_begin(void)
{
  EVP_MD_CTX *md5 = EVP_MD_CTX_new();
  if (md5 && EVP_DigestInit_ex(md5, EVP_md5(), NULL) == 1)
    return md5;
  EVP_MD_CTX_free(md5);
  return NULL;
}

int prelux_check_file(EVP_MD_CTX *md5, int fd, uint64_t size)
{
  char *buf = malloc(PIECE);
  ssize_t n = buf ? 1 : -1;
  for (uint64_t at = 0; n > 0 && at < size; at += (uint64_t)n)
  {
    n = prelux_os.pread(fd, buf, PIECE, (off_t)at);
    if (n > 0 && EVP_DigestUpdate(md5, buf, (size_t)n) != 1)
      n = -1;
  }
  free(buf);
  return n > 0 ? 0 : -EIO;
}

int prelux_check_end(EVP_MD_CTX *md5, char ret[2 * EVP_MAX_MD_SIZE + 1])
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (EVP_DigestFinal_ex(md5, digest, &n) != 1)
    return -EIO;
  for (unsigned i = 0; i < n; i++)
    snprintf(ret + 2 * i, 3, "%02x", digest[i]);
  return 0;
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
