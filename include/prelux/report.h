/* What `prelux run --report` shares with the programs of its tree: counters, in memory, so that whoever is killed has counted what he did.
 *
 * The launcher makes a sealed memfd of fixed size, all of it allocated (no store into it can fail, whatever disk or /dev/shm is full), and
 * names it in PRELUX_REPORT: "/proc/PID/fd/N:INODE". The library opens that once, maps it, and keeps no descriptor. Who cannot (another PID
 * name space, another user) counts nothing. Integers are little-endian, atomic, and only ever added to, but for what is said here.
 *
 *   head       this struct
 *   processes  a slot for each program start, and for each forked process that comes to use a mapping; the first one is everybody's for whom
 *              there is no other left
 *   execs      programs that were tried to be executed and have not said yet that the library is in them
 *   paths      those that waited longest for the daemon, in buckets of PRELUX_REPORT_WAYS by hash */
#ifndef PRELUX_REPORT_H
#define PRELUX_REPORT_H

#include <stdint.h>

#define PRELUX_REPORT_ENV "PRELUX_REPORT"
#define PRELUX_REPORT_MAGIC 0x31747270786c7270ull /* "prlxprt1" */

enum {
  PRELUX_REPORT_PROCESSES = 16384,
  PRELUX_REPORT_EXECS = 4096,
  PRELUX_REPORT_PATHS = 2048,
  PRELUX_REPORT_WAYS = 8,
  PRELUX_REPORT_TIMES = 40, /* waits by their binary logarithm, in ns */
};

enum prelux_report_family {
  PRELUX_REPORT_OPEN,   /* opens that only read, of files and folders */
  PRELUX_REPORT_WRITE,  /* opens that write, make or cut */
  PRELUX_REPORT_STAT,   /* stat, access, statfs, readlink, realpath, chdir */
  PRELUX_REPORT_LIST,   /* listings of folders */
  PRELUX_REPORT_LOAD,   /* programs and libraries that are run or loaded */
  PRELUX_REPORT_CHANGE, /* unlink, rename, mkdir, chmod, ...: each is a request */
  PRELUX_REPORT_CLOSE,  /* closes and fsyncs that were told to the daemon */
  PRELUX_REPORT_FAMILIES,
};

struct prelux_report_family_count {
  uint64_t calls;
  uint64_t asked;   /* of them, those that had to ask the daemon; the others are hits */
  uint64_t missing; /* ENOENT */
  uint64_t failed;  /* other errors */
  uint64_t wait_ns; /* spent in requests */
};

#define PRELUX_REPORT_FORKED 1u /* no program start: the child of a fork */
#define PRELUX_REPORT_LOST 2u   /* it has no table: each mapped path is EIO */
#define PRELUX_REPORT_SUPERVISED 4u /* the library is not in it: the supervisor of --deep counts for it */

struct prelux_report_process {
  uint32_t ready;   /* 1: what is below is filled in */
  uint32_t flags;
  int32_t pid, ppid; /* as that /proc says */
  int64_t begun_ns; /* CLOCK_BOOTTIME */
  uint64_t cached_bytes, asked_bytes; /* sizes of the regular files that were opened to be read: without, with a request */
  struct prelux_report_family_count families[PRELUX_REPORT_FAMILIES];
  char program[120]; /* the end of its path */
  char word[64];     /* its first argument */
};

enum prelux_report_exec_state {
  PRELUX_REPORT_FREE,
  PRELUX_REPORT_BEING_MADE,
  PRELUX_REPORT_TRIED, /* it is being executed, or was and has not said anything */
};

#define PRELUX_REPORT_OFF 1u     /* its environment says PRELUX_OFF */
#define PRELUX_REPORT_SPAWNED 2u /* by posix_spawn: pid comes when that returns */
#define PRELUX_REPORT_BARRED 4u  /* nothing can be loaded into it: what says so in this process is a program that it executed */
#define PRELUX_REPORT_APART 8u   /* who executed it does not see the report (another /proc, another user), nor will the program */

struct prelux_report_exec {
  uint32_t state, flags;
  int32_t pid, by; /* by: who executed it, the same process but for SPAWNED */
  int64_t at_ns;   /* CLOCK_BOOTTIME */
  char path[232];  /* the end of it */
};

struct prelux_report_path {
  uint32_t lock; /* 1: somebody is at work on it. Who is killed there takes it along: nobody reads it then */
  uint32_t hash; /* 0: free */
  uint64_t requests, wait_ns, longest_ns;
  char call[24];
  char path[200]; /* the end of it */
};

struct prelux_report {
  uint64_t magic, bytes;
  uint32_t uid, unused; /* the launcher's */
  uint32_t next_process, next_exec;
  uint64_t more_processes; /* for which there was no slot */
  uint64_t more_execs;
  uint64_t times[PRELUX_REPORT_FAMILIES][PRELUX_REPORT_TIMES]; /* requests of a family by log2 of their ns */
  struct prelux_report_process processes[PRELUX_REPORT_PROCESSES];
  struct prelux_report_exec execs[PRELUX_REPORT_EXECS];
  struct prelux_report_path paths[PRELUX_REPORT_PATHS];
};

_Static_assert(sizeof(struct prelux_report_process) == 504 && sizeof(struct prelux_report_exec) == 256 && sizeof(struct prelux_report_path) == 256,
               "the same for 32 and 64 bits");

#endif
