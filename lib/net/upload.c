/* Bodies out of a file.
 *
 * The reverse of a sink: the calling thread reads the file (a slow disk delays nobody else), the engine's thread hands the bytes
 * to curl. Two buffers: curl empties the one while the caller fills the other ahead of it. Where curl finds nothing it pauses the
 * transfer until the caller has swapped the buffers. curl may ask from an earlier offset again, when a connection that was idle
 * turned out to be closed: whatever is in the buffers and does not fit any more is dropped. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/net/engine.h"

int prelux_net_supply_open(struct prelux_net *net, struct prelux_net_transfer *t)
{
  if (!t->req->upload)
    return 0;
  t->supply = prelux_net_buffer_take(net);
  t->ahead.buffer = prelux_net_buffer_take(net);
  return t->supply && t->ahead.buffer ? 0 : -ENOMEM;
}

void prelux_net_supply_close(struct prelux_net *net, struct prelux_net_transfer *t)
{
  prelux_net_buffer_put(net, t->supply);
  prelux_net_buffer_put(net, t->ahead.buffer);
}

/* Bytes of the buffer behind read_at. */
static size_t at_hand(const struct prelux_net_transfer *t)
{
  uint64_t end = t->supply_at + t->supply_len;
  return t->read_at >= t->supply_at && t->read_at < end ? (size_t)(end - t->read_at) : 0;
}

size_t prelux_net_supply_read(char *out, size_t size, size_t count, void *transfer)
{
  struct prelux_net_transfer *t = transfer;
  size_t n = size * count;
  pthread_mutex_lock(&t->lock);
  size_t have = at_hand(t);
  n = n < have ? n : have;
  if (t->stop)
  {
    n = CURL_READFUNC_ABORT;
  }
  else if (n)
  {
    memcpy(out, t->supply + (t->read_at - t->supply_at), n);
    t->read_at += n;
    if (n == have)
      pthread_cond_signal(&t->changed);
  }
  else if (t->read_at < t->req->upload->len)
  {
    t->starving = true;
    pthread_cond_signal(&t->changed);
    n = CURL_READFUNC_PAUSE;
  }
  pthread_mutex_unlock(&t->lock);
  return n;
}

int prelux_net_supply_seek(void *transfer, curl_off_t to, int whence)
{
  struct prelux_net_transfer *t = transfer;
  if (whence != SEEK_SET || to < 0 || (uint64_t)to > t->req->upload->len)
    return CURL_SEEKFUNC_FAIL;
  pthread_mutex_lock(&t->lock);
  t->read_at = (uint64_t)to;
  pthread_cond_signal(&t->changed);
  pthread_mutex_unlock(&t->lock);
  return CURL_SEEKFUNC_OK;
}

/* Fills the caller's buffer from `at` on. Lock held, not while it reads. */
static int read_ahead(struct prelux_net_transfer *t, uint64_t at)
{
  const struct prelux_net_upload *u = t->req->upload;
  size_t want = u->len - at < PRELUX_NET_BUFFER ? (size_t)(u->len - at) : PRELUX_NET_BUFFER, len = 0;
  int rc = 0;
  pthread_mutex_unlock(&t->lock);
  while (len < want && rc == 0)
  {
    ssize_t n = pread(u->fd, t->ahead.buffer + len, want - len, (off_t)(u->off + at + len));
    if (n > 0)
      len += (size_t)n;
    else if (n == 0)
      rc = -EINVAL;
    else if (errno != EINTR)
      rc = -errno;
  }
  pthread_mutex_lock(&t->lock);
  t->ahead.at = at;
  t->ahead.len = len;
  return rc < 0 ? rc : 1;
}

int prelux_net_supply_more(struct prelux_net *net, struct prelux_net_transfer *t)
{
  size_t have = at_hand(t);
  uint64_t next = t->read_at + have; /* what the caller's buffer must begin with */
  if (next >= t->req->upload->len)
    return 0;
  if (!t->ahead.len || t->ahead.at != next)
    return read_ahead(t, next);
  if (have)
    return 0;
  char *empty = t->supply;
  bool resume = t->starving;
  t->supply = t->ahead.buffer;
  t->supply_len = t->ahead.len;
  t->supply_at = t->ahead.at;
  t->ahead.buffer = empty;
  t->ahead.len = 0;
  t->starving = false;
  if (resume)
  {
    pthread_mutex_unlock(&t->lock);
    prelux_net_wish(net, t, PRELUX_NET_RESUME);
    pthread_mutex_lock(&t->lock);
  }
  return 1;
}
