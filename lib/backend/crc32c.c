#include "lib/backend/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

/* tables[k][b]: the remainder of byte b with k zero bytes behind it. Eight bytes are taken at once, each by its own
 * table. */
static uint32_t tables[8][256];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void)
{
  for (uint32_t b = 0; b < 256; b++)
  {
    uint32_t r = b;
    for (int i = 0; i < 8; i++)
      r = r & 1 ? r >> 1 ^ POLYNOMIAL : r >> 1;
    tables[0][b] = r;
  }
  for (uint32_t b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++)
      tables[k][b] = tables[k - 1][b] >> 8 ^ tables[0][tables[k - 1][b] & 0xff];
}

uint32_t prelux_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
  const unsigned char *p = data;
  uint32_t r = ~crc;
  pthread_once(&filled, fill);
  for (; len >= 8; p += 8, len -= 8)
  {
    uint32_t low = r ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    r = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^
        tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
  }
  for (; len; len--)
    r = r >> 8 ^ tables[0][(r ^ *p++) & 0xff];
  return ~r;
}

#ifdef __x86_64__
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data, size_t len)
{
  const unsigned char *p = data;
  uint64_t r = ~crc;
  for (; len >= 8; p += 8, len -= 8)
  {
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    r = _mm_crc32_u64(r, word);
  }
  for (; len; len--)
    r = _mm_crc32_u8((uint32_t)r, *p++);
  return ~(uint32_t)r;
}
#endif

uint32_t prelux_crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
  if (__builtin_cpu_supports("sse4.2"))
    return by_instruction(crc, data, len);
#endif
  return prelux_crc32c_portable(crc, data, len);
}
