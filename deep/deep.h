/* `prelux run --deep`: programs that nothing can be preloaded into are supervised by seccomp user notification.
 *
 *   run         makes an id, puts PRELUX_DEEP=ID:LAUNCHER into the environment and starts the supervisor (`prelux --deep-inside`)
 *   supervisor  has the library in it, as any program; the program of `run` is its child
 *   library     at an exec of a program that it cannot get into, starts the launcher (`prelux --deep-exec`) instead
 *   launcher    sets the filter, hands its listener to the supervisor, and becomes that program
 *
 * What the supervisor is told of, it does itself, by the library's calls, and hands the outcome over. So there is one body of rules. */
#ifndef PRELUX_DEEP_DEEP_H
#define PRELUX_DEEP_DEEP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PRELUX_DEEP_ENV "PRELUX_DEEP"
#define PRELUX_DEEP_ALL "+" /* before LAUNCHER: every program */

/* openat(PRELUX_DEEP_PROBE, NULL) is EFAULT from the kernel; below a supervisor it is that one's id. With flags 1 it sees to it that a daemon
 * runs: one that a supervised program starts would be supervised. */
#define PRELUX_DEEP_PROBE 0x44657070
/* syscall(PRELUX_DEEP_ROUTE, dirfd, path, how): answered by the library alone, for the supervisor: 1 when a call of that path is not simply
 * the kernel's; 2 when it is, and a real folder that is not empty stands behind a prefix. */
#define PRELUX_DEEP_ROUTE 0x20646570
#define PRELUX_DEEP_NOFOLLOW 1u
#define PRELUX_DEEP_CHANGE 2u
#define PRELUX_DEEP_DAEMON 8u /* no question: a daemon is started where none runs */
#define PRELUX_DEEP_REAL 4u /* path is what /proc calls a file or folder that is open; 2: it is in a cache */
#define PRELUX_DEEP_EXEC 16u /* a fourth argument: what the kernel is to execute, struct prelux_deep_program */
#define PRELUX_DEEP_NAMED 32u /* and a script keeps the name that it was given */
#define PRELUX_DEEP_EVENT 64u /* no question: process dirfd makes a call that is the kernel's (path NULL). Where it is counted, for COUNT */
#define PRELUX_DEEP_OURS 128u /* with EVENT: one of ours */
#define PRELUX_DEEP_EXECUTES 256u /* with EVENT: an exec */
#define PRELUX_DEEP_COUNT 512u /* no question: what this thread does counts there, dirfd: what EVENT has said */

/* A file, and words instead of the program's first one: a script's interpreter, its argument, the script. */
enum { PRELUX_DEEP_WORDS = 12 };
struct prelux_deep_program {
  char file[PATH_MAX];
  char words[PRELUX_DEEP_WORDS][PATH_MAX];
  int n_words; /* 0: the program's own first word stays */
};
/* The sixth argument of an execve that the filter lets pass: made for the supervisor, by a program that it has stopped. */
#define PRELUX_DEEP_PASS 0x44657070

/* filter.c: 0 and *ret_listener, or -errno. no_new_privs is set. */
int prelux_deep_filter(int *ret_listener);
/* try.c: whether all that the supervisor does can be done here, tried with a child. 0, or -errno and what it was that could not; EBUSY: there is
 * a supervisor already. */
int prelux_deep_possible(const char **ret_what);

/* launch.c: `prelux --deep-exec FILE NAME ARG...`, and the exit status when it could not be executed. FILE "=N": what is open as N, "=N+": and is
 * closed by the exec. NAME: another one of FILE, for when that has gone there (what was just written and is sent now), or "". */
int prelux_deep_exec(char **argv);
#define PRELUX_DEEP_OPEN '='
#define PRELUX_DEEP_CLOSED '+'
int prelux_deep_send_fd(int sock, int fd);
int prelux_deep_receive_fd(int sock); /* -1: none came */
/* The supervisor's socket. 0, or -errno. */
int prelux_deep_address(const char *value, void *ret_sockaddr_un, unsigned *ret_len, uint32_t *ret_id);

/* supervise.c. Begins threads that serve whatever launchers hand over. 0 or -errno. */
int prelux_deep_begin(const char *value);
/* Programs that are supervised now, or about to be, by listeners. */
unsigned prelux_deep_count(void);
/* This process is about to end. No program is left in the middle of a call that is made for it, which would be its end as well. */
void prelux_deep_finish(void);
/* A child of this process that a thread has seen the end of. */
bool prelux_deep_ended(pid_t pid, int *ret_status);

#endif
