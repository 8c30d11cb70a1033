/* musl instead of glibc: what its headers lack, and the names with 64, which are macros there and functions of ours. */
#ifndef PRELUX_SHIM_MUSL_H
#define PRELUX_SHIM_MUSL_H

#define __GLIBC_PREREQ(major, minor) 0

#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <link.h>
#include <sys/stat.h>
#ifndef STATX_BASIC_STATS
#include <linux/stat.h>
#endif
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

/* One layout where prelux runs: structures of the same members under both names. */
#undef stat64
#undef dirent64
#undef statfs64
#undef statvfs64
#undef fstatvfs64
#define stat stat64
#include <bits/stat.h>
#undef stat
#define dirent dirent64
#include <bits/dirent.h>
#undef dirent
#define statfs statfs64
#include <bits/statfs.h>
#undef statfs
#undef _SYS_STATVFS_H
#define statvfs statvfs64
#define fstatvfs fstatvfs64
#include <sys/statvfs.h>
#undef statvfs
#undef fstatvfs
#undef statvfs64
#undef fstatvfs64

/* ld.so's list of what is loaded: musl has it by another name. */
extern __attribute__((visibility("hidden"))) ElfW(Dyn) _DYNAMIC[];
extern struct r_debug *_dl_debug_addr;
#define _r_debug (*_dl_debug_addr)

/* What glibc has besides: no program for musl asks for it. */
#define RTLD_DEEPBIND 0
#define FTW_ACTIONRETVAL 0
enum { FTW_STOP = 1, FTW_SKIP_SUBTREE, FTW_SKIP_SIBLINGS };

typedef int (*__ftw_func_t)(const char *path, const struct stat *st, int what);
typedef int (*__ftw64_func_t)(const char *path, const struct stat64 *st, int what);
typedef int (*__nftw_func_t)(const char *path, const struct stat *st, int what, struct FTW *f);
typedef int (*__nftw64_func_t)(const char *path, const struct stat64 *st, int what, struct FTW *f);
typedef FTS FTS64;
typedef FTSENT FTSENT64;

/* Types in which prototypes differ. */
typedef const struct sockaddr *__CONST_SOCKADDR_ARG;
#define PRELUX_SOCKADDR(addr) (addr)
#define PRELUX_JOBS struct aiocb *restrict const *restrict
typedef int prelux_ioctl_request;
typedef unsigned prelux_mmsg_flags;
typedef unsigned long long prelux_fanotify_mask;
typedef int (*prelux_fts_order)(const FTSENT **, const FTSENT **);

#undef aio_read64
#undef creat64
#undef fcntl64
#undef fopen64
#undef freopen64
#undef fstat64
#undef fstatat64
#undef fstatfs64
#undef ftruncate64
#undef ftw64
#undef getdents64
#undef glob64
#undef lio_listio64
#undef lockf64
#undef lseek64
#undef lstat64
#undef mkostemp64
#undef mkostemps64
#undef mkstemp64
#undef mkstemps64
#undef mmap64
#undef nftw64
#undef open64
#undef openat64
#undef posix_fadvise64
#undef pread64
#undef preadv64
#undef readdir64
#undef readdir64_r
#undef scandir64
#undef sendfile64
#undef tmpfile64
#undef truncate64

int aio_read64(struct aiocb *job);
int lio_listio64(int mode, struct aiocb *const *restrict jobs, int n, struct sigevent *restrict event);
int creat64(const char *path, mode_t mode);
int fcntl64(int fd, int cmd, ...);
FILE *fopen64(const char *restrict path, const char *restrict mode);
FILE *freopen64(const char *restrict path, const char *restrict mode, FILE *restrict stream);
int stat64(const char *restrict path, struct stat64 *restrict st);
int lstat64(const char *restrict path, struct stat64 *restrict st);
int fstat64(int fd, struct stat64 *st);
int fstatat64(int dirfd, const char *restrict path, struct stat64 *restrict st, int flags);
int statfs64(const char *path, struct statfs64 *buf);
int fstatfs64(int fd, struct statfs64 *buf);
int ftruncate64(int fd, off_t size);
int truncate64(const char *path, off_t size);
ssize_t getdents64(int fd, void *buf, size_t n);
int glob64(const char *restrict pattern, int flags, int (*on_error)(const char *, int), glob_t *restrict g);
int lockf64(int fd, int cmd, off_t len);
off_t lseek64(int fd, off_t off, int whence);
int mkostemp64(char *name, int flags);
int mkostemps64(char *name, int len, int flags);
int mkstemp64(char *name);
int mkstemps64(char *name, int len);
void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
int ftw64(const char *path, __ftw64_func_t fn, int fds);
int nftw64(const char *path, __nftw64_func_t fn, int fds, int flags);
int open64(const char *path, int flags, ...);
int openat64(int dirfd, const char *path, int flags, ...);
int posix_fadvise64(int fd, off_t off, off_t len, int advice);
ssize_t pread64(int fd, void *buf, size_t n, off_t at);
ssize_t preadv64(int fd, const struct iovec *iov, int n, off_t at);
ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t at, int flags);
ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t at, int flags);
struct dirent64 *readdir64(DIR *d);
int readdir64_r(DIR *restrict d, struct dirent64 *restrict entry, struct dirent64 **restrict ret);
int scandir64(const char *path, struct dirent64 ***names, int (*want)(const struct dirent64 *),
              int (*order)(const struct dirent64 **, const struct dirent64 **));
int scandirat(int dirfd, const char *path, struct dirent ***names, int (*want)(const struct dirent *),
              int (*order)(const struct dirent **, const struct dirent **));
int scandirat64(int dirfd, const char *path, struct dirent64 ***names, int (*want)(const struct dirent64 *),
                int (*order)(const struct dirent64 **, const struct dirent64 **));
ssize_t sendfile64(int out, int in, off_t *off, size_t n);
FILE *tmpfile64(void);
char *canonicalize_file_name(const char *path);
char *getwd(char *buf);
void *dlmopen(long space, const char *path, int flags);
int renameat2(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags);
int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict st);
FTS64 *fts64_open(char *const *argv, int options, int (*cmp)(const FTSENT64 **, const FTSENT64 **));
FTSENT64 *fts64_read(FTS64 *fts);
FTSENT64 *fts64_children(FTS64 *fts, int instr);
int fts64_close(FTS64 *fts);

#endif
