/* Backend azure: List Blobs, block lists and errors in XML, heads. */
#include "tests/fuzz/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct prelux_conf_backend *conf;
  if (!conf)
    conf = fuzz_backend("version: 1\nbackends:\n  b: {type: azure, account: acc, container: data, "
                        "endpoint: \"http://h:9/acc\", sas_token: \"sv=1&sp=racwdl&sig=" FUZZ_SECRET "\"}\n"
                        "mappings:\n  - {local: /m, remote: \"b:/\", write: sync}\n", "b");
  return fuzz_drive(conf, data, size);
}
