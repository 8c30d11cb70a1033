/* A short answer on a connection of its own, asked for and taken by the calling thread itself.
 *
 * Theory of operation. What the engine gives such a transfer, other connections to share a thread with, it has no use for; and handing it over and
 * getting it back wakes two threads, which costs more than all else that is done for 64 KiB. So the caller runs it with a multi handle of its own, out of
 * a few that are kept; the sink gets the bytes as curl brings them, without a buffer in between. `cancel` and the engine's end are looked at five times
 * a second. When so many run already, the engine does it: its limits for an origin are the ones that count. */
#include <errno.h>

#include "lib/net/engine.h"

#define LOOK_MS 200

bool prelux_net_here_fits(const struct prelux_net_request *req)
{
  return req->lone && req->sink && !req->target && !req->upload && req->max_body && req->max_body <= PRELUX_NET_HERE_MAX;
}

/* NULL: as many run as may. */
static CURLM *take(struct prelux_net *net)
{
  CURLM *ret = NULL;
  pthread_mutex_lock(&net->lock);
  bool room = net->here < PRELUX_NET_HERE;
  net->here += room;
  if (room && net->n_multis)
    ret = net->multis[--net->n_multis];
  pthread_mutex_unlock(&net->lock);
  if (ret || !room || (ret = curl_multi_init()))
    return ret;
  pthread_mutex_lock(&net->lock);
  net->here--;
  pthread_mutex_unlock(&net->lock);
  return NULL;
}

static void give_back(struct prelux_net *net, CURLM *multi)
{
  pthread_mutex_lock(&net->lock);
  net->here--;
  net->multis[net->n_multis++] = multi; /* there is room: as many as run at once */
  pthread_mutex_unlock(&net->lock);
}

static bool given_up(struct prelux_net *net, const struct prelux_net_request *req)
{
  pthread_mutex_lock(&net->lock);
  bool ending = net->ending;
  pthread_mutex_unlock(&net->lock);
  return ending || (req->cancel && atomic_load(req->cancel));
}

size_t prelux_net_here_body(struct prelux_net_transfer *t, const char *data, size_t n)
{
  t->received += n;
  t->sunk = true;
  t->sink_rc = t->req->sink(t->req->arg, t->answer, data, n);
  return t->sink_rc < 0 ? 0 : n;
}

static void run(struct prelux_net *net, CURLM *multi, struct prelux_net_transfer *t)
{
  const CURLMsg *msg;
  int running = 1, left;
  t->result = CURLE_ABORTED_BY_CALLBACK;
  while (curl_multi_perform(multi, &running) == CURLM_OK && running)
  {
    if (given_up(net, t->req))
    {
      t->err = -ECANCELED;
      t->err_text = "given up";
      return;
    }
    curl_multi_poll(multi, NULL, 0, LOOK_MS, NULL);
  }
  while ((msg = curl_multi_info_read(multi, &left)))
    if (msg->msg == CURLMSG_DONE)
      t->result = msg->data.result;
}

int prelux_net_here(struct prelux_net *net, struct prelux_net_transfer *t)
{
  CURLM *multi = prelux_net_here_fits(t->req) ? take(net) : NULL;
  if (!multi)
    return -EAGAIN;
  t->here = true;
  if (prelux_net_set_up(t) < 0 || curl_multi_add_handle(multi, t->easy) != CURLM_OK)
  {
    t->err = -ENOMEM;
    t->err_text = "no memory for a transfer";
  }
  else
  {
    run(net, multi, t);
    curl_multi_remove_handle(multi, t->easy);
  }
  give_back(net, multi);
  return t->sink_rc;
}
