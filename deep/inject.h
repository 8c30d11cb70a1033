/* Calls made by a supervised thread for us. All by one thread of ours, from begin to end. */
#ifndef PRELUX_DEEP_INJECT_H
#define PRELUX_DEEP_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct prelux_deep_inject {
  pid_t tid;
  bool exec; /* it executes another program now */
  bool stop; /* SIGSTOP came meanwhile */
  uint64_t mask;
  struct user_regs_struct saved;
};

/* The thread waits for the answer to its call. 0: now it can be interrupted, and then its call is answered. -errno: another traces it, or
 * tracing is forbidden. It dies with this thread, for its registers are not its own meanwhile. */
int prelux_deep_inject_begin(struct prelux_deep_inject *in, pid_t tid);
/* Before Linux 5.19 that ends its wait for the answer. */
void prelux_deep_inject_interrupt(struct prelux_deep_inject *in);
/* Has been answered: 0 when it can be told what to call. */
int prelux_deep_inject_stopped(struct prelux_deep_inject *in);
long prelux_deep_inject_call(struct prelux_deep_inject *in, long nr, const long a[6]);
/* It goes on, its own call has `result`. */
void prelux_deep_inject_end(struct prelux_deep_inject *in, long result);

#endif
