/* Names: listings in shared memory, RUNTIME/names, so that a folder whose listing is fresh is opened without asking the daemon.
 *
 * The file is a log that runs in circles: a listing (struct prelux_listing) is written behind the one before it, over the oldest.
 * A position counts bytes since the file began and never comes back; its place is position % PRELUX_NAMES_BYTES, and a listing lies
 * there in one piece. What is at a position is told by a slot of the index, so a listing is forgotten by dropping its slot, and the
 * bytes stay until they are written over.
 *
 * The writer moves `tail` before it writes over what lies before it. A reader copies, then looks at `tail`: at or below the position
 * of its listing the copy is whole, beyond it the daemon is asked. So no reader holds anything, and none waits.
 *
 * The index slot: a key of its own (prelux_index_names_key), size = bytes of the listing, mtime_ns = position, ino = `generation` of
 * the file, valid_ns as ever. */
#ifndef PRELUX_NAMES_H
#define PRELUX_NAMES_H

#include <stdatomic.h>
#include <stdint.h>

#define PRELUX_NAMES_MAGIC 0x53454d414e4c4550ull
#define PRELUX_NAMES_HEAD 4096u                    /* bytes before position 0 */
#define PRELUX_NAMES_BYTES (64ull << 20)           /* of the log */
#define PRELUX_NAMES_MAX (PRELUX_NAMES_BYTES / 2)  /* bytes of a listing that is put there */

struct prelux_names {
  uint64_t magic;
  uint64_t generation;        /* random: a file that another daemon made has another */
  _Atomic uint64_t allocated; /* so many bytes behind the head are on the disk: nothing else may be touched */
  _Atomic uint64_t tail;      /* positions below are lost */
};

#endif
