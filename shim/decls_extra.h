/* Part of decls.h: headers and prototypes for the rows of calls_extra.h. */
#include <aio.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <nl_types.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <utime.h>
#include <utmp.h>
#include <utmpx.h>
#include <wordexp.h>

extern int __xmknod(int ver, const char *path, mode_t mode, dev_t *dev);
extern int __xmknodat(int ver, int dirfd, const char *path, mode_t mode, dev_t *dev);
extern int pivot_root(const char *new_root, const char *put_old);
extern FILE *_IO_popen(const char *command, const char *mode);
extern int __statfs(const char *path, struct statfs *buf);
extern int __fstatfs(int fd, struct statfs *buf);
#if !__GLIBC_PREREQ(2, 36)
struct mount_attr;
extern int open_tree(int dirfd, const char *path, unsigned int flags);
extern int move_mount(int from_dirfd, const char *from_path, int to_dirfd, const char *to_path, unsigned int flags);
extern int fspick(int dirfd, const char *path, unsigned int flags);
extern int mount_setattr(int dirfd, const char *path, unsigned int flags, struct mount_attr *attr, size_t size);
#endif
#if !__GLIBC_PREREQ(2, 29)
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
extern int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd);
#endif
#if !__GLIBC_PREREQ(2, 34)
extern int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags);
#endif
extern ssize_t __read(int fd, void *buf, size_t n);
extern ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
extern ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t room);
extern ssize_t __pread64(int fd, void *buf, size_t n, off64_t at);
extern ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t at, size_t room);
extern off_t __lseek(int fd, off_t off, int whence);
extern off64_t llseek(int fd, off64_t off, int whence);
extern int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t room);
extern int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask, size_t room);
extern pid_t __fork(void);
#if !__GLIBC_PREREQ(2, 34)
extern pid_t _Fork(void);
#endif
