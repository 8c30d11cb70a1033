/* THE list of libc calls that prelux intercepts. Included many times, each time with another CALL:
 *
 *   CALL(family, name, flags, pending, why)
 *     family   the file of shim/ that defines it, in capitals
 *     name     the exported symbol; its prototype is __typeof__(name), from libc's headers or shim/decls.h
 *     flags    C_* below
 *     pending  what it does with the fd of a pending file (a large one that is still being filled, DESIGN 5.5):
 *              SERVE answers from the partial file, SETTLE waits for the whole one, NATIVE lets the kernel answer,
 *              NONE takes no fd of a file's content
 *     why      the reason for `pending`, and whatever a reader must know; an empty one fails the build
 *
 * From it come struct prelux_real and its binding (shim/real.c), the export map (shim/exports.sh) and the symbol
 * tests. To add a call: a row here, a prototype in decls.h when libc's headers have none, a function in the family's
 * file. Calls that are left alone stand in calls_left.h with the reason. */
#ifndef C_PATH
#define C_PATH 0x01u   /* names a file by a path */
#define C_FD 0x02u     /* takes a file descriptor, also as the folder of an *at call */
#define C_STREAM 0x04u /* takes a FILE* or DIR* */
#define C_CHANGE 0x08u /* always changes a name, data or attributes: EROFS below a prefix */
#define C_PTR 0x10u    /* returns a pointer: NULL when libc has no such call */
#define C_MAKES 0x20u  /* returns or fills in a new descriptor or stream */
#endif

/* ---- open.c */
CALL(OPEN, open, C_PATH | C_MAKES, NONE, "takes a path; O_CREAT, O_TRUNC and writing are refused below a prefix")
CALL(OPEN, open64, C_PATH | C_MAKES, NONE, "as open")
CALL(OPEN, openat, C_PATH | C_FD | C_MAKES, NATIVE, "the fd is a folder's")
CALL(OPEN, openat64, C_PATH | C_FD | C_MAKES, NATIVE, "the fd is a folder's")
CALL(OPEN, __open, C_PATH | C_MAKES, NONE, "libc's other name of open")
CALL(OPEN, __open64, C_PATH | C_MAKES, NONE, "libc's other name of open64")
CALL(OPEN, __open_2, C_PATH | C_MAKES, NONE, "open in fortified programs")
CALL(OPEN, __open64_2, C_PATH | C_MAKES, NONE, "open64 in fortified programs")
CALL(OPEN, __openat_2, C_PATH | C_FD | C_MAKES, NATIVE, "the fd is a folder's")
CALL(OPEN, __openat64_2, C_PATH | C_FD | C_MAKES, NATIVE, "the fd is a folder's")
CALL(OPEN, creat, C_PATH | C_CHANGE | C_MAKES, NONE, "takes a path")
CALL(OPEN, creat64, C_PATH | C_CHANGE | C_MAKES, NONE, "takes a path")
CALL(OPEN, openat2, C_PATH | C_FD | C_MAKES, NATIVE, "the fd is a folder's; older libcs have no such symbol")
CALL(OPEN, name_to_handle_at, C_PATH | C_FD, NATIVE, "handles of cache files would outlive them: EOPNOTSUPP below a prefix")

/* ---- stat.c */
CALL(STAT, stat, C_PATH, NONE, "takes a path")
CALL(STAT, stat64, C_PATH, NONE, "takes a path")
CALL(STAT, lstat, C_PATH, NONE, "takes a path")
CALL(STAT, lstat64, C_PATH, NONE, "takes a path")
CALL(STAT, fstat, C_FD, SERVE, "identity, size and times are the remote's")
CALL(STAT, fstat64, C_FD, SERVE, "identity, size and times are the remote's")
CALL(STAT, fstatat, C_PATH | C_FD, SERVE, "with AT_EMPTY_PATH as fstat")
CALL(STAT, fstatat64, C_PATH | C_FD, SERVE, "with AT_EMPTY_PATH as fstat")
CALL(STAT, __xstat, C_PATH, NONE, "stat of programs linked before glibc 2.33")
CALL(STAT, __xstat64, C_PATH, NONE, "stat64 of programs linked before glibc 2.33")
CALL(STAT, __lxstat, C_PATH, NONE, "lstat of programs linked before glibc 2.33")
CALL(STAT, __lxstat64, C_PATH, NONE, "lstat64 of programs linked before glibc 2.33")
CALL(STAT, __fxstat, C_FD, SERVE, "fstat of programs linked before glibc 2.33")
CALL(STAT, __fxstat64, C_FD, SERVE, "fstat64 of programs linked before glibc 2.33")
CALL(STAT, __fxstatat, C_PATH | C_FD, SERVE, "fstatat of programs linked before glibc 2.33")
CALL(STAT, __fxstatat64, C_PATH | C_FD, SERVE, "fstatat64 of programs linked before glibc 2.33")
CALL(STAT, statx, C_PATH | C_FD, SERVE, "with AT_EMPTY_PATH as fstat")

/* ---- access.c */
CALL(ACCESS, access, C_PATH, NONE, "takes a path")
CALL(ACCESS, faccessat, C_PATH | C_FD, NATIVE, "the fd is a folder's")
CALL(ACCESS, eaccess, C_PATH, NONE, "takes a path")
CALL(ACCESS, euidaccess, C_PATH, NONE, "takes a path")

/* ---- stdio.c: libc opens inside itself */
CALL(STDIO, fopen, C_PATH | C_PTR | C_MAKES, NONE, "takes a path")
CALL(STDIO, fopen64, C_PATH | C_PTR | C_MAKES, NONE, "takes a path")
CALL(STDIO, _IO_fopen, C_PATH | C_PTR | C_MAKES, NONE, "libc's other name of fopen")
CALL(STDIO, freopen, C_PATH | C_STREAM | C_PTR | C_MAKES, SETTLE, "without a path libc opens the same file again by /proc")
CALL(STDIO, freopen64, C_PATH | C_STREAM | C_PTR | C_MAKES, SETTLE, "as freopen")
CALL(STDIO, setmntent, C_PATH | C_PTR | C_MAKES, NONE, "takes a path")
CALL(STDIO, __setmntent, C_PATH | C_PTR | C_MAKES, NONE, "libc's other name of setmntent")
CALL(STDIO, endmntent, C_STREAM, NATIVE, "libc closes the stream inside itself")
CALL(STDIO, __endmntent, C_STREAM, NATIVE, "libc's other name of endmntent")
CALL(STDIO, fclose, C_STREAM, NATIVE, "forgets the class of the fd")

/* ---- dir.c */
CALL(DIR, opendir, C_PATH | C_PTR | C_MAKES, NONE, "takes a path")
CALL(DIR, fdopendir, C_FD | C_PTR | C_MAKES, NATIVE, "the fd is a folder's")
CALL(DIR, readdir, C_STREAM | C_PTR, NONE, "takes a folder")
CALL(DIR, readdir64, C_STREAM | C_PTR, NONE, "takes a folder")
CALL(DIR, readdir_r, C_STREAM, NONE, "takes a folder")
CALL(DIR, readdir64_r, C_STREAM, NONE, "takes a folder")
CALL(DIR, closedir, C_STREAM, NONE, "takes a folder")
CALL(DIR, rewinddir, C_STREAM, NONE, "takes a folder")
CALL(DIR, telldir, C_STREAM, NONE, "takes a folder")
CALL(DIR, seekdir, C_STREAM, NONE, "takes a folder")
CALL(DIR, getdents64, C_FD, NATIVE, "the fd is a folder's")

/* ---- cwd.c */
CALL(CWD, chdir, C_PATH, NONE, "takes a path")
CALL(CWD, fchdir, C_FD, NATIVE, "the fd is a folder's")
CALL(CWD, getcwd, C_PTR, NONE, "gives a path")
CALL(CWD, getwd, C_PTR, NONE, "gives a path")
CALL(CWD, get_current_dir_name, C_PTR, NONE, "gives a path")
CALL(CWD, __getcwd_chk, C_PTR, NONE, "gives a path")
CALL(CWD, __getwd_chk, C_PTR, NONE, "gives a path")
CALL(CWD, daemon, 0, NONE, "libc changes to / inside it")

/* ---- link.c */
CALL(LINK, realpath, C_PATH | C_PTR, NONE, "takes a path")
CALL(LINK, __realpath_chk, C_PATH | C_PTR, NONE, "takes a path")
CALL(LINK, canonicalize_file_name, C_PATH | C_PTR, NONE, "takes a path")
CALL(LINK, readlink, C_PATH, NONE, "takes a path")
CALL(LINK, readlinkat, C_PATH | C_FD, NATIVE, "the fd is a folder's")
CALL(LINK, __readlink_chk, C_PATH, NONE, "takes a path")
CALL(LINK, __readlinkat_chk, C_PATH | C_FD, NATIVE, "the fd is a folder's")

/* ---- fd.c, aside.c: keep the classes of descriptors, and whether there are locks */
CALL(FD, close, C_FD, NATIVE, "forgets the class; the number is the program's")
CALL(FD, dup, C_FD | C_MAKES, SETTLE, "copies the class")
CALL(FD, dup2, C_FD | C_MAKES, SETTLE, "copies the class")
CALL(FD, dup3, C_FD | C_MAKES, SETTLE, "copies the class")
CALL(FD, fcntl, C_FD | C_MAKES, SETTLE, "copies the class for F_DUPFD")
CALL(FD, fcntl64, C_FD | C_MAKES, SETTLE, "fcntl of programs built with large files")
CALL(FD, lockf, C_FD, NATIVE, "the kernel does it; shim/aside.c takes note that there are locks")
CALL(FD, lockf64, C_FD, NATIVE, "as lockf")
CALL(FD, close_range, C_FD, NATIVE, "forgets the classes")
CALL(FD, closefrom, C_FD, NATIVE, "forgets the classes")

/* ---- sync.c */
CALL(SYNC, fsync, C_FD, NATIVE, "what the daemon has noted of a file that is being written is synced with it")
CALL(SYNC, fdatasync, C_FD, NATIVE, "as fsync")

/* ---- umask.c */
CALL(UMASK, umask, 0, NONE, "what the library remembers of the mask is forgotten")

/* ---- exit.c */
CALL(EXIT, _exit, 0, NONE, "files that are still open for writing are closed, and the daemon is told, before the process is gone")
CALL(EXIT, _Exit, 0, NONE, "as _exit")

/* ---- proc.c: what changes how the rest must behave */
CALL(PROC, vfork, 0, NONE, "the child shares memory: it must not write the library's state")
CALL(PROC, clone, 0, NONE, "as vfork when the child shares memory without being a thread")
CALL(PROC, unshare, 0, NONE, "a thread with a working directory or descriptors of its own: nothing of either is remembered")
CALL(PROC, setns, 0, NONE, "as unshare: another mount namespace has another working directory, and another root")
CALL(PROC, prctl, 0, NONE, "after PR_SET_SECCOMP the library makes no call that a filter may punish")

#include "shim/calls_extra.h"
