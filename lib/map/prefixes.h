/* PRELUX_PREFIXES: what a process must know when its table is gone. The table's file lies in the runtime folder, which others
 * may clear away; without it a prefix would look like any folder of the disk. So the environment carries, beside the path of
 * the table (PRELUX_CONFIG), from what it was made and which prefixes it has:
 *
 *   HASH:SOURCE:FOLDER:PREFIX:PREFIX...    or, with many:    HASH:SOURCE:FOLDER:#xxxxxxyyyyyy...
 *
 * HASH, 32 hex digits, is the table's own, also the last component of its path: a value that belongs to another table is
 * not used. SOURCE is the configuration file, FOLDER what relative prefixes were resolved against. `:`, `%`, `#`, blanks
 * and control characters are %XX, so that the value is one line and one shell word between quotes. Past
 * PRELUX_PREFIXES_PLAIN bytes each prefix is 36 bits of a hash, six letters; past PRELUX_PREFIXES_MAX they are left out
 * ("+"), and SOURCE is all there is. */
#ifndef PRELUX_MAP_PREFIXES_H
#define PRELUX_MAP_PREFIXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/table.h"

#define PRELUX_PREFIXES_ENV "PRELUX_PREFIXES"
#define PRELUX_PREFIXES_PLAIN 4096
#define PRELUX_PREFIXES_MAX (96u << 10) /* one entry of an environment may have 128 KiB */

struct prelux_prefixes {
  const char *source, *folder;
  const char *list;    /* one after another, each ended by NUL, the list by an empty one */
  const uint64_t *set; /* hashes of others */
  size_t n_set;
  bool cut;            /* there are more than are said here */
};

/* The value for a table. Length without the NUL; written when that is less than `cap`. */
size_t prelux_prefixes_format(const struct prelux_table *t, char *out, size_t cap);

/* `config`: path of the table that could not be had. Everything in *ret lies in `room` (aligned to 8), of at least
 * prelux_prefixes_room(value) bytes. -ENOENT: the value says nothing about that table, or no sense. */
size_t prelux_prefixes_room(const char *value);
int prelux_prefixes_parse(const char *value, const char *config, void *room, struct prelux_prefixes *ret);

/* `path` (absolute, normalised) is one of them or lies below one. */
bool prelux_prefixes_have(const struct prelux_prefixes *p, const char *path);

/* All of them are mapped in `t`, too. */
bool prelux_prefixes_covered(const struct prelux_prefixes *p, const struct prelux_table *t);

/* `value` is about this table; `name` is the name of its file. */
bool prelux_prefixes_are_of(const char *value, const struct prelux_table *t);
bool prelux_prefixes_is_name(const char *name, const struct prelux_table *t);

#endif
