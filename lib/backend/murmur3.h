/* murmur3_x86_32, as Guava's murmur3_32_fixed gives it: Alluxio's hash ring is made of it, and no library of Debian's has it. */
#ifndef PRELUX_BACKEND_MURMUR3_H
#define PRELUX_BACKEND_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

uint32_t prelux_murmur3_32(const void *data, size_t len, uint32_t seed);

#endif
