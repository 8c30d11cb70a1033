/* One request to Azure Storage, and what its refusals mean. Error codes come in the x-ms-error-code header, which HEAD has too. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/backend/azure.h"

#define RETRIES 3
#define HEADERS_MAX 128

int prelux_azure_failed(int rc)
{
  return rc == -EPROTO || rc == -ENOMEM || rc == -EACCES ? rc : -EIO;
}

/* Sends it with a pass. The URL that carries a SAS stays in here. */
static int send_it(struct prelux_azure *z, const struct prelux_azure_call *call, const char **headers, size_t n,
                   const struct prelux_azure_pass *pass, struct prelux_net_answer *ret, struct prelux_problem *why)
{
  char *url = NULL;
  headers[n] = pass->header;
  headers[n + 1] = NULL;
  if (pass->query && asprintf(&url, "%s%c%s", call->url, strchr(call->url, '?') ? '&' : '?', pass->query) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  struct prelux_net_request req = {
      .method = call->method,
      .url = url ? url : call->url,
      .headers = headers,
      .tls = &z->tls,
      .body = call->body,
      .body_len = call->body_len,
      .upload = call->upload,
      .once = call->once,
      .again = call->again,
      .max_body = call->max_body,
      .retries = RETRIES,
      .sink = call->sink,
      .arg = call->arg,
      .target = call->target,
      .target_len = call->target_len,
      .cancel = call->cancel,
  };
  int rc = prelux_net_call(z->net, &req, ret, why);
  if (url)
    explicit_bzero(url, strlen(url));
  free(url);
  return rc;
}

/* Lines of one request's head. The texts of those that are made here. */
struct head {
  char date[64], range[80], match[PRELUX_VERSION_MAX + 16], length[40];
  const char *lines[HEADERS_MAX + 1];
  size_t n;
};

static int make_head(const struct prelux_azure_call *call, struct head *h, struct prelux_problem *why)
{
  uint64_t body = call->upload ? call->upload->len : call->body_len;
  h->lines[h->n++] = "x-ms-version: " PRELUX_AZURE_VERSION;
  h->lines[h->n++] = h->date;
  if (call->len)
  {
    snprintf(h->range, sizeof(h->range), "x-ms-range: bytes=%" PRIu64 "-%" PRIu64, call->off, call->off + call->len - 1);
    h->lines[h->n++] = h->range;
  }
  if (call->etag)
    snprintf(h->match, sizeof(h->match), "If-Match: \"%s\"", call->etag);
  if (call->etag || call->absent)
    h->lines[h->n++] = call->etag ? h->match : "If-None-Match: *";
  for (const char *const *more = call->headers; more && *more; more++)
  {
    if (h->n >= HEADERS_MAX - 2)
      return prelux_problem(why, EOPNOTSUPP, "%s: too many headers", call->method);
    h->lines[h->n++] = *more;
  }
  if (body)
  {
    snprintf(h->length, sizeof(h->length), "Content-Length: %" PRIu64, body);
    h->lines[h->n] = h->length; /* is signed; lib/net sends it by itself */
  }
  return 0;
}

int prelux_azure_call(struct prelux_azure *z, const struct prelux_azure_call *call, struct prelux_net_answer *ret,
                      struct prelux_problem *why)
{
  struct head h = {.date = "x-ms-date: "};
  size_t at = strlen(h.date);
  *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
  int rc = make_head(call, &h, why);
  if (rc < 0)
    return rc;
  const char *length = h.lines[h.n];
  for (int tries = 0;; tries++)
  {
    struct prelux_azure_pass pass;
    h.lines[h.n] = length;
    h.lines[h.n + 1] = NULL;
    prelux_http_date_format(h.date + at, sizeof(h.date) - at, (int64_t)time(NULL) * 1000000000);
    rc = prelux_azure_cred_pass(z->cred, call->method, call->url, h.lines, &pass, why);
    if (rc < 0)
      return rc;
    rc = send_it(z, call, h.lines, h.n, &pass, ret, why);
    bool again = rc == 0 && ret->status == 401 && tries == 0 && prelux_azure_cred_reject(z->cred, &pass);
    prelux_azure_pass_release(&pass);
    if (!again)
      return rc;
    prelux_net_answer_free(ret);
    *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
  }
}

#define HAS_LEASE "somebody holds a lease on it: wait until it ends, or break it"
#define SET_TIER "it is in the archive tier: rehydrate it (az storage blob set-tier --tier Hot) and wait until that is done"
#define MAY_WRITE "the credential does not allow this: writing and deleting are needed, too (SAS: sp=racwdl; role: Storage Blob Data Contributor)"
#define MAY_READ "the credential does not allow this: reading and listing are needed (SAS: sp=rl; role: Storage Blob Data Reader)"

/* The first row whose status and code (NULL: any) are the answer's counts. advice NULL: the credential knows one. */
static const struct refusal {
  int status, err;
  const char *code, *advice;
} refusals[] = {
    {400, EOPNOTSUPP, "InvalidUri", ""},
    {400, EOPNOTSUPP, "InvalidResourceName", ""},
    {400, EOPNOTSUPP, "OutOfRangeInput", ""},
    {400, EOPNOTSUPP, "RequestUrlFailedToParse", ""},
    {400, EACCES, "InvalidAuthenticationInfo", NULL},
    {401, EACCES, NULL, NULL},
    {403, EACCES, "AuthorizationPermissionMismatch", MAY_READ},
    {403, EACCES, "AuthorizationResourceTypeMismatch", "the SAS is of another kind of resource: srt=co, or sr=c, is needed"},
    {403, EACCES, "AuthorizationServiceMismatch", "the SAS is not for blobs (ss=b)"},
    {403, EACCES, "AuthorizationProtocolMismatch", "the SAS is for https only"},
    {403, EACCES, "AuthorizationSourceIPMismatch", "the SAS does not allow this machine's address"},
    {403, EACCES, "InsufficientAccountPermissions", MAY_READ},
    {403, EACCES, "KeyBasedAuthenticationNotPermitted", "the account allows no keys: use an identity"},
    {403, EACCES, "AccountIsDisabled", "the account is disabled"},
    {403, EACCES, NULL, NULL},
    {407, EACCES, NULL, "a proxy wants to know who asks"},
    {404, EIO, "ContainerNotFound", "there is no such container: check `container` and `account`"},
    {404, ENOENT, NULL, ""},
    {400, ENXIO, "InvalidBlockList", ""},
    {400, EBUSY, "InvalidBlobOrBlock", "another client's unfinished upload is in the way: finish it, or wait a week, or put an empty blob there"},
    {400, EOPNOTSUPP, "InvalidMetadata", ""},
    {400, EOPNOTSUPP, "MetadataTooLarge", ""},
    {413, EFBIG, NULL, ""},
    {409, EACCES, "PublicAccessNotPermitted", NULL},
    {409, EEXIST, "BlobAlreadyExists", ""},
    {409, EEXIST, "PathAlreadyExists", ""},
    {409, EBUSY, "LeaseIdMismatchWithBlobOperation", HAS_LEASE},
    {409, EBUSY, "PendingCopyOperation", "the server is still copying into it"},
    {409, EBUSY, "SnapshotsPresent", "the blob has snapshots, which would go with it: remove them first"},
    {409, EBUSY, "BlockCountExceedsLimit", "too many unfinished uploads to this blob: they expire after a week"},
    {409, EACCES, "BlobImmutableDueToPolicy", "a policy of the container keeps blobs as they are"},
    {409, EACCES, "BlobCannotBeDeletedDueToPolicy", "a policy of the container keeps blobs as they are"},
    {409, EOPNOTSUPP, "InvalidBlobType", "it is a page blob or an append blob: remove it first"},
    {409, EOPNOTSUPP, "BlobTypeNotSupported", "it is a page blob or an append blob: remove it first"},
    {409, ENOTEMPTY, "DirectoryIsNotEmpty", ""},
    {409, EISDIR, "ResourceTypeMismatch", ""},
    {409, EIO, "BlobArchived", SET_TIER},
    {409, EIO, "BlobBeingRehydrated", SET_TIER},
    {409, EIO, "ContainerBeingDeleted", "the container is being deleted"},
    {412, EBUSY, "LeaseIdMissing", HAS_LEASE},
    {412, ESTALE, NULL, ""},
    {405, EOPNOTSUPP, NULL, ""},
    {414, EOPNOTSUPP, NULL, ""},
    {501, EOPNOTSUPP, NULL, ""},
};

/* The x-ms-error-code, letters only. */
static void error_code(const struct prelux_net_answer *a, char *out, size_t cap)
{
  if (prelux_net_header(a, "x-ms-error-code", out, cap) < 0)
    out[0] = 0;
  out[strspn(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")] = 0;
}

int prelux_azure_refused(struct prelux_azure *z, const struct prelux_net_answer *a, const char *method, const char *url,
                         struct prelux_problem *why)
{
  char shown[200], code[96];
  static const struct refusal other = {.err = EIO, .advice = ""}, lie = {.err = EPROTO, .advice = ""},
                              hidden = {.err = EACCES, .advice = NULL};
  const struct refusal *r = a->status >= 200 && a->status < 300 ? &lie : &other;
  error_code(a, code, sizeof(code));
  for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]) && r == &other; i++)
    if (refusals[i].status == a->status && (!refusals[i].code || strcmp(refusals[i].code, code) == 0))
      r = &refusals[i];
  /* To strangers Azure says of a private container that it is not there. */
  if (a->status == 404 && strcmp(code, "ResourceNotFound") == 0 && prelux_azure_cred_none(z->cred))
    r = &hidden;
  prelux_url_show(shown, sizeof(shown), url);
  int rc = prelux_problem(why, r->err, "%s %s: HTTP %d%s%s", method, shown, a->status, code[0] ? " " : "", code);
  bool change = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
  if (why && r->advice)
    snprintf(why->advice, sizeof(why->advice), "%s", change && strcmp(r->advice, MAY_READ) == 0 ? MAY_WRITE : r->advice);
  else if (why)
    prelux_azure_cred_advice(z->cred, prelux_http_date(a->date), why->advice, sizeof(why->advice));
  return rc;
}
