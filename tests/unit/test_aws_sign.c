/* Signature Version 4 against published vectors: the examples of S3's documentation and AWS's test suite. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/backend/aws_sign.h"

#define S3_KEYS "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE_KEYS "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_TIME 1369353600    /* 20130524T000000Z */
#define SUITE_TIME 1440938160 /* 20150830T123600Z */
#define SUITE "https://example.amazonaws.com"
#define BUCKET "https://examplebucket.s3.amazonaws.com"

static const struct vector
{
  const char *name;
  struct prelux_aws_keys keys;
  struct prelux_aws_request request;
  const char *names, *signature;
} vectors[] = {
    {.name = "S3: GET with a range",
     .keys = {S3_KEYS, NULL},
     .request = {.method = "GET", .url = BUCKET "/test.txt", .headers = (const char *const[]){"Range: bytes=0-9", NULL},
                 .region = "us-east-1", .service = "s3", .when_s = S3_TIME, .content_header = true},
     .names = "host;range;x-amz-content-sha256;x-amz-date",
     .signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {.name = "S3: PUT with a payload",
     .keys = {S3_KEYS, NULL},
     .request = {.method = "PUT", .url = BUCKET "/test%24file.text",
                 .headers = (const char *const[]){"Date: Fri, 24 May 2013 00:00:00 GMT",
                                                  "x-amz-storage-class: REDUCED_REDUNDANCY", NULL},
                 .payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                 .region = "us-east-1", .service = "s3", .when_s = S3_TIME, .content_header = true},
     .names = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     .signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {.name = "S3: a parameter without a value",
     .keys = {S3_KEYS, NULL},
     .request = {.method = "GET", .url = BUCKET "/?lifecycle", .region = "us-east-1", .service = "s3",
                 .when_s = S3_TIME, .content_header = true},
     .names = "host;x-amz-content-sha256;x-amz-date",
     .signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {.name = "S3: a listing",
     .keys = {S3_KEYS, NULL},
     .request = {.method = "GET", .url = BUCKET ":443?prefix=J&max-keys=2", .region = "us-east-1", .service = "s3",
                 .when_s = S3_TIME, .content_header = true},
     .names = "host;x-amz-content-sha256;x-amz-date",
     .signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    {.name = "suite: get-vanilla",
     .keys = {SUITE_KEYS, NULL},
     .request = {.method = "GET", .url = SUITE "/", .region = "us-east-1", .service = "service", .when_s = SUITE_TIME},
     .names = "host;x-amz-date",
     .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {.name = "suite: get-vanilla-query-order-key-case",
     .keys = {SUITE_KEYS, NULL},
     .request = {.method = "GET", .url = SUITE "/?Param2=value2&Param1=value1", .region = "us-east-1",
                 .service = "service", .when_s = SUITE_TIME},
     .names = "host;x-amz-date",
     .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {.name = "suite: get-header-value-trim",
     .keys = {SUITE_KEYS, NULL},
     .request = {.method = "GET", .url = SUITE "/", .region = "us-east-1", .service = "service", .when_s = SUITE_TIME,
                 .headers = (const char *const[]){"My-Header1:  value1", "My-Header2: \"a   b   c\" ", NULL}},
     .names = "host;my-header1;my-header2;x-amz-date",
     .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {.name = "suite: post-vanilla",
     .keys = {SUITE_KEYS, NULL},
     .request = {.method = "POST", .url = SUITE, .region = "us-east-1", .service = "service", .when_s = SUITE_TIME},
     .names = "host;x-amz-date",
     .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
};

static const char *line_of(const struct prelux_aws_headers *h, const char *name)
{
  for (size_t i = 0; h->lines[i]; i++)
    if (strncmp(h->lines[i], name, strlen(name)) == 0)
      return h->lines[i] + strlen(name) + 2;
  return NULL;
}

static void test_vectors(void **state)
{
  for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
  {
    const struct vector *v = &vectors[i];
    struct prelux_aws_headers h;
    char want[200];
    assert_int_equal(prelux_aws_sign(&v->keys, &v->request, &h), 0);
    const char *got = line_of(&h, "Authorization");
    snprintf(want, sizeof(want), "SignedHeaders=%s, Signature=%s", v->names, v->signature);
    if (!strstr(got, want))
      fail_msg("%s: %s\nwanted %s", v->name, got, want);
    assert_int_equal(line_of(&h, "X-Amz-Content-Sha256") != NULL, v->request.content_header);
    prelux_aws_headers_release(&h);
  }
}

static void test_token_is_signed_and_sent(void **state)
{
  struct prelux_aws_keys keys = {S3_KEYS, "AQoDYXdzEPT//////////wEXAMPLE"};
  struct prelux_aws_request r = {.method = "GET", .url = "http://127.0.0.1:9000/b/k", .region = "eu-west-1",
                                 .service = "s3", .when_s = S3_TIME, .content_header = true};
  struct prelux_aws_headers h;
  assert_int_equal(prelux_aws_sign(&keys, &r, &h), 0);
  assert_string_equal(line_of(&h, "X-Amz-Security-Token"), keys.token);
  assert_string_equal(line_of(&h, "X-Amz-Date"), "20130524T000000Z");
  assert_non_null(strstr(line_of(&h, "Authorization"), "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token"));
  assert_non_null(strstr(line_of(&h, "Authorization"), "/20130524/eu-west-1/s3/aws4_request"));
  prelux_aws_headers_release(&h);
  for (size_t i = 0; i <= PRELUX_AWS_HEADERS; i++)
    assert_null(h.lines[i]);
}

static void test_no_line_ends_in_headers(void **state)
{
  struct prelux_aws_request r = {.method = "GET", .url = "http://h/", .region = "r", .service = "s3"};
  struct prelux_aws_headers h = {{NULL}};
  struct prelux_aws_keys token = {S3_KEYS, "a\r\nX: y"}, access = {"a\nb", "s", NULL};
  assert_int_equal(prelux_aws_sign(&token, &r, &h), -EINVAL);
  assert_int_equal(prelux_aws_sign(&access, &r, &h), -EINVAL);
  r.url = "ftp://h/";
  assert_int_equal(prelux_aws_sign(&(struct prelux_aws_keys){S3_KEYS, NULL}, &r, &h), -EINVAL);
  assert_null(h.lines[0]);
}

static void test_query(void **state)
{
  char url[64] = "http://h/b";
  assert_int_equal(prelux_aws_query(url, sizeof(url), "prefix", "a b/+\xe9~", 7), 33);
  assert_string_equal(url, "http://h/b?prefix=a%20b%2F%2B%E9~");
  assert_true(prelux_aws_query(url, sizeof(url), "start-after", "", 0) > 0);
  assert_string_equal(strchr(url, '&'), "&start-after=");
  assert_int_equal(prelux_aws_query(url, sizeof(url), "long", "0123456789012345678901234567890", 31), -ENAMETOOLONG);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_vectors),
      cmocka_unit_test(test_token_is_signed_and_sent),
      cmocka_unit_test(test_no_line_ends_in_headers),
      cmocka_unit_test(test_query),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
