/* Writing RUNTIME/names (include/prelux/names.h): the daemon only. */
#ifndef PRELUX_INDEX_NAMES_WRITE_H
#define PRELUX_INDEX_NAMES_WRITE_H

#include "include/prelux/listing.h"
#include "include/prelux/names.h"
#include "lib/base/acl.h"
#include "lib/index/reader.h"

struct prelux_index_writer;
struct prelux_names_writer;

/* Makes RUNTIME/names anew. index: is told how far the log has come round; lives longer. 0 or -errno. Caller frees. */
int prelux_names_writer_create(const char *runtime, struct prelux_index_writer *index, struct prelux_names_writer **ret);
void prelux_names_writer_free(struct prelux_names_writer *w); /* NULL is allowed */
/* As prelux_index_allow(). */
int prelux_names_allow(struct prelux_names_writer *w, const struct prelux_allowed *who);
/* Not 0. */
uint64_t prelux_names_generation(const struct prelux_names_writer *w);
/* Copies a listing into the log. 0 and where it lies; -EFBIG: more than PRELUX_NAMES_MAX; -ENOSPC and others: no room on the disk.
 * Blocks as a write to the page cache does; calls are serialised inside. */
int prelux_names_write(struct prelux_names_writer *w, const struct prelux_listing *l, struct prelux_names_at *ret);

#endif
