/* Parts of a large file that is handed out while it comes in (include/prelux/stream.h), for readers that are elsewhere than the fill. They lie in the
 * same file, with holes between. Whoever needs a part has it fetched by his own thread; each part is fetched once. */
#ifndef PRELUX_STORE_PARTS_H
#define PRELUX_STORE_PARTS_H

#include "lib/store/private.h"

#define PRELUX_PARTS_AT_ONCE (8u << 20) /* bytes of one fetch */

/* Somebody who fetches parts: under parts_lock, in the store's list. */
struct prelux_parts_job {
  struct prelux_parts_job *next;
  const char *name;  /* below fill/ */
  uint64_t from, to; /* bytes: whole parts */
};

/* The file has come whole: nobody writes parts of it any more when this returns. */
void prelux_parts_stop(struct prelux_store *s);
/* What lies behind `front` and in no part is given back to the disk. parts_lock held, or nobody knows the file. */
void prelux_parts_trim(int fd, const struct prelux_stream *m);
/* Where the last part that is there ends; 0: there is none. */
uint64_t prelux_parts_end(const struct prelux_stream *m);

#endif
