/* Shared by the matcher and the builder of tables: where the probe for a trie child begins. */
#ifndef PRELUX_MAP_NODE_H
#define PRELUX_MAP_NODE_H

#include <stdint.h>

static inline uint32_t prelux_node_home(uint32_t parent, uint32_t hash, uint32_t mask)
{
  return (parent * 0x9e3779b1u ^ hash) & mask;
}

#endif
