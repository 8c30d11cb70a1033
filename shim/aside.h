/* Opening and closing a file that the program may have locked. */
#ifndef PRELUX_SHIM_ASIDE_H
#define PRELUX_SHIM_ASIDE_H

/* fn(arg), with descriptors of its own when this process has locked files: it opens and closes one. fn does nothing but raw system calls
 * and stores to memory of its caller. As safe as shim/ask.h, and no cancellation point. */
long prelux_aside(long (*fn)(void *arg), void *arg);
/* fcntl's command, before it is done. */
void prelux_note_lock(int cmd);

#endif
