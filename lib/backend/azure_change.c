/* Backend `azure`, writing: one request that changes something, and what may be made of its outcome.
 *
 * Theory of operation. What surely was not done (no connection, 429, 503 ServerBusy, an MD5 that does not match)
 * lib/net sends again by itself. What may have been done (the connection broke, the time ran out, 500, a gateway's 502
 * or 504) is "lost": it is sent again only when it is harmless to be done twice, that is when it is guarded by a
 * version (the second fails when the first was done), or names blocks that only this upload has. A refusal of a try
 * after a lost one proves nothing: -PRELUX_EUNKNOWN. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure_sign.h"
#include "lib/backend/azure_write.h"
#include "lib/base/os.h"

#define TRIES 4
#define PIECE (256u << 10)

int prelux_azure_progress(void *arg, uint64_t done)
{
  struct prelux_azure_watch *w = arg;
  if (!w->how->progress || w->base + done >= w->size)
    return 0; /* all of it is with the connection: too late to stop it */
  int rc = w->how->progress(w->how->arg, w->base + done);
  if (rc < 0)
    w->stopped = rc;
  return rc;
}

static bool has_code(const struct prelux_net_answer *a, const char *code)
{
  char text[96];
  return prelux_net_header(a, "x-ms-error-code", text, sizeof(text)) > 0 && strcmp(text, code) == 0;
}

/* Answers that say: not done, ask again. */
static bool not_done(const struct prelux_net_answer *a)
{
  return a->status == 429 || (a->status == 503 && has_code(a, "ServerBusy")) ||
         (a->status == 400 && has_code(a, "Md5Mismatch"));
}

/* Answers that do not say whether it was done. */
static bool unclear(const struct prelux_net_answer *a)
{
  return a->status < 300 || a->status == 408 ||
         (a->status >= 500 && a->status != 501 && a->status != 505 && !not_done(a));
}

static int say_lost(const struct prelux_azure_change *c, const struct prelux_problem *own, struct prelux_problem *why)
{
  char shown[200];
  prelux_url_show(shown, sizeof(shown), c->call.url);
  if (own->text[0] && c->answer.status == 0)
    return prelux_problem(why, PRELUX_EUNKNOWN, "%.300s: it may have been done", own->text);
  return prelux_problem(why, PRELUX_EUNKNOWN, "%s %s: HTTP %d: it may have been done", c->call.method, shown,
                        c->answer.status);
}

static int refused(struct prelux_azure *z, struct prelux_azure_change *c, int rc, struct prelux_problem *own,
                   struct prelux_problem *why)
{
  rc = rc < 0 ? prelux_azure_failed(rc) : prelux_azure_refused(z, &c->answer, c->call.method, c->call.url, own);
  if (rc == -ESTALE && c->call.absent)
    rc = -EEXIST;
  c->refused = rc;
  if (c->lost)
    return say_lost(c, own, why);
  if (why)
  {
    *why = *own;
    why->err = -rc;
  }
  return rc;
}

static int stopped(const struct prelux_azure_change *c, const struct prelux_problem *own, struct prelux_problem *why)
{
  if (c->lost)
    return say_lost(c, own, why);
  return prelux_problem(why, -c->watch->stopped, "%s", own->text[0] ? own->text : "stopped");
}

int prelux_azure_change(struct prelux_azure *z, struct prelux_azure_change *c, struct prelux_problem *why)
{
  c->lost = false;
  c->refused = 0;
  c->call.once = true;
  c->call.again = not_done;
  for (int tries = 1;; tries++)
  {
    struct prelux_problem own = {0};
    int rc = prelux_azure_call(z, &c->call, &c->answer, &own);
    if (rc == 0 && c->answer.status == c->expect)
      return 0;
    if (rc < 0 && c->watch && c->watch->stopped)
      return stopped(c, &own, why);
    bool short_body = rc == -EINVAL && c->call.upload;
    if (short_body || (rc < 0 ? !c->answer.sent : !unclear(&c->answer)))
      return short_body && !c->lost ? prelux_problem(why, EINVAL, "%s", own.text) : refused(z, c, rc, &own, why);
    c->lost = true;
    if (!c->harmless || tries == TRIES || prelux_net_backoff(z->net, tries) < 0)
      return say_lost(c, &own, why);
    prelux_net_answer_free(&c->answer);
  }
}

int prelux_azure_guard(struct prelux_azure_call *call, const struct prelux_condition *cond, struct prelux_problem *why)
{
  char same[PRELUX_VERSION_MAX];
  call->absent = cond->must == PRELUX_MUST_BE_ABSENT;
  if (cond->must != PRELUX_MUST_BE_VERSION)
    return 0;
  if (!cond->version[0])
    return prelux_problem(why, EINVAL, "no version was given");
  if (strncmp(cond->version, "e:", 2) != 0 || !prelux_azure_version(cond->version + 2, same) ||
      strcmp(same, cond->version) != 0)
    return prelux_problem(why, ESTALE, "no blob ever had version %.100s", cond->version);
  call->etag = cond->version + 2;
  return 0;
}

/* Checksums. */

static void finish(EVP_MD_CTX *ctx, struct prelux_azure_md5 *ret)
{
  char text[25];
  unsigned n = 0;
  EVP_DigestFinal_ex(ctx, ret->bytes, &n);
  EVP_EncodeBlock((unsigned char *)text, ret->bytes, 16);
  snprintf(ret->header, sizeof(ret->header), "Content-MD5: %s", text);
  prelux_azure_md5(text, ret->hex);
}

void prelux_azure_hash_end(EVP_MD_CTX *whole, struct prelux_azure_md5 *ret)
{
  finish(whole, ret);
}

static EVP_MD_CTX *start(void)
{
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (ctx && !EVP_DigestInit_ex(ctx, EVP_md5(), NULL))
  {
    EVP_MD_CTX_free(ctx);
    ctx = NULL;
  }
  return ctx;
}

int prelux_azure_hash_text(const void *text, size_t len, struct prelux_azure_md5 *ret, struct prelux_problem *why)
{
  EVP_MD_CTX *ctx = start();
  if (!ctx)
    return prelux_problem(why, ENOMEM, "no memory for a checksum");
  EVP_DigestUpdate(ctx, text, len);
  finish(ctx, ret);
  EVP_MD_CTX_free(ctx);
  return 0;
}

static int add_file(EVP_MD_CTX *ctx, EVP_MD_CTX *whole, int fd, uint64_t off, uint64_t len, char *piece)
{
  while (len)
  {
    ssize_t n = prelux_os.pread(fd, piece, len < PIECE ? (size_t)len : PIECE, (off_t)off);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EINVAL;
    EVP_DigestUpdate(ctx, piece, (size_t)n);
    if (whole)
      EVP_DigestUpdate(whole, piece, (size_t)n);
    off += (uint64_t)n;
    len -= (uint64_t)n;
  }
  return 0;
}

int prelux_azure_hash(int fd, uint64_t off, uint64_t len, EVP_MD_CTX *whole, struct prelux_azure_md5 *ret,
                      struct prelux_problem *why)
{
  EVP_MD_CTX *ctx = start();
  char *piece = malloc(PIECE);
  int rc = ctx && piece ? add_file(ctx, whole, fd, off, len, piece) : -ENOMEM;
  if (rc == 0)
    finish(ctx, ret);
  EVP_MD_CTX_free(ctx);
  free(piece);
  if (rc == -EINVAL)
    return prelux_problem(why, EINVAL, "what is to be sent ends before byte %" PRIu64, off + len);
  return rc < 0 ? prelux_problem(why, -rc, "cannot read what is to be sent: %s", strerror(-rc)) : 0;
}
