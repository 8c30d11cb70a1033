/* Part of decls.h: headers and prototypes for the rows of calls_extra.h. */
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <nl_types.h>
#include <signal.h>
#include <spawn.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/time.h>
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
#endif
#if !__GLIBC_PREREQ(2, 34)
extern int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags);
#endif
