/* The process's file mode creation mask. */
#ifndef PRELUX_SHIM_UMASK_H
#define PRELUX_SHIM_UMASK_H

#include <sys/types.h>

/* Of the calling thread, as the kernel has it; without /proc 077. Changes nothing but what is remembered; async-signal-safe. */
mode_t prelux_umask(void);

#endif
