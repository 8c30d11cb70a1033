/* The OS calls of lib/ and daemon/, as a replaceable table, so that a test can make the N-th call
 * fail (ENOSPC, EIO, EINTR, ...). Code there says prelux_os.open(...), never open(...).
 * Each behaves as its libc namesake: -1 and errno. The library (shim/) does not use it. */
#ifndef PRELUX_BASE_OS_H
#define PRELUX_BASE_OS_H

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct prelux_os {
  int (*open)(const char *path, int flags, ...);
  int (*openat)(int dirfd, const char *path, int flags, ...);
  int (*close)(int fd);
  ssize_t (*read)(int fd, void *buf, size_t n);
  ssize_t (*write)(int fd, const void *buf, size_t n);
  ssize_t (*pread)(int fd, void *buf, size_t n, off_t off);
  ssize_t (*pwrite)(int fd, const void *buf, size_t n, off_t off);
  ssize_t (*pwritev)(int fd, const struct iovec *v, int n, off_t off);
  int (*fstat)(int fd, struct stat *st);
  int (*stat)(const char *path, struct stat *st);
  int (*lstat)(const char *path, struct stat *st);
  int (*fstatat)(int dirfd, const char *path, struct stat *st, int flags);
  int (*fstatfs)(int fd, struct statfs *st);
  int (*mkdir)(const char *path, mode_t mode);
  int (*mkdirat)(int dirfd, const char *path, mode_t mode);
  int (*rename)(const char *from, const char *to);
  int (*renameat)(int fromfd, const char *from, int tofd, const char *to);
  int (*renameat2)(int fromfd, const char *from, int tofd, const char *to, unsigned flags);
  int (*linkat)(int fromfd, const char *from, int tofd, const char *to, int flags);
  int (*symlinkat)(const char *target, int dirfd, const char *path);
  ssize_t (*readlinkat)(int dirfd, const char *path, char *buf, size_t cap);
  int (*mknodat)(int dirfd, const char *path, mode_t mode, dev_t dev);
  int (*unlink)(const char *path);
  int (*unlinkat)(int dirfd, const char *path, int flags);
  int (*rmdir)(const char *path);
  int (*ftruncate)(int fd, off_t len);
  int (*fallocate)(int fd, int mode, off_t off, off_t len);
  int (*fchmod)(int fd, mode_t mode);
  int (*futimens)(int fd, const struct timespec ts[2]);
  int (*fchmodat)(int dirfd, const char *path, mode_t mode, int flags);
  int (*utimensat)(int dirfd, const char *path, const struct timespec ts[2], int flags);
  ssize_t (*copy_file_range)(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);
  int (*fsync)(int fd);
  int (*fdatasync)(int fd);
  int (*syncfs)(int fd);
  int (*fcntl)(int fd, int cmd, ...);
  int (*flock)(int fd, int op);
  void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t off);
  int (*munmap)(void *addr, size_t len);
  int (*memfd_create)(const char *name, unsigned flags);
  int (*clock_gettime)(clockid_t clock, struct timespec *ret); /* the store's clocks */
  int (*socket)(int domain, int type, int proto);
  DIR *(*opendir)(const char *path);
  DIR *(*fdopendir)(int fd);
};

/* The live table: libc's own functions unless a test has changed a member. */
extern struct prelux_os prelux_os;

#endif
