/* lib/net: URLs, percent encoding, dates, heads of answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/net/engine.h"
#include "lib/net/net.h"

static void test_encode(void **state)
{
  char out[64];
  assert_int_equal(prelux_url_encode(out, sizeof(out), "a/b-._~9Z", 9), 9);
  assert_string_equal(out, "a/b-._~9Z");
  assert_int_equal(prelux_url_encode(out, sizeof(out), "%?#;&=+ :\xff\n", 11), 33);
  assert_string_equal(out, "%25%3F%23%3B%26%3D%2B%20%3A%FF%0A");
  assert_int_equal(prelux_url_encode(out, sizeof(out), "", 0), 0);
  assert_string_equal(out, "");
}

static void test_encode_never_writes_past_the_end(void **state)
{
  for (size_t cap = 0; cap < 40; cap++)
  {
    char *out = malloc(cap + 1); /* a sanitizer sees one byte too many */
    out[cap] = 'X';
    long n = prelux_url_encode(cap ? out : out, cap, "ab?c \xffz/d", 9);
    assert_int_equal(out[cap], 'X');
    if (n >= 0)
      assert_true((size_t)n < cap && strlen(out) == (size_t)n);
    else
      assert_int_equal(n, -ENAMETOOLONG);
    free(out);
  }
}

static void test_every_byte_comes_back(void **state)
{
  char in[256], coded[1024], back[256];
  for (int i = 1; i < 256; i++)
    in[i - 1] = (char)i;
  long n = prelux_url_encode(coded, sizeof(coded), in, 255);
  assert_true(n > 0);
  assert_int_equal(prelux_url_decode(back, sizeof(back), coded, (size_t)n), 255);
  assert_memory_equal(in, back, 255);
}

static void test_decode_refuses(void **state)
{
  static const char *const bad[] = {"%", "%4", "%zz", "a%0", "%00", "a%00b", "%-1", "% 1", "%0x"};
  char out[16];
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_int_equal(prelux_url_decode(out, sizeof(out), bad[i], strlen(bad[i])), -EINVAL);
  assert_int_equal(prelux_url_decode(out, 3, "abc", 3), -ENAMETOOLONG);
  assert_int_equal(prelux_url_decode(out, 4, "abc", 3), 3);
  assert_int_equal(prelux_url_decode(out, sizeof(out), "%41%2f", 6), 2);
  assert_string_equal(out, "A/");
}

static void test_parse(void **state)
{
  struct prelux_url u;
  assert_int_equal(prelux_url_parse("http://h", &u), 0);
  assert_true(!u.https && u.port == 80 && u.path_len == 0 && !u.has_query && u.origin_len == 8);
  assert_int_equal(prelux_url_parse("HTTPS://user:p%40w@[::1]:8443/a/b?q#f", &u), 0);
  assert_true(u.https && u.port == 8443 && u.has_user && u.has_query && u.path_len == 4);
  assert_int_equal(u.host_len, 5);
  assert_memory_equal(u.host, "[::1]", 5);
  assert_int_equal(prelux_url_parse("http://a@b@c/x", &u), 0); /* the last @ counts: b is not the host */
  assert_memory_equal(u.host, "c/", 2);
  static const char *const bad[] = {"",
                                    "h",
                                    "ftp://h/",
                                    "http://",
                                    "http:///x",
                                    "http://:80/",
                                    "http://h:0",
                                    "http://h:99999",
                                    "http://h:8a/",
                                    "http://[::1/x",
                                    "http://h /",
                                    "http://h/\n",
                                    "http://[::1]x/",
                                    "http://u@/",
                                    "file:///etc/passwd"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_int_equal(prelux_url_parse(bad[i], &u), -EINVAL);
}

static void test_same_origin(void **state)
{
  static const struct
  {
    const char *a, *b;
    bool same;
  } rows[] = {
      {"http://h/a", "http://H:80/b?c", true}, {"http://h/", "https://h/", false},
      {"https://h/", "https://h:443/", true},  {"http://h/", "http://h:8080/", false},
      {"http://h/", "http://h.evil/", false},  {"http://h/", "http://user@h/", true},
      {"http://h@evil/", "http://h/", false},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    struct prelux_url a, b;
    assert_int_equal(prelux_url_parse(rows[i].a, &a), 0);
    assert_int_equal(prelux_url_parse(rows[i].b, &b), 0);
    assert_int_equal(prelux_url_same_origin(&a, &b), rows[i].same);
  }
}

static void test_join(void **state)
{
  static const struct
  {
    const char *base, *ref, *result;
  } rows[] = {
      {"http://h/a/b", "c", "http://h/a/c"},
      {"http://h/a/b", "/c?d", "http://h/c?d"},
      {"http://h/a/b", "//i:81/c", "http://i:81/c"},
      {"https://h/a/b", "//i/c", "https://i/c"},
      {"http://h/a/b", "http://i/c#frag", "http://i/c"},
      {"http://h/a/b?x", "?y", "http://h/a/b?y"},
      {"http://h/a/b/", "../c", "http://h/a/c"},
      {"http://h/a/b/", "./", "http://h/a/b/"},
      {"http://h/a/b", "..", "http://h/"},
      {"http://h/a", "../../../c", "http://h/c"},
      {"http://h", "c", "http://h/c"},
      {"http://h/", "a%2e%2e/b", "http://h/a%2e%2e/b"},
      {"http://h/", "c?x=/../y", "http://h/c?x=/../y"},
  };
  char out[200];
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    assert_int_equal(prelux_url_join(out, sizeof(out), rows[i].base, rows[i].ref), strlen(rows[i].result));
    assert_string_equal(out, rows[i].result);
  }
  assert_int_equal(prelux_url_join(out, sizeof(out), "http://h/", "javascript:alert(1)"), -EINVAL);
  assert_int_equal(prelux_url_join(out, sizeof(out), "http://h/", "file:///etc/passwd"), -EINVAL);
  assert_int_equal(prelux_url_join(out, sizeof(out), "http://h/", "a\r\nX: y"), -EINVAL);
  assert_int_equal(prelux_url_join(out, 12, "http://h/", "abcdefgh"), -ENAMETOOLONG);
}

static void test_show_hides_secrets(void **state)
{
  char out[100];
  prelux_url_show(out, sizeof(out), "https://user:secret@h:81/a/b?sig=secret#secret");
  assert_string_equal(out, "https://h:81/a/b");
  prelux_url_show(out, sizeof(out), "http://h?sig=secret");
  assert_string_equal(out, "http://h");
  prelux_url_show(out, sizeof(out), "secret");
  assert_null(strstr(out, "secret"));
}

/* Identities of caches are made of it: not a byte of it may change. */
static void test_canonical(void **state)
{
  static const struct
  {
    const char *url, *want;
  } rows[] = {
      {"http://h", "http://h:80"},
      {"HTTPS://User:Word@Host.Example/A%2fb/C?q=1#f", "https://host.example:443/A%2fb/C"},
      {"http://[FE80::1]:8080/x", "http://[fe80::1]:8080/x"},
  };
  char out[64];
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    assert_int_equal(prelux_url_canonical(out, sizeof(out), rows[i].url), strlen(rows[i].want));
    assert_string_equal(out, rows[i].want);
    assert_int_equal(prelux_url_canonical(out, strlen(rows[i].want), rows[i].url), -ENAMETOOLONG);
  }
  assert_int_equal(prelux_url_canonical(out, sizeof(out), "ftp://h/"), -EINVAL);
}

static void test_dates(void **state)
{
  assert_int_equal(prelux_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), INT64_C(784111777000000000));
  assert_int_equal(prelux_http_date("Sunday, 06-Nov-94 08:49:37 GMT"), INT64_C(784111777000000000));
  assert_int_equal(prelux_http_date("Sun Nov  6 08:49:37 1994"), INT64_C(784111777000000000));
  assert_int_equal(prelux_http_date("Thu, 29 Feb 2024 00:00:00 GMT"), INT64_C(1709164800000000000));
  static const char *const bad[] = {"",
                                    "now",
                                    "Sun, 06 Nov 1994 08:49:37",
                                    "Sun, 06 Nov 1994 08:49:37 CET",
                                    "Sun, 06 Nov 1994 08:49:37 GMT x",
                                    "Sun, 31 Nov 1994 08:49:37 GMT",
                                    "Wed, 29 Feb 2023 00:00:00 GMT",
                                    "Sun, 06 Abc 1994 08:49:37 GMT",
                                    "Sun, 06 Nov 1994 24:49:37 GMT",
                                    "Sun, 06 Nov 9999 08:49:37 GMT",
                                    "Sun, -6 Nov 1994 08:49:37 GMT",
                                    ",",
                                    "Sun,"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_int_equal(prelux_http_date(bad[i]), 0);
}

static void test_dates_come_back(void **state)
{
  char text[40];
  for (int64_t s = 1; s < INT64_C(9000000000); s = s * 3 + 12345)
  {
    prelux_http_date_format(text, sizeof(text), s * 1000000000);
    assert_int_equal(prelux_http_date(text), s * 1000000000);
  }
}

static int head(struct prelux_net_answer *a, const char *const *lines)
{
  int rc = 0;
  *a = (struct prelux_net_answer){.content_length = UINT64_MAX};
  for (; *lines && rc == 0; lines++)
    rc = prelux_net_head_line(a, *lines, strlen(*lines));
  return rc;
}

static void test_head(void **state)
{
  struct prelux_net_answer a;
  const char *const good[] = {"HTTP/1.1 103 Early\r\n",
                              "Content-Type: early/x\r\n",
                              "\r\n",
                              "HTTP/1.1 206 Partial\r\n",
                              "etag:  \"x\" \t\r\n",
                              "CONTENT-LENGTH: 12\r\n",
                              "Content-Length: 12\r\n",
                              "Content-Range: bytes 0-11/100\r\n",
                              "Location: /y\r\n",
                              "X: y\r\n",
                              "\r\n",
                              NULL};
  assert_int_equal(head(&a, good), 0);
  assert_int_equal(a.status, 206);
  assert_string_equal(a.etag, "\"x\"");
  assert_string_equal(a.content_range, "bytes 0-11/100");
  assert_string_equal(a.content_type, ""); /* what came with 103 is of another answer */
  assert_string_equal(a.location, "/y");
  assert_true(a.content_length == 12);
  prelux_net_answer_free(&a);
}

static void test_head_refuses(void **state)
{
  struct prelux_net_answer a;
  static const char *const bad[] = {"HTTP/1.1\r\n",
                                    "HTTP/1.1 2\r\n",
                                    "HTTP/1.1 2x0 OK\r\n",
                                    "HTTP/1.1 099 x\r\n",
                                    "Content-Length: -1\r\n",
                                    "Content-Length: 1x\r\n",
                                    "Content-Length:\r\n",
                                    "Content-Length: 99999999999999999999\r\n",
                                    "Content-Length: 0x10\r\n"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
  {
    const char *const lines[] = {bad[i], NULL};
    assert_int_equal(head(&a, lines), -EPROTO);
    prelux_net_answer_free(&a);
  }
  const char *const two[] = {"HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6", NULL};
  assert_int_equal(head(&a, two), -EPROTO);
  prelux_net_answer_free(&a);
}

static void test_a_field_too_long_counts_as_not_sent(void **state)
{
  struct prelux_net_answer a;
  char line[400];
  memset(line, 'e', sizeof(line));
  memcpy(line, "ETag: \"", 7);
  line[sizeof(line) - 1] = 0;
  const char *const lines[] = {"HTTP/1.1 200 OK", line, NULL};
  assert_int_equal(head(&a, lines), 0);
  assert_string_equal(a.etag, "");
  char whole[400];
  assert_int_equal(prelux_net_header(&a, "etag", whole, sizeof(whole)), strlen(line) - 6);
  assert_string_equal(whole, line + 6);
  assert_int_equal(prelux_net_header(&a, "ETag", whole, 20), -ENAMETOOLONG);
  assert_int_equal(prelux_net_header(&a, "E", whole, sizeof(whole)), -ENOENT);
  prelux_net_answer_free(&a);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_encode),
      cmocka_unit_test(test_encode_never_writes_past_the_end),
      cmocka_unit_test(test_every_byte_comes_back),
      cmocka_unit_test(test_decode_refuses),
      cmocka_unit_test(test_parse),
      cmocka_unit_test(test_same_origin),
      cmocka_unit_test(test_join),
      cmocka_unit_test(test_show_hides_secrets),
      cmocka_unit_test(test_canonical),
      cmocka_unit_test(test_dates),
      cmocka_unit_test(test_dates_come_back),
      cmocka_unit_test(test_head),
      cmocka_unit_test(test_head_refuses),
      cmocka_unit_test(test_a_field_too_long_counts_as_not_sent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
