/* Names: listings in shared memory, RUNTIME/names, so that a folder whose listing is fresh is opened without asking the daemon.
 *
 * The file is a log that runs in circles: a record (its head, then a struct prelux_listing) is written behind the one before it, over
 * the oldest. A position counts bytes since the file began and never comes back; its place is position % PRELUX_NAMES_BYTES, and a
 * record lies there in one piece. What is at a position is told by a slot of the index, so a listing is forgotten by dropping its
 * slot, and the bytes stay until they are written over.
 *
 * The writer moves `names_tail` of the index before it writes over what lies before it. A reader copies the record by pread (the file
 * is never mapped in a program: whoever truncates it costs a question), then looks at names_tail: at or below the position of its
 * record the copy is whole, beyond it the daemon is asked. So no reader holds anything, and none waits.
 *
 * The index slot: a key of its own (prelux_index_names_key), size = bytes of the listing, mtime_ns = position of the record, ino =
 * `generation` of the file, valid_ns as ever. */
#ifndef PRELUX_NAMES_H
#define PRELUX_NAMES_H

#include <stdint.h>

#define PRELUX_NAMES_BYTES (64ull << 20)          /* of the log */
#define PRELUX_NAMES_MAX (PRELUX_NAMES_BYTES / 2) /* bytes of a record that is put there */

struct prelux_names_head {
  uint64_t generation; /* random, not 0: a file that another daemon made has another */
  uint64_t position;   /* of this record */
};

#endif
