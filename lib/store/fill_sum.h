/* Which checksum a fill compares its bytes with, and when it is known: a CRC where the backend can tell one, else the MD5. MD5 costs several times what
 * fetching does. What small files' answers tell costs nothing; of a large one the backend is asked, by a thread of its own, while bytes come. */
#ifndef PRELUX_STORE_FILL_SUM_H
#define PRELUX_STORE_FILL_SUM_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/store/fill_check.h"

struct prelux_fill_sum {
  const struct prelux_view *v; /* borrowed, as the next two and fd */
  const char *object;
  const struct prelux_object *obj;
  int fd;
  struct prelux_check check;
  bool chosen;   /* check is what it will be */
  bool all_last; /* the bytes are read from the disk in the end: some were there before, or could not be read in between */
  bool insists;  /* set by hand: small files are asked for, too */
  uint64_t done; /* bytes that check has */
  bool asking;   /* a thread does */
  void *asker;   /* as him */
  pthread_t thread;
  atomic_bool answered, over;
  int rc; /* of the answer */
  struct prelux_sum told;
};

/* from: so much is on the disk already. */
void prelux_fill_sum_begin(struct prelux_fill_sum *s, const struct prelux_view *v, const char *object, const struct prelux_object *obj, int fd,
                           uint64_t from);
/* Bytes from `off` on have come; those before it are on the disk but for the last `held`, which are at piece. */
void prelux_fill_sum_choose(struct prelux_fill_sum *s, uint64_t off, const char *piece, size_t held);
/* Those bytes, after the above. */
void prelux_fill_sum_add(struct prelux_fill_sum *s, const void *bytes, size_t len);
/* All are on the disk. 0; -EPROTO: they are others, says *why; -EIO. */
int prelux_fill_sum_end(struct prelux_fill_sum *s, struct prelux_problem *why);
void prelux_fill_sum_release(struct prelux_fill_sum *s); /* also of one that was zero and never begun */

#endif
