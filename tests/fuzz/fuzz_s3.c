/* Backend s3: listings, small answers and errors in XML, heads. */
#include "tests/fuzz/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct prelux_conf_backend *conf;
  if (!conf)
    conf = fuzz_backend("version: 1\nbackends:\n  b: {type: s3, bucket: data, prefix: p, region: us-east-1, "
                        "endpoint: \"http://h:9\", access_key: AK, secret_key: \"" FUZZ_SECRET "\"}\n"
                        "mappings:\n  - {local: /m, remote: \"b:/\", write: sync}\n", "b");
  return fuzz_drive(conf, data, size);
}
