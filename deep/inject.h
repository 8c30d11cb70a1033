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
  uint64_t mask;
  struct user_regs_struct saved;
};

/* The thread waits for the answer to its call: 0, then it must be answered. -errno: another traces it, or tracing is forbidden. */
int prelux_deep_inject_begin(struct prelux_deep_inject *in, pid_t tid);
/* Has been answered: 0 when it can be told what to call. */
int prelux_deep_inject_stopped(struct prelux_deep_inject *in);
long prelux_deep_inject_call(struct prelux_deep_inject *in, long nr, const long a[6]);
/* It goes on, its own call has `result`. */
void prelux_deep_inject_end(struct prelux_deep_inject *in, long result);

#endif
