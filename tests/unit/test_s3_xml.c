/* S3's XML: pages and errors, whole, cut anywhere, and hostile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/backend/s3_xml.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListBucketResult>"
#define ONE(key) "<Contents><Key>" key "</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size></Contents>"

static const char page_text[] = HEAD "<Name>b</Name><Prefix>p/</Prefix><NextContinuationToken>to&amp;ken</NextContinuationToken><IsTruncated>true</IsTruncated>"
    "<Contents><ETag>&quot;abc&quot;</ETag><Key>p/a+b%2Bc%C3%A9</Key><Size>12</Size><Owner><ID>o</ID><Key>no</Key></Owner>"
    "<LastModified>2023-11-14T22:13:20Z</LastModified></Contents>"
    "<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes><EncodingType>url</EncodingType>" TAIL;

static int parse(const char *text, size_t len, size_t step, struct prelux_s3_page **ret)
{
  struct prelux_s3_page *p = *ret = prelux_s3_page_new();
  assert_non_null(p);
  for (size_t at = 0; at < len; at += step)
    if (prelux_s3_page_feed(p, text + at, len - at < step ? len - at : step) < 0)
      break;
  return prelux_s3_page_end(p);
}

static void test_page_in_pieces(void **state)
{
  for (size_t step = 1; step < sizeof(page_text); step += step < 40 ? 1 : 37)
  {
    struct prelux_s3_page *p;
    struct prelux_s3_entry e;
    assert_int_equal(parse(page_text, sizeof(page_text) - 1, step, &p), 0);
    assert_int_equal(prelux_s3_page_count(p), 2);
    prelux_s3_page_entry(p, 0, &e);
    assert_int_equal(e.key_len, 9);
    assert_memory_equal(e.key, "p/a b+c\xc3\xa9", 10);
    assert_false(e.prefix);
    assert_int_equal(e.size, 12);
    assert_int_equal(e.modified_s, 1700000000);
    assert_string_equal(e.etag, "\"abc\"");
    prelux_s3_page_entry(p, 1, &e);
    assert_true(e.prefix);
    assert_memory_equal(e.key, "p/d/", 5);
    assert_string_equal(e.etag, "");
    assert_true(prelux_s3_page_truncated(p));
    assert_true(prelux_s3_page_encoded(p));
    assert_string_equal(prelux_s3_page_token(p), "to&ken");
    prelux_s3_page_free(p);
  }
}

static void test_page_cut_anywhere(void **state)
{
  for (size_t len = 0; len < sizeof(page_text) - 1; len++)
  {
    struct prelux_s3_page *p;
    assert_int_equal(parse(page_text, len, 64, &p), -EPROTO);
    prelux_s3_page_free(p);
  }
}

static void test_names_that_are_not_encoded(void **state)
{
  static const char text[] = HEAD ONE("a+b%41&lt;&#xA;x") "<IsTruncated>false</IsTruncated>" TAIL;
  struct prelux_s3_page *p;
  struct prelux_s3_entry e;
  assert_int_equal(parse(text, sizeof(text) - 1, 7, &p), 0);
  prelux_s3_page_entry(p, 0, &e);
  assert_memory_equal(e.key, "a+b%41<\nx", 10);
  assert_false(prelux_s3_page_encoded(p));
  prelux_s3_page_free(p);
}

static void test_hostile(void **state)
{
  static const char *const texts[] = {
      "<!DOCTYPE l [<!ENTITY a \"aaaa\">]>" HEAD ONE("&a;") TAIL,
      "<?xml version=\"1.0\"?><!DOCTYPE l SYSTEM \"file:///etc/passwd\"><ListBucketResult/>",
      "<html><body>log in</body></html>",
      "{\"Contents\": []}",
      HEAD ONE("%4") "<EncodingType>url</EncodingType>" TAIL,
      HEAD ONE("\x01") TAIL,
      HEAD ONE("\xff") TAIL,
      HEAD "<a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></a></a></a></a>" TAIL,
      HEAD ONE("a") TAIL "<more/>",
      "",
  };
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
  {
    struct prelux_s3_page *p;
    if (parse(texts[i], strlen(texts[i]), 3, &p) != -EPROTO)
      fail_msg("taken: %s", texts[i]);
    prelux_s3_page_free(p);
  }
}

static void test_long_texts(void **state)
{
  static char text[20000];
  struct prelux_s3_page *p;
  int n = snprintf(text, sizeof(text), "%s<Contents><Key>%*s</Key></Contents>%s", HEAD, 9000, "x", TAIL);
  assert_int_equal(parse(text, (size_t)n, 1000, &p), -EPROTO);
  prelux_s3_page_free(p);
  n = snprintf(text, sizeof(text), "%s<Other>%*s</Other>%s%s", HEAD, 15000, "x", ONE("k"), TAIL); /* what is not ours may be long */
  assert_int_equal(parse(text, (size_t)n, 1000, &p), 0);
  assert_int_equal(prelux_s3_page_count(p), 1);
  prelux_s3_page_free(p);
  n = snprintf(text, sizeof(text), "%s<NextContinuationToken>%*s</NextContinuationToken>%s", HEAD, 5000, "x", TAIL);
  assert_int_equal(parse(text, (size_t)n, 1000, &p), -EPROTO);
  prelux_s3_page_free(p);
}

static void test_sizes_and_times(void **state)
{
  static const char text[] = HEAD "<Contents><Key>k</Key><Size>-1</Size></Contents><Contents><Key>l</Key><Size>9999999999999999999</Size></Contents>" TAIL;
  struct prelux_s3_page *p;
  struct prelux_s3_entry e;
  assert_int_equal(parse(text, sizeof(text) - 1, 100, &p), 0);
  for (size_t i = 0; i < 2; i++)
  {
    prelux_s3_page_entry(p, i, &e);
    assert_true(e.size == UINT64_MAX);
    assert_int_equal(e.modified_s, 0);
  }
  prelux_s3_page_free(p);
  assert_int_equal(prelux_s3_time("1970-01-01T00:00:01.999Z"), 1);
  assert_int_equal(prelux_s3_time("2009-10-12T17:50:30+00:00"), 1255369830);
  assert_int_equal(prelux_s3_time("0200-10-12T17:50:30Z"), 0);
  assert_int_equal(prelux_s3_time("9999-12-31T00:00:00Z"), prelux_s3_time("2261-12-31T00:00:00Z")); /* more are no nanoseconds */
  assert_true(prelux_s3_time("2261-12-31T23:59:59Z") > 0 && prelux_s3_time("2261-12-31T23:59:59Z") < INT64_MAX / 1000000000);
  assert_int_equal(prelux_s3_time("2009-10-12"), 0);
  assert_int_equal(prelux_s3_time("2009-10-12T17:50:30 or so"), 0);
  assert_int_equal(prelux_s3_time(""), 0);
}

static void test_errors(void **state)
{
  static const char s3[] = "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region\nis \x7f"
                           "wrong</Message><Region>eu-west-1</Region><RequestId>x</RequestId></Error>";
  static const char sts[] = "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
  static const char dtd[] = "<!DOCTYPE e [<!ENTITY a \"aaaa\">]><Error><Code>&a;</Code></Error>";
  struct prelux_s3_error e;
  prelux_s3_error_parse(s3, sizeof(s3) - 1, &e);
  assert_string_equal(e.code, "AuthorizationHeaderMalformed");
  assert_string_equal(e.message, "the region.is .wrong");
  assert_string_equal(e.region, "eu-west-1");
  prelux_s3_error_parse(sts, sizeof(sts) - 1, &e);
  assert_string_equal(e.code, "AccessDenied");
  prelux_s3_error_parse(dtd, sizeof(dtd) - 1, &e);
  assert_string_equal(e.code, "");
  prelux_s3_error_parse("<html>", 6, &e);
  assert_string_equal(e.code, "");
  prelux_s3_error_parse(NULL, 0, &e);
  assert_string_equal(e.code, "");
  prelux_s3_error_parse(s3, 80, &e); /* cut: what came is good enough */
  assert_string_equal(e.code, "AuthorizationHeaderMalformed");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_page_in_pieces), cmocka_unit_test(test_page_cut_anywhere), cmocka_unit_test(test_names_that_are_not_encoded),
      cmocka_unit_test(test_hostile),        cmocka_unit_test(test_long_texts),        cmocka_unit_test(test_sizes_and_times),
      cmocka_unit_test(test_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
