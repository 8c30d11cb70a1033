/* S3's small XML answers: fields by place, cut anywhere, and hostile. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/backend/s3_fields.h"

static const char text[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<s3:List xmlns:s3=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mark>a&amp;b</Mark>"
    "<Part><N>1</N><Owner><N>no</N></Owner><ETag>&#34;x&#34;</ETag></Part><Empty/><Part><N>2</N></Part></s3:List>";

static int collect(void *arg, const char *outer, const char *name, const char *value)
{
  char *out = arg;
  sprintf(out + strlen(out), "%s.%s=%s;", outer, name, value);
  return strcmp(value, "stop") == 0 ? -ECANCELED : 0;
}

static void test_fields(void **state)
{
  char out[1024] = "", root[PRELUX_S3_NAME_MAX];
  assert_int_equal(prelux_s3_fields(text, sizeof(text) - 1, root, collect, out), 0);
  assert_string_equal(root, "List");
  assert_string_equal(out, ".Mark=a&b;Part.N=1;Part.ETag=\"x\";Part.Part=;.Empty=;Part.N=2;Part.Part=;");
}

static void test_one_field(void **state)
{
  char out[8];
  assert_int_equal(prelux_s3_field(text, sizeof(text) - 1, "List", "Mark", out, sizeof(out)), 0);
  assert_string_equal(out, "a&b");
  assert_int_equal(prelux_s3_field(text, sizeof(text) - 1, "List", "ETag", out, sizeof(out)), -ENOENT); /* inside another */
  assert_int_equal(prelux_s3_field(text, sizeof(text) - 1, "Error", "Mark", out, sizeof(out)), -EPROTO);
  assert_int_equal(prelux_s3_field(text, sizeof(text) - 1, "List", "Mark", out, 3), -EPROTO);
  const char kept[] = " \n\r\t  <?xml version=\"1.0\"?><R><A>1</A></R>";
  assert_int_equal(prelux_s3_field(kept, sizeof(kept) - 1, "R", "A", out, sizeof(out)), 0);
}

static void test_stopped_by_the_caller(void **state)
{
  const char stop[] = "<R><A>stop</A><B>1</B></R>";
  char out[1024] = "", root[PRELUX_S3_NAME_MAX];
  assert_int_equal(prelux_s3_fields(stop, sizeof(stop) - 1, root, collect, out), -ECANCELED);
  assert_string_equal(out, ".A=stop;");
}

static void test_cut_anywhere(void **state)
{
  char out[4096], root[PRELUX_S3_NAME_MAX];
  for (size_t n = 0; n < sizeof(text) - 1; n++)
  {
    char *copy = malloc(n + 1); /* so that a sanitizer sees what is read behind it */
    out[0] = 0;
    memcpy(copy, text, n);
    assert_int_equal(prelux_s3_fields(copy, n, root, collect, out), -EPROTO);
    free(copy);
  }
}

static void test_hostile(void **state)
{
  static char large[20000];
  static const char *const odd[] = {
      "", "   ", "no xml", "<html><body>x</body>", "<!DOCTYPE r [<!ENTITY a \"aaaa\">]><r><b>&a;</b></r>",
      "<r><a><b><c><d><e><f><g><h>deep</h></g></f></e></d></c></b></a></r>", "<r>\x01</r>"};
  char out[1024], root[PRELUX_S3_NAME_MAX];
  for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
  {
    out[0] = 0;
    assert_int_equal(prelux_s3_fields(odd[i], strlen(odd[i]), root, collect, out), -EPROTO);
  }
  assert_int_equal(prelux_s3_fields(NULL, 0, root, collect, out), -EPROTO);
  memset(large, 'x', sizeof(large) - 1);
  memcpy(large, "<r><a>", 6);
  memcpy(large + sizeof(large) - 9, "</a></r>", 8);
  out[0] = 0;
  assert_int_equal(prelux_s3_fields(large, sizeof(large) - 1, root, collect, out), -EPROTO);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fields),       cmocka_unit_test(test_one_field), cmocka_unit_test(test_stopped_by_the_caller),
      cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_hostile),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
