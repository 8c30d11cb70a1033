/* Whole writes, and syncs. */
#ifndef PRELUX_BASE_IO_H
#define PRELUX_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 when all of it was written, or -errno; an interrupted or short write goes on. */
int prelux_write_all(int fd, const void *buf, size_t len);
int prelux_pwrite_all(int fd, const void *buf, size_t len, uint64_t off);
/* fsync, or (data) fdatasync; one that a signal has interrupted, which some file systems allow, goes on. 0 or -errno. */
int prelux_sync(int fd, bool data);

#endif
