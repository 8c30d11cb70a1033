/* Blocks that live and die with a configuration, so that no error path can leak. Wiped at the end: they hold secrets. */
#include <stdlib.h>
#include <string.h>

#include "lib/conf/internal.h"

struct block {
  struct block *next;
  size_t used, bytes;
  _Alignas(16) char data[];
};

struct prelux_conf_memory {
  struct block *blocks;
};

struct prelux_conf_memory *prelux_conf_memory_create(void)
{
  return calloc(1, sizeof(struct prelux_conf_memory));
}

void prelux_conf_memory_free(struct prelux_conf_memory *m)
{
  if (!m)
    return;
  for (struct block *b = m->blocks, *next; b; b = next)
  {
    next = b->next;
    explicit_bzero(b->data, b->used);
    free(b);
  }
  free(m);
}

void *prelux_conf_alloc(struct prelux_conf_memory *m, size_t bytes)
{
  struct block *b = m->blocks;
  if (bytes > SIZE_MAX / 2)
    return NULL;
  bytes = (bytes + 15) & ~(size_t)15;
  if (!b || b->bytes - b->used < bytes)
  {
    size_t room = bytes > 4096 ? bytes : 4096;
    b = calloc(1, sizeof *b + room);
    if (!b)
      return NULL;
    b->bytes = room;
    b->next = m->blocks;
    m->blocks = b;
  }
  void *p = b->data + b->used;
  b->used += bytes;
  return p;
}

char *prelux_conf_dup(struct prelux_conf_memory *m, const char *s, size_t len)
{
  char *p = prelux_conf_alloc(m, len + 1);
  if (p)
    memcpy(p, s, len);
  return p;
}
