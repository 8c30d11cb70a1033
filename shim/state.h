/* What the library knows about its process. Written by the constructor, before other threads exist; afterwards only
 * the members marked so change, atomically. */
#ifndef PRELUX_SHIM_STATE_H
#define PRELUX_SHIM_STATE_H

#include "include/prelux/report.h"
#include "include/prelux/table.h"
#include "lib/base/sys.h"
#include "lib/map/prefixes.h"
#include "shim/real.h"

enum prelux_phase {
  PRELUX_NEW = 0, /* nothing bound yet */
  PRELUX_OFF,     /* bound; every call goes to libc: no configuration, PRELUX_OFF=1, AT_SECURE */
  PRELUX_ON,
};

struct prelux_state {
  int phase;                        /* atomic: enum prelux_phase */
  int quiet;                        /* atomic: a seccomp filter is on: no socket, no unusual system call */
  int shared_child;                 /* atomic: vfork or its like was called: prelux_in_shared_child() looks closer */
  int writers;                      /* atomic: PRELUX_WRITERS_*: files of ours may be open for writing (shim/write.h) */
  int apart;                        /* atomic: some thread has a working directory or descriptors of its own */
  const struct prelux_table *table; /* NULL in OFF, and in ON while the configuration could not be had: then
                                     * `lost` names the prefixes, and each is EIO */
  const struct prelux_prefixes *lost;
  const char *lost_why;             /* cause for the record */
  const char *prefixes;             /* what PRELUX_PREFIXES must hold in children, while there is no table; NULL: nothing */
  const char *table_path;           /* what PRELUX_CONFIG must hold in children, "" when none */
  const char *runtime;              /* runtime folder */
  char *const *envp;                /* environment at start, for starting a daemon */
  struct prelux_report *report;     /* counters of `prelux run --report` (shim/report.h), or NULL */
};
extern struct prelux_state prelux_state;

enum { PRELUX_WRITERS_SEEN = 1, PRELUX_WRITERS_INHERITED = 2, PRELUX_WRITERS_HIDDEN = 4 }; /* HIDDEN: it may write by a shared map, or by a descriptor that shim/fds.c has no room for */

static inline int prelux_writers(void)
{
  return __atomic_load_n(&prelux_state.writers, __ATOMIC_RELAXED);
}

/* Sets the library up when a hook runs before the constructor; true: pass this call to libc. */
bool prelux_idle_slow(void);

/* First line of every hook: `if (prelux_idle()) return prelux_real.x(...)`. */
static inline bool prelux_idle(void)
{
  return __builtin_expect(__atomic_load_n(&prelux_state.phase, __ATOMIC_ACQUIRE) != PRELUX_ON, 0) && prelux_idle_slow();
}

static inline bool prelux_quiet(void)
{
  return __atomic_load_n(&prelux_state.quiet, __ATOMIC_RELAXED) != 0;
}

static inline bool prelux_apart(void)
{
  return __builtin_expect(__atomic_load_n(&prelux_state.apart, __ATOMIC_RELAXED), 0);
}

/* fstat of a descriptor of ours: 0 or -errno, errno untouched. libc's may be a slower call, of a path. Behind a filter it is the one that the
 * program needs as well. */
static inline long prelux_fstat(int fd, struct stat *st)
{
  if (__builtin_expect(!prelux_quiet(), 1)) return prelux_sys(SYS_fstat, fd, st);
  int saved = errno, err = prelux_real.fstat(fd, st) < 0 ? errno : 0;
  errno = saved;
  return -err;
}

/* A child made by vfork (or clone with CLONE_VM) before its exec: its stores would be its parent's. Classes, the cwd
 * and all other shared state may not be written there. */
bool prelux_in_shared_child(void);
/* To be called before a child that shares memory can be made (vfork, clone, syscall(SYS_vfork), ...). */
void prelux_note_shared_child(void);
/* To be called before unshare: after it, threads may differ in what the library remembers once a process. */
void prelux_note_unshare(unsigned long flags);
/* To be called when the program is about to get a seccomp filter; and, with what that said, when it did not: programs ask in
 * this way what the kernel can do. */
bool prelux_note_seccomp(void);
/* SYS_getuid, geteuid or getegid; behind a filter what it was before. */
long prelux_id(long nr);
void prelux_no_seccomp(bool noted);

/* The edge where -errno becomes errno. */
static inline long prelux_ret(long rc)
{
  if (rc >= 0) return rc;
  errno = (int)-rc;
  return -1;
}

/* The same for calls that return a pointer. */
static inline void *prelux_null(long rc)
{
  errno = (int)-rc;
  return NULL;
}

#endif
