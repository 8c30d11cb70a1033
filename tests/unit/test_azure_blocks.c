/* What backend azure writes by itself: ids of blocks, tokens of uploads, metadata, conditions, checksums. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/backend/azure_write.h"

static void ids_come_back(void **state)
{
  static const struct prelux_azure_id rows[] = {
      {.kind = PRELUX_AZURE_BEGUN, .upload = UINT64_MAX, .time_s = 4102444800, .part_size = PRELUX_AZURE_BLOCK_MAX, .was = UINT64_MAX},
      {.kind = PRELUX_AZURE_BEGUN, .upload = 0, .time_s = 0, .part_size = 1},
      {.kind = PRELUX_AZURE_PART, .upload = 1, .time_s = 1, .n = 0},
      {.kind = PRELUX_AZURE_PART, .upload = 1, .time_s = 1, .n = PRELUX_AZURE_BLOCKS_MAX - 1, .md5 = {255, 1, 2, 3, [15] = 255}},
      {.kind = PRELUX_AZURE_ABORTED, .upload = 77, .time_s = 1},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    char text[PRELUX_AZURE_ID + 1];
    struct prelux_azure_id back;
    prelux_azure_id_text(&rows[i], text);
    assert_int_equal(strlen(text), PRELUX_AZURE_ID);
    assert_null(strchr(text, '='));
    assert_true(prelux_azure_id_read(text, &back));
    assert_int_equal(back.kind, rows[i].kind);
    assert_true(back.upload == rows[i].upload && back.time_s == rows[i].time_s && back.n == rows[i].n);
    assert_true(back.part_size == rows[i].part_size && back.was == rows[i].was);
    assert_memory_equal(back.md5, rows[i].md5, 16);
  }
}

static void other_bytes_have_another_id(void **state)
{
  struct prelux_azure_id one = {.kind = PRELUX_AZURE_PART, .upload = 5, .time_s = 9, .n = 3}, other[4] = {one, one, one, one};
  char text[PRELUX_AZURE_ID + 1], more[PRELUX_AZURE_ID + 1];
  prelux_azure_id_text(&one, text);
  other[0].upload++;
  other[1].time_s++;
  other[2].n++;
  other[3].md5[15]++;
  for (int i = 0; i < 4; i++)
  {
    prelux_azure_id_text(&other[i], more);
    assert_string_not_equal(text, more);
  }
}

static void ids_of_others(void **state)
{
  static const char *const rows[] = {
      "",
      "dGhlaXJz",
      "UExYQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" "AAAA",  /* longer */
      "QUJDQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",          /* ABC */
      "UExYQQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",          /* PLX, kind A */
      "UExYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",          /* PLX, kind 0 */
      "UExYQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",          /* two bytes fewer */
      "UExYQg AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  };
  struct prelux_azure_id id;
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (prelux_azure_id_read(rows[i], &id))
      fail_msg("row %zu was taken", i);
  assert_true(prelux_azure_id_read("UExYQgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &id));
}

static void tokens_are_of_one_object(void **state)
{
  struct prelux_azure here = {.prefix = (char *)""}, below = {.prefix = (char *)"a/"};
  char tokens[6][PRELUX_TOKEN_MAX];
  prelux_azure_token_text(&here, "f", 1, 2, 3, tokens[0]);
  prelux_azure_token_text(&here, "g", 1, 2, 3, tokens[1]);
  prelux_azure_token_text(&below, "f", 1, 2, 3, tokens[2]);
  prelux_azure_token_text(&here, "f", 2, 2, 3, tokens[3]);
  prelux_azure_token_text(&here, "f", 1, 3, 3, tokens[4]);
  prelux_azure_token_text(&here, "f", 1, 2, 0, tokens[5]);
  for (int i = 0; i < 6; i++)
  {
    assert_null(strchr(tokens[i], ' '));
    for (int k = 0; k < i; k++)
      assert_string_not_equal(tokens[i], tokens[k]);
  }
}

static void modes_and_times(void **state)
{
  static const struct
  {
    const char *text;
    uint32_t mode;
  } modes[] = {{"33188", 0644}, {"0755", 0755}, {"", 0}, {"rw", 0}, {"0799", 0}, {"-1", 0}, {"99999999999", 0}, {"36333", 06755}, {"0", 0}};
  static const struct
  {
    const char *text;
    bool good;
    int64_t ns;
  } times[] = {
      {"1", true, 1},          {"-1500000000123456789", true, -1500000000123456789}, {"", false, 0}, {"-", false, 0}, {"1.5", false, 0},
      {"1 ", false, 0},        {"9223372036854775807", true, INT64_MAX},             {"9223372036854775808", false, 0},
      {"+1", false, 0},
  };
  for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
    assert_int_equal(prelux_azure_meta_mode(modes[i].text), modes[i].mode);
  for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
  {
    int64_t ns = 7;
    assert_int_equal(prelux_azure_meta_mtime(times[i].text, &ns), times[i].good);
    assert_true(ns == (times[i].good ? times[i].ns : 7));
  }
}

static void metadata_that_go_along(void **state)
{
  char head[] = "HTTP/1.1 200 OK\nETag: \"1\"\nx-ms-meta-Project: a: b\nX-MS-Meta-Permissions: 33188\nx-ms-meta-modtime: 5\n"
                "x-ms-metaphor: no\nx-ms-meta-modtimes: 6\nx-ms-meta-\n";
  struct prelux_net_answer a = {.head = head, .head_len = strlen(head)};
  struct prelux_azure_meta m = {0};
  assert_int_equal(prelux_azure_meta_copy(&m, &a), 0);
  assert_int_equal(prelux_azure_meta_set(&m, 0600, true, -7), 0);
  assert_int_equal(m.n, 4);
  assert_string_equal(m.lines[0], "x-ms-meta-Project: a: b");
  assert_string_equal(m.lines[1], "x-ms-meta-modtimes: 6");
  assert_string_equal(m.lines[2], "x-ms-meta-permissions: 33152");
  assert_string_equal(m.lines[3], "x-ms-meta-modtime: -7");
  assert_null(m.lines[4]);
  for (int i = 4; i < 100; i++)
    assert_int_equal(prelux_azure_meta_add(&m, "n", "v"), 0);
  assert_int_equal(prelux_azure_meta_add(&m, "n", "v"), -E2BIG);
  prelux_azure_meta_free(&m);
  assert_null(m.lines);
}

static void conditions(void **state)
{
  static const struct
  {
    const char *version;
    int rc;
  } rows[] = {{"e:0x8D", 0}, {"", -EINVAL}, {"0x8D", -ESTALE}, {"e:", -ESTALE}, {"e:a b", -ESTALE}, {"e:\"a\"", -ESTALE}, {"m:1", -ESTALE}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    struct prelux_condition cond = {.must = PRELUX_MUST_BE_VERSION};
    struct prelux_azure_call call = {0};
    snprintf(cond.version, sizeof(cond.version), "%s", rows[i].version);
    assert_int_equal(prelux_azure_guard(&call, &cond, NULL), rows[i].rc);
    assert_false(call.absent);
    if (rows[i].rc == 0)
      assert_string_equal(call.etag, rows[i].version + 2);
    else
      assert_null(call.etag);
  }
  struct prelux_condition absent = {.must = PRELUX_MUST_BE_ABSENT};
  struct prelux_azure_call call = {0};
  assert_int_equal(prelux_azure_guard(&call, &absent, NULL), 0);
  assert_true(call.absent && !call.etag);
}

static void checksums(void **state)
{
  struct prelux_azure_md5 md5, whole;
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  int fd = memfd_create("bytes", MFD_CLOEXEC);
  assert_int_equal(write(fd, "xabcabc", 7), 7);
  assert_int_equal(EVP_DigestInit_ex(ctx, EVP_md5(), NULL), 1);
  assert_int_equal(prelux_azure_hash(fd, 1, 3, ctx, &md5, NULL), 0);
  assert_string_equal(md5.hex, "900150983cd24fb0d6963f7d28e17f72");
  assert_string_equal(md5.header, "Content-MD5: kAFQmDzST7DWlj99KOF/cg==");
  assert_int_equal(prelux_azure_hash(fd, 4, 3, ctx, &md5, NULL), 0);
  assert_string_equal(md5.hex, "900150983cd24fb0d6963f7d28e17f72");
  prelux_azure_hash_end(ctx, &whole);
  assert_string_equal(whole.hex, "440ac85892ca43ad26d44c7ad9d47d3e");
  assert_int_equal(prelux_azure_hash(fd, 7, 0, NULL, &md5, NULL), 0);
  assert_string_equal(md5.hex, "d41d8cd98f00b204e9800998ecf8427e");
  assert_int_equal(prelux_azure_hash(fd, 1, 7, NULL, &md5, NULL), -EINVAL);
  assert_int_equal(prelux_azure_hash(-1, 0, 1, NULL, &md5, NULL), -EBADF);
  EVP_MD_CTX_free(ctx);
  close(fd);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ids_come_back),
      cmocka_unit_test(other_bytes_have_another_id),
      cmocka_unit_test(ids_of_others),
      cmocka_unit_test(tokens_are_of_one_object),
      cmocka_unit_test(modes_and_times),
      cmocka_unit_test(metadata_that_go_along),
      cmocka_unit_test(conditions),
      cmocka_unit_test(checksums),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
