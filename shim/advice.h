/* posix_fadvise of a whole file or folder of a mapping. */
#ifndef PRELUX_SHIM_ADVICE_H
#define PRELUX_SHIM_ADVICE_H

/* WILLNEED and DONTNEED (offset and length 0) are passed on to the daemon, which nobody waits for; all else, and descriptors that are not of a
 * mapping's cache, or by which a file is written, are nothing here. Never fails, errno untouched. */
void prelux_advise(int fd, int advice);

#endif
