/* Pending files: large ones that are handed out while they come in (mapping key stream_above; include/prelux/stream.h).
 *
 * The program's number is a placeholder by which the kernel reads nothing (O_PATH on the inode of a socket); the file itself is open by
 * another number, high and close-on-exec, and the hooks of calls that read serve from that, waiting just for the bytes asked. Calls for which
 * the kernel needs the real thing settle: they wait for the whole file, then put it in the placeholder's place. What is not hooked
 * fails; nothing ever reads a byte that has not come.
 *
 * No lock: a slot is found by its number, and counted while it is used; whoever ends it leaves closing to the last user. Each look makes sure that
 * the number still is the placeholder, since numbers can be closed and used again behind our back. */
#ifndef PRELUX_SHIM_PENDING_H
#define PRELUX_SHIM_PENDING_H

#include <sys/uio.h>

#include "shim/route.h"

extern int prelux_pending_count; /* atomic: slots in use */
static inline bool prelux_pending_any(void)
{
  return __builtin_expect(__atomic_load_n(&prelux_pending_count, __ATOMIC_RELAXED) != 0, 0);
}

/* An open that only reads, of a MAPPED route: fd, -errno, or -EAGAIN: open it as ever. */
int prelux_pending_open(const struct prelux_route *r, const char *call, int flags);

/* These are of use when prelux_pending_any(). errno is untouched; -errno on failure. */
/* True: *ret is the answer of a read of this number: bytes or -errno. at: -1 the descriptor's offset, which moves. */
bool prelux_pending_read(int fd, const struct iovec *v, int n, int64_t at, ssize_t *ret);
/* True: *ret is the answer of a copy into a regular file, by the kernel: bytes, perhaps fewer than asked for, or -errno. */
struct prelux_copy {
  int64_t *at; /* from there, and it moves; NULL: the descriptor's offset */
  int to;
  int64_t *to_at;
  size_t n;
  unsigned flags;
  bool sendfile;
};
bool prelux_pending_copy(int fd, struct prelux_copy *c, ssize_t *ret);
bool prelux_pending_seek(int fd, int64_t off, int whence, int64_t *ret);
bool prelux_pending_stat(int fd, struct stat *st);
/* F_GETFL. */
bool prelux_pending_flags(int fd, int *ret);
bool prelux_pending_is(int fd);

/* The number is the real file afterwards. 0, also when it is not pending. */
int prelux_pending_settle(int fd);
/* All, before something that copies descriptors; not_cloexec: only those that survive exec. What cannot be settled stays as it is, and fails
 * where it is copied to. */
void prelux_pending_settle_all(bool not_cloexec);

/* Before a vfork, or a spawn without file actions: large ones with close-on-exec stay; should the child copy one its copy is settled then. */
void prelux_pending_settle_vfork(void);
/* A fork: small files are settled; large ones parent and child go on reading, with one offset. */
pid_t prelux_pending_fork(pid_t (*real)(void));

/* Before the real close of [first, last]; true for a single number: it is one that the program does not know of: EBADF. */
bool prelux_pending_close(unsigned first, unsigned last);

static inline int prelux_settle(int fd)
{
  return prelux_pending_any() ? prelux_pending_settle(fd) : 0;
}

static inline void prelux_settle_all(void)
{
  if (prelux_pending_any()) prelux_pending_settle_all(false);
}

#endif
