/* All three are reflected: bit 0 of byte 0 is the highest power of x. So a state of w bits is added to the first w bits of what follows, and the
 * remainder of that is the next state.
 *
 * Folding: a block of 16 bytes, D bits before another one, is X * x^D. Of its halves the first is x^64 more; each is multiplied by the remainder of its
 * power of x, which gives 16 bytes that mean the same modulo the polynomial, and are added to the other block. The product of two reflected factors of 64
 * bits lies one bit too low in 128, so the powers are one less. When 16 bytes are left the tables take them, and what does not fill a block. */
#include "lib/base/crc.h"

#include <pthread.h>
#include <string.h>

#define LANES 4u
#define BLOCK 16u

struct crc
{
  unsigned bits;
  uint64_t polynomial; /* reflected */
  /* tables[k][b]: the remainder of byte b with k zero bytes behind it. Eight bytes are taken at once, each by its own. */
  uint64_t tables[8][256];
  uint64_t far[2], near[2]; /* factors of a block's first and second half, for LANES blocks and for one */
};

static struct crc kinds[PRELUX_CRC_KINDS] = {
    [PRELUX_CRC32] = {.bits = 32, .polynomial = 0xedb88320u},
    [PRELUX_CRC32C] = {.bits = 32, .polynomial = 0x82f63b78u},
    [PRELUX_CRC64NVME] = {.bits = 64, .polynomial = UINT64_C(0x9a6c9329ac4bc9b5)},
};
static pthread_once_t filled = PTHREAD_ONCE_INIT;

/* The remainder of x^n, as a factor of 64 bits. */
static uint64_t power(const struct crc *c, unsigned n)
{
  uint64_t r = UINT64_C(1) << (c->bits - 1);
  while (n--)
    r = r & 1 ? r >> 1 ^ c->polynomial : r >> 1;
  return r << (64 - c->bits);
}

static void fill_one(struct crc *c)
{
  for (unsigned b = 0; b < 256; b++)
  {
    uint64_t r = b;
    for (int i = 0; i < 8; i++)
      r = r & 1 ? r >> 1 ^ c->polynomial : r >> 1;
    c->tables[0][b] = r;
  }
  for (unsigned b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++)
      c->tables[k][b] = c->tables[k - 1][b] >> 8 ^ c->tables[0][c->tables[k - 1][b] & 0xff];
  c->far[0] = power(c, LANES * BLOCK * 8 + 64 - 1);
  c->far[1] = power(c, LANES * BLOCK * 8 - 1);
  c->near[0] = power(c, BLOCK * 8 + 64 - 1);
  c->near[1] = power(c, BLOCK * 8 - 1);
}

static void fill(void)
{
  for (size_t i = 0; i < PRELUX_CRC_KINDS; i++)
    fill_one(&kinds[i]);
}

static const struct crc *get(enum prelux_crc_kind kind)
{
  pthread_once(&filled, fill);
  return &kinds[kind];
}

size_t prelux_crc_size(enum prelux_crc_kind kind)
{
  return kinds[kind].bits / 8;
}

static uint64_t by_tables(const struct crc *c, uint64_t r, const unsigned char *p, size_t len)
{
  for (; len >= 8; p += 8, len -= 8)
  {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
      word |= (uint64_t)p[i] << 8 * i;
    word ^= r;
    r = 0;
    for (int i = 0; i < 8; i++)
      r ^= c->tables[7 - i][word >> 8 * i & 0xff];
  }
  for (; len; len--)
    r = r >> 8 ^ c->tables[0][(r ^ *p++) & 0xff];
  return r;
}

/* The state between bytes, which is the result turned round, and back. */
static uint64_t turn(const struct crc *c, uint64_t crc)
{
  return ~crc & UINT64_MAX >> (64 - c->bits);
}

uint64_t prelux_crc_portable(enum prelux_crc_kind kind, uint64_t crc, const void *data, size_t len)
{
  const struct crc *c = get(kind);
  return turn(c, by_tables(c, turn(c, crc), data, len));
}

#ifdef __x86_64__
#include <immintrin.h>

#define FOLDS __attribute__((target("pclmul,sse2")))

FOLDS static inline __m128i load(const unsigned char *p)
{
  return _mm_loadu_si128((const __m128i *)p);
}

FOLDS static inline __m128i fold(__m128i block, __m128i factors, __m128i onto)
{
  return _mm_xor_si128(onto, _mm_xor_si128(_mm_clmulepi64_si128(block, factors, 0x00), _mm_clmulepi64_si128(block, factors, 0x11)));
}

/* At least LANES blocks. */
FOLDS static uint64_t by_folding(const struct crc *c, uint64_t r, const unsigned char *p, size_t len)
{
  const __m128i far = _mm_set_epi64x((long long)c->far[1], (long long)c->far[0]);
  const __m128i near = _mm_set_epi64x((long long)c->near[1], (long long)c->near[0]);
  __m128i lanes[LANES];
  unsigned char last[BLOCK];
  for (size_t i = 0; i < LANES; i++)
    lanes[i] = load(p + i * BLOCK);
  lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, (long long)r));
  for (p += LANES * BLOCK, len -= LANES * BLOCK; len >= LANES * BLOCK; p += LANES * BLOCK, len -= LANES * BLOCK)
    for (size_t i = 0; i < LANES; i++)
      lanes[i] = fold(lanes[i], far, load(p + i * BLOCK));
  for (size_t i = 1; i < LANES; i++)
    lanes[i] = fold(lanes[i - 1], near, lanes[i]);
  _mm_storeu_si128((__m128i *)last, lanes[LANES - 1]);
  return by_tables(c, by_tables(c, 0, last, sizeof(last)), p, len);
}
#endif

uint64_t prelux_crc(enum prelux_crc_kind kind, uint64_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
  const struct crc *c = get(kind);
  if (len >= LANES * BLOCK && __builtin_cpu_supports("pclmul"))
    return turn(c, by_folding(c, turn(c, crc), data, len));
#endif
  return prelux_crc_portable(kind, crc, data, len);
}
