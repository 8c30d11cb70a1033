/* libc's headers and the prototypes that they lack. Every file of shim/ includes this first: the calls are defined
 * under their own names here, so nothing may redirect them (no LFS redirection, no fortify). */
#ifndef PRELUX_SHIM_DECLS_H
#define PRELUX_SHIM_DECLS_H

#ifdef _FILE_OFFSET_BITS
#error "_FILE_OFFSET_BITS turns open() into open64(): compile shim/ without it"
#endif

/* libc's prototypes promise pointers that programs do not always give, and the compiler would leave out the code that looks. */
#include <features.h>
#include <stdint.h>
#ifdef __GLIBC__
#include <sys/cdefs.h>
#undef __nonnull
#define __nonnull(params)
#undef __attribute_nonnull__
#define __attribute_nonnull__(params)
#define PRELUX_SOCKADDR(addr) (addr).__sockaddr__
typedef unsigned long prelux_ioctl_request;
typedef int prelux_mmsg_flags;
typedef uint64_t prelux_fanotify_mask;
typedef int (*prelux_fts_order)(const void *, const void *);
#define PRELUX_JOBS struct aiocb *const *restrict
#else
#include "shim/musl.h"
#endif

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Marks a definition as one of calls.h. */
#define PRELUX_EXPORT __attribute__((visibility("default")))

/* readdir_r, getwd, tmpnam, ... are ours to define whatever libc thinks of their users. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

struct open_how;

extern int __open(const char *path, int flags, ...);
extern int __open64(const char *path, int flags, ...);
extern int __open_2(const char *path, int flags);
extern int __open64_2(const char *path, int flags);
extern int __openat_2(int dirfd, const char *path, int flags);
extern int __openat64_2(int dirfd, const char *path, int flags);
extern int openat2(int dirfd, const char *path, struct open_how *how, size_t size);
extern FILE *_IO_fopen(const char *path, const char *mode);
extern FILE *__setmntent(const char *path, const char *mode);
extern int __endmntent(FILE *stream);
extern int __xstat(int ver, const char *path, struct stat *st);
extern int __xstat64(int ver, const char *path, struct stat64 *st);
extern int __lxstat(int ver, const char *path, struct stat *st);
extern int __lxstat64(int ver, const char *path, struct stat64 *st);
extern int __fxstat(int ver, int fd, struct stat *st);
extern int __fxstat64(int ver, int fd, struct stat64 *st);
extern int __fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags);
extern int __fxstatat64(int ver, int dirfd, const char *path, struct stat64 *st, int flags);
extern char *__getcwd_chk(char *buf, size_t size, size_t buflen);
extern char *__getwd_chk(char *buf, size_t buflen);
extern char *__realpath_chk(const char *path, char *resolved, size_t resolvedlen);
extern ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t buflen);
extern ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t len, size_t buflen);
#if !__GLIBC_PREREQ(2, 34)
extern int close_range(unsigned first, unsigned last, int flags);
extern void closefrom(int low);
#endif

#include "shim/decls_extra.h"

#endif
