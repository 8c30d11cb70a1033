/* CRCs: the vectors of RFC 3720 (B.4) and of the catalogue of CRC algorithms, and that both ways give one result, however the bytes are cut and aligned. */
#include "lib/base/crc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t (*const ways[])(enum prelux_crc_kind, uint64_t, const void *, size_t) = {prelux_crc, prelux_crc_portable};

static void vectors(void **state)
{
  unsigned char zeros[32] = {0}, ones[32], up[32], down[32];
  memset(ones, 0xff, sizeof(ones));
  for (int i = 0; i < 32; i++)
  {
    up[i] = (unsigned char)i;
    down[i] = (unsigned char)(31 - i);
  }
  for (size_t i = 0; i < 2; i++)
  {
    assert_int_equal(ways[i](PRELUX_CRC32, 0, "123456789", 9), 0xcbf43926u);
    assert_int_equal(ways[i](PRELUX_CRC64NVME, 0, "123456789", 9), UINT64_C(0xae8b14860a799888));
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, "", 0), 0);
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, "123456789", 9), 0xe3069283u);
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, zeros, 32), 0x8a9136aau);
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, ones, 32), 0x62a8ab43u);
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, up, 32), 0x46dd794eu);
    assert_int_equal(ways[i](PRELUX_CRC32C, 0, down, 32), 0x113fdb5cu);
  }
}

/* The NVM Command Set's own examples, 4 KiB each: what is folded, too. */
static void blocks(void **state)
{
  static unsigned char bytes[4096];
  for (size_t i = 0; i < 2; i++)
  {
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(ways[i](PRELUX_CRC64NVME, 0, bytes, sizeof(bytes)), UINT64_C(0x6482d367eb22b64e));
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(ways[i](PRELUX_CRC64NVME, 0, bytes, sizeof(bytes)), UINT64_C(0xc0ddba7302eca3ac));
    for (size_t at = 0; at < sizeof(bytes); at++)
      bytes[at] = (unsigned char)at;
    assert_int_equal(ways[i](PRELUX_CRC64NVME, 0, bytes, sizeof(bytes)), UINT64_C(0x3e729f5f6750449c));
  }
}

static void pieces(void **state)
{
  unsigned char bytes[400];
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = (unsigned char)(i * i * 31 + 7 * i);
  for (enum prelux_crc_kind kind = 0; kind < PRELUX_CRC_KINDS; kind++)
    for (size_t from = 0; from < 9; from++)
      for (size_t len = 0; len < 150; len++)
      {
        uint64_t whole = prelux_crc_portable(kind, 0, bytes + from, sizeof(bytes) - from);
        for (size_t i = 0; i < 2; i++)
          assert_int_equal(ways[i](kind, ways[1 - i](kind, 0, bytes + from, len), bytes + from + len, sizeof(bytes) - from - len), whole);
      }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(vectors), cmocka_unit_test(blocks), cmocka_unit_test(pieces)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
