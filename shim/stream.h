/* What a folder stream shows where libc's own entries are not the whole: entries of a listing, names that only prelux knows.
 * Async-signal-safe. */
#ifndef PRELUX_SHIM_STREAM_H
#define PRELUX_SHIM_STREAM_H

#include <dirent.h>

#include "include/prelux/listing.h"
#include "shim/route.h"

struct prelux_extra { /* a name that only prelux knows */
  const char *name;
  size_t len;
  int mapping; /* -1: a missing ancestor */
};

struct prelux_stream {
  const struct prelux_listing *list;  /* LISTED; NULL for ABOVE and for a missing ancestor */
  bool listed;                        /* entries come from `list` and `extras` only */
  bool in_extras;                     /* ABOVE: libc's entries are through */
  uint64_t pos;                       /* LISTED: 0 ".", 1 "..", then entries, then extras; ABOVE: index of the extra */
  uint64_t dir_ino;
  uint32_t n_extras;
  struct prelux_extra *extras;
  union {
    struct dirent d;
    struct dirent64 d64;
  } out;
  char path[];                        /* logical */
};
_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one layout");

/* A stream for the folder `logical`; list is taken over (NULL: none). NULL: no memory. */
struct prelux_stream *prelux_stream_new(const char *logical, const struct prelux_listing *list, bool listed);
/* The listing of a mapped folder in a stream, or NULL and errno. */
struct prelux_stream *prelux_stream_of(const struct prelux_route *r, const char *call);
void prelux_stream_free(struct prelux_stream *s); /* NULL is allowed */

/* Next entry of a LISTED folder, NULL at the end. */
struct dirent *prelux_stream_next(struct prelux_stream *s);
/* Next name of an ABOVE folder that is not on disk. */
struct dirent *prelux_stream_extra(struct prelux_stream *s, int dirfd);

#endif
