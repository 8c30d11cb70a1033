/* One request that changes something, and how much is known afterwards.
 *
 * Theory of operation. Requests go out with `once`: lib/net repeats only what surely was not done (no connection; 408,
 * 429, 503), and curl nothing on its own. Here an answer is one of:
 *
 * - done: 2xx, and no <Error> in its body (completing an upload and copying begin with 200 and may end in an error)
 *
 * - refused: 4xx, 501, ...: nothing was changed, and asking again would not help
 *
 * - not now: 409 ConditionalRequestConflict, OperationAborted: nothing was changed, asking again may help
 *
 * - open: other 5xx: it may have been done, or be done yet
 *
 * What is open is asked again, since a change that was made twice by one caller, within one call, is as if it had been
 * made once at its end. But from then on a refusal proves nothing: a condition fails after our own success, too. So
 * after an open answer, or a lost one, whatever is not "done" is -PRELUX_EUNKNOWN. */
#include "lib/backend/s3_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/backend/http_version.h"
#include "lib/backend/s3_fields.h"

#define AGAIN_MS 60000 /* no attempt begins later than this after the first */

/* Conditions */

int prelux_s3_guard(struct prelux_s3 *s, const struct prelux_condition *cond, unsigned needs,
                    struct prelux_s3_guard *ret, struct prelux_problem *why)
{
  *ret = (struct prelux_s3_guard){.unmet = 0};
  if (cond->must == PRELUX_MUST_NOTHING)
    return 0;
  if (cond->must == PRELUX_MUST_BE_ABSENT)
  {
    strcpy(ret->header, "If-None-Match: *");
    ret->unmet = EEXIST;
    return prelux_s3_needs(s, PRELUX_CAP_PUT_ABSENT, "If-None-Match", why);
  }
  if (!cond->version[0])
    return prelux_problem(why, EINVAL, "a condition on no version");
  int rc = prelux_s3_needs(s, needs, "If-Match", why);
  if (rc < 0)
    return rc;
  ret->unmet = ESTALE;
  if (cond->version[0] == 'e' && cond->version[1] == ':' &&
      prelux_http_version_condition(cond->version, ret->header, sizeof(ret->header)))
    return 0;
  if (cond->version[0] && cond->version[1] == ':' && strchr("hwmn", cond->version[0]))
    return prelux_problem(why, EOPNOTSUPP, "the object has no ETag that a condition can name (%.40s)", cond->version);
  return prelux_problem(why, ESTALE, "nothing is of the version %.80s", cond->version);
}

/* Answers */

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int ignore(void *arg, const char *outer, const char *name, const char *text)
{
  return 0;
}

static bool good(const struct prelux_net_answer *a)
{
  char root[PRELUX_S3_NAME_MAX];
  if (a->status < 200 || a->status > 299)
    return false;
  return !a->body_len || prelux_s3_fields(a->body, a->body_len, root, ignore, NULL) < 0 || strcmp(root, "Error") != 0;
}

bool prelux_s3_says(const struct prelux_net_answer *a, const char *const *codes)
{
  struct prelux_s3_error e;
  prelux_s3_error_parse(a->body, a->body ? a->body_len : 0, &e);
  for (; *codes; codes++)
    if (strcmp(e.code, *codes) == 0)
      return true;
  return false;
}

int prelux_s3_unknown(struct prelux_s3 *s, const char *key, const char *text, struct prelux_problem *why)
{
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_show(s, key, shown);
  return prelux_problem(why, PRELUX_EUNKNOWN, "%s: it is not known whether it was done: %s", shown, text);
}

enum verdict
{
  DONE,
  REFUSED,
  NOT_NOW,
  OPEN
};

static enum verdict judge(const struct prelux_net_answer *a)
{
  static const char *const later[] = {"ConditionalRequestConflict", "OperationAborted", NULL};
  static const char *const busy[] = {"SlowDown", "ServiceUnavailable", NULL};
  static const char *const broken[] = {"InternalError", NULL};
  if (good(a))
    return DONE;
  if (a->status == 409)
    return prelux_s3_says(a, later) ? NOT_NOW : REFUSED;
  if (a->status >= 200 && a->status < 300) /* an error behind a 200 */
    return prelux_s3_says(a, broken) ? OPEN : prelux_s3_says(a, busy) || prelux_s3_says(a, later) ? NOT_NOW : REFUSED;
  bool open = a->status >= 500 && a->status != 501 && a->status != 503 && a->status != 505 && a->status != 507;
  return open ? OPEN : REFUSED;
}

/* A refusal, by the condition if there is one. */
static int refused(struct prelux_s3 *s, const struct prelux_s3_ask *ask, const struct prelux_s3_guard *guard,
                   const struct prelux_net_answer *a, struct prelux_problem *why)
{
  static const char *const unmet[] = {"PreconditionFailed", NULL}, *const gone[] = {"NoSuchKey", NULL};
  int rc = prelux_s3_refused(s, ask, a, why);
  if (guard && guard->unmet && (a->status == 412 || prelux_s3_says(a, unmet)))
    rc = -guard->unmet;
  else if (guard && guard->unmet == ESTALE && prelux_s3_says(a, gone))
    rc = -ESTALE;
  if (why)
    why->err = -rc;
  return rc;
}

/* The caller's `progress`, which is not asked any more when all bytes are on their way: a body that was stopped before
 * never ended, so the server cannot have taken it. */
struct watch
{
  const struct prelux_net_upload *upload;
  int stopped; /* what it said */
};

static int on_progress(void *arg, uint64_t done)
{
  struct watch *w = arg;
  if (done < w->upload->len && !w->stopped)
    w->stopped = w->upload->progress(w->upload->arg, done);
  return w->stopped;
}

/* One attempt. *ret_whole: the server may have got the whole request. */
static int attempt(struct prelux_s3 *s, const struct prelux_s3_ask *ask, struct prelux_net_answer *ret, bool *ret_whole,
                   struct prelux_problem *why)
{
  struct prelux_s3_ask once = *ask;
  struct watch w = {.upload = ask->upload};
  struct prelux_net_upload upload;
  once.once = true;
  if (ask->upload && ask->upload->progress)
  {
    upload = *ask->upload;
    upload.progress = on_progress;
    upload.arg = &w;
    once.upload = &upload;
  }
  int rc = prelux_s3_call(s, &once, ret, why);
  *ret_whole = ret->sent && !w.stopped && !(ask->upload && rc == -EINVAL); /* -EINVAL: the file ended before the body */
  return rc < 0 && w.stopped ? w.stopped : rc;
}

int prelux_s3_change(struct prelux_s3 *s, const struct prelux_s3_ask *ask, const struct prelux_s3_guard *guard,
                     struct prelux_net_answer *ret, struct prelux_problem *why)
{
  struct prelux_problem last = {0};
  int64_t begin = now_ms();
  bool open = false, whole = false;
  for (int n = 0;; n++)
  {
    int rc = attempt(s, ask, ret, &whole, &last);
    enum verdict v = rc < 0 ? REFUSED : judge(ret);
    if (v == DONE)
      return 0;
    open = open || v == OPEN || (rc < 0 && whole);
    if (rc == 0)
      rc = refused(s, ask, guard, ret, &last);
    bool again = v != REFUSED && n + 1 < PRELUX_S3_TRIES && now_ms() - begin < AGAIN_MS;
    if (!again || prelux_net_backoff(s->net, n + 1) < 0)
    {
      if (open)
        return prelux_s3_unknown(s, ask->key, last.text, why);
      if (why)
        *why = last;
      return rc;
    }
    prelux_net_answer_free(ret);
  }
}

int prelux_s3_harmless(struct prelux_s3 *s, const struct prelux_s3_ask *ask, struct prelux_net_answer *ret,
                       struct prelux_problem *why)
{
  for (int n = 0;; n++)
  {
    int rc = prelux_s3_call(s, ask, ret, why); /* net asks 5xx again */
    enum verdict v = rc < 0 ? REFUSED : judge(ret);
    if (v == DONE || rc < 0)
      return rc;
    rc = prelux_s3_refused(s, ask, ret, why);
    if (v == REFUSED || ret->status >= 500 || n + 1 == PRELUX_S3_TRIES || prelux_net_backoff(s->net, n + 1) < 0)
      return rc;
    prelux_net_answer_free(ret);
  }
}
