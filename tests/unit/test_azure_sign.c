/* Azure's SharedKey. Signatures and texts are those that azure-storage-blob 12.23.1 makes for the same requests; the first text is
 * the one of Microsoft's documentation. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/backend/azure_sign.h"

#define DATE "x-ms-date: Sat, 21 Nov 2026 16:00:00 GMT"
#define VERSION "x-ms-version: 2021-12-02"
#define BOTH "x-ms-date:Sat, 21 Nov 2026 16:00:00 GMT\nx-ms-version:2021-12-02\n"

static const struct
{
  const char *method, *url, *account, *headers[6], *text, *signature;
} rows[] = {
    {"GET",
     "https://myaccount.blob.core.windows.net/mycontainer?comp=metadata&restype=container&timeout=20",
     "myaccount",
     {"x-ms-version: 2015-02-21", "x-ms-date: Fri, 26 Jun 2015 23:39:12 GMT"},
     "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
     "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
     NULL},
    {"GET",
     "https://acct.blob.core.windows.net/data?restype=container&comp=list&delimiter=%2F&include=metadata"
     "&prefix=a%20b%2F%2B%25%C3%A9%2F&marker=2%21x%3D%26",
     "acct",
     {DATE, VERSION},
     "GET\n\n\n\n\n\n\n\n\n\n\n\n" BOTH
     "/acct/data\ncomp:list\ndelimiter:/\ninclude:metadata\nmarker:2!x=&\nprefix:a b/+%\xc3\xa9/\nrestype:container",
     "vJ4lmGxBoU8aPnsOczhnyqFyYKDEN4jGiPcfjxJbCcc="},
    {"HEAD",
     "https://acct.blob.core.windows.net/data/a%20b/%25%2B%C3%A9%3F",
     "acct",
     {DATE, VERSION},
     "HEAD\n\n\n\n\n\n\n\n\n\n\n\n" BOTH "/acct/data/a%20b/%25%2B%C3%A9%3F",
     "4QspaIom8brwVGFGz6BGeHAtJzMT4jhj8y+Z8/JxbdI="},
    {"GET",
     "https://acct.blob.core.windows.net/%24root/x",
     "acct",
     {VERSION, DATE, "x-ms-range: bytes=5-9", "If-Match: \"0x8D\""},
     "GET\n\n\n\n\n\n\n\n\"0x8D\"\n\n\n\nx-ms-date:Sat, 21 Nov 2026 16:00:00 GMT\nx-ms-range:bytes=5-9\n"
     "x-ms-version:2021-12-02\n/acct/%24root/x",
     "S6cIhVSRdeEgqZIoeBfumuazCllkYdsOqnzdkz8868k="},
    {"GET",
     "http://127.0.0.1:10000/devstoreaccount1/data/a",
     "devstoreaccount1",
     {DATE, VERSION},
     "GET\n\n\n\n\n\n\n\n\n\n\n\n" BOTH "/devstoreaccount1/devstoreaccount1/data/a",
     "CFhF+EMUTr/bzgefRwFIXUq7Jq81y4k9EfIGcirk4XY="},
    /* What we do not send, but the text knows: the Date header is left out beside x-ms-date, a length of 0 is none. */
    {"PUT",
     "https://acct.blob.core.windows.net?COMP=list",
     "acct",
     {"Range: bytes=0-9", "Date: never", "content-length: 0", "X-Ms-Date:\t then", "Content-Type: a/b"},
     "PUT\n\n\n\n\na/b\n\n\n\n\n\nbytes=0-9\nx-ms-date:then\n/acct/\ncomp:list",
     NULL},
};

static void texts_and_signatures(void **state)
{
  unsigned char key[64];
  char out[45];
  for (unsigned i = 0; i < sizeof(key); i++)
    key[i] = (unsigned char)i;
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    char *text = prelux_azure_string_to_sign(rows[i].method, rows[i].url, rows[i].headers, rows[i].account);
    assert_non_null(text);
    assert_string_equal(text, rows[i].text);
    assert_int_equal(prelux_azure_signature(key, sizeof(key), text, out), 0);
    if (rows[i].signature)
      assert_string_equal(out, rows[i].signature);
    free(text);
  }
}

static void what_cannot_be_signed(void **state)
{
  assert_null(prelux_azure_string_to_sign("GET", "no url", NULL, "a"));
  assert_null(prelux_azure_string_to_sign("GET", "http://h/c?a=%zz", NULL, "a"));
  assert_null(prelux_azure_string_to_sign("GET", "http://h/c?%0=1", NULL, "a"));
  char *text = prelux_azure_string_to_sign("GET", "http://h/c?&&b&a=&", NULL, "a");
  assert_string_equal(text, "GET\n\n\n\n\n\n\n\n\n\n\n\n/a/c\na:\nb:");
  free(text);
}

static void base64(void **state)
{
  unsigned char out[16];
  assert_int_equal(prelux_azure_base64("aGVsbG8=", out, sizeof(out)), 5);
  assert_memory_equal(out, "hello", 5);
  assert_int_equal(prelux_azure_base64(" aGVsbA==\n", out, sizeof(out)), 4);
  assert_int_equal(prelux_azure_base64("aGVsbG8h", out, sizeof(out)), 6);
  static const char *const bad[] = {"", " ", "aGVsbG8", "aGVs bG8=", "a*Vs", "====", "aGVsbG8haGVsbG8haGVsbG8h"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    assert_true(prelux_azure_base64(bad[i], out, sizeof(out)) <= 0);
}

static void md5(void **state)
{
  char out[33];
  prelux_azure_md5("XUFAKrxLKna5cZ2REBfFkg==", out);
  assert_string_equal(out, "5d41402abc4b2a76b9719d911017c592");
  static const char *const bad[] = {"", "XUFAKrxLKna5cZ2REBfFkg=", "XUFAKrxLKna5cZ2REBfFk*==", "XUFAKrxLKna5cZ2REBfFkgAA", "5d41402abc4b2a76b9719d911017c592"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
  {
    prelux_azure_md5(bad[i], out);
    assert_string_equal(out, "");
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(texts_and_signatures),
      cmocka_unit_test(what_cannot_be_signed),
      cmocka_unit_test(base64),
      cmocka_unit_test(md5),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
