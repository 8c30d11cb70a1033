/* Cyclic redundancy checks as S3's x-amz-checksum-* have them: CRC-32 (zlib's), CRC-32C (Castagnoli, RFC 3720) and CRC-64/NVME. With the carry-less
 * multiplication that processors have they cost a tenth of MD5. Debian's libraries have no CRC-64/NVME, and what they have of the others is slower. */
#ifndef PRELUX_BASE_CRC_H
#define PRELUX_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

enum prelux_crc_kind { PRELUX_CRC32, PRELUX_CRC32C, PRELUX_CRC64NVME, PRELUX_CRC_KINDS };

/* Of `len` more bytes; `crc`: what it was of those before, 0 at the beginning. */
uint64_t prelux_crc(enum prelux_crc_kind kind, uint64_t crc, const void *data, size_t len);
/* The same by tables, on any processor. */
uint64_t prelux_crc_portable(enum prelux_crc_kind kind, uint64_t crc, const void *data, size_t len);
/* Bytes of it: 4 or 8. */
size_t prelux_crc_size(enum prelux_crc_kind kind);

#endif
