/* Any exception in the proxy is HTTP 500 with {"statusCode": <name of a gRPC status>, "message": ...}; so 500 by itself
 * says nothing, and whether to try again stands in the table below. What never reached a handler (unknown call, wrong
 * method) is 500 too, with a text "HTTP 404 Not Found"; bad options are 400 with a text. download-file fails with 500
 * and no statusCode. */
#include "lib/backend/alluxio_rest.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/json_array.h"

static const struct row
{
  const char *code;
  int err;
  bool again;   /* a state that may pass */
  bool unclear; /* of a change: it may have been done all the same. The proxy asks the master, and loses answers, too */
  const char *text;
} rows[] = {
    {.code = "CANCELLED", .err = EIO, .again = true, .unclear = true, .text = "the call was interrupted"},
    {.code = "UNKNOWN", .err = EIO, .unclear = true, .text = "failed"},
    {.code = "INVALID_ARGUMENT", .err = EOPNOTSUPP, .text = "Alluxio does not take this path"},
    {.code = "DEADLINE_EXCEEDED", .err = EIO, .again = true, .unclear = true, .text = "took too long"},
    {.code = "NOT_FOUND", .err = ENOENT, .text = "not there"},
    {.code = "ALREADY_EXISTS", .err = EEXIST, .text = "is there already"},
    {.code = "PERMISSION_DENIED", .err = EACCES, .text = "permission denied"},
    {.code = "RESOURCE_EXHAUSTED", .err = EIO, .again = true, .text = "Alluxio is busy"},
    {.code = "FAILED_PRECONDITION", .err = EIO, .text = "not possible in this state"},
    {.code = "ABORTED", .err = EIO, .again = true, .text = "aborted"},
    {.code = "OUT_OF_RANGE", .err = ESTALE, .text = "shorter than expected"},
    {.code = "UNIMPLEMENTED", .err = EOPNOTSUPP, .text = "this Alluxio cannot do it"},
    {.code = "INTERNAL", .err = EIO, .unclear = true, .text = "failed inside Alluxio"},
    {.code = "UNAVAILABLE", .err = EIO, .again = true, .unclear = true, .text = "master or worker is not available"},
    {.code = "DATA_LOSS", .err = EIO, .unclear = true, .text = "Alluxio has lost the data"},
    {.code = "UNAUTHENTICATED", .err = EACCES, .text = "not authenticated"},
};

/* Where the message says more than the code: also, that nothing was done. */
static const struct wording
{
  const char *code, *words;
  int err;
} wordings[] = {
    {.code = "INVALID_ARGUMENT", .words = "is a file, not a directory", .err = ENOTDIR},
    {.code = "INVALID_ARGUMENT", .words = "is a cross mount operation", .err = EXDEV},
    {.code = "INVALID_ARGUMENT", .words = "is a prefix of", .err = EINVAL},
    {.code = "PERMISSION_DENIED", .words = "under a readonly mount point", .err = EROFS},
    {.code = "PERMISSION_DENIED", .words = "is or contains a mount point", .err = EBUSY},
    {.code = "INVALID_ARGUMENT", .words = "is an existing mount point", .err = EINVAL},
    {.code = "UNKNOWN", .words = "already exists in Alluxio namespace", .err = EEXIST},
    {.code = "UNKNOWN", .words = "Not enough space left on worker", .err = ENOSPC},
    {.code = "UNKNOWN", .words = "which is pinned", .err = EBUSY},
    {.code = "UNKNOWN", .words = "under a readonly mount point", .err = EROFS},
    {.code = "UNKNOWN", .words = "set the \"recursive\" flag", .err = ENOTEMPTY},
    {.code = "UNKNOWN", .words = "does not belong to the group", .err = EPERM},
    {.code = "FAILED_PRECONDITION", .words = "Cannot delete non-empty directory", .err = ENOTEMPTY},
    {.code = "FAILED_PRECONDITION", .words = "UFS dir not in sync", .err = ENOTEMPTY},
};

static const struct wording *find_wording(const char *code, const char *message)
{
  for (size_t i = 0; i < sizeof(wordings) / sizeof(wordings[0]); i++)
    if (strcmp(code, wordings[i].code) == 0 && strstr(message, wordings[i].words))
      return &wordings[i];
  return NULL;
}

static const struct row *find_row(const char *code)
{
  for (size_t i = 0; code && i < sizeof(rows) / sizeof(rows[0]); i++)
    if (strcmp(rows[i].code, code) == 0)
      return &rows[i];
  return NULL;
}

bool prelux_rest_status(const char *code, int *ret_err, bool *ret_again, bool *ret_unclear)
{
  const struct row *row = find_row(code);
  if (!row)
    return false;
  *ret_err = -row->err;
  *ret_again = row->again;
  *ret_unclear = row->unclear;
  return true;
}

int prelux_rest_url(const char *server, const char *root, const char *path, const char *action, char *out, size_t cap,
                    struct prelux_problem *why)
{
  const char *bad = strpbrk(path, "?\\");
  if (bad)
    return prelux_problem(why, EOPNOTSUPP, "%s: the proxy's REST API cannot carry a name with '%c'", path, *bad);
  /* The path follows "paths/" with its own leading slash; the root itself is "/", so three slashes in all. */
  int n = snprintf(out, cap, "%s/api/v1/paths/", server);
  char *full;
  if (asprintf(&full, "/%s%s%s", root, root[0] && path[0] ? "/" : "", path) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  size_t room = cap - (size_t)n;
  long more = n < 0 || (size_t)n >= cap ? -1 : prelux_url_encode(out + n, room, full, strlen(full));
  free(full);
  if (more >= 0)
  {
    room -= (size_t)more;
    int last = snprintf(out + n + more, room, "/%s", action);
    more = last < 0 || (size_t)last >= room ? -1 : more;
  }
  return more < 0 ? prelux_problem(why, EOPNOTSUPP, "%s: too long for a URL", path) : 0;
}

static const char *message_of(const cJSON *doc)
{
  const cJSON *message = doc ? cJSON_GetObjectItemCaseSensitive(doc, "message") : NULL;
  return cJSON_IsString(message) ? message->valuestring : "";
}

/* The answer's row; *ret_doc (free it) holds the strings. */
static const struct row *row_of(const struct prelux_net_answer *a, cJSON **ret_doc)
{
  *ret_doc = a->status == 500 && a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const cJSON *code = *ret_doc ? cJSON_GetObjectItemCaseSensitive(*ret_doc, "statusCode") : NULL;
  return cJSON_IsString(code) ? find_row(code->valuestring) : NULL;
}

bool prelux_rest_again(const struct prelux_net_answer *a)
{
  cJSON *doc;
  const struct row *row = row_of(a, &doc);
  cJSON_Delete(doc);
  return row ? row->again : a->status == 429 || a->status == 502 || a->status == 503 || a->status == 504;
}

bool prelux_rest_not_done(const struct prelux_net_answer *a)
{
  cJSON *doc;
  const struct row *row = row_of(a, &doc);
  cJSON_Delete(doc);
  return row ? row->again && !row->unclear : a->status == 429 || a->status == 503;
}

bool prelux_rest_unclear(const struct prelux_net_answer *a)
{
  cJSON *doc;
  const struct row *row = row_of(a, &doc);
  bool clear = row && find_wording(row->code, message_of(doc));
  cJSON_Delete(doc);
  /* A text "HTTP 404 Not Found" and its like comes from where no handler was reached. */
  bool outside = !row && a->body && strncmp(a->body, "HTTP 4", 6) == 0;
  return row ? row->unclear && !clear : !outside && (a->status == 408 || (a->status >= 500 && a->status != 501 && a->status != 503));
}

/* One line of it. */
void prelux_rest_said(const char *action, const char *message, char *out, size_t cap)
{
  const char *last = strcmp(action, "mount") == 0 ? strrchr(message, '\n') : NULL;
  const char *line = last ? last + 1 : message;
  prelux_problem_said(out, cap, line, line ? strcspn(line, "\r\n") : 0);
}

int prelux_rest_error(const struct prelux_net_answer *a, const char *action, const char *path,
                      struct prelux_problem *why)
{
  cJSON *doc;
  char said[400];
  const struct row *row = row_of(a, &doc);
  const char *message = row ? message_of(doc) : a->body;
  const struct wording *special = row ? find_wording(row->code, message) : NULL;
  prelux_rest_said(row ? action : "", message, said, sizeof(said));
  cJSON_Delete(doc);
  if (special)
    return prelux_problem(why, special->err, "%s /%s: %s", action, path, said);
  if (row)
    return prelux_problem(why, row->err, "%s /%s: %s (%s%s%s)", action, path, row->text, row->code, said[0] ? ": " : "",
                          said);
  int err = a->status == 401 || a->status == 403 ? EACCES : EIO;
  return prelux_problem(why, err, "%s /%s: HTTP %d%s%s", action, path, a->status, said[0] ? ": " : "", said);
}

int prelux_rest_disabled(const char *action, const char *path, struct prelux_problem *why)
{
  prelux_problem(why, EIO, "%s /%s: HTTP 200 and an empty body: the proxy's REST API is disabled", action, path);
  if (why)
    snprintf(why->advice, sizeof(why->advice), "set alluxio.proxy.s3.v2.version.enabled=false at the proxy");
  return -EIO;
}
