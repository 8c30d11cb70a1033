/* Whole writes. */
#ifndef PRELUX_BASE_IO_H
#define PRELUX_BASE_IO_H

#include <stddef.h>
#include <stdint.h>

/* 0 when all of it was written, or -errno; an interrupted or short write goes on. */
int prelux_write_all(int fd, const void *buf, size_t len);
int prelux_pwrite_all(int fd, const void *buf, size_t len, uint64_t off);

#endif
