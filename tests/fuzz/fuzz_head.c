/* Heads of HTTP answers line by line, and what is read out of them: lengths, ranges, dates, versions, where a redirect leads. */
#include <errno.h>

#include "lib/backend/alluxio_names.h"
#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/net/engine.h"
#include "tests/fuzz/rig.h"

static void check_field(const char *field, size_t cap)
{
  FUZZ_CHECK(strnlen(field, cap) < cap && !strpbrk(field, "\n"));
}

static void versions(const struct prelux_net_answer *a)
{
  char version[PRELUX_VERSION_MAX], line[512];
  prelux_http_version(a, 7, version);
  FUZZ_CHECK(strnlen(version, sizeof version) < sizeof version);
  FUZZ_CHECK_TEXT(prelux_http_version_none(version) || prelux_http_version_same(a, 7, version), version);
  if (prelux_http_version_condition(version, line, sizeof line))
    FUZZ_CHECK_TEXT(strncmp(line, "If-", 3) == 0 && !strpbrk(line, "\r\n"), line);
}

static void urls(const struct prelux_net_answer *a)
{
  char out[PRELUX_URL_MAX], more[PRELUX_URL_MAX], shown[64];
  struct prelux_url u;
  if (!a->location)
    return;
  prelux_url_show(shown, sizeof shown, a->location);
  FUZZ_CHECK(strnlen(shown, sizeof shown) < sizeof shown && !strchr(shown, '?'));
  long n = prelux_url_join(out, sizeof out, "http://me:81/a/b", a->location);
  if (n < 0)
    return;
  FUZZ_CHECK(n == (long)strlen(out));
  if (prelux_url_parse(out, &u) < 0)
    return;
  FUZZ_CHECK(u.host > out && u.host + u.host_len <= out + n && u.path >= out && u.path + u.path_len <= out + n && u.port > 0 && u.port < 65536);
  FUZZ_CHECK(prelux_url_same_origin(&u, &u));
  long c = prelux_url_canonical(more, sizeof more, out);
  if (c >= 0)
  {
    char again[PRELUX_URL_MAX];
    FUZZ_CHECK_TEXT(prelux_url_canonical(again, sizeof again, more) == c && strcmp(again, more) == 0, more);
  }
  long d = prelux_url_decode(more, sizeof more, u.path, u.path_len);
  FUZZ_CHECK(d < 0 || (d == (long)strlen(more) && d <= (long)u.path_len));
  long e = d < 0 ? -1 : prelux_url_encode(out, sizeof out, more, (size_t)d);
  FUZZ_CHECK(e < 0 || prelux_url_decode(out, sizeof out, out, (size_t)e) == d);
}

static void fields(const struct prelux_net_answer *a)
{
  uint64_t from, to, all;
  int64_t ms;
  check_field(a->etag, sizeof a->etag);
  check_field(a->last_modified, sizeof a->last_modified);
  check_field(a->content_range, sizeof a->content_range);
  check_field(a->content_type, sizeof a->content_type);
  check_field(a->content_md5, sizeof a->content_md5);
  check_field(a->date, sizeof a->date);
  check_field(a->retry_after, sizeof a->retry_after);
  FUZZ_CHECK(a->status >= 100 && a->status <= 999);
  if (prelux_http_content_range(a->content_range, &from, &to, &all))
    FUZZ_CHECK_TEXT((from == UINT64_MAX) == (to == UINT64_MAX), a->content_range);
  prelux_alluxio_etag(a->etag, &all, &ms);
  int64_t ns = prelux_http_date(a->last_modified);
  if (ns > 0)
  {
    char text[64];
    prelux_http_date_format(text, sizeof text, ns);
    FUZZ_CHECK_TEXT(prelux_http_date(text) == ns / 1000000000 * 1000000000, a->last_modified);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct prelux_net_answer a = {.content_length = UINT64_MAX};
  char value[300];
  int rc = 0;
  while (size && rc == 0)
  {
    size_t len;
    char *line = fuzz_piece(&data, &size, "\n", &len);
    rc = prelux_net_head_line(&a, line, len);
    FUZZ_CHECK(rc == 0 || rc == -EPROTO || rc == -ENOMEM);
    char *colon = memchr(line, ':', len);
    if (rc == 0 && colon && len < 200)
    {
      *colon = 0;
      long n = prelux_net_header(&a, line, value, sizeof value);
      FUZZ_CHECK(strlen(line) != (size_t)(colon - line) || strncmp(line, "HTTP/", 5) == 0 || n == -ENAMETOOLONG || (n >= 0 && n < (long)sizeof value));
    }
    free(line);
  }
  if (rc == 0 && a.status)
  {
    fields(&a);
    versions(&a);
    urls(&a);
  }
  prelux_net_answer_free(&a);
  return 0;
}
