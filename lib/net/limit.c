/* One backend's share of an engine (`max_connections`): who has no turn waits in his own thread before he makes a transfer; the engine's own limits
 * hold beside it. One turn of several is kept for answers without a sink, so that stat does not wait behind large reads. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "lib/net/engine.h"

#define LOOK_MS 200 /* how often `cancel` and the engine's end are looked at */

int prelux_net_limited(struct prelux_net *net, unsigned most, struct prelux_net **ret)
{
  struct prelux_net *share = calloc(1, sizeof(*share));
  if (!share)
    return -ENOMEM;
  pthread_mutex_init(&share->lock, NULL);
  pthread_cond_init(&share->changed, NULL);
  share->whole = net;
  share->most = most;
  *ret = share;
  return 0;
}

void prelux_net_limited_free(struct prelux_net *share)
{
  if (!share)
    return;
  pthread_cond_destroy(&share->changed);
  pthread_mutex_destroy(&share->lock);
  free(share);
}

static bool has_room(const struct prelux_net *share, bool large)
{
  return share->now < share->most && (!large || share->most == 1 || share->large < share->most - 1);
}

static bool over(struct prelux_net *net, const struct prelux_net_request *req)
{
  pthread_mutex_lock(&net->lock);
  bool ending = net->ending;
  pthread_mutex_unlock(&net->lock);
  return ending || (req->cancel && atomic_load(req->cancel));
}

int prelux_net_turn_take(struct prelux_net *share, const struct prelux_net_request *req)
{
  bool large = req->sink || req->upload;
  int rc = 0;
  if (!share)
    return 0;
  pthread_mutex_lock(&share->lock);
  while (!has_room(share, large) && rc == 0)
  {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&share->changed, &share->lock, &until);
    rc = over(share->whole, req) ? -ECANCELED : 0;
  }
  share->now += rc == 0;
  share->large += rc == 0 && large;
  pthread_mutex_unlock(&share->lock);
  return rc;
}

void prelux_net_turn_give(struct prelux_net *share, const struct prelux_net_request *req)
{
  if (!share)
    return;
  pthread_mutex_lock(&share->lock);
  share->now--;
  share->large -= req->sink || req->upload;
  pthread_cond_broadcast(&share->changed);
  pthread_mutex_unlock(&share->lock);
}
