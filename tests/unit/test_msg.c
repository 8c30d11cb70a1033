#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/base/errlog.h"
#include "lib/ipc/msg.h"
#include "lib/ipc/runtime.h"

static _Alignas(8) unsigned char buf[1024];

static void round_trip(void **state)
{
  struct prelux_msg m;
  struct prelux_attr in = {.type = PRELUX_FILE, .size = 7}, out;
  prelux_msg_begin(&m, buf, sizeof buf, PRELUX_OP_STAT);
  prelux_msg_put_str(&m, PRELUX_FIELD_PATH, "12345678"); /* fills its padding: the NUL needs eight more */
  prelux_msg_put_u32(&m, PRELUX_FIELD_MAPPING, 3);
  prelux_msg_put_str(&m, PRELUX_FIELD_ARG, "one");
  prelux_msg_put_str(&m, PRELUX_FIELD_ARG, "");
  prelux_msg_put(&m, PRELUX_FIELD_ATTR, &in, sizeof in);
  assert_false(m.overflow);
  assert_int_equal(prelux_msg_check(buf, m.len), 0);
  assert_int_equal(prelux_msg_op(buf), PRELUX_OP_STAT);
  assert_string_equal(prelux_msg_str(buf, PRELUX_FIELD_PATH), "12345678");
  assert_int_equal(prelux_msg_u32(buf, PRELUX_FIELD_MAPPING, 9), 3);
  assert_int_equal(prelux_msg_u32(buf, PRELUX_FIELD_FLAGS, 9), 9);
  size_t pos = 0, len;
  assert_string_equal(prelux_msg_next(buf, PRELUX_FIELD_ARG, &pos, &len), "one");
  assert_string_equal(prelux_msg_next(buf, PRELUX_FIELD_ARG, &pos, &len), "");
  assert_null(prelux_msg_next(buf, PRELUX_FIELD_ARG, &pos, &len));
  assert_int_equal(prelux_msg_attr(buf, &out), 0);
  assert_int_equal(out.size, 7);
  assert_null(prelux_msg_str(buf, PRELUX_FIELD_TEXT));
}

static void overflow_is_told(void **state)
{
  struct prelux_msg m;
  prelux_msg_begin(&m, buf, 64, PRELUX_OP_STAT);
  for (int i = 0; i < 10; i++)
    prelux_msg_put_str(&m, PRELUX_FIELD_PATH, "abcdef");
  assert_true(m.overflow);
  assert_true(m.len <= 64);
}

/* Whatever arrives: refused, or readable without leaving the buffer (ASan watches). */
static void garbage(void **state)
{
  struct prelux_msg m;
  prelux_msg_begin(&m, buf, sizeof buf, PRELUX_OP_STAT);
  prelux_msg_put_str(&m, PRELUX_FIELD_PATH, "a/b");
  prelux_msg_put_u32(&m, PRELUX_FIELD_MAPPING, 3);
  srand(1);
  for (int round = 0; round < 200000; round++)
  {
    size_t len = m.len;
    unsigned char *copy = aligned_alloc(8, len);
    memcpy(copy, buf, len);
    for (int k = 0; k < 1 + round % 4; k++)
      copy[rand() % len] = (unsigned char)rand();
    if (prelux_msg_check(copy, len) == 0)
    {
      const char *s = prelux_msg_str(copy, PRELUX_FIELD_PATH);
      if (s)
        assert_true(strlen(s) < len);
      prelux_msg_u32(copy, PRELUX_FIELD_MAPPING, 0);
    }
    free(copy);
  }
  for (size_t cut = 0; cut < m.len; cut++)
    assert_int_equal(prelux_msg_check(buf, cut), -EBADMSG);
}

static void error_records_are_json_lines(void **state)
{
  char line[300];
  struct prelux_error_record rec = {.err = EIO, .call = "open", .path = "/a\"b\\\n\xff", .cause = "why", .backend = "lake"};
  size_t n = prelux_error_format(line, sizeof line, &rec, 1234, 5);
  line[n] = 0;
  assert_string_equal(line, "{\"time_ms\":1234,\"pid\":5,\"errno\":\"EIO\",\"call\":\"open\",\"backend\":\"lake\",\"cause\":\"why\","
                            "\"path\":\"/a\\\"b\\\\\\u000a\\u00ff\"}\n");
  char longer[5000];
  memset(longer, 'x', sizeof longer);
  longer[sizeof longer - 1] = 0;
  rec.path = rec.cause = rec.advice = rec.backend = longer;
  n = prelux_error_format(line, sizeof line, &rec, 1234, 5);
  assert_true(n < sizeof line);
  assert_memory_equal(line + n - 3, "\"}\n", 3);
}

static void runtime_folder(void **state)
{
  char out[32];
  char *env[] = {"XDG_RUNTIME_DIR=/run/u/", "PRELUX_RUNTIME_DIR=/r/x", NULL};
  assert_true(prelux_runtime_path(out, sizeof out, env) > 0);
  assert_string_equal(out, "/r/x");
  env[1] = NULL;
  assert_true(prelux_runtime_path(out, sizeof out, env) > 0);
  assert_string_equal(out, "/run/u/prelux");
  env[0] = NULL;
  assert_true(prelux_runtime_path(out, sizeof out, env) > 0);
  assert_memory_equal(out, "/tmp/prelux-", 12);
  char *narrow[] = {"PRELUX_RUNTIME_DIR=/0123456789012345678901234567890123", NULL};
  assert_int_equal(prelux_runtime_path(out, sizeof out, narrow), -ENAMETOOLONG);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(overflow_is_told), cmocka_unit_test(garbage),
                                     cmocka_unit_test(error_records_are_json_lines), cmocka_unit_test(runtime_folder)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
