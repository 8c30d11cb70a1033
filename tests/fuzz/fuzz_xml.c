/* XML: S3's pages, fields and errors, Azure's pages, those of an Alluxio worker. What is cut in pieces says the same; nothing with a DTD is taken. */
#include <errno.h>

#include "lib/backend/alluxio_xml.h"
#include "lib/backend/azure_xml.h"
#include "lib/backend/s3_fields.h"
#include "lib/backend/s3_xml.h"
#include "tests/fuzz/rig.h"

static uint64_t mix(uint64_t sum, const char *s, size_t len)
{
  for (size_t i = 0; i < len; i++)
    sum = sum * 31 + (unsigned char)s[i];
  return sum;
}

static int s3_page(const char *text, size_t len, size_t step, uint64_t *ret)
{
  struct prelux_s3_page *p = prelux_s3_page_new();
  int rc = 0;
  *ret = 1;
  if (!p)
    abort();
  for (size_t at = 0; rc == 0 && at < len; at += step)
    rc = prelux_s3_page_feed(p, text + at, len - at < step ? len - at : step);
  int end = prelux_s3_page_end(p);
  FUZZ_CHECK(rc == 0 || end == rc);
  FUZZ_CHECK(end == 0 || end == -EPROTO);
  for (size_t i = 0; end == 0 && i < prelux_s3_page_count(p); i++)
  {
    struct prelux_s3_entry e;
    prelux_s3_page_entry(p, i, &e);
    FUZZ_CHECK(strnlen(e.key, e.key_len + 1) <= e.key_len && strnlen(e.etag, sizeof e.etag) < sizeof e.etag);
    *ret = mix(*ret + e.size + (uint64_t)e.modified_s, e.key, e.key_len);
  }
  if (end == 0)
  {
    const char *token = prelux_s3_page_token(p);
    FUZZ_CHECK(strlen(token) < PRELUX_S3_TOKEN_MAX);
    *ret = mix(*ret + prelux_s3_page_truncated(p), token, strlen(token));
  }
  prelux_s3_page_free(p);
  return end;
}

static int on_blob(void *arg, const struct prelux_azure_entry *e)
{
  uint64_t *sum = arg;
  FUZZ_CHECK(strnlen(e->name, e->name_len + 1) <= e->name_len && strnlen(e->etag, sizeof e->etag) < sizeof e->etag);
  FUZZ_CHECK((strlen(e->md5) == 32 && strspn(e->md5, "0123456789abcdef") == 32) || !e->md5[0]);
  *sum = mix(*sum + e->size + (uint64_t)e->mtime_ns + e->folder, e->name, e->name_len);
  return 0;
}

static int azure_page(const char *text, size_t len, size_t step, uint64_t *ret)
{
  char *marker = NULL;
  *ret = 1;
  struct prelux_azure_xml *x = prelux_azure_xml_create(on_blob, ret);
  int rc = x ? 0 : -ENOMEM;
  for (size_t at = 0; rc == 0 && at < len; at += step)
    rc = prelux_azure_xml_feed(x, text + at, len - at < step ? len - at : step);
  if (rc == 0)
    rc = prelux_azure_xml_end(x, &marker);
  FUZZ_CHECK(rc == 0 || rc == -EPROTO);
  if (marker)
    *ret = mix(*ret, marker, strlen(marker));
  free(marker);
  prelux_azure_xml_free(x);
  return rc;
}

static int on_key(void *arg, const struct prelux_alluxio_key *key)
{
  FUZZ_CHECK(strlen(key->name) < PRELUX_ALLUXIO_XML_TEXT);
  return 0;
}

static int on_field(void *arg, const char *outer, const char *name, const char *text)
{
  FUZZ_CHECK(outer && name && text);
  return 0;
}

static void small(const char *text, size_t len)
{
  char root[PRELUX_S3_NAME_MAX], value[64];
  struct prelux_s3_error e;
  struct prelux_alluxio_xml page = {.each = on_key};
  int rc = prelux_s3_fields(text, len, root, on_field, NULL);
  FUZZ_CHECK(rc == 0 || rc == -EPROTO);
  rc = prelux_s3_field(text, len, "CopyObjectResult", "ETag", value, sizeof value);
  FUZZ_CHECK(rc == 0 || rc == -ENOENT || rc == -EPROTO);
  memset(&e, 0x5a, sizeof e);
  prelux_s3_error_parse(text, len, &e);
  for (const char *s = e.message; *s; s++)
    FUZZ_CHECK_TEXT((unsigned char)*s >= ' ' && *s != 0x7f, e.message);
  FUZZ_CHECK(strnlen(e.code, sizeof e.code) < sizeof e.code && strnlen(e.message, sizeof e.message) < sizeof e.message &&
             strnlen(e.region, sizeof e.region) < sizeof e.region);
  rc = prelux_alluxio_xml_read(&page, text, len);
  FUZZ_CHECK(rc == 0 || rc == -EPROTO);
  FUZZ_CHECK(rc < 0 || !page.truncated || page.token[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  uint64_t whole, cut;
  size_t len;
  char *text = fuzz_piece(&data, &size, FUZZ_NEXT, &len);
  int rc = s3_page(text, len, len ? len : 1, &whole);
  FUZZ_CHECK(s3_page(text, len, 7, &cut) == rc && (rc < 0 || cut == whole));
  FUZZ_CHECK(rc < 0 || !memmem(text, len, "<!DOCTYPE", 9) || memmem(text, len, "<!--", 4) || memmem(text, len, "CDATA", 5) || memmem(text, len, "<?", 2));
  rc = azure_page(text, len, len ? len : 1, &whole);
  FUZZ_CHECK(azure_page(text, len, 7, &cut) == rc && (rc < 0 || cut == whole));
  small(text, len);
  prelux_s3_time(text);
  prelux_alluxio_xml_time(text);
  free(text);
  return 0;
}
