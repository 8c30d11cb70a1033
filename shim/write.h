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

/* A file that is open for writing by a descriptor which never reaches this process: it stays in the daemon's answer. For files that the
 * library itself opens and closes: when a process closes any descriptor of a file, it loses all POSIX locks that it has on it. */
struct prelux_hold {
  int socket; /* close-on-exec */
  uint32_t mapping;
  uint64_t ino; /* of the staging file */
};
/* As prelux_write_open(), with flags that write: 0 or -errno. */
int prelux_hold(const struct prelux_route *r, const char *call, int flags, mode_t mode, struct prelux_hold *ret);
/* The same by the number of its socket, which may be something else by now: false. */
bool prelux_hold_again(int socket, uint32_t mapping, struct prelux_hold *ret);
/* The staging file's path: length; -ENOENT: it lost its name, or is not to be seen from here. */
long prelux_hold_path(const struct prelux_hold *h, char *out, size_t cap);
/* The end: as close(2) of its descriptor, or without a word, when another one is open. */
int prelux_hold_close(const struct prelux_hold *h, const char *call);
void prelux_hold_drop(const struct prelux_hold *h);

/* A descriptor that is about to be closed. */
struct prelux_leaving {
  bool tell;
  bool wait; /* `held: wait`, and this process has opened it */
  bool alone; /* this process has opened it, and has no other descriptor by which it could write to anything of ours */
  uint32_t mapping;
  uint64_t ino;
};
/* Before the real close; forgets the fd's class in any case. Costs some nanoseconds in processes that write nothing of ours. */
void prelux_leaving(int fd, struct prelux_leaving *l);
/* After it: 0, or the -errno that close() gives although the descriptor is gone. errno untouched. */
int prelux_left(const struct prelux_leaving *l, const char *call);
/* The same of close and its like, which wait for other writers where the mapping says so (held.c). */
int prelux_left_by_close(const struct prelux_leaving *l, const char *call);
/* Somebody else can write yet, said tell(): waits until that has another answer, and gives it. */
int prelux_held_wait(const struct prelux_leaving *l, int (*tell)(const struct prelux_leaving *l, const char *call), const char *call);
/* The number that the daemon knows a staging file by. */
uint64_t prelux_staging_number(uint32_t mapping, const struct stat *st);

/* This process has called fsync for something of ours (sync.c). */
bool prelux_synced(void);

/* This process, or the one that executed it, may have such descriptors open. */
bool prelux_has_writers(void);
/* The value of PRELUX_WRITERS for a child: length, 0: none is needed. "1", and, when this process itself becomes the program (exec), for
 * the descriptors that end with that (close-on-exec) a blank, the mapping, ':' and the inode number. */
enum { PRELUX_WRITERS_TEXT = 512 };
size_t prelux_writers_format(char *out, size_t cap, bool exec);
/* The program that came tells of them, and waits as close does. */
void prelux_writers_left(const char *value);

/* The process ends: closes them all, and waits. For the last moment only. */
void prelux_writers_end(void);

#endif
