/* JSON that arrives in pieces: however it is cut, it has the same elements and the same end; what is taken is what cJSON prints and takes again. */
#include <errno.h>

#include "lib/backend/http_index.h"
#include "lib/backend/json_array.h"
#include "tests/fuzz/rig.h"

struct seen {
  size_t n;
  uint64_t sum;
};

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *o)
{
  FUZZ_CHECK(len > 0 && strlen(name) == len && !memchr(name, '/', len));
  return 0;
}

static int on_element(void *arg, const cJSON *object)
{
  struct seen *s = arg;
  char *text = cJSON_PrintUnformatted(object);
  FUZZ_CHECK(text && cJSON_IsObject(object));
  for (const char *p = text; *p; p++)
    s->sum = s->sum * 31 + (unsigned char)*p;
  s->n++;
  int rc = prelux_http_index_json(object, on_name, NULL);
  FUZZ_CHECK(rc == 0 || rc == -EPROTO);
  cJSON_free(text);
  return 0;
}

static int feed(const char *text, size_t len, size_t step, struct seen *ret)
{
  struct prelux_json_array j;
  int rc = 0;
  *ret = (struct seen){0};
  prelux_json_array_init(&j, on_element, ret);
  for (size_t at = 0; rc == 0 && at < len; at += step)
    rc = prelux_json_array_feed(&j, text + at, len - at < step ? len - at : step);
  if (rc == 0)
    rc = prelux_json_array_end(&j);
  FUZZ_CHECK(rc == 0 || rc == -EPROTO);
  FUZZ_CHECK(j.count == ret->n);
  prelux_json_array_release(&j);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct seen whole, bytes, some;
  size_t len;
  char *text = fuzz_piece(&data, &size, FUZZ_NEXT, &len);
  int rc = feed(text, len, len ? len : 1, &whole);
  FUZZ_CHECK(feed(text, len, 1, &bytes) == rc && bytes.n == whole.n && bytes.sum == whole.sum);
  FUZZ_CHECK(feed(text, len, 13, &some) == rc && some.n == whole.n && some.sum == whole.sum);
  cJSON *o = prelux_json_object(text, len);
  if (o)
  {
    char *first = cJSON_PrintUnformatted(o);
    cJSON *again = first ? prelux_json_object(first, strlen(first)) : NULL;
    char *second = again ? cJSON_PrintUnformatted(again) : NULL;
    FUZZ_CHECK_TEXT(second && strcmp(first, second) == 0, first);
    cJSON_free(first);
    cJSON_free(second);
    cJSON_Delete(again);
  }
  cJSON_Delete(o);
  free(text);
  return 0;
}
