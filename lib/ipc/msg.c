#include "lib/ipc/msg.h"

#include <errno.h>
#include <string.h>

#define PAD(n) (((n) + 7) & ~(size_t)7)

static struct prelux_msg_header *header(struct prelux_msg *m)
{
  return (struct prelux_msg_header *)m->buf;
}

void prelux_msg_begin(struct prelux_msg *m, void *buf, size_t cap, enum prelux_op op)
{
  m->buf = buf;
  m->cap = cap;
  m->len = sizeof(struct prelux_msg_header);
  m->overflow = cap < m->len;
  if (!m->overflow)
    *header(m) = (struct prelux_msg_header){
        .magic = PRELUX_MSG_MAGIC, .major = PRELUX_MSG_MAJOR, .op = (uint16_t)op, .bytes = (uint32_t)m->len};
}

/* `extra` bytes of zero follow the value inside its padding. */
static void put(struct prelux_msg *m, enum prelux_field id, const void *value, size_t len, size_t extra)
{
  struct prelux_msg_field f = {.id = (uint16_t)id, .bytes = (uint32_t)len};
  size_t room = PAD(len + extra);
  if (m->overflow || len > PRELUX_MSG_MAX || m->len + sizeof f + room > m->cap)
  {
    m->overflow = true;
    return;
  }
  memcpy(m->buf + m->len, &f, sizeof f);
  memset(m->buf + m->len + sizeof f, 0, room);
  if (len)
    memcpy(m->buf + m->len + sizeof f, value, len);
  m->len += sizeof f + room;
  header(m)->bytes = (uint32_t)m->len;
}

/* Every value is followed by at least one zero byte, so that a reader may take any of them as a string. */
void prelux_msg_put(struct prelux_msg *m, enum prelux_field id, const void *value, size_t len)
{
  put(m, id, value, len, 1);
}

void prelux_msg_put_str(struct prelux_msg *m, enum prelux_field id, const char *s)
{
  put(m, id, s, strlen(s), 1);
}

void prelux_msg_put_u32(struct prelux_msg *m, enum prelux_field id, uint32_t v)
{
  put(m, id, &v, sizeof v, 1);
}

int prelux_msg_check(const void *buf, size_t len)
{
  const struct prelux_msg_header *h = buf;
  if (len < sizeof *h || h->magic != PRELUX_MSG_MAGIC || h->bytes != len)
    return -EBADMSG;
  if (h->major != PRELUX_MSG_MAJOR)
    return -EPROTONOSUPPORT;
  size_t at = sizeof *h;
  while (at < len)
  {
    struct prelux_msg_field f;
    if (len - at < sizeof f)
      return -EBADMSG;
    memcpy(&f, (const char *)buf + at, sizeof f);
    at += sizeof f;
    size_t room = PAD((size_t)f.bytes + 1);
    if (f.bytes > PRELUX_MSG_MAX || room > len - at || ((const char *)buf)[at + f.bytes] != 0)
      return -EBADMSG;
    at += room;
  }
  return 0;
}

enum prelux_op prelux_msg_op(const void *buf)
{
  return (enum prelux_op)((const struct prelux_msg_header *)buf)->op;
}

const void *prelux_msg_next(const void *buf, enum prelux_field id, size_t *pos, size_t *len)
{
  size_t total = ((const struct prelux_msg_header *)buf)->bytes;
  size_t at = *pos ? *pos : sizeof(struct prelux_msg_header);
  while (at < total)
  {
    struct prelux_msg_field f;
    memcpy(&f, (const char *)buf + at, sizeof f);
    const char *value = (const char *)buf + at + sizeof f;
    at += sizeof f + PAD((size_t)f.bytes + 1);
    if (f.id == id)
    {
      *pos = at;
      *len = f.bytes;
      return value;
    }
  }
  *pos = total;
  return NULL;
}

const char *prelux_msg_str(const void *buf, enum prelux_field id)
{
  size_t pos = 0, len;
  return prelux_msg_next(buf, id, &pos, &len);
}

uint32_t prelux_msg_u32(const void *buf, enum prelux_field id, uint32_t missing)
{
  size_t pos = 0, len;
  const void *value = prelux_msg_next(buf, id, &pos, &len);
  uint32_t v = missing;
  if (value && len == sizeof v)
    memcpy(&v, value, sizeof v);
  return v;
}

int prelux_msg_attr(const void *buf, struct prelux_attr *ret)
{
  size_t pos = 0, len;
  const void *value = prelux_msg_next(buf, PRELUX_FIELD_ATTR, &pos, &len);
  if (!value || len != sizeof *ret)
    return -ENOENT;
  memcpy(ret, value, sizeof *ret);
  return 0;
}
