/* Table look-ups: absolute normalised path -> mapping. Pure, shim-safe, no allocation. */
#ifndef PRELUX_MAP_MATCH_H
#define PRELUX_MAP_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/table.h"

enum prelux_match_kind {
  PRELUX_MATCH_NONE = 0,     /* no mapping at, above or below this path */
  PRELUX_MATCH_MAPPED = 1,   /* at or below a mapping root */
  PRELUX_MATCH_ANCESTOR = 2, /* a mapping lies below this path, none at or above it */
};

struct prelux_match {
  enum prelux_match_kind kind;
  const struct prelux_table_mapping *mapping; /* MAPPED */
  uint32_t index;                             /* its number */
  const char *rel;                            /* MAPPED: rest of `path` below the root, "" for the root itself */
  bool has_below;                             /* MAPPED: another mapping lies below this very path */
  uint32_t node;                              /* trie node reached (when the whole path was walked), else 0 */
};

/* path: absolute, normalised (prelux_path_join). Native tables: the longest prefix wins; azfuse lists: the first
 * entry that matches. URI prefixes: pass "s3:/bucket/x" with uri = true. */
void prelux_table_match(const struct prelux_table *t, const char *path, bool uri, struct prelux_match *ret);

/* False at once for most paths: no prefix begins with the first component of `path` (absolute, not normalised; may
 * hold "//" and "."). True means: look closer. Costs a scan of one component. */
bool prelux_table_maybe(const struct prelux_table *t, const char *path);

/* Bit (letter & 63) for the first letter of each first component of a prefix. Never 0; all bits when that would take long to say. */
uint64_t prelux_table_letters(const struct prelux_table *t);

/* Names of mapping roots and their missing ancestors directly below the folder `path` (absolute, normalised):
 * calls add(name, name_len, is_root, mapping index or -1, arg) once per name. */
void prelux_table_children(const struct prelux_table *t, const char *path,
                           void (*add)(const char *name, size_t len, bool is_root, int mapping, void *arg), void *arg);

/* One bit, (hash & 63), for each component of each prefix; and: is `name` such a component? */
uint64_t prelux_table_component_bits(const struct prelux_table *t);
bool prelux_table_has_component(const struct prelux_table *t, const char *name, size_t len);

/* Real path in a cache tree -> mapping and rest, or NULL. `hint` (>= 0): prefer this mapping where several share the tree. */
const struct prelux_table_mapping *prelux_table_by_tree(const struct prelux_table *t, const char *real, int hint,
                                                        uint32_t *ret_index, const char **ret_rel);

/* 0 or -EINVAL / -EPROTONOSUPPORT: `bytes` at t are a table of our major with all offsets inside. Does not check the hash. */
int prelux_table_check(const void *t, size_t bytes);

uint32_t prelux_component_hash(const char *s, size_t len);
static inline const char *prelux_table_str(const struct prelux_table *t, struct prelux_str s)
{
  return (const char *)t + s.off;
}
static inline const struct prelux_table_mapping *prelux_table_mappings(const struct prelux_table *t)
{
  return (const struct prelux_table_mapping *)((const char *)t + t->mappings_off);
}

#endif
