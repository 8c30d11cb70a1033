/* Bytes that the remote may have, although nobody has said so: the answer to a put was lost, or the daemon died before it came.
 *
 * While the file stays as it was sent, a look at the remote can decide: bytes equal to ours are ours (PRELUX_PENDING_UNSURE says that this may
 * be). Once it is written on, its former bytes are gone; so before that a row gets size and hash of them (`sent`, words "size-hash"). A put
 * whose condition then fails because the remote has just those begins from them, and nobody's change is lost. A put without a condition
 * needs no hash: its word is "-", which says that the name may be on the remote. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/os.h"
#include "lib/store/deferred.h"

#define PIECE 65536u
#define WORDS_MAX 8 /* states of one file; of more the oldest are forgotten */

bool prelux_dirty_unsure(const struct prelux_dirty *d)
{
  return (d->row.flags & PRELUX_PENDING_UNSURE) || d->row.sent;
}

/* ---- as they are ---- */

struct compare
{
  int fd;
  bool differs;
};

static int compare_piece(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct compare *c = arg;
  const char *theirs = buf;
  char ours[PIECE];
  while (len)
  {
    ssize_t n = prelux_os.pread(c->fd, ours, len < sizeof ours ? len : sizeof ours, (off_t)off);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -errno;
    if (n == 0 || memcmp(ours, theirs, (size_t)n) != 0)
    {
      c->differs = true;
      return -ECANCELED;
    }
    theirs += n;
    off += (uint64_t)n;
    len -= (size_t)n;
  }
  return 0;
}

/* 1: the object has the file's bytes; 0: it has others; or -errno. */
static int same_bytes(const struct prelux_dirty *d, int fd, const struct prelux_object *obj, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  struct compare c = {.fd = fd};
  if (obj->size != d->row.size)
    return 0;
  int rc = obj->size ? b->ops->read(b, d->row.path, obj, 0, obj->size, compare_piece, &c, why) : 0;
  return c.differs ? 0 : rc < 0 ? rc : 1;
}

/* ---- as they were ---- */

struct hashing
{
  XXH3_state_t *state;
  uint64_t at;
};

static int hash_piece(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct hashing *h = arg;
  if (off != h->at)
    return -EIO; /* not in order: cannot be told */
  XXH3_128bits_update(h->state, buf, len);
  h->at += len;
  return 0;
}

static void make_word(const struct hashing *h, char ret[PRELUX_WORD_MAX])
{
  XXH128_hash_t sum = XXH3_128bits_digest(h->state);
  snprintf(ret, PRELUX_WORD_MAX, "%llu-%016llx%016llx", (unsigned long long)h->at, (unsigned long long)sum.high64, (unsigned long long)sum.low64);
}

int prelux_stage_word(int fd, char ret[PRELUX_WORD_MAX])
{
  char buf[PIECE];
  struct hashing h = {.state = XXH3_createState()};
  ssize_t n = 0;
  if (!h.state)
    return -ENOMEM;
  XXH3_128bits_reset(h.state);
  while ((n = prelux_os.pread(fd, buf, sizeof buf, (off_t)h.at)) > 0 || (n < 0 && errno == EINTR))
    if (n > 0)
      hash_piece(&h, h.at, buf, (size_t)n);
  int rc = n < 0 ? -errno : 0;
  make_word(&h, ret);
  XXH3_freeState(h.state);
  return rc;
}

/* The word is one of the row's. len: of so many bytes of it at least; the rest of the row's word is not looked at. */
static bool has_word(const struct prelux_dirty *d, const char *word, size_t len)
{
  for (const char *p = d->row.sent; p && *p; p += strcspn(p, " "), p += *p == ' ')
    if (strncmp(p, word, len) == 0)
      return true;
  return false;
}

/* 1: the object is what the file was once; 0: it is not; or -errno. */
static int former_bytes(const struct prelux_dirty *d, const struct prelux_object *obj, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  char word[PRELUX_WORD_MAX];
  int len = snprintf(word, sizeof word, "%llu-", (unsigned long long)obj->size);
  if (!has_word(d, word, (size_t)len))
    return 0;
  struct hashing h = {.state = XXH3_createState()};
  if (!h.state)
    return -ENOMEM;
  XXH3_128bits_reset(h.state);
  int rc = obj->size ? b->ops->read(b, d->row.path, obj, 0, obj->size, hash_piece, &h, why) : 0;
  make_word(&h, word);
  XXH3_freeState(h.state);
  return rc < 0 ? rc : has_word(d, word, strlen(word));
}

int prelux_stage_whose(const struct prelux_dirty *d, int fd, bool now, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  *ret = (struct prelux_object){0};
  int rc = b->ops->stat(b, d->row.path, ret, why);
  if (rc < 0)
    return rc == -ENOENT ? PRELUX_NOBODYS : rc;
  if (ret->type != PRELUX_FILE)
    return PRELUX_OTHERS;
  rc = now ? same_bytes(d, fd, ret, why) : 0;
  if (rc != 0)
    return rc == 1 ? PRELUX_OURS : rc;
  rc = former_bytes(d, ret, why);
  return rc == 1 ? PRELUX_FORMER : rc < 0 ? rc : PRELUX_OTHERS;
}

/* ---- rows ---- */

/* The row's words and this one; NULL: no memory. */
static char *with_word(const char *words, const char *word)
{
  int n = 1;
  for (const char *p = words; p && *p; p++)
    n += *p == ' ';
  const char *from = words && n >= WORDS_MAX ? strchr(words, ' ') + 1 : words;
  char *ret = NULL;
  return asprintf(&ret, "%s%s%s", from ? from : "", from ? " " : "", word) < 0 ? NULL : ret;
}

int prelux_stage_set_row(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_pending *next)
{
  char *old = d->row.sent == next->sent ? NULL : d->row.sent;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_SET, next);
  if (rc < 0)
  {
    if (next->sent != d->row.sent)
      free(next->sent);
    return rc;
  }
  prelux_dirty_becomes(g, d, next);
  free(old);
  return 0;
}

int prelux_stage_begin_from(struct prelux_stage *g, struct prelux_dirty *d, const char *version, bool all)
{
  struct prelux_pending next = d->row;
  snprintf(next.base, sizeof next.base, "%s", version);
  next.flags &= ~(uint32_t)(PRELUX_PENDING_NEW | (all ? PRELUX_PENDING_UNSURE : 0));
  next.sent = all ? NULL : next.sent;
  next.tries = all ? 0 : next.tries;
  return prelux_stage_set_row(g, d, &next);
}

/* What the file is now may be on the remote, or get there yet. */
static int note(struct prelux_stage *g, struct prelux_dirty *d, int fd)
{
  struct prelux_pending next = d->row;
  char word[PRELUX_WORD_MAX] = "-";
  bool asks = !(next.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_FORCE));
  int rc = asks ? prelux_stage_word(fd, word) : 0;
  if (rc < 0)
    return rc;
  next.flags &= ~(uint32_t)PRELUX_PENDING_UNSURE;
  next.sent = with_word(next.sent, word);
  return next.sent ? prelux_stage_set_row(g, d, &next) : -ENOMEM;
}

int prelux_stage_note_sending(struct prelux_stage *g, struct prelux_dirty *d, const char *word, uint64_t size, int64_t mtime_ns)
{
  struct prelux_pending next = d->row;
  if (next.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_FORCE))
    word = "-";
  next.size = size;
  next.mtime_ns = mtime_ns;
  next.flags |= PRELUX_PENDING_MTIME;
  if (!has_word(d, word, strlen(word)) && !(next.sent = with_word(next.sent, word)))
    return -ENOMEM;
  return prelux_stage_set_row(g, d, &next);
}

int prelux_stage_resolve(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_object obj;
  if (!d->row.path || d->row.state != PRELUX_PENDING_READY || !prelux_dirty_unsure(d))
    return 0;
  int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY);
  if (fd < 0)
    return fd;
  bool behind = prelux_deferred_touch(d->tree, d->row.path, NULL); /* what the remote has there is to go yet */
  int rc = 0, whose = behind || prelux_stage_away(d->tree) ? -EIO : prelux_stage_whose(d, fd, d->row.flags & PRELUX_PENDING_UNSURE, &obj, NULL);
  if (whose == PRELUX_OURS)
    rc = prelux_stage_begin_from(g, d, obj.version, true);
  else if (whose == PRELUX_FORMER)
    rc = prelux_stage_begin_from(g, d, obj.version, false);
  if (rc == 0 && (d->row.flags & PRELUX_PENDING_UNSURE))
    rc = note(g, d, fd);
  prelux_os.close(fd);
  return rc;
}
