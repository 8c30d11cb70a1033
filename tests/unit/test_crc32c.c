/* CRC-32C: the vectors of RFC 3720 (B.4), and that both ways give one result, however the bytes are cut and aligned. */
#include "lib/backend/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t (*const ways[])(uint32_t, const void *, size_t) = {prelux_crc32c, prelux_crc32c_portable};

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
    assert_int_equal(ways[i](0, "", 0), 0);
    assert_int_equal(ways[i](0, "123456789", 9), 0xe3069283u);
    assert_int_equal(ways[i](0, zeros, 32), 0x8a9136aau);
    assert_int_equal(ways[i](0, ones, 32), 0x62a8ab43u);
    assert_int_equal(ways[i](0, up, 32), 0x46dd794eu);
    assert_int_equal(ways[i](0, down, 32), 0x113fdb5cu);
  }
}

static void pieces(void **state)
{
  unsigned char bytes[300];
  for (size_t i = 0; i < sizeof(bytes); i++)
    bytes[i] = (unsigned char)(i * i * 31 + 7 * i);
  for (size_t from = 0; from < 9; from++)
    for (size_t len = 0; len < 40; len++)
    {
      uint32_t whole = prelux_crc32c(0, bytes + from, sizeof(bytes) - from);
      for (size_t i = 0; i < 2; i++)
        assert_int_equal(ways[i](ways[1 - i](0, bytes + from, len), bytes + from + len, sizeof(bytes) - from - len),
                         whole);
    }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(vectors), cmocka_unit_test(pieces)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
