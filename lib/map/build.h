/* Compiling a configuration into a table (daemon, CLI's dry runs and tests). */
#ifndef PRELUX_MAP_BUILD_H
#define PRELUX_MAP_BUILD_H

#include <stddef.h>

#include "include/prelux/table.h"

struct prelux_build_mapping {
  const char *local; /* normalised absolute, or URI "s3:/bucket/x" */
  const char *tree; /* root of the tree; the table's is the folder of `object` in it */
  const char *object;
  const char *remote;
  const char *staging; /* NULL: it cannot be written to */
  const char *scratch;    /* NULL: none */
  uint64_t scratch_dev;
  uint64_t tree_id, dev, max_age_ns, negative_age_ns, stream_above;
  uint32_t freshness, flags, file_mode, dir_mode;
};

struct prelux_build {
  const struct prelux_build_mapping *mappings;
  size_t n_mappings;
  uint32_t flags, uid, gid, daemon_timeout_ms;
  unsigned char credentials[16];
  const char *source, *cwd, *daemon, *runtime, *error;
  size_t *ret_looks; /* how many nodes were compared; NULL: nobody asks */
};

/* Allocates the table (caller frees with free()). Stats each mapping root on disk to fill `roots` and COVERED.
 * 0, -ENOMEM, or -EEXIST when two native mappings have the same local (*ret_clash gets the later one's number). */
int prelux_table_build(const struct prelux_build *in, struct prelux_table **ret, size_t *ret_clash);

#endif
