/* Backend `alluxio-proxy`, writing: folders are renamed between puts, not under them.
 *
 * A put has a stream open on a hidden name, and Alluxio finds out by path where the bytes go when it is closed: a folder that was renamed
 * meanwhile comes to life again in the under store, with the hidden file in it, or the put fails and its hidden file stays behind in the folder's new
 * place. So whoever renames a folder waits for what is under way below it, and what comes later waits for him: it then finds that its
 * folder is gone. Others of this node only; what other nodes leave behind is found by `clean`.
 *
 * One who works in a place waits before he has it, for all of his paths at once, and a renamer waits for workers only: nobody waits in
 * a circle. */
#include <string.h>

#include "lib/backend/alluxio_proxy.h"

static bool covers(const char *folder, const char *path)
{
  size_t len = strlen(folder);
  return path && strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == 0);
}

static bool meet(const struct prelux_proxy_turn *folder, const struct prelux_proxy_turn *work)
{
  for (int i = 0; i < 2; i++)
    if (folder->paths[i] && (covers(folder->paths[i], work->paths[0]) || covers(folder->paths[i], work->paths[1])))
      return true;
  return false;
}

static bool in_the_way(const struct prelux_proxy *p, const struct prelux_proxy_turn *t)
{
  for (const struct prelux_proxy_turn *o = p->turns; o; o = o->next)
    if (o->folder != t->folder && meet(o->folder ? o : t, o->folder ? t : o))
      return true;
  return false;
}

void prelux_proxy_turn_begin(struct prelux_proxy *p, struct prelux_proxy_turn *t)
{
  pthread_mutex_lock(&p->lock);
  while (!t->folder && in_the_way(p, t))
    pthread_cond_wait(&p->changed, &p->lock);
  t->next = p->turns;
  p->turns = t;
  while (t->folder && in_the_way(p, t)) /* in the list already: nobody comes in between */
    pthread_cond_wait(&p->changed, &p->lock);
  pthread_mutex_unlock(&p->lock);
}

void prelux_proxy_turn_end(struct prelux_proxy *p, struct prelux_proxy_turn *t)
{
  pthread_mutex_lock(&p->lock);
  struct prelux_proxy_turn **at = &p->turns;
  while (*at != t)
    at = &(*at)->next;
  *at = t->next;
  pthread_cond_broadcast(&p->changed);
  pthread_mutex_unlock(&p->lock);
}
