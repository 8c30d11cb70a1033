/* A file that is handed out while it is still coming in: CACHE/.prelux/fill/NAME, filled from its beginning, and beside it NAME.front, a
 * page that says how far it has come. One writer (the daemon), any number of readers, who map it read-only. Both names go when the
 * file is whole, or has failed; the maps stay.
 *
 * A reader takes `seq`, then looks at `front` and `state`; when they are not what he needs he waits with FUTEX_WAIT on `seq` for that value. */
#ifndef PRELUX_STREAM_H
#define PRELUX_STREAM_H

#include <stdatomic.h>
#include <stdint.h>

#define PRELUX_STREAM_MAGIC 0x544e4f5246585250ull
#define PRELUX_STREAM_BYTES 4096u
#define PRELUX_STREAM_SUFFIX ".front"

enum prelux_stream_state {
  PRELUX_STREAM_COMING = 0,
  PRELUX_STREAM_DONE = 1,   /* whole, checked, in the cache and in the index */
  PRELUX_STREAM_FAILED = 2, /* no more comes: `error`. What is below `front` is as the remote had it */
  PRELUX_STREAM_WRONG = 3,  /* the bytes are not those of the remote (its checksum): none of them may be read */
};

struct prelux_stream {
  uint64_t magic;
  uint64_t size;           /* of the whole file */
  uint64_t version;        /* names the remote's version: streams of one version may follow each other */
  uint64_t ino;            /* of the file: another one under this name is not meant */
  _Atomic uint64_t front;  /* bytes from the beginning that are there */
  _Atomic uint32_t seq;    /* counts changes of what stands here */
  _Atomic uint32_t state;  /* enum prelux_stream_state */
  _Atomic int32_t error;   /* negative errno, with FAILED and WRONG */
};

#endif
