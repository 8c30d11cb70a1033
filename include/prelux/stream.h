/* A file that is handed out while it is still coming in: CACHE/.prelux/fill/NAME, filled from its beginning, and beside it NAME.front, which
 * says how far it has come. One writer (the daemon), any number of readers, who map it read-only. Both names go when the
 * file is whole, or has failed for good; the maps stay.
 *
 * NAME.front is a page, and for a file larger than PRELUX_STREAM_LARGE a bit for each part of it behind the page: set when all bytes of the part are
 * in the file. What is neither below `front` nor in such a part is a hole, and must not be read.
 *
 * A reader takes `seq`, then looks at `front`, the parts and `state`; when they are not what he needs he waits with FUTEX_WAIT on `seq` for that
 * value, or asks the daemon for parts (PRELUX_OP_PARTS) or for more from the beginning (PRELUX_OP_OPEN). */
#ifndef PRELUX_STREAM_H
#define PRELUX_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRELUX_STREAM_MAGIC 0x544e4f5246585250ull
#define PRELUX_STREAM_BYTES 4096u
#define PRELUX_STREAM_SUFFIX ".front"
#define PRELUX_STREAM_LARGE (32ull << 20)
#define PRELUX_STREAM_PART_BITS 15u     /* of the size of a part, but there are */
#define PRELUX_STREAM_PARTS_MAX (8u << 20) /* at most: from 256 GiB on they are larger */

enum prelux_stream_state {
  PRELUX_STREAM_COMING = 0,
  PRELUX_STREAM_DONE = 1,   /* whole, checked, in the cache and in the index */
  PRELUX_STREAM_FAILED = 2, /* no more comes: `error`. What is below `front` is as the remote had it */
  PRELUX_STREAM_WRONG = 3,  /* the bytes are not those of the remote (its checksum): none of them may be read */
  PRELUX_STREAM_RESTS = 4,  /* more comes when somebody asks for it: large files only */
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

static inline unsigned prelux_stream_part_bits(uint64_t size)
{
  unsigned bits = PRELUX_STREAM_PART_BITS;
  while ((size - 1) >> bits >= PRELUX_STREAM_PARTS_MAX)
    bits++;
  return bits;
}

/* Of NAME.front. */
static inline size_t prelux_stream_bytes(uint64_t size)
{
  if (size <= PRELUX_STREAM_LARGE)
    return PRELUX_STREAM_BYTES;
  uint64_t parts = ((size - 1) >> prelux_stream_part_bits(size)) + 1, page = 8 * PRELUX_STREAM_BYTES;
  return PRELUX_STREAM_BYTES * (1 + (size_t)((parts + page - 1) / page));
}

/* 64 of them in a word. */
static inline _Atomic uint64_t *prelux_stream_parts(const struct prelux_stream *m)
{
  return (_Atomic uint64_t *)((uintptr_t)m + PRELUX_STREAM_BYTES);
}

static inline bool prelux_stream_part_is(const struct prelux_stream *m, uint64_t part)
{
  return atomic_load(&prelux_stream_parts(m)[part / 64]) >> part % 64 & 1;
}

/* The first byte of [from, to) that is not there; `to`: all are. to <= size. */
static inline uint64_t prelux_stream_missing(const struct prelux_stream *m, uint64_t from, uint64_t to)
{
  uint64_t front = atomic_load(&m->front), size = m->size;
  if (from < front)
    from = front < to ? front : to;
  if (size <= PRELUX_STREAM_LARGE)
    return from;
  unsigned bits = prelux_stream_part_bits(size);
  while (from < to && prelux_stream_part_is(m, from >> bits))
    from = ((from >> bits) + 1) << bits;
  return from < to ? from : to;
}

#endif
