/* Backend alluxio-ee: answers of workers and coordinator of Alluxio Enterprise AI. */
#include "tests/fuzz/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct prelux_conf_backend *conf;
  if (!conf)
    conf = fuzz_backend("version: 1\nbackends:\n  b: {type: alluxio-ee, workers: [\"h1:28080\", h2], root: \"s3://data\", coordinator: \"h3:19999\"}\n"
                        "mappings:\n  - {local: /m, remote: \"b:/\", write: sync}\n", "b");
  return fuzz_drive(conf, data, size);
}
