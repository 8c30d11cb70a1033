/* Pages that list a folder (autoindex of nginx, Apache and others): every name could be a file's, wherever the page came from. */
#include <errno.h>

#include "include/prelux/attr.h"
#include "lib/backend/http_index.h"
#include "tests/fuzz/rig.h"

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *o)
{
  FUZZ_CHECK(len > 0 && strlen(name) == len && !memchr(name, '/', len));
  FUZZ_CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
  FUZZ_CHECK(o->type == PRELUX_FILE || (o->type == PRELUX_DIR && o->size == 0));
  FUZZ_CHECK(o->mtime_ns == 0 || o->mtime_rough);
  return ++*(unsigned *)arg > 3000 ? -E2BIG : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const urls[] = {"http://h/d/", "https://h:444/a%20b/c/", "http://[::1]/"};
  for (size_t i = 0; i < 3; i++)
  {
    unsigned strict = 0, any = 0;
    int rc = prelux_http_index_html(urls[i], (const char *)data, size, false, on_name, &strict);
    FUZZ_CHECK(rc == 0 || rc == -EPROTO || rc == -EOPNOTSUPP || rc == -E2BIG);
    int all = prelux_http_index_html(urls[i], (const char *)data, size, true, on_name, &any);
    FUZZ_CHECK(all == 0 || all == -EPROTO || all == -E2BIG);
    FUZZ_CHECK(rc == -EOPNOTSUPP || (rc == all && strict == any));
  }
  return 0;
}
