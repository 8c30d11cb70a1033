/* Which call of a process shall fail, and what was seen of it: one page that the process and its test share (the file that
 * PRELUX_FAULT_BOARD names). tests/fault/board.py reads and writes the same words. */
#ifndef TESTS_FAULT_BOARD_H
#define TESTS_FAULT_BOARD_H

#include <stdint.h>

enum kinds
{
  LOOK = 1,      /* reads something of a file or folder */
  CHANGE = 2,    /* changes one */
  SYNC = 4,      /* fsync and its like */
  NEW_FD = 8,    /* makes a descriptor */
  MEMORY = 16,   /* malloc and its like */
  MAP = 32,      /* mmap, epoll_ctl */
  SOCKET = 64,   /* connect, send, receive */
  THREAD = 128,  /* makes a thread or process */
  ROOM = 256,    /* takes room on a disk: those of CHANGE that may give ENOSPC */
  SLOW = 512,    /* may be interrupted */
  CLOSE = 1024,  /* close: it is closed, and says that it failed */
  PART = 2048,   /* read and write of a file: they do a half */
};

#define STACK_MAX 20

struct board {
  uint32_t armed;  /* count, and fail */
  uint32_t again;  /* 0: once; 1: from then on */
  uint32_t err;    /* the errno; 0: half of what was asked is done (PART) */
  uint32_t kinds;  /* of calls that count */
  uint64_t at;     /* the how-manieth, from 1; 0: none, only count */
  uint64_t seen;   /* how many have counted since `armed` */
  uint64_t failed; /* how many of them have failed */
  char name[32];   /* of the first that failed */
  uint64_t depth;
  uint64_t stack[STACK_MAX]; /* where that was called */
};

#endif
