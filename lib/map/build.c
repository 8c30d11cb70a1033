/* A table is laid out as header, mappings, roots, node hash, strings. The strings grow while the rest is counted, so the
 * build has two passes: collect (nodes and strings in growing arrays), then lay out. */
#include "lib/map/build.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "include/prelux/version.h"
#include "lib/base/os.h"
#include "lib/map/match.h"
#include "lib/map/node.h"

struct build
{
  const struct prelux_build *in;
  char *strings;
  size_t strings_len, strings_cap;
  struct prelux_table_node *nodes; /* flat list; node number = index + 2 */
  size_t n_nodes, nodes_cap;
  uint32_t *at, at_mask; /* hash of node numbers, 0: free; none while at is NULL */
  size_t looks;          /* nodes compared */
  struct prelux_table_root *roots;
  size_t n_roots;
  struct prelux_table_mapping *mappings;
  struct prelux_table head;
};

/* Offsets are from the start of the strings here; layout() moves them. */
static int add_string(struct build *b, const char *s, size_t len, struct prelux_str *ret)
{
  if (b->strings_len + len + 1 > b->strings_cap)
  {
    size_t cap = (b->strings_cap + len + 1) * 2;
    char *grown = realloc(b->strings, cap);
    if (!grown)
      return -ENOMEM;
    b->strings = grown;
    b->strings_cap = cap;
  }
  memcpy(b->strings + b->strings_len, s, len);
  b->strings[b->strings_len + len] = 0;
  *ret = (struct prelux_str){(uint32_t)b->strings_len, (uint32_t)len};
  b->strings_len += len + 1;
  return 0;
}

static int add_text(struct build *b, const char *s, struct prelux_str *ret)
{
  return add_string(b, s ? s : "", s ? strlen(s) : 0, ret);
}

static uint32_t *children_of(struct build *b, uint32_t node)
{
  return node == 0 ? &b->head.root_children : node == 1 ? &b->head.uri_children : &b->nodes[node - 2].children;
}

static uint32_t *place_of(const struct build *b, const struct prelux_table_node *n)
{
  uint32_t at = prelux_node_home(n->parent, n->hash, b->at_mask);
  while (b->at[at])
    at = (at + 1) & b->at_mask;
  return &b->at[at];
}

/* Room for one node more; the hash is never more than half full. */
static int grow(struct build *b)
{
  if (b->n_nodes < b->nodes_cap)
    return 0;
  size_t cap = b->nodes_cap ? b->nodes_cap * 2 : 64;
  struct prelux_table_node *grown = realloc(b->nodes, cap * sizeof *grown);
  if (!grown)
    return -ENOMEM;
  b->nodes = grown;
  uint32_t *at = calloc(2 * cap, sizeof *at);
  if (!at)
    return -ENOMEM;
  free(b->at);
  b->nodes_cap = cap;
  b->at = at;
  b->at_mask = (uint32_t)(2 * cap - 1);
  for (size_t i = 0; i < b->n_nodes; i++)
    *place_of(b, &b->nodes[i]) = b->nodes[i].node;
  return 0;
}

/* The child of `parent` named so, made when missing. */
static int step(struct build *b, uint32_t parent, const char *name, size_t len, uint32_t *ret)
{
  uint32_t hash = prelux_component_hash(name, len);
  for (uint32_t at = prelux_node_home(parent, hash, b->at_mask); b->at && b->at[at]; at = (at + 1) & b->at_mask)
  {
    const struct prelux_table_node *n = &b->nodes[b->at[at] - 2];
    b->looks++;
    if (n->hash == hash && n->parent == parent && n->name.len == len && memcmp(b->strings + n->name.off, name, len) == 0)
    {
      *ret = n->node;
      return 0;
    }
  }
  if (grow(b) < 0)
    return -ENOMEM;
  struct prelux_table_node *n = &b->nodes[b->n_nodes];
  *n = (struct prelux_table_node){.parent = parent, .node = (uint32_t)b->n_nodes + 2, .hash = hash, .mapping = -1};
  if (add_string(b, name, len, &n->name) < 0)
    return -ENOMEM;
  b->n_nodes++;
  *place_of(b, n) = n->node;
  ++*children_of(b, parent);
  if (parent == 0)
    b->head.first |= 1ull << (hash & 63);
  *ret = n->node;
  return 0;
}

/* Puts mapping number `i` at the node of its prefix. */
static int add_prefix(struct build *b, uint32_t i)
{
  const char *p = b->in->mappings[i].local;
  uint32_t node = p[0] == '/' || p[0] == 0 ? 0 : 1;
  if (node == 1)
    b->head.flags |= PRELUX_TABLE_HAS_URI;
  while (*p == '/')
    p++;
  while (*p)
  {
    const char *end = p;
    while (*end && *end != '/')
      end++;
    if (node >= 2 && b->nodes[node - 2].mapping >= 0 && (b->in->flags & PRELUX_TABLE_FIRST_MATCH))
      return 0; /* never reached, so no listing must show it */
    int ret = step(b, node, p, (size_t)(end - p), &node);
    if (ret < 0)
      return ret;
    for (p = end; *p == '/';)
      p++;
  }
  if (node == 1)
    return -EINVAL;
  int32_t *slot = node == 0 ? &b->head.root_mapping : &b->nodes[node - 2].mapping;
  if (*slot >= 0)
    return b->in->flags & PRELUX_TABLE_FIRST_MATCH ? 0 : -EEXIST; /* a list: the first entry has won */
  *slot = (int32_t)i;
  return 0;
}

static bool folder_is_empty(const char *path)
{
  DIR *d = prelux_os.opendir(path);
  bool empty = true;
  if (!d)
    return errno != EACCES;
  for (struct dirent *e; empty && (e = readdir(d));)
    empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
  closedir(d);
  return empty;
}

/* What stands on disk where the mapping's root is. */
static void look_behind(struct build *b, uint32_t i)
{
  const char *local = b->in->mappings[i].local;
  struct stat st;
  if (local[0] != '/' || prelux_os.stat(local, &st) < 0)
    return;
  if (S_ISDIR(st.st_mode))
    b->roots[b->n_roots++] = (struct prelux_table_root){.dev = st.st_dev, .ino = st.st_ino, .mapping = i};
  if (!S_ISDIR(st.st_mode) || !folder_is_empty(local))
    b->head.flags |= PRELUX_TABLE_COVERED;
}

/* The folder of the mapping's root object in its tree. */
static int add_tree(struct build *b, const struct prelux_build_mapping *m, struct prelux_str *ret)
{
  if (!m->tree || !m->tree[0] || !m->object || !m->object[0])
    return add_text(b, m->tree, ret);
  size_t n = strlen(m->tree) + strlen(m->object) + 2;
  char *path = malloc(n);
  if (!path)
    return -ENOMEM;
  snprintf(path, n, "%s/%s", m->tree, m->object);
  int err = add_text(b, path, ret);
  free(path);
  return err;
}

static int collect_mapping(struct build *b, uint32_t i)
{
  const struct prelux_build_mapping *m = &b->in->mappings[i];
  struct prelux_table_mapping *out = &b->mappings[i];
  *out = (struct prelux_table_mapping){.tree_id = m->tree_id,
                                       .dev = m->dev,
                                       .scratch_dev = m->scratch_dev,
                                       .max_age_ns = m->max_age_ns,
                                       .negative_age_ns = m->negative_age_ns,
                                       .stream_above = m->stream_above,
                                       .freshness = m->freshness,
                                       .flags = m->flags,
                                       .file_mode = m->file_mode,
                                       .dir_mode = m->dir_mode};
  const char *local = strcmp(m->local, "/") == 0 ? "" : m->local;
  if (add_text(b, local, &out->local) < 0 || add_tree(b, m, &out->tree) < 0 ||
      add_text(b, m->object, &out->object) < 0 || add_text(b, m->remote, &out->remote) < 0 ||
      add_text(b, m->staging ? m->staging : "", &out->staging) < 0 || add_text(b, m->scratch ? m->scratch : "", &out->scratch) < 0)
    return -ENOMEM;
  return add_prefix(b, i);
}

static int collect(struct build *b, size_t *ret_clash)
{
  const struct prelux_build *in = b->in;
  for (size_t i = 0; i < in->n_mappings; i++)
  {
    int ret = collect_mapping(b, (uint32_t)i);
    if (ret == -EEXIST && ret_clash)
      *ret_clash = i;
    if (ret < 0)
      return ret;
    look_behind(b, (uint32_t)i);
  }
  if (add_text(b, in->source, &b->head.source) < 0 || add_text(b, in->cwd, &b->head.cwd) < 0 ||
      add_text(b, in->daemon, &b->head.daemon) < 0 || add_text(b, in->runtime, &b->head.runtime) < 0 ||
      add_text(b, in->error, &b->head.error) < 0)
    return -ENOMEM;
  return 0;
}

static void move(struct prelux_str *s, uint32_t by)
{
  s->off += by;
}

static void place_nodes(struct build *b, struct prelux_table *t, uint32_t strings_off)
{
  struct prelux_table_node *slots = (struct prelux_table_node *)((char *)t + t->nodes_off);
  for (size_t i = 0; i < b->n_nodes; i++)
  {
    struct prelux_table_node *n = &b->nodes[i];
    uint32_t at = prelux_node_home(n->parent, n->hash, t->nodes_mask);
    while (slots[at].node != 0)
      at = (at + 1) & t->nodes_mask;
    slots[at] = *n;
    move(&slots[at].name, strings_off);
  }
}

static int layout(struct build *b, struct prelux_table **ret)
{
  const struct prelux_build *in = b->in;
  struct prelux_table *h = &b->head;
  uint32_t slots = 8;
  while (slots < b->n_nodes * 2 + 1)
    slots *= 2;
  size_t mappings_off = sizeof *h;
  size_t roots_off = mappings_off + in->n_mappings * sizeof *b->mappings;
  size_t nodes_off = roots_off + b->n_roots * sizeof *b->roots;
  size_t strings_off = nodes_off + slots * sizeof *b->nodes;
  size_t bytes = strings_off + b->strings_len;
  if (bytes > UINT32_MAX)
    return -E2BIG;
  struct prelux_table *t = calloc(1, bytes);
  if (!t)
    return -ENOMEM;
  h->magic = PRELUX_TABLE_MAGIC;
  h->major = PRELUX_TABLE_MAJOR;
  h->bytes = bytes;
  h->n_mappings = (uint32_t)in->n_mappings;
  h->mappings_off = (uint32_t)mappings_off;
  h->nodes_mask = slots - 1;
  h->nodes_off = (uint32_t)nodes_off;
  h->n_roots = (uint32_t)b->n_roots;
  h->roots_off = (uint32_t)roots_off;
  struct prelux_str *texts[] = {&h->source, &h->cwd, &h->daemon, &h->runtime, &h->error};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    move(texts[i], (uint32_t)strings_off);
  *t = *h;
  for (size_t i = 0; i < in->n_mappings; i++)
  {
    struct prelux_table_mapping *m = &b->mappings[i];
    move(&m->local, (uint32_t)strings_off);
    move(&m->tree, (uint32_t)strings_off);
    move(&m->object, (uint32_t)strings_off);
    move(&m->remote, (uint32_t)strings_off);
    move(&m->staging, (uint32_t)strings_off);
    move(&m->scratch, (uint32_t)strings_off);
  }
  if (in->n_mappings)
    memcpy((char *)t + mappings_off, b->mappings, in->n_mappings * sizeof *b->mappings);
  if (b->n_roots)
    memcpy((char *)t + roots_off, b->roots, b->n_roots * sizeof *b->roots);
  place_nodes(b, t, (uint32_t)strings_off);
  memcpy((char *)t + strings_off, b->strings, b->strings_len);
  size_t hashed = offsetof(struct prelux_table, hash) + sizeof t->hash;
  XXH128_hash_t hash = XXH3_128bits_withSeed((char *)t + hashed, bytes - hashed, t->flags); /* flags lie before it */
  memcpy(t->hash, &hash.low64, 8);
  memcpy(t->hash + 8, &hash.high64, 8);
  *ret = t;
  return 0;
}

int prelux_table_build(const struct prelux_build *in, struct prelux_table **ret, size_t *ret_clash)
{
  struct build b = {.in = in};
  b.head.root_mapping = -1;
  b.head.flags = in->flags;
  b.head.uid = in->uid;
  b.head.gid = in->gid;
  b.head.daemon_timeout_ms = in->daemon_timeout_ms;
  memcpy(b.head.credentials, in->credentials, sizeof b.head.credentials);
  b.mappings = calloc(in->n_mappings + 1, sizeof *b.mappings);
  b.roots = calloc(in->n_mappings + 1, sizeof *b.roots);
  int result = b.mappings && b.roots ? collect(&b, ret_clash) : -ENOMEM;
  if (result == 0)
    result = layout(&b, ret);
  free(b.mappings);
  free(b.roots);
  free(b.nodes);
  free(b.at);
  free(b.strings);
  if (in->ret_looks)
    *in->ret_looks = b.looks;
  return result;
}
