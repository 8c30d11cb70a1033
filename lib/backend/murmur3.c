#include "lib/backend/murmur3.h"

static uint32_t rotate(uint32_t x, int n)
{
  return x << n | x >> (32 - n);
}

/* Little-endian whatever the machine. */
static uint32_t word(const uint8_t *p, size_t n)
{
  uint32_t k = 0;
  for (size_t i = 0; i < n; i++)
    k |= (uint32_t)p[i] << 8 * i;
  k *= 0xcc9e2d51u;
  return rotate(k, 15) * 0x1b873593u;
}

uint32_t prelux_murmur3_32(const void *data, size_t len, uint32_t seed)
{
  const uint8_t *p = data;
  uint32_t h = seed;
  size_t left = len;
  for (; left >= 4; p += 4, left -= 4)
    h = rotate(h ^ word(p, 4), 13) * 5 + 0xe6546b64u;
  h ^= word(p, left);
  h ^= (uint32_t)len;
  h = (h ^ h >> 16) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return h ^ h >> 16;
}
