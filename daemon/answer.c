#include "daemon/answer.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"

#define SPARE 64   /* header of a field and its padding */
#define SMALL 1024 /* bytes of most replies */

void prelux_answer_init(struct prelux_answer *a)
{
  *a = (struct prelux_answer){.fd = -1};
}

void prelux_answer_release(struct prelux_answer *a)
{
  free(a->msg.buf);
  if (a->fd >= 0)
    prelux_os.close(a->fd);
  prelux_answer_init(a);
}

static bool begin(struct prelux_answer *a, int status, size_t cap)
{
  prelux_answer_release(a);
  void *buf = malloc(cap);
  if (!buf)
    return false;
  prelux_msg_begin(&a->msg, buf, cap, PRELUX_OP_REPLY);
  prelux_msg_put_u32(&a->msg, PRELUX_FIELD_STATUS, (uint32_t)status);
  return true;
}

bool prelux_answer_begin(struct prelux_answer *a, int status)
{
  return begin(a, status, SMALL);
}

bool prelux_answer_begin_large(struct prelux_answer *a, int status)
{
  return begin(a, status, PRELUX_MSG_MAX);
}

void prelux_answer_text(struct prelux_answer *a, const char *text)
{
  size_t len = strlen(text), room = a->msg.cap - a->msg.len;
  if (!a->msg.buf || room < 2 * SPARE)
    return;
  prelux_msg_put(&a->msg, PRELUX_FIELD_TEXT, text, len < room - SPARE ? len : room - SPARE);
}

void prelux_answer_fail(struct prelux_answer *a, int status, const struct prelux_problem *why)
{
  if (prelux_answer_begin(a, status) && why && why->text[0])
    prelux_answer_text(a, why->text);
}
