/* CRC-32C (Castagnoli, RFC 3720), as S3's x-amz-checksum-crc32c and iSCSI have it: by the processor's own instruction where it has one. The
 * libraries that prelux is made of have none (zlib's is another polynomial). */
#ifndef PRELUX_BACKEND_CRC32C_H
#define PRELUX_BACKEND_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of `len` more bytes; `crc`: what it was of those before, 0 at the beginning. */
uint32_t prelux_crc32c(uint32_t crc, const void *data, size_t len);
/* The same by tables, on any processor. */
uint32_t prelux_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
