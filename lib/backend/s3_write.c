/* Backend `s3`, writing: whole objects.
 *
 * A put is one PutObject, which readers see whole or not at all. Its condition is the server's own (If-Match,
 * If-None-Match), where the server has shown that it keeps it (s3_able.c); where not, it is refused. Bytes are read
 * twice, once for their checksums; a server that answers another checksum than was sent has stored something else, and
 * nobody knows what.
 *
 * Folders are what keys have in common, so no op makes the folders above. That the target is a folder is looked up
 * before, not tested in one step: the server knows no folders, and an object of a folder's name harms nothing that lies
 * below. Mode and time of a file are not kept: they could be metadata, but a listing shows none, so that stat and list
 * would disagree. */
#include "lib/backend/s3_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/s3_fields.h"

#define KEY_BYTES_MAX 1024u /* S3's own limit */
#define NAME_BYTES_MAX 255u /* a longer one could not be shown as a file */

/* Names */

/* Length of the UTF-8 sequence at s, 0: it is none. *ret_code: what it stands for. */
static size_t utf8(const unsigned char *s, unsigned *ret_code)
{
  static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 && s[0] < 0xf8 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
  unsigned code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
  if (s[0] >= 0xf8)
    return 0;
  for (size_t i = 1; i < n; i++)
  {
    if ((s[i] & 0xc0) != 0x80)
      return 0;
    code = code << 6 | (s[i] & 0x3f);
  }
  *ret_code = code;
  return n && code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? n : 0;
}

/* Keys are Unicode. In a listing that is not encoded XML has no way to say most control characters. */
static int check_text(const char *path, bool plain, struct prelux_problem *why)
{
  unsigned code = 0;
  size_t n;
  for (const unsigned char *s = (const unsigned char *)path; *s; s += n)
  {
    n = utf8(s, &code);
    if (n == 0)
      return prelux_problem(why, EOPNOTSUPP, "a name that is not UTF-8 can be no key");
    bool unsayable = (code < ' ' && !strchr("\t\n\r", (int)code)) || code == 0xfffd || code == 0xfffe || code == 0xffff;
    if (plain && unsayable)
      return prelux_problem(why, EOPNOTSUPP, "the server cannot list a name with a control character");
  }
  return 0;
}

int prelux_s3_writable(struct prelux_s3 *s, const char *path, bool slash, char out[PRELUX_S3_KEY_MAX],
                       struct prelux_problem *why)
{
  if (prelux_s3_hidden(path))
    return prelux_problem(why, EOPNOTSUPP, "%.200s: names that begin with " PRELUX_S3_HIDDEN " are kept", path);
  for (const char *name = path; *name; name += strcspn(name, "/"))
  {
    name += *name == '/';
    if (strcspn(name, "/") > NAME_BYTES_MAX)
      return prelux_problem(why, ENAMETOOLONG, "a name of more than %u bytes", NAME_BYTES_MAX);
  }
  long n = prelux_s3_key(s, path, slash, out, why);
  if (n < 0)
    return (int)n;
  if (n > (long)KEY_BYTES_MAX)
    return prelux_problem(why, ENAMETOOLONG, "a key of more than %u bytes", KEY_BYTES_MAX);
  return check_text(path, atomic_load_explicit(&s->plain_listings, memory_order_relaxed), why);
}

int prelux_s3_no_folder(struct prelux_s3 *s, const char *path, const struct prelux_condition *cond,
                        struct prelux_problem *why)
{
  struct prelux_object obj;
  if (cond->must == PRELUX_MUST_BE_VERSION)
    return 0; /* then an object is there, or nothing is put */
  int rc = prelux_s3_is_folder(s, path, why);
  if (rc == -EPROTO && check_text(path, true, why) < 0)
    return -EOPNOTSUPP; /* it encodes keys, and says the name raw elsewhere in the document (rclone) */
  if (rc > 0)
    rc = s->base.ops->stat(&s->base, path, &obj, why) < 0 || obj.type == PRELUX_DIR; /* an object with bytes wins */
  if (rc <= 0)
    return rc;
  return prelux_problem(why, cond->must == PRELUX_MUST_BE_ABSENT ? EEXIST : EISDIR, "%.200s is a folder", path);
}

/* What was made */

int prelux_s3_etag_of(struct prelux_net_answer *a, const char *root)
{
  int rc = prelux_s3_field(a->body, a->body_len, root, "ETag", a->etag, sizeof(a->etag));
  return rc == 0 && a->etag[0] ? 0 : -EPROTO;
}

void prelux_s3_made(struct prelux_s3 *s, struct prelux_net_answer *a, uint64_t size, struct prelux_object *ret)
{
  prelux_s3_file_of(s, a, size, ret);
  if (ret->version[0] != 'e' && ret->version[0] != 'h')
    ret->version[0] = 0; /* no ETag: nothing names these bytes */
  if (!ret->mtime_ns)
    ret->mtime_ns = prelux_http_date(a->date);
}

/* put */

struct putting
{
  struct prelux_s3 *s;
  const char *key;
  int fd;
  uint64_t size;
  const struct prelux_put *how;
  struct prelux_s3_guard guard;
  struct prelux_problem *why;
};

/* 0, -errno, or 1: what arrived is not what was sent, and the server has refused it. */
static int send_once(const struct putting *p, struct prelux_object *ret)
{
  struct prelux_s3_digest digest;
  struct prelux_net_answer a;
  int rc = prelux_s3_digest(p->s, p->fd, 0, p->size, &digest, p->why);
  if (rc < 0)
    return rc;
  struct prelux_net_upload upload = {.fd = p->fd, .len = p->size, .progress = p->how->progress, .arg = p->how->arg};
  const char *headers[] = {digest.header, "Content-Type: application/octet-stream",
                           p->guard.header[0] ? p->guard.header : NULL, NULL};
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_PUTS, .key = p->key, .headers = headers, .upload = &upload, .payload = digest.payload};
  rc = prelux_s3_change(p->s, &ask, &p->guard, &a, p->why);
  if (rc == -EIO && prelux_s3_says_damaged(&a))
    rc = 1;
  if (rc == 0)
  {
    prelux_s3_made(p->s, &a, p->size, ret);
    if (!prelux_s3_digest_agrees(p->s, &digest, ret) || prelux_s3_digest_denied(&digest, &a))
      rc = prelux_s3_unknown(p->s, p->key, "the server has stored other bytes, says its answer", p->why);
  }
  prelux_net_answer_free(&a);
  return rc;
}

static int put_key(const struct putting *p, struct prelux_object *ret)
{
  for (int n = 0;; n++)
  {
    int rc = send_once(p, ret);
    if (rc <= 0)
      return rc;
    if (n + 1 == PRELUX_S3_TRIES)
      return prelux_problem(p->why, EIO, "what arrives at the server is not what was sent, %d times", PRELUX_S3_TRIES);
  }
}

static int s3_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                  struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_object made = {0};
  char *key = malloc(PRELUX_S3_KEY_MAX);
  struct putting p = {.s = s, .key = key, .fd = fd, .size = size, .how = how, .why = why};
  int rc =
      key ? prelux_s3_needs(s, PRELUX_CAP_WRITE, "writing", why) : prelux_problem(why, ENOMEM, "no memory for a key");
  if (rc == 0 && !path[0])
    rc = prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0)
    rc = prelux_s3_writable(s, path, false, key, why);
  if (rc == 0 && size > PRELUX_S3_PUT_MAX)
    rc = prelux_problem(why, EFBIG, "%.200s: S3 takes 5 GiB in one piece at most", path);
  if (rc == 0)
    rc = prelux_s3_guard(s, &how->cond, PRELUX_CAP_PUT_VERSION, &p.guard, why);
  if (rc == 0)
    rc = prelux_s3_no_folder(s, path, &how->cond, why);
  if (rc == 0)
    rc = put_key(&p, &made);
  if (rc == 0)
    *ret = made;
  free(key);
  return rc;
}

const struct prelux_backend_write prelux_s3_write = {
    .able = prelux_s3_able,
    .put = s3_put,
    .begin = prelux_s3_begin,
    .part = prelux_s3_part,
    .complete = prelux_s3_complete,
    .abort = prelux_s3_abort,
    .uploads = prelux_s3_uploads,
    .clean = prelux_s3_clean,
    .remove = prelux_s3_remove,
    .rename = prelux_s3_rename,
    .mkdir = prelux_s3_mkdir,
    .rmdir = prelux_s3_rmdir,
    .set_attr = prelux_s3_set_attr,
    .copy = prelux_s3_copy,
};
