/* System calls of the calling program fail, of whoever makes them: libc or libprelux, by an instruction of its own. The kernel tells of each
 * (PR_SET_SYSCALL_USER_DISPATCH), so this needs x86_64 and Linux 5.11; it is no seccomp filter, which the library would heed. */
#ifndef TESTS_FAULT_GATE_H
#define TESTS_FAULT_GATE_H

#include <stdbool.h>

#include "tests/fault/board.h"

/* From now on, in this thread. False: the kernel cannot. */
bool gate_begin(void);

/* What the words of the board mean holds for this thread's calls. */
extern struct board gate;

#endif
