/* What has come of a file that was handed out while it came in (`stream_above`), when its fill failed or its daemon was killed: it stays in
 * fill/ and is gone on with when the same version is asked for again.
 *
 * Two files, NAME and NAME.front: bytes below `front`, and those of parts (stream.h), were written before it says so, so they are there however a
 * process dies. A row of the catalogue says of which object and version they are. Not over a power cut: at another boot they go. Kept ones count to
 * the quota by their blocks, and go before any whole file does when they were not used for a minute, else after all of them. Readers who have them
 * open keep them open. */
#ifndef PRELUX_STORE_PARTIAL_H
#define PRELUX_STORE_PARTIAL_H

#include "lib/store/private.h"

#define PRELUX_PARTIAL_LEAST (1u << 20) /* bytes that are worth it */
#define PRELUX_PARTIAL_IDLE_NS 60000000000ll

struct prelux_partial {
  struct prelux_partial *next;
  int64_t tree;
  char *path, name[32];
  struct prelux_object obj; /* type FILE, size, version */
  uint64_t bytes;           /* on the disk; part of the store's `used` */
  int64_t used_ns;          /* CLOCK_REALTIME when it was kept */
  uint64_t reserved;        /* of one taken: room of parts that came since */
};

/* At a start, before the boot is noted: knows what is good, and removes everything else from fill/. */
int prelux_partials_load(struct prelux_store *s);
uint64_t prelux_partials_bytes(struct prelux_store *s);
void prelux_partials_release(struct prelux_store *s); /* the memory only */

/* The following by who leads the object's fill flight. */
/* fill/<name> begins to be handed out: should this process be killed, it is known. */
void prelux_partial_note(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const char *name);
/* A kept one of this version is the caller's (its files, and its row); of another version: it goes. False: there is none. In use: its parts are
 * fetched yet, until prelux_partial_untake(). */
bool prelux_partial_take(struct prelux_tree *t, const char *object, const struct prelux_object *obj, bool in_use, char ret_name[32],
                         uint64_t *ret_bytes);
/* A flow, or nobody, has it now. The room that is reserved for parts that came since: the caller's. store.lock held. */
uint64_t prelux_partial_untake(struct prelux_store *s, const char *name);
/* The fill has failed, or rests: trimmed to what has come, and kept for the next one. False: it is not worth it, or cannot be. */
bool prelux_partial_keep(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const char *name, int fd,
                         struct prelux_stream *m);
/* fd is the file, m its page; false: not worth it. By who has it for himself, or with parts_lock. */
bool prelux_partial_trim(int fd, struct prelux_stream *m);
/* Its row. The files are the caller's. */
void prelux_partial_forget(struct prelux_tree *t, const char *object, const char *name);

bool prelux_partial_there(struct prelux_tree *t, const char *object);
/* Oldest first, of those not used since before_ns (CLOCK_REALTIME), until so many bytes are free. What was freed. */
uint64_t prelux_partials_evict(struct prelux_store *s, uint64_t bytes, int64_t before_ns);
/* At and below the object. */
void prelux_partials_drop(struct prelux_tree *t, const char *object, uint64_t *files, uint64_t *bytes);

/* Page `front` of fill/<name>, mapped, prelux_stream_bytes(obj->size): of this inode and version, with no more bytes than the file has; NULL. */
struct prelux_stream *prelux_partial_map(struct prelux_store *s, const char *name, const struct prelux_object *obj, const struct stat *st);

int prelux_catalogue_partials(struct prelux_catalogue *c, int (*fn)(void *arg, const struct prelux_partial *p), void *arg);
int prelux_catalogue_set_partial(struct prelux_catalogue *c, const struct prelux_partial *p);
int prelux_catalogue_drop_partial(struct prelux_catalogue *c, const struct prelux_partial *p);

#endif
