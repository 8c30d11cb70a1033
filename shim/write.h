/* Writing below a mapping (docs/ARCHITECTURE, "Writing").
 *
 * Opening for writing asks the daemon, which passes a descriptor of the one file that all writers of the path on this node share. The
 * kernel does the rest. When such a descriptor is closed the daemon is told, and close() returns when the mapping's rules are kept.
 * What cannot be told (a killed process, a number that the library does not know) the daemon finds out by itself, a moment later.
 *
 * Everything here is as safe as shim/ask.h is: signal handlers, vfork children, any thread. */
#ifndef PRELUX_SHIM_WRITE_H
#define PRELUX_SHIM_WRITE_H

#include "shim/route.h"

#define PRELUX_WRITERS_ENV "PRELUX_WRITERS"

/* PRELUX_MAPPING_WRITE of a MAPPED route. */
bool prelux_writable(const struct prelux_route *r);

/* open(2) with flags that may make or change something, of a writable mapping: fd (which has its class) or -errno. */
int prelux_write_open(const struct prelux_route *r, const char *call, int flags, mode_t mode);

/* A descriptor that is about to be closed. */
struct prelux_leaving {
  bool tell;
  uint32_t mapping;
  uint64_t ino;
};
/* Before the real close; forgets the fd's class in any case. Costs some nanoseconds in processes that write nothing of ours. */
void prelux_leaving(int fd, struct prelux_leaving *l);
/* After it: 0, or the -errno that close() gives although the descriptor is gone. errno untouched. */
int prelux_left(const struct prelux_leaving *l, const char *call);

/* This process, or the one that executed it, may have such descriptors open: children are told by PRELUX_WRITERS=1. */
bool prelux_has_writers(void);

/* The process ends: closes them all, and waits. For the last moment only. */
void prelux_writers_end(void);

#endif
