/* Names, ids, versions and listings of backend alluxio, held to PROTOCOLS. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/backend/alluxio_names.h"
#include "lib/backend/alluxio_xml.h"

static void way_of_names(void **state)
{
  static const struct
  {
    const char *path;
    enum prelux_alluxio_way way;
  } rows[] = {
      {"b/a.txt", PRELUX_ALLUXIO_NAME_BOTH},      {"b/% + ' [ ] ; <", PRELUX_ALLUXIO_NAME_S3}, /* the blanks */
      {"b/%'[];<>()@,$!*~:+", PRELUX_ALLUXIO_NAME_BOTH}, {"b/pct%41.txt", PRELUX_ALLUXIO_NAME_BOTH},
      {"b/%2f", PRELUX_ALLUXIO_NAME_BOTH},        {"b/a%2Fb", PRELUX_ALLUXIO_NAME_S3},
      {"b/a%3Ab", PRELUX_ALLUXIO_NAME_S3},        {"b/a%3Fb", PRELUX_ALLUXIO_NAME_S3},
      {"b/eq=1", PRELUX_ALLUXIO_NAME_S3},         {"b/a&b", PRELUX_ALLUXIO_NAME_S3},
      {"b/a#b", PRELUX_ALLUXIO_NAME_S3},          {"b/\"", PRELUX_ALLUXIO_NAME_S3},
      {"b/{x}", PRELUX_ALLUXIO_NAME_S3},          {"b/new\nline", PRELUX_ALLUXIO_NAME_S3},
      {"b/\x7f", PRELUX_ALLUXIO_NAME_S3},         {"b/\xc3\xbc", PRELUX_ALLUXIO_NAME_S3},
      {"b/\xf0\x9f\x98\x80", PRELUX_ALLUXIO_NAME_S3}, {"b/a?b", PRELUX_ALLUXIO_NAME_NONE},
      {"b/a\\b", PRELUX_ALLUXIO_NAME_NONE},       {"b//a", PRELUX_ALLUXIO_NAME_NONE},
      {"b/\xff", PRELUX_ALLUXIO_NAME_NONE},       {"b/\xc3", PRELUX_ALLUXIO_NAME_NONE},
      {"b/\xc0\x80", PRELUX_ALLUXIO_NAME_NONE},   {"b/\xe0\x80\x80", PRELUX_ALLUXIO_NAME_NONE},
      {"b/\xed\xa0\x80", PRELUX_ALLUXIO_NAME_NONE}, {"b/\xf4\x90\x80\x80", PRELUX_ALLUXIO_NAME_NONE},
      {"b/\x80", PRELUX_ALLUXIO_NAME_NONE},       {"", PRELUX_ALLUXIO_NAME_BOTH},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (prelux_alluxio_name_way(rows[i].path) != rows[i].way)
      fail_msg("%s: %d", rows[i].path, prelux_alluxio_name_way(rows[i].path));
  char longest[5000];
  memset(longest, 'x', sizeof(longest));
  longest[PRELUX_ALLUXIO_HTTP_PATH_MAX] = 0;
  assert_int_equal(prelux_alluxio_name_way(longest), PRELUX_ALLUXIO_NAME_BOTH);
  longest[PRELUX_ALLUXIO_HTTP_PATH_MAX] = 'x';
  longest[PRELUX_ALLUXIO_HTTP_PATH_MAX + 1] = 0;
  assert_int_equal(prelux_alluxio_name_way(longest), PRELUX_ALLUXIO_NAME_S3);
}

/* The requests of the recording: 125 to 141. */
static void twice_encoded(void **state)
{
  static const char *const rows[][2] = {
      {"b/sp ace.txt", "/b/sp%20ace.txt"},       {"b/eq=1.txt", "/b/eq%3D1.txt"},       {"b/plus+x.txt", "/b/plus%252Bx.txt"},
      {"b/pct%.txt", "/b/pct%2525.txt"},         {"b/pct%41.txt", "/b/pct%252541.txt"}, {"b/hash#.txt", "/b/hash%23.txt"},
      {"b/amp&b.txt", "/b/amp%26b.txt"},         {"b/\xc3\xbcmlaut.txt", "/b/%C3%BCmlaut.txt"},
      {"b/q'uote.txt", "/b/q%27uote.txt"},       {"b/semi;x", "/b/semi%3Bx"},           {"b/br[1]", "/b/br%5B1%5D"},
      {"b/lt<gt>.txt", "/b/lt%3Cgt%3E.txt"},     {"b", "/b"},                           {"", "/"},
  };
  char out[64], small[10];
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    assert_int_equal(prelux_alluxio_s3_path(rows[i][0], false, out, sizeof(out)), (long)strlen(rows[i][1]));
    assert_string_equal(out, rows[i][1]);
  }
  assert_true(prelux_alluxio_s3_path("b/dir", true, out, sizeof(out)) > 0);
  assert_string_equal(out, "/b/dir/");
  for (size_t cap = 0; cap <= sizeof(small); cap++)
    assert_int_equal(prelux_alluxio_s3_path("b/long+name", false, small, cap), -ENAMETOOLONG);
}

static void ids_of_files(void **state)
{
  static const char *const rows[][2] = {
      {"s3://bucket/a.txt", "e67b7b993c608a4ed7a7acb69ada26b4bbcfc98db96795b064d4f453bd1fb81f"},
      {"file:///data/x", "26be92aec3d3625f09f8dee6c05b3c5a1b1bc03e4e0a4ed39989bef0578fce03"},
      {"/tmp/underFSStorage/x", "e887749ffd926254f0643029435be84210431087a16bd8e49e4134c176198895"},
      {"file:///tmp/ufs/b/big.bin", "69e8c464cf5575b2e38a19888a5d69c7f2f4c632b3a50f1c65c548e76028dea9"}, /* recording 41 */
  };
  char id[PRELUX_ALLUXIO_ID_SIZE];
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    assert_int_equal(prelux_alluxio_file_id(rows[i][0], id), 0);
    assert_string_equal(id, rows[i][1]);
  }
}

static void versions(void **state)
{
  char out[160];
  uint64_t size = 0;
  int64_t ms = 0;
  prelux_alluxio_version(5, 1795258142460, out, sizeof(out));
  assert_string_equal(out, "5-1795258142460");
  assert_true(prelux_alluxio_etag("(len:5, modtime:1795258142460)", &size, &ms));
  assert_int_equal(size, 5);
  assert_int_equal(ms, 1795258142460);
  assert_true(prelux_alluxio_etag("\"(len:0, modtime:0)\"", &size, &ms));
  assert_int_equal(size, 0);
  static const char *const others[] = {"",  "ed44f7e393b3da6a59fddb82824f1341", "(len:5)", "(len:5, modtime:1", "(len:5, modtime:1)x",
                                       "(len:, modtime:)", "(len:x, modtime:1)"};
  for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
    assert_false(prelux_alluxio_etag(others[i], &size, &ms));
  assert_true(prelux_alluxio_whole_seconds("s3://data"));
  assert_true(prelux_alluxio_whole_seconds("abfs://c@a/x"));
  assert_false(prelux_alluxio_whole_seconds("file:///data"));
  assert_false(prelux_alluxio_whole_seconds("/data"));
  assert_false(prelux_alluxio_whole_seconds("hdfs://n/x"));
}

/* Listings */

struct seen
{
  char text[4096];
  int stop_at, n;
};

static int on_key(void *arg, const struct prelux_alluxio_key *key)
{
  struct seen *s = arg;
  size_t used = strlen(s->text);
  snprintf(s->text + used, sizeof(s->text) - used, "%s %llu %lld|", key->name, (unsigned long long)key->size, (long long)key->mtime_ms);
  return ++s->n == s->stop_at ? -EINTR : 0;
}

static int parse(struct prelux_alluxio_xml *page, struct seen *s, const char *text)
{
  memset(s->text, 0, sizeof(s->text));
  s->n = 0;
  page->each = on_key;
  page->arg = s;
  return prelux_alluxio_xml_read(page, text, strlen(text));
}

#define FILE_ROW "<Contents><Key>dir/in.txt</Key><Size>21</Size><LastModified>2026-11-21T11:16:23.489Z</LastModified></Contents>"

static void listing_page(void **state)
{
  static struct prelux_alluxio_xml page;
  struct seen s = {.stop_at = -1};
  /* Recording 144 and 145: elements in any order. */
  assert_int_equal(parse(&page, &s,
                         "<ListBucketResult><version2>true</version2><Name>b</Name>" FILE_ROW
                         "<MaxKeys>1000</MaxKeys><KeyCount>2</KeyCount><CommonPrefixes><Prefix>dir/sub/</Prefix></CommonPrefixes>"
                         "<Prefix>dir/</Prefix><Delimiter>/</Delimiter><IsTruncated>false</IsTruncated></ListBucketResult>"),
                   0);
  assert_string_equal(s.text, "dir/in.txt 21 1795259783489|dir/sub/ 0 0|");
  assert_string_equal(page.prefix, "dir/");
  assert_false(page.truncated);
  assert_int_equal(parse(&page, &s,
                         "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>6261636b2f-c702</NextContinuationToken>"
                         "<Contents><Size>1</Size><LastModified>1970-01-01T00:00:01Z</LastModified><Key>a&amp;b &lt;&#xd;</Key></Contents>"
                         "</ListBucketResult>"),
                   0);
  assert_string_equal(s.text, "a&b <\r 1 1000|");
  assert_string_equal(page.token, "6261636b2f-c702");
  assert_true(page.truncated);
  s.stop_at = 1;
  assert_int_equal(parse(&page, &s, "<ListBucketResult>" FILE_ROW FILE_ROW "</ListBucketResult>"), -EINTR);
  assert_int_equal(s.n, 1);
}

static void listing_lies(void **state)
{
  static struct prelux_alluxio_xml page;
  struct seen s = {.stop_at = -1};
  static const char *const rows[] = {
      "", "<html></html>", "<ListBucketResult>", "<ListBucketResult>" FILE_ROW, "{}",
      "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
      "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken></ListBucketResult>",
      "<ListBucketResult><Contents><Key>x</Key><Size>-1</Size><LastModified>2026-11-21T11:16:23Z</LastModified></Contents></ListBucketResult>",
      "<ListBucketResult><Contents><Key>x</Key><LastModified>2026-11-21T11:16:23Z</LastModified></Contents></ListBucketResult>",
      "<ListBucketResult><Contents><Key>x</Key><Size>1</Size><LastModified>yesterday</LastModified></Contents></ListBucketResult>",
      "<ListBucketResult><Contents><Size>1</Size><LastModified>2026-11-21T11:16:23Z</LastModified></Contents></ListBucketResult>",
      "<ListBucketResult><CommonPrefixes><Prefix>noslash</Prefix></CommonPrefixes></ListBucketResult>",
      "<!DOCTYPE a [<!ENTITY b \"c\">]><ListBucketResult><Prefix>&b;</Prefix></ListBucketResult>",
      "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>",
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (parse(&page, &s, rows[i]) != -EPROTO)
      fail_msg("taken for a listing: %s", rows[i]);
  char longest[PRELUX_ALLUXIO_XML_TEXT + 100];
  int n = snprintf(longest, sizeof(longest), "<ListBucketResult><Prefix>");
  memset(longest + n, 'x', sizeof(longest) - (size_t)n - 1);
  longest[sizeof(longest) - 1] = 0;
  assert_int_equal(parse(&page, &s, longest), -EPROTO);
}

static void settled_times(void **state)
{
  static const struct
  {
    const char *version;
    int64_t mtime;
    bool settled;
  } rows[] = {
      {"5-1000000000-77-1000000000", 1000000000, true},  {"5-1000000000-77-1009000000", 1000000000, true},
      {"5-1000000000-77-61000000000", 1000000000, true}, {"5-1000000000-77-61000000001", 1000000000, false},
      {"5-1000000000-77-999999999", 1000000000, false},  {"5-1000000000-77-x", 1000000000, false},
      {"5-1000000000-77-1000000000x", 1000000000, false}, {"", 1000000000, false},
      {"5-1000000000-77-", 1000000000, false},           {"e:abc", 1000000000, false},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (prelux_alluxio_settled(rows[i].version, rows[i].mtime) != rows[i].settled)
      fail_msg("%s", rows[i].version);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(way_of_names), cmocka_unit_test(twice_encoded), cmocka_unit_test(ids_of_files),
      cmocka_unit_test(versions),     cmocka_unit_test(listing_page),  cmocka_unit_test(listing_lies),
      cmocka_unit_test(settled_times),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
