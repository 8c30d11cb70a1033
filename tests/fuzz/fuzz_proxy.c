/* Backend alluxio-proxy: answers of the REST API. */
#include "tests/fuzz/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct prelux_conf_backend *conf;
  if (!conf)
    conf = fuzz_backend("version: 1\nbackends:\n  b: {type: alluxio-proxy, url: \"http://h:39999\", root: /r}\n"
                        "mappings:\n  - {local: /m, remote: \"b:/\", write: sync}\n", "b");
  return fuzz_drive(conf, data, size);
}
