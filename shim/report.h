/* Counters for `prelux run --report` (include/prelux/report.h). Without one each of these is a look at one word.
 *
 * All of it runs where the calls that are counted run: in signal handlers, vfork children, at the end of the stack. Nothing is allocated, no
 * lock is waited for, errno stays. */
#ifndef PRELUX_SHIM_REPORT_H
#define PRELUX_SHIM_REPORT_H

#include "include/prelux/msg.h"
#include "include/prelux/report.h"
#include "shim/state.h"

/* Once, at the start, when PRELUX_REPORT is there. */
void prelux_report_begin(const char *value);

/* The supervisor of --deep counts for others. A program that is supervised, `pid`, has made a call that is the kernel's, or one of ours, or is about
 * to execute another. Its slot plus one; 0: none. */
enum prelux_report_event { PRELUX_REPORT_KERNELS, PRELUX_REPORT_OURS, PRELUX_REPORT_EXECUTES };
uint32_t prelux_report_other(int pid, enum prelux_report_event event);
/* What this thread does from now on counts there; 0: for this process. */
void prelux_report_count_for(uint32_t slot);

/* How much this thread has asked, when a call began. */
struct prelux_report_mark {
  uint64_t asked, wait_ns;
};

void prelux_report_mark_now(struct prelux_report_mark *m);
void prelux_report_count_now(const struct prelux_report_mark *m, enum prelux_report_family f, long rc, int fd);

static inline bool prelux_reports(void)
{
  return __builtin_expect(prelux_state.report != NULL, 0);
}

static inline void prelux_report_mark(struct prelux_report_mark *m)
{
  if (prelux_reports()) prelux_report_mark_now(m);
}

/* A call has ended: rc >= 0 or -errno; fd: of a file opened to be read, or -1. */
static inline void prelux_report_count(const struct prelux_report_mark *m, enum prelux_report_family f, long rc, int fd)
{
  if (prelux_reports()) prelux_report_count_now(m, f, rc, fd);
}

/* prelux_open_mapped for a call that began at m (shim/cache.c). */
struct prelux_route;
int prelux_open_marked(const struct prelux_report_mark *m, const struct prelux_route *r, const char *call, int flags, mode_t mode);

/* The family of an attribute's look, by the name of the call; -1: it is a part of something that is counted by itself. */
int prelux_report_family_of(const char *call);

/* CLOCK_BOOTTIME; 0 without a report. */
int64_t prelux_report_clock(void);
/* A request that began at `since` has ended. */
void prelux_report_request(enum prelux_op op, const char *call, const char *path, int64_t since, long rc);

/* A program is about to be executed: by this process (`spawned` false), or by posix_spawn. NULL: nobody wants to know. */
struct prelux_report_exec *prelux_report_exec_now(int at, const char *path, char *const envp[], bool spawned);
/* It was not executed (pid < 0), or, spawned, has this pid now. */
void prelux_report_exec_done_now(struct prelux_report_exec *e, int pid);

static inline struct prelux_report_exec *prelux_report_exec(int at, const char *path, char *const envp[], bool spawned)
{
  return prelux_reports() ? prelux_report_exec_now(at, path, envp, spawned) : NULL;
}

static inline void prelux_report_exec_done(struct prelux_report_exec *e, int pid)
{
  if (e) prelux_report_exec_done_now(e, pid);
}

#endif
