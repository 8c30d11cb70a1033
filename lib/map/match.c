#include "lib/map/match.h"

#include <errno.h>
#include <string.h>

#include "include/prelux/version.h"
#include "lib/base/sys.h"
#include "lib/map/node.h"

#define HASH_START 0x811c9dc5u

static inline uint32_t hash_byte(uint32_t h, char c)
{
  return (h ^ (unsigned char)c) * 0x01000193u;
}

static inline uint32_t hash_end(uint32_t h)
{
  return h ^ h >> 15;
}

uint32_t prelux_component_hash(const char *s, size_t len)
{
  uint32_t h = HASH_START;
  for (size_t i = 0; i < len; i++)
    h = hash_byte(h, s[i]);
  return hash_end(h);
}

static inline const struct prelux_table_node *nodes(const struct prelux_table *t)
{
  return (const struct prelux_table_node *)((const char *)t + t->nodes_off);
}

static const struct prelux_table_node *child(const struct prelux_table *t, uint32_t parent, const char *name, size_t len)
{
  uint32_t hash = prelux_component_hash(name, len);
  for (uint32_t i = prelux_node_home(parent, hash, t->nodes_mask);; i = (i + 1) & t->nodes_mask)
  {
    const struct prelux_table_node *n = &nodes(t)[i];
    if (n->node == 0)
      return NULL;
    if (n->parent == parent && n->hash == hash && n->name.len == len && memcmp(prelux_table_str(t, n->name), name, len) == 0)
      return n;
  }
}

static void take(const struct prelux_table *t, int32_t mapping, const char *rest, struct prelux_match *ret)
{
  if (mapping < 0)
    return;
  if (ret->kind == PRELUX_MATCH_MAPPED && (t->flags & PRELUX_TABLE_FIRST_MATCH) && ret->index < (uint32_t)mapping)
    return;
  while (*rest == '/')
    rest++;
  ret->kind = PRELUX_MATCH_MAPPED;
  ret->index = (uint32_t)mapping;
  ret->mapping = &prelux_table_mappings(t)[mapping];
  ret->rel = rest;
}

void prelux_table_match(const struct prelux_table *t, const char *path, bool uri, struct prelux_match *ret)
{
  uint32_t node = uri ? 1 : 0, below = uri ? t->uri_children : t->root_children;
  const char *p = path;
  *ret = (struct prelux_match){.kind = PRELUX_MATCH_NONE};
  while (*p == '/')
    p++;
  if (!uri && (*p == 0 || !(t->flags & PRELUX_TABLE_FIRST_MATCH)))
    take(t, t->root_mapping, p, ret);
  while (*p)
  {
    const char *end = p;
    while (*end && *end != '/')
      end++;
    const struct prelux_table_node *n = child(t, node, p, (size_t)(end - p));
    if (!n)
      return;
    node = n->node;
    below = n->children;
    take(t, n->mapping, end, ret);
    p = end;
    while (*p == '/')
      p++;
  }
  ret->node = node;
  ret->has_below = below > 0;
  if (ret->kind == PRELUX_MATCH_NONE && below > 0)
    ret->kind = PRELUX_MATCH_ANCESTOR;
}

bool prelux_table_maybe(const struct prelux_table *t, const char *path)
{
  const char *p = path;
  if (t->root_mapping >= 0)
    return true;
  for (;;)
  {
    while (*p == '/')
      p++;
    if (p[0] != '.' || (p[1] != '/' && p[1] != 0))
      break;
    p++;
  }
  if (*p == 0)
    return true; /* "/" is an ancestor of every prefix */
  uint32_t h = HASH_START; /* prelux_component_hash, in the pass that finds the end: this is what every call costs */
  while (*p && *p != '/')
    h = hash_byte(h, *p++);
  return t->first >> (hash_end(h) & 63) & 1;
}

uint64_t prelux_table_letters(const struct prelux_table *t)
{
  enum { FEW = 1024 };
  uint64_t bits = 1;
  if (t->root_mapping >= 0 || t->nodes_mask >= FEW)
    return UINT64_MAX;
  for (uint32_t i = 0; i <= t->nodes_mask; i++)
    if (nodes(t)[i].node != 0 && nodes(t)[i].parent == 0)
      bits |= 1ull << (*prelux_table_str(t, nodes(t)[i].name) & 63);
  return bits;
}

void prelux_table_children(const struct prelux_table *t, const char *path,
                           void (*add)(const char *name, size_t len, bool is_root, int mapping, void *arg), void *arg)
{
  struct prelux_match m;
  prelux_table_match(t, path, false, &m);
  if (!m.has_below)
    return;
  for (uint32_t i = 0; i <= t->nodes_mask; i++)
  {
    const struct prelux_table_node *n = &nodes(t)[i];
    if (n->node != 0 && n->parent == m.node)
      add(prelux_table_str(t, n->name), n->name.len, n->mapping >= 0, n->mapping, arg);
  }
}

uint64_t prelux_table_component_bits(const struct prelux_table *t)
{
  uint64_t bits = 0;
  for (uint32_t i = 0; i <= t->nodes_mask; i++)
  {
    if (nodes(t)[i].node != 0)
      bits |= 1ull << (nodes(t)[i].hash & 63);
  }
  return bits;
}

bool prelux_table_has_component(const struct prelux_table *t, const char *name, size_t len)
{
  uint32_t hash = prelux_component_hash(name, len);
  for (uint32_t i = 0; i <= t->nodes_mask; i++)
  {
    const struct prelux_table_node *n = &nodes(t)[i];
    if (n->node != 0 && n->hash == hash && n->name.len == len && memcmp(prelux_table_str(t, n->name), name, len) == 0)
      return true;
  }
  return false;
}

static bool in_tree(const char *real, const char *tree, size_t len)
{
  return strncmp(real, tree, len) == 0 && (real[len] == 0 || real[len] == '/');
}

const struct prelux_table_mapping *prelux_table_by_tree(const struct prelux_table *t, const char *real, int hint,
                                                        uint32_t *ret_index, const char **ret_rel)
{
  const struct prelux_table_mapping *maps = prelux_table_mappings(t), *best = NULL;
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const struct prelux_table_mapping *m = &maps[i];
    bool hinted = hint >= 0 && i == (uint32_t)hint;
    if (m->tree.len == 0 || (best && !hinted && m->tree.len <= best->tree.len))
      continue;
    if (!in_tree(real, prelux_table_str(t, m->tree), m->tree.len))
      continue;
    best = m;
    *ret_index = i;
    if (hinted)
      break;
  }
  if (!best)
    return NULL;
  const char *rel = real + best->tree.len;
  while (*rel == '/')
    rel++;
  *ret_rel = rel;
  return best;
}

static PRELUX_AT_START bool str_ok(const struct prelux_table *t, struct prelux_str s)
{
  return s.off < t->bytes && s.len < t->bytes - s.off && ((const char *)t)[s.off + s.len] == 0;
}

static PRELUX_AT_START bool array_ok(const struct prelux_table *t, uint64_t off, uint64_t count, uint64_t each)
{
  return off % 8 == 0 && off <= t->bytes && count <= (t->bytes - off) / each;
}

PRELUX_AT_START int prelux_table_check(const void *at, size_t bytes)
{
  const struct prelux_table *t = at;
  if (bytes < sizeof *t || t->magic != PRELUX_TABLE_MAGIC)
    return -EINVAL;
  if (t->major != PRELUX_TABLE_MAJOR)
    return -EPROTONOSUPPORT;
  if (t->bytes != bytes || (t->nodes_mask & (t->nodes_mask + 1)) != 0 || t->root_mapping >= (int64_t)t->n_mappings)
    return -EINVAL;
  if (!array_ok(t, t->mappings_off, t->n_mappings, sizeof(struct prelux_table_mapping)) ||
      !array_ok(t, t->nodes_off, (uint64_t)t->nodes_mask + 1, sizeof(struct prelux_table_node)) ||
      !array_ok(t, t->roots_off, t->n_roots, sizeof(struct prelux_table_root)))
    return -EINVAL;
  if (!str_ok(t, t->source) || !str_ok(t, t->cwd) || !str_ok(t, t->daemon) || !str_ok(t, t->runtime) || !str_ok(t, t->error))
    return -EINVAL;
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const struct prelux_table_mapping *m = &prelux_table_mappings(t)[i];
    if (!str_ok(t, m->local) || !str_ok(t, m->tree) || !str_ok(t, m->object) || !str_ok(t, m->remote) || !str_ok(t, m->staging) ||
        !str_ok(t, m->scratch))
      return -EINVAL;
  }
  const struct prelux_table_root *roots = (const struct prelux_table_root *)((const char *)at + t->roots_off);
  for (uint32_t i = 0; i < t->n_roots; i++)
    if (roots[i].mapping >= t->n_mappings)
      return -EINVAL;
  bool empty = false; /* a probe must end */
  for (uint32_t i = 0; i <= t->nodes_mask; i++)
  {
    const struct prelux_table_node *n = &nodes(t)[i];
    empty |= n->node == 0;
    if (n->node != 0 && (!str_ok(t, n->name) || n->mapping >= (int64_t)t->n_mappings))
      return -EINVAL;
  }
  return empty ? 0 : -EINVAL;
}
