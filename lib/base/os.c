#include "lib/base/os.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct prelux_os prelux_os = {
    .open = open,
    .openat = openat,
    .close = close,
    .read = read,
    .write = write,
    .pread = pread,
    .pwrite = pwrite,
    .pwritev = pwritev,
    .fstat = fstat,
    .stat = stat,
    .lstat = lstat,
    .fstatat = fstatat,
    .fstatfs = fstatfs,
    .mkdir = mkdir,
    .mkdirat = mkdirat,
    .rename = rename,
    .renameat = renameat,
    .renameat2 = renameat2,
    .linkat = linkat,
    .symlinkat = symlinkat,
    .readlinkat = readlinkat,
    .unlink = unlink,
    .mknodat = mknodat,
    .unlinkat = unlinkat,
    .rmdir = rmdir,
    .ftruncate = ftruncate,
    .fallocate = fallocate,
    .fchmod = fchmod,
    .futimens = futimens,
    .fchmodat = fchmodat,
    .utimensat = utimensat,
    .copy_file_range = copy_file_range,
    .fsync = fsync,
    .fdatasync = fdatasync,
    .syncfs = syncfs,
    .fcntl = fcntl,
    .flock = flock,
    .mmap = mmap,
    .munmap = munmap,
    .memfd_create = memfd_create,
    .clock_gettime = clock_gettime,
    .socket = socket,
    .opendir = opendir,
    .fdopendir = fdopendir,
};
