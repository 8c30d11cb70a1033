/* Requests that change names and attributes, and those about links and staging files. r: a MAPPED route. All return 0 (or what is
 * said here) or -errno, which is what the program gets; errno untouched. As safe as shim/ask.h. */
#ifndef PRELUX_SHIM_TELL_H
#define PRELUX_SHIM_TELL_H

#include "include/prelux/msg.h"
#include "shim/route.h"

int prelux_tell_unlink(const struct prelux_route *r, const char *call);
int prelux_tell_rmdir(const struct prelux_route *r, const char *call);
/* mode: the umask is off already. */
int prelux_tell_mkdir(const struct prelux_route *r, const char *call, mode_t mode);
int prelux_tell_rename(const struct prelux_route *from, const struct prelux_route *to, const char *call, unsigned flags);
int prelux_tell_symlink(const struct prelux_route *r, const char *call, const char *target);
/* A staging file without a name gets one. */
int prelux_tell_link(const struct prelux_route *r, const char *call, uint64_t ino);

int prelux_tell_set(const struct prelux_route *r, const char *call, const struct prelux_setattr *set);
/* Of a staging file, which may have no name. */
int prelux_tell_set_inode(uint32_t mapping, uint64_t ino, const char *call, const struct prelux_setattr *set);

/* Target of a link that this node keeps, NUL-terminated in out: length; -EINVAL: r is none. */
long prelux_tell_readlink(const struct prelux_route *r, const char *call, char *out, size_t cap);

/* Attributes of a staging file, and where it lies: 1, r (MAPPED); 0: it has no name. */
struct prelux_attr;
int prelux_tell_whose(uint32_t mapping, uint64_t ino, const char *call, struct prelux_attr *ret, struct prelux_route *r);

/* fd is of a file that is being written here (or waits to be sent): its number, and a mapping of its store. One system call for a
 * descriptor of ours, none for one that is known not to be. */
bool prelux_staged(int fd, uint64_t *ret_ino, uint32_t *ret_mapping);
/* The same by the name that the kernel shows, where that has the number in it. */
bool prelux_staged_path(const char *real, uint64_t *ret_ino, uint32_t *ret_mapping);
/* A file that waits to be sent, by that name, is sent now: true, and it has another name in the cache. */
bool prelux_tell_send(const char *cache, const char *call);

#endif
