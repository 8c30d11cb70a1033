/* The keys of one YAML map, as pairs of a name and a node. */
#include "lib/conf/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MERGES_MAX 16 /* `<<` in `<<`: an anchor may hold itself */

const struct prelux_conf_pair *prelux_conf_map_find(const struct prelux_conf_map *m, const char *name)
{
  for (size_t i = 0; i < m->n; i++)
    if (strcmp(m->pairs[i].name, name) == 0)
      return &m->pairs[i];
  return NULL;
}

static int add(struct prelux_conf_map *m, struct prelux_conf_pair pair)
{
  if (m->n == m->cap)
  {
    size_t cap = m->cap ? m->cap * 2 : 16;
    struct prelux_conf_pair *grown = realloc(m->pairs, cap * sizeof *grown);
    if (!grown)
      return -ENOMEM;
    m->pairs = grown;
    m->cap = cap;
  }
  m->pairs[m->n++] = pair;
  return 0;
}

/* A key written in the map itself. */
static int take(struct prelux_conf_loader *l, struct prelux_conf_doc *d, struct prelux_conf_map *m, struct prelux_conf_pair pair)
{
  char q[PRELUX_CONF_QUOTED];
  struct prelux_conf_pair *old = (struct prelux_conf_pair *)prelux_conf_map_find(m, pair.name);
  if (!old)
    return add(m, pair);
  if (d->last_wins)
  {
    *old = pair;
    return 0;
  }
  prelux_conf_complain(l, prelux_conf_doc_at(d, pair.key), "the key %s is given twice, first in line %zu",
                       prelux_conf_quote(q, pair.name), old->key->start_mark.line + 1);
  return -EINVAL;
}

static int merge(struct prelux_conf_loader *l, struct prelux_conf_doc *d, struct prelux_conf_map *m, yaml_node_t *from, int depth);

/* First the keys written here, then those of each `<<`: what is there already wins. `top`: pairs not from a merge. */
static int collect(struct prelux_conf_loader *l, struct prelux_conf_doc *d, struct prelux_conf_map *m, yaml_node_t *n, int depth)
{
  int bad = 0;
  for (int round = 0; round < 2; round++)
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++)
    {
      struct prelux_conf_pair pair = {.key = prelux_conf_doc_node(d, p->key), .value = prelux_conf_doc_node(d, p->value)};
      int err = prelux_conf_visit(l, d, pair.key);
      if (err < 0)
        return err;
      bool merges = pair.key->type == YAML_SCALAR_NODE && pair.key->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                    strcmp((char *)pair.key->data.scalar.value, "<<") == 0;
      if (round == 1)
        err = merges ? merge(l, d, m, pair.value, depth) : 0;
      else if (!merges)
      {
        pair.name = prelux_conf_scalar(l, d, pair.key, "key", "a word");
        if (!pair.name)
          err = -EINVAL;
        else if (m->n >= PRELUX_CONF_KEYS_MAX)
        {
          prelux_conf_complain(l, prelux_conf_doc_at(d, pair.key), "too many keys in one map (4096 at most)");
          return -EINVAL;
        }
        else if (depth == 0)
          err = take(l, d, m, pair);
        else if (!prelux_conf_map_find(m, pair.name))
          err = add(m, pair);
      }
      if (err == -ENOMEM)
        return err;
      bad = err < 0 ? err : bad;
    }
  return bad;
}

static int merge(struct prelux_conf_loader *l, struct prelux_conf_doc *d, struct prelux_conf_map *m, yaml_node_t *from, int depth)
{
  int bad = 0;
  if (from->type == YAML_MAPPING_NODE && depth < MERGES_MAX)
    return collect(l, d, m, from, depth + 1);
  if (from->type != YAML_SEQUENCE_NODE || depth >= MERGES_MAX)
  {
    prelux_conf_complain(l, prelux_conf_doc_at(d, from), depth < MERGES_MAX ? "`<<` wants a map or a list of maps"
                                                                            : "`<<` is nested too deeply");
    return -EINVAL;
  }
  for (yaml_node_item_t *i = from->data.sequence.items.start; i < from->data.sequence.items.top; i++)
  {
    yaml_node_t *item = prelux_conf_doc_node(d, *i);
    int err = prelux_conf_visit(l, d, item);
    if (err == 0)
      err = merge(l, d, m, item, depth + 1);
    if (err < 0 && (err == -ENOMEM || d->spent))
      return err;
    bad = err < 0 ? err : bad;
  }
  return bad;
}

int prelux_conf_map_open(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n, struct prelux_conf_map *ret)
{
  *ret = (struct prelux_conf_map){0};
  return collect(l, d, ret, n, 0);
}

void prelux_conf_map_close(struct prelux_conf_map *m)
{
  free(m->pairs);
  *m = (struct prelux_conf_map){0};
}
