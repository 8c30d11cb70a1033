/* Listings with the files that are being written. */
#include <stdlib.h>
#include <string.h>

#include "lib/store/mix.h"
#include "lib/store/stage.h"

/* The names of dirty files whose folder this is. */
static int collect(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m)
{
  size_t len = strlen(folder);
  int rc = 0;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots && rc == 0; i++)
    for (const struct prelux_dirty *d = g->by_path[i]; d && rc == 0; d = d->by_path)
    {
      const char *path = d->row.path;
      if (d->tree == t && prelux_object_parent(path, strlen(path)) == len && memcmp(path, folder, len) == 0 && (len == 0 || path[len] == '/'))
        rc = prelux_mix_add(m, path + len + (len > 0), NULL);
    }
  pthread_mutex_unlock(&g->lock);
  return rc;
}

/* Attributes as they are now; a file that was sent meanwhile is the remote's again. */
static void look(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  size_t len = strlen(folder), n = 0;
  memcpy(path, folder, len);
  if (len)
    path[len++] = '/';
  for (size_t i = 0; i < m->n; i++)
  {
    struct prelux_mix_name *o = &m->list[i];
    memcpy(path + len, o->name, o->len + 1);
    if (prelux_stage_known(g, t, path, &o->known))
      m->list[n++] = *o;
    else
      free(o->name);
  }
  m->n = n;
}

int prelux_stage_names(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m)
{
  if (g->count == 0)
    return 0;
  int rc = collect(g, t, folder, m);
  if (rc == 0)
    look(g, t, folder, m);
  return rc;
}
