/* A message as it comes from a socket: refused, or every field lies within it, is followed by a NUL, and makes the same message again. */
#include <errno.h>

#include "lib/ipc/msg.h"
#include "tests/fuzz/rig.h"

enum { IDS = 32 };

/* Each field once by the reader of its own. */
static void read_all(const unsigned char *buf, size_t len)
{
  struct prelux_attr attr;
  for (unsigned id = 0; id < IDS; id++)
  {
    size_t pos = 0, n, before = 0;
    const char *value;
    while ((value = prelux_msg_next(buf, (enum prelux_field)id, &pos, &n)))
    {
      FUZZ_CHECK(pos > before && pos <= len);
      FUZZ_CHECK((const unsigned char *)value >= buf && (const unsigned char *)value + n < buf + len && value[n] == 0);
      before = pos;
    }
    const char *text = prelux_msg_str(buf, (enum prelux_field)id);
    FUZZ_CHECK(!text || strlen(text) < len);
    prelux_msg_u32(buf, (enum prelux_field)id, 7);
  }
  prelux_msg_attr(buf, &attr);
  prelux_msg_op(buf);
}

/* The fields that we know, in the order of their numbers. */
static void copy(const unsigned char *from, size_t len)
{
  size_t cap = len + 64;
  unsigned char *to = aligned_alloc(8, (cap + 7) & ~(size_t)7);
  struct prelux_msg m;
  prelux_msg_begin(&m, to, cap, prelux_msg_op(from));
  for (unsigned id = 0; id < IDS; id++)
  {
    size_t pos = 0, n;
    for (const void *value; (value = prelux_msg_next(from, (enum prelux_field)id, &pos, &n));)
      prelux_msg_put(&m, (enum prelux_field)id, value, n);
  }
  FUZZ_CHECK(!m.overflow && m.len <= len && prelux_msg_check(to, m.len) == 0);
  for (unsigned id = 0; id < IDS; id++)
  {
    size_t a = 0, b = 0, n, k;
    for (;;)
    {
      const void *x = prelux_msg_next(from, (enum prelux_field)id, &a, &n), *y = prelux_msg_next(to, (enum prelux_field)id, &b, &k);
      FUZZ_CHECK(!x == !y && (!x || (n == k && memcmp(x, y, n) == 0)));
      if (!x)
        break;
    }
  }
  free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  size_t len = size < PRELUX_MSG_MAX ? size : PRELUX_MSG_MAX;
  unsigned char *buf = malloc(len ? len : 1);
  memcpy(buf, data, len);
  if (len >= sizeof(struct prelux_msg_header)) /* a length that fits, or nothing else is reached */
    ((struct prelux_msg_header *)buf)->bytes = buf[0] == 'L' ? ((struct prelux_msg_header *)buf)->bytes : (uint32_t)len;
  int rc = prelux_msg_check(buf, len);
  FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == -EPROTONOSUPPORT);
  if (rc == 0)
  {
    read_all(buf, len);
    copy(buf, len);
  }
  free(buf);
  return 0;
}
