/* Uploads in parts that nobody will complete, and that the remote may still have: the file goes under another name, or nowhere, or the remote was away
 * when its upload was to be given up. They are aborted by the thread of stage_grower.c, again and again as long as the remote cannot be reached.
 *
 * What a daemon has here when it ends stays on the remote, but for what rows name, until clean() or the store's own rules remove it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/stage.h"

struct prelux_lost
{
  struct prelux_lost *next;
  struct prelux_tree *tree;
  char *path;
  char token[PRELUX_TOKEN_MAX];
  uint64_t due_ns; /* CLOCK_MONOTONIC */
  uint64_t pause_ns; /* after the next failure */
};

static void lost_free(struct prelux_lost *l)
{
  free(l->path);
  free(l);
}

void prelux_lost_put(struct prelux_stage *g, struct prelux_tree *t, const char *path, const char *token)
{
  struct prelux_lost *l = g->grower.ending ? NULL : calloc(1, sizeof *l);
  if (!l)
    return;
  *l = (struct prelux_lost){.next = g->grower.lost, .tree = t, .path = strdup(path), .pause_ns = PRELUX_SEND_RETRY_NS};
  snprintf(l->token, sizeof l->token, "%s", token);
  if (!l->path)
  {
    lost_free(l);
    return;
  }
  g->grower.lost = l;
  prelux_grow_wake(g);
}

void prelux_lost_add(struct prelux_stage *g, struct prelux_tree *t, const char *path, const char *token)
{
  pthread_mutex_lock(&g->lock);
  prelux_lost_put(g, t, path, token);
  pthread_mutex_unlock(&g->lock);
}

void prelux_lost_row(struct prelux_stage *g, const struct prelux_dirty *d)
{
  if (!d->grow && d->row.upload && d->row.path)
    prelux_lost_put(g, d->tree, d->row.path, d->row.upload);
}

/* One that is due, out of the list; NULL: none is. */
static struct prelux_lost *take_due(struct prelux_stage *g, uint64_t now_ns)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_lost **at = &g->grower.lost, *l;
  while ((l = g->grower.ending ? NULL : *at) && l->due_ns > now_ns)
    at = &l->next;
  if (l)
    *at = l->next;
  pthread_mutex_unlock(&g->lock);
  return l;
}

static void back(struct prelux_stage *g, struct prelux_lost *l)
{
  l->due_ns = prelux_store_now() + l->pause_ns;
  l->pause_ns = l->pause_ns * 2 < PRELUX_SEND_RETRY_MAX_NS ? l->pause_ns * 2 : PRELUX_SEND_RETRY_MAX_NS;
  pthread_mutex_lock(&g->lock);
  l->next = g->grower.lost;
  g->grower.lost = l;
  pthread_mutex_unlock(&g->lock);
}

void prelux_lost_round(struct prelux_stage *g)
{
  struct prelux_lost *l;
  uint64_t now_ns = prelux_store_now();
  while ((l = take_due(g, now_ns)))
  {
    struct prelux_backend *b = l->tree->backend;
    int rc = b->ops->write->abort ? b->ops->write->abort(b, l->path, l->token, NULL) : 0;
    if (rc < 0 && !prelux_stage_final(rc))
      back(g, l);
    else
      lost_free(l);
  }
}

void prelux_lost_forget(struct prelux_stage *g)
{
  for (struct prelux_lost *l = g->grower.lost, *next; l; l = next)
  {
    next = l->next;
    lost_free(l);
  }
  g->grower.lost = NULL;
}
