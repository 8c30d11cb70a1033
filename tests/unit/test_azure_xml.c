/* Pages of List Blobs, taken apart in pieces of every size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/backend/azure_xml.h"

#define HEAD "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"c\">"
#define BLOB(name, more) "<Blob><Name>" name "</Name><Properties><Content-Length>7</Content-Length><Etag>0x1</Etag>" more "</Properties></Blob>"
#define PAGE(blobs, marker) HEAD "<Prefix>Name</Prefix><Blobs>" blobs "</Blobs><NextMarker>" marker "</NextMarker></EnumerationResults>"

struct seen
{
  char text[4096];
  int stop_after; /* entries; 0: never */
};

static int note(void *arg, const struct prelux_azure_entry *e)
{
  struct seen *s = arg;
  size_t at = strlen(s->text);
  assert_int_equal(strlen(e->name), e->name_len);
  snprintf(s->text + at, sizeof(s->text) - at, "%s%s%s %lld %s %s;", e->name, e->prefix ? " P" : "", e->folder ? " D" : "",
           e->size == UINT64_MAX ? -1 : (long long)e->size, e->etag, e->md5);
  at = strlen(s->text);
  if (e->mode || e->has_mtime || e->pending)
    snprintf(s->text + at, sizeof(s->text) - at, " %o %lld%s;", (unsigned)e->mode, e->has_mtime ? (long long)e->kept_mtime_ns : 0,
             e->pending ? " pending" : "");
  return s->stop_after && --s->stop_after == 0 ? -EINTR : 0;
}

/* In pieces of `step` bytes; what feed or end said. */
static int take(const char *page, size_t step, struct seen *s, char **ret_marker)
{
  struct prelux_azure_xml *x = prelux_azure_xml_create(note, s);
  size_t len = strlen(page);
  int rc = 0;
  *ret_marker = NULL;
  for (size_t at = 0; at < len && rc == 0; at += step)
    rc = prelux_azure_xml_feed(x, page + at, len - at < step ? len - at : step);
  if (rc == 0)
    rc = prelux_azure_xml_end(x, ret_marker);
  else
    assert_int_equal(prelux_azure_xml_feed(x, "<a/>", 4), rc); /* it stays so */
  prelux_azure_xml_free(x);
  return rc;
}

static void pages(void **state)
{
  static const struct
  {
    const char *page, *want, *marker;
  } rows[] = {
      {PAGE("", ""), "", NULL},
      {HEAD "<Blobs/><NextMarker/></EnumerationResults>", "", NULL},
      {HEAD "<Blobs /></EnumerationResults>", "", NULL},
      {PAGE(BLOB("a/b c", "") BLOB("\xc3\xa9&lt;&#xD;&amp;", "<Content-MD5>XUFAKrxLKna5cZ2REBfFkg==</Content-MD5>"), "2!92!x&amp;y="),
       "a/b c 7 0x1 ;\xc3\xa9<\r& 7 0x1 5d41402abc4b2a76b9719d911017c592;", "2!92!x&y="},
      {PAGE("<BlobPrefix><Name>a/d/</Name></BlobPrefix>" BLOB("x", "<ResourceType>directory</ResourceType>"), ""),
       "a/d/ P -1  ;x D 7 0x1 ;", NULL},
      {PAGE("<Blob><Name Encoded=\"true\">%01a%2525%0a</Name><Properties/><Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>", ""),
       "\x01" "a%25\n D -1  ;", NULL},
      {PAGE("<Blob><Name>a</Name><Metadata><Permissions>33261</Permissions><modtime>-7</modtime></Metadata></Blob>"
            "<Blob><Name>b</Name><Properties><CopyStatus>pending</CopyStatus></Properties></Blob>"
            "<Blob><Name>c</Name><Properties><CopyStatus>success</CopyStatus><modtime>5</modtime></Properties><Metadata><modtime>x</modtime>"
            "<permissions>rw</permissions></Metadata></Blob>", ""),
       "a -1  ; 755 -7;b -1  ; 0 0 pending;c -1  ;", NULL},
      /* Places count, not names. */
      {PAGE("<Blob><Name>a</Name><Other><Name>b</Name><Etag>no</Etag><Blob><Name>c</Name></Blob></Other><Properties><Etag>\"q\"</Etag>"
            "</Properties><Metadata><Etag>no</Etag><Name>no</Name></Metadata><Tags><TagSet/></Tags></Blob>", ""),
       "a -1 \"q\" ;", NULL},
      {HEAD "<!-- x --><Blobs><![CDATA[<Blob>]]></Blobs></EnumerationResults>", "", NULL},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    for (size_t step = 1; step <= strlen(rows[i].page); step++)
    {
      struct seen s = {.text = ""};
      char *marker;
      assert_int_equal(take(rows[i].page, step, &s, &marker), 0);
      assert_string_equal(s.text, rows[i].want);
      if (rows[i].marker)
        assert_string_equal(marker, rows[i].marker);
      else
        assert_null(marker);
      free(marker);
    }
}

static void no_pages(void **state)
{
  static const char *const rows[] = {
      "",
      "{}",
      "<html><body>Log in</body></html>",
      "<Error><Code>x</Code></Error>",
      "<Error/>",
      HEAD "<Blobs>",
      HEAD "</Blobs></EnumerationResults>",
      PAGE("", "") "<more/>",
      PAGE("<Blob><Properties/></Blob>", ""),
      PAGE("<Blob/>", ""),
      PAGE(BLOB("", ""), ""),
      PAGE("<Blob><Name>a</Name><Name>b</Name></Blob>", ""),
      PAGE(BLOB("a", "<Content-Length>-1</Content-Length>"), ""),
      PAGE(BLOB("a", "<Content-Length></Content-Length>"), ""),
      PAGE(BLOB("a", "<Content-Length>1234567890123456789</Content-Length>"), ""),
      PAGE("<Blob><Name Encoded=\"true\">%00</Name></Blob>", ""),
      PAGE("<Blob><Name Encoded=\"true\">%zz</Name></Blob>", ""),
      PAGE(BLOB("\x01", ""), ""),
      PAGE(BLOB("&#1;", ""), ""),
      PAGE(BLOB("\xff", ""), ""),
      HEAD "<NextMarker>a</NextMarker><NextMarker>b</NextMarker></EnumerationResults>",
      HEAD "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></EnumerationResults>",
      "<!DOCTYPE EnumerationResults><EnumerationResults/>",
      "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><EnumerationResults>&b;</EnumerationResults>",
      "<!DOCTYPE r [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><EnumerationResults>&a;</EnumerationResults>",
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    for (size_t step = 1; step < 100; step = step * 2 + 1)
    {
      struct seen s = {.text = ""};
      char *marker;
      if (take(rows[i], step, &s, &marker) != -EPROTO)
        fail_msg("row %zu was taken: %s", i, rows[i]);
    }
}

static void long_texts(void **state)
{
  char *page = malloc(40000), *marker, *fill = malloc(20001);
  struct seen s = {.text = ""};
  memset(fill, 'n', 20000);
  fill[20000] = 0;
  sprintf(page, HEAD "<Blobs><Blob><Name>%s</Name></Blob></Blobs></EnumerationResults>", fill);
  assert_int_equal(take(page, 1000, &s, &marker), -EPROTO);
  sprintf(page, HEAD "<Blobs><Blob><Name>a</Name><Properties><Etag>%.160s</Etag></Properties></Blob></Blobs></EnumerationResults>", fill);
  assert_int_equal(take(page, 1000, &s, &marker), -EPROTO);
  sprintf(page, HEAD "<Owner>%s</Owner></EnumerationResults>", fill); /* not ours to read */
  assert_int_equal(take(page, 1000, &s, &marker), 0);
  free(fill);
  free(page);
}

static void stopping(void **state)
{
  struct seen s = {.stop_after = 2};
  char *marker;
  assert_int_equal(take(PAGE(BLOB("a", "") BLOB("b", "") BLOB("c", ""), ""), 4096, &s, &marker), -EINTR);
  assert_string_equal(s.text, "a 7 0x1 ;b 7 0x1 ;");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pages),
      cmocka_unit_test(no_pages),
      cmocka_unit_test(long_texts),
      cmocka_unit_test(stopping),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
