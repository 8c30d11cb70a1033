/* Backend http: HEAD and GET answers, listings as HTML and JSON. */
#include "tests/fuzz/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct prelux_conf_backend *conf;
  if (!conf)
    conf = fuzz_backend("version: 1\nbackends:\n  b: {type: http, url: \"http://h:81/x\", bearer: \"" FUZZ_SECRET "\"}\n"
                        "mappings:\n  - {local: /m, remote: \"b:/\"}\n", "b");
  return fuzz_drive(conf, data, size);
}
