/* Classes of folder descriptors and of the working directory: what a relative path may reach.
 *
 * A class is only ever a short cut. FAR says "no mapping can be reached downwards from here" and is believed; all
 * others are checked against what the kernel says (/proc/self/fd/N, getcwd) before they are used, so a stale word can
 * cost time but not truth. close() and every call that makes a descriptor through a hook resets the word. */
#ifndef PRELUX_SHIM_FDS_H
#define PRELUX_SHIM_FDS_H

#include "shim/dents.h"
#include "shim/route.h"

enum prelux_class {
  PRELUX_CLASS_UNKNOWN = 0, /* inherited, received, made behind our back */
  PRELUX_CLASS_PLAIN,       /* opened by an unmapped path: not ours even when it lies in a cache tree */
  PRELUX_CLASS_FAR,         /* as PLAIN, and no mapping lies below the folder */
  PRELUX_CLASS_SHADOW,      /* file or folder of a cache tree, opened through a mapping (hint: which) */
  PRELUX_CLASS_ANCESTOR,    /* folder above a mapping */
};

/* One word a descriptor: its class in the low bits, the hint above. Larger numbers are always UNKNOWN. What each open and each close does
 * is done here, without a call: after a system call as deep as open's the processor guesses no return right. */
enum { PRELUX_FDS = 4096, PRELUX_CLASS_BITS = 4, PRELUX_NAMED = 16 };
extern uint32_t prelux_fd_words[PRELUX_FDS];
extern int prelux_fd_named_now[PRELUX_NAMED]; /* shim/fdname.c: whose names are remembered, at their numbers modulo PRELUX_NAMED */

/* As SHADOW, of a descriptor by which a file of the mapping is written (or was made): shim/write.h. */
void prelux_fd_set_writer(int fd, uint32_t hint);
/* This process is about to write to it, should it be a writer, by something that prelux_fd_next_writer() does not see: a shared map, a high number. */
void prelux_fd_writes_unseen(int fd);
/* True: it was set so. Never in a vfork child. */
bool prelux_fd_is_writer(int fd, uint32_t *ret_hint);
/* It, or what it is a copy of, was opened by this process, not by one that has forked it. */
bool prelux_fd_opened_here(int fd);
/* The first writer from `fd` on, or -1. */
int prelux_fd_next_writer(int fd);

/* hint: number of the mapping for SHADOW, else 0. Nothing happens in a vfork child. fd < 0 is allowed. */
void prelux_fd_set(int fd, enum prelux_class class, uint32_t hint);
enum prelux_class prelux_fd_get(int fd, uint32_t *ret_hint);
/* SHADOW was set at some time, or the working directory was looked at and is ours. Descriptors that were inherited from before
 * exec do not count. */
bool prelux_fd_ours_seen(void);
void prelux_fd_copy(int from, int to);
/* Forgets [first, last]. */
void prelux_fd_forget(unsigned first, unsigned last);

/* prelux_fd_set() of what was just opened by an unmapped path. */
static inline void prelux_fd_plain(int fd)
{
  if ((unsigned)fd < PRELUX_FDS && !__atomic_load_n(&prelux_state.shared_child, __ATOMIC_ACQUIRE))
    __atomic_store_n(&prelux_fd_words[fd], PRELUX_CLASS_PLAIN, __ATOMIC_RELAXED);
  else prelux_fd_set(fd, PRELUX_CLASS_PLAIN, 0);
}

/* Before a close, in a process that writes nothing of ours: true when a class was all that is known of the number, and it is forgotten. */
static inline bool prelux_fd_ends(int fd)
{
  if ((unsigned)fd >= PRELUX_FDS || prelux_writers() || __atomic_load_n(&prelux_state.shared_child, __ATOMIC_ACQUIRE)) return false;
  if (prelux_dents_any() || __atomic_load_n(&prelux_fd_named_now[fd % PRELUX_NAMED], __ATOMIC_RELAXED) == fd) return false;
  if (__atomic_load_n(&prelux_fd_words[fd], __ATOMIC_RELAXED)) __atomic_store_n(&prelux_fd_words[fd], PRELUX_CLASS_UNKNOWN, __ATOMIC_RELAXED);
  return true;
}

/* Closes a descriptor of a file that the program has not seen. To close any descriptor of an inode drops the POSIX locks that the
 * process has on it: while there is a lock on it the number stays taken, until exec. */
void prelux_fd_let_go(int fd);

/* Logical path of the folder `dirfd` (AT_FDCWD: the working directory) for joining relative paths. Length, 0 when
 * the folder is FAR (no mapping below; out untouched), or -errno. *ret_ours: the kernel's folder is another than the
 * logical one (cache tree, stand-in of a missing ancestor), so libc must get absolute paths. */
long prelux_dir_path(int dirfd, char *out, size_t cap, bool *ret_ours);
/* What the kernel calls the folder, whatever its class: length or -errno. */
long prelux_dir_real(int dirfd, char *out, size_t cap);
/* Name of an open fd as /proc has it, without " (deleted)": length or -errno. */
long prelux_fd_name(int fd, char *out, size_t cap);
/* Asks `of` about each open number: 0, the first answer that is another, or -errno where there is no /proc. */
int prelux_fd_each(int (*of)(int fd, void *arg), void *arg);
/* Finds out what is open, and where the process is, while that may be asked: a filter is about to come. */
void prelux_fd_learn(void);
/* The descriptor that a link of /proc names ("/proc/self/fd/3", "/dev/fd/3"), -1: it is no such path. */
int prelux_fd_of_link(const char *path);

/* The folder `fd` was just opened by that real path (no link in it). moved: prelux_folders_moved() before that. */
void prelux_fd_named(int fd, const struct stat *st, const char *path, size_t len, uint64_t moved);
/* These numbers are closed, or something else: what was remembered of them is not asked for again. That fstat is compared is not enough: a file
 * system gives the inode number of a folder that was removed to the next one that is made. */
void prelux_fd_unnamed(unsigned first, unsigned last);
/* To be called when the process gets another root. */
void prelux_fd_names_end(void);

/* After the working directory changed: to the folder of a mapping, by libc to an unmapped path, or somehow. Call it
 * in the child of a vfork too. */
void prelux_cwd_mapped(uint32_t index);
void prelux_cwd_plain(void);
void prelux_cwd_unknown(void);
/* True when the working directory is known to be FAR. */
bool prelux_cwd_far(void);
/* Mapping number that the working directory was entered by, -1: none or unknown, -2: by an unmapped path. */
int prelux_cwd_hint(void);

#endif
