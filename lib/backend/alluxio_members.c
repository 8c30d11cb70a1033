#include "lib/backend/alluxio_members.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/alluxio_roster.h"
#include "lib/backend/alluxio_view.h"
#include "lib/base/log.h"

#define AGAIN_MS 1000        /* nobody is asked more often than that */
#define EMPTY_BELIEVED 3     /* "nobody is registered", after there were some, is believed the third time: an etcd that comes back
                              * with an empty disk knows nobody until the workers have noticed */
#define RETURN_MS 15000      /* etcd has been silent: so long a worker that it lost, and that answers, may take to register again */
#define UNSEEN_MS 5000       /* the same when we have not asked for longer than a lease lives, so that it may have been silent */
#define LEASE_MS 2000        /* the shortest there are (PROTOCOLS 2D.1) */
#define SLOW_MS 1000         /* an answer that took so long is one of an etcd that was silent */
#define ALIASES_MAX 256
#define ALIAS_MS 60000

/* What a host's name resolves to. */
struct alias
{
  char host[256];
  int64_t at_ms;
  struct prelux_alluxio_addresses addresses;
};

struct prelux_alluxio_members
{
  const struct prelux_alluxio_options *options;
  struct prelux_alluxio_health *health;
  struct prelux_net *net;
  struct prelux_alluxio_etcd etcd; /* the thread's */
  atomic_bool stop;
  int64_t asked_ms;           /* the thread's, as are the next two: when the last attempt began */
  int64_t silent_ms;          /* when etcd was heard again, or slowly; 0: it has always been well */
  int64_t absent_until_ms;    /* workers it lost, and that answer, stay until then; 0: nobody is missing */

  pthread_mutex_t lock; /* guards the rest */
  pthread_cond_t changed;
  pthread_t thread;
  bool started, asking, stirred;
  struct prelux_alluxio_view *view;
  uint64_t generation;
  int64_t learned_ms;            /* last time somebody told us; 0: never */
  int64_t ended_ms;              /* of the last attempt */
  unsigned failures, empties;    /* in a row */
  size_t absent;                 /* workers of the view that etcd tells nothing of, and that answer */
  int64_t failed_ms;
  struct prelux_problem problem; /* of the last attempt, when it failed */
  struct alias *aliases;
  size_t n_aliases;
};

static const char *const sources[] = {[PRELUX_ALLUXIO_ETCD] = "etcd", [PRELUX_ALLUXIO_LIST] = "list", [PRELUX_ALLUXIO_DNS] = "dns"};
static const char *const trusts[] = {
    [PRELUX_ALLUXIO_RING_KNOWN] = "known", [PRELUX_ALLUXIO_RING_LIKELY] = "likely", [PRELUX_ALLUXIO_RING_GUESSED] = "guessed"};

/* Publishing. Lock held. */

static void take_view(struct prelux_alluxio_members *m, struct prelux_alluxio_view *fresh)
{
  struct prelux_alluxio_view *old = m->view;
  char changes[512];
  fresh->generation = ++m->generation;
  fresh->born_ms = old ? prelux_alluxio_clock_ms() : 0;
  m->view = fresh;
  if (!old)
  {
    prelux_info("backend %s: %zu workers from %s", m->options->name, fresh->n, sources[m->options->membership]);
    return;
  }
  prelux_alluxio_view_reborn(old, fresh);
  prelux_alluxio_view_inherit(fresh, old, m->health);
  prelux_alluxio_view_changes(old, fresh, changes, sizeof changes);
  prelux_info("backend %s: %zu workers now: %s", m->options->name, fresh->n, changes[0] ? changes : "some have registered anew");
  prelux_alluxio_view_put(old);
}

static void learn(struct prelux_alluxio_members *m, struct prelux_alluxio_view *fresh)
{
  m->learned_ms = prelux_alluxio_clock_ms();
  m->empties = fresh->n ? 0 : m->empties + 1;
  bool doubted = fresh->n == 0 && m->view && m->view->n && m->empties < EMPTY_BELIEVED;
  if (!doubted && (!m->view || !prelux_alluxio_view_same(m->view, fresh)))
    take_view(m, fresh);
  else
    prelux_alluxio_view_put(fresh);
}

static void note_failure(struct prelux_alluxio_members *m, const struct prelux_problem *why)
{
  m->failed_ms = prelux_alluxio_clock_ms();
  m->problem = *why;
  if (m->failures++ > 0)
    return;
  if (m->view)
    prelux_warn("backend %s: %s; the last %zu workers stay", m->options->name, why->text, m->view->n);
  else
    prelux_warn("backend %s: %s", m->options->name, why->text);
}

/* Asking. No lock. */

static int ask_dns(struct prelux_alluxio_members *m, struct prelux_alluxio_roster *ret, struct prelux_problem *why)
{
  struct prelux_alluxio_addresses found = {0};
  struct prelux_alluxio_identity id;
  struct prelux_problem cause = {0};
  *ret = (struct prelux_alluxio_roster){0};
  int err = prelux_alluxio_resolve(m->options->places[0], &m->stop, &found, &cause);
  if (err < 0)
    return prelux_problem(why, -err, "membership from DNS: %.400s", cause.text);
  for (size_t i = 0; i < found.n && err == 0; i++)
  {
    const char *host = found.text[i];
    if ((err = prelux_alluxio_identity_of_host(host, &id)) == 0)
      err = prelux_alluxio_roster_add(ret, host, strlen(host), m->options->http_port, &id, 0);
  }
  prelux_alluxio_addresses_release(&found);
  return err < 0 ? prelux_problem(why, -err, "membership from DNS: %s", strerror(-err)) : 0;
}

/* Between two looks etcd may be silent unseen where they are further apart than a lease lives. */
static int64_t unseen_ms(const struct prelux_alluxio_members *m)
{
  int64_t half = m->options->refresh_ms / 2;
  return m->options->membership != PRELUX_ALLUXIO_ETCD || m->options->refresh_ms <= LEASE_MS ? 0 : half < UNSEEN_MS ? half : UNSEEN_MS;
}

/* Whom etcd has lost and who is there (alluxio_absent.c): for how long is it not believed? The view and failures are changed by this
 * thread alone, so it may look at them without the lock. */
static int keep_absent(struct prelux_alluxio_members *m, struct prelux_alluxio_roster *roster, size_t *ret_kept)
{
  int64_t now = prelux_alluxio_clock_ms();
  size_t missing = prelux_alluxio_absent_count(m->view, roster);
  *ret_kept = 0;
  if (m->failures || now - m->asked_ms >= SLOW_MS)
    m->silent_ms = now;
  if (m->failures || !missing)
    m->absent_until_ms = 0; /* what it said before the silence does not count */
  if (!missing)
    return 0;
  if (!m->absent_until_ms)
    m->absent_until_ms = now + (m->silent_ms && now - m->silent_ms < RETURN_MS ? RETURN_MS : unseen_ms(m));
  return now < m->absent_until_ms ? prelux_alluxio_absent_keep(m->net, m->view, &m->stop, roster, ret_kept) : 0;
}

static int ask(struct prelux_alluxio_members *m, struct prelux_alluxio_view **ret, size_t *ret_absent, struct prelux_problem *why)
{
  static const enum prelux_alluxio_trust worth[] = {[PRELUX_ALLUXIO_ETCD] = PRELUX_ALLUXIO_RING_KNOWN,
                                                    [PRELUX_ALLUXIO_LIST] = PRELUX_ALLUXIO_RING_LIKELY,
                                                    [PRELUX_ALLUXIO_DNS] = PRELUX_ALLUXIO_RING_GUESSED};
  enum prelux_alluxio_membership how = m->options->membership;
  struct prelux_alluxio_roster roster = {0};
  int err = how == PRELUX_ALLUXIO_ETCD   ? prelux_alluxio_etcd_fetch(&m->etcd, &roster, why)
            : how == PRELUX_ALLUXIO_LIST ? prelux_alluxio_roster_list(m->options, &roster)
                                         : ask_dns(m, &roster, why);
  *ret_absent = 0;
  if (err == 0 && how == PRELUX_ALLUXIO_ETCD && (err = keep_absent(m, &roster, ret_absent)) < 0)
    prelux_problem(why, -err, "membership: %s", strerror(-err));
  if (err == 0 && (err = prelux_alluxio_view_make(m->options, m->health, worth[how], &roster, ret)) < 0)
    prelux_problem(why, -err, "membership: %s", strerror(-err));
  prelux_alluxio_roster_release(&roster);
  return err;
}

static void note_absent(struct prelux_alluxio_members *m, size_t n)
{
  if (n && !m->absent)
    prelux_warn("backend %s: etcd has lost %zu workers that answer: they stay until they have registered again, or for %lld s",
                m->options->name, n, (long long)(m->absent_until_ms - prelux_alluxio_clock_ms() + 999) / 1000);
  m->absent = n;
  m->stirred |= n > 0;
}

/* One attempt. Lock held, released meanwhile. */
static void attempt(struct prelux_alluxio_members *m)
{
  struct prelux_alluxio_view *fresh = NULL;
  struct prelux_problem why = {0};
  size_t absent;
  m->asking = true;
  m->stirred = false;
  pthread_mutex_unlock(&m->lock);
  m->asked_ms = prelux_alluxio_clock_ms();
  int err = ask(m, &fresh, &absent, &why);
  pthread_mutex_lock(&m->lock);
  m->asking = false;
  m->ended_ms = prelux_alluxio_clock_ms();
  if (atomic_load(&m->stop))
    prelux_alluxio_view_put(fresh);
  else if (err < 0)
    note_failure(m, &why);
  else
  {
    if (m->failures)
      prelux_info("backend %s: membership from %s is known again", m->options->name, sources[m->options->membership]);
    m->failures = 0;
    m->problem = (struct prelux_problem){0};
    note_absent(m, absent);
    learn(m, fresh);
  }
  pthread_cond_broadcast(&m->changed);
}

static int64_t pause_ms(const struct prelux_alluxio_members *m)
{
  int64_t ms = AGAIN_MS << (m->failures > 10 ? 9 : m->failures ? m->failures - 1 : 0);
  int64_t longest = m->options->refresh_ms - unseen_ms(m); /* so that a removal counts within the refresh, doubts and all */
  return m->failures == 0 || ms > longest ? longest : ms;
}

static void wait_until(struct prelux_alluxio_members *m, int64_t at_ms)
{
  const struct timespec at = {.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000};
  pthread_cond_timedwait(&m->changed, &m->lock, &at);
}

static void *run(void *arg)
{
  struct prelux_alluxio_members *m = arg;
  pthread_mutex_lock(&m->lock);
  while (!atomic_load(&m->stop))
  {
    attempt(m);
    int64_t due = m->ended_ms + pause_ms(m), soon = m->ended_ms + AGAIN_MS;
    for (int64_t until; !atomic_load(&m->stop);)
    {
      until = m->stirred && soon < due ? soon : due;
      if (prelux_alluxio_clock_ms() >= until)
        break;
      wait_until(m, until);
    }
  }
  pthread_mutex_unlock(&m->lock);
  return NULL;
}

/* Lock held. */
static int start(struct prelux_alluxio_members *m)
{
  sigset_t all, old;
  if (m->started || m->options->membership == PRELUX_ALLUXIO_LIST)
    return 0;
  sigfillset(&all); /* signals are the main thread's */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&m->thread, NULL, run, m);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  m->started = rc == 0;
  return -rc;
}

int prelux_alluxio_members_create(const struct prelux_alluxio_options *options, struct prelux_alluxio_health *health,
                                  struct prelux_net *net, struct prelux_alluxio_members **ret, struct prelux_problem *why)
{
  struct prelux_alluxio_members *m = calloc(1, sizeof *m);
  pthread_condattr_t attr;
  int err = 0;
  if (!m)
    return prelux_problem(why, ENOMEM, "backend %s: no memory", options->name);
  m->options = options;
  m->health = health;
  m->net = net;
  m->etcd = (struct prelux_alluxio_etcd){.options = options, .net = net, .stop = &m->stop};
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&m->changed, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&m->lock, NULL);
  size_t absent;
  if (options->membership == PRELUX_ALLUXIO_LIST && (err = ask(m, &m->view, &absent, why)) == 0)
  {
    m->view->generation = ++m->generation;
    m->learned_ms = prelux_alluxio_clock_ms();
  }
  if (err < 0)
  {
    prelux_alluxio_members_free(m);
    return why && !why->text[0] ? prelux_problem(why, EINVAL, "backend %s: workers: no list of hosts", options->name) : err;
  }
  *ret = m;
  return 0;
}

void prelux_alluxio_members_free(struct prelux_alluxio_members *m)
{
  if (!m)
    return;
  pthread_mutex_lock(&m->lock);
  atomic_store(&m->stop, true);
  pthread_cond_broadcast(&m->changed);
  pthread_mutex_unlock(&m->lock);
  if (m->started)
    pthread_join(m->thread, NULL);
  prelux_alluxio_view_put(m->view);
  prelux_alluxio_etcd_release(&m->etcd);
  for (size_t i = 0; i < m->n_aliases; i++)
    prelux_alluxio_addresses_release(&m->aliases[i].addresses);
  free(m->aliases);
  pthread_cond_destroy(&m->changed);
  pthread_mutex_destroy(&m->lock);
  free(m);
}

/* Until the first view is there, an attempt that has just failed, or the time is over. Lock held. */
static void wait_first(struct prelux_alluxio_members *m)
{
  int64_t now = prelux_alluxio_clock_ms(), until = now + PRELUX_ALLUXIO_FIRST_WAIT_MS;
  if (!m->asking && m->ended_ms && now - m->ended_ms >= AGAIN_MS)
  {
    m->stirred = true;
    pthread_cond_broadcast(&m->changed);
  }
  while (!m->view && (m->asking || m->stirred || !m->ended_ms) && prelux_alluxio_clock_ms() < until)
    wait_until(m, until);
}

int prelux_alluxio_view_get(struct prelux_alluxio_members *m, const struct prelux_alluxio_view **ret, struct prelux_problem *why)
{
  pthread_mutex_lock(&m->lock);
  int err = start(m);
  if (!m->view && err == 0)
    wait_first(m);
  if (m->view)
  {
    *ret = prelux_alluxio_view_hold(m->view);
    err = 0;
  }
  else if (err < 0)
    err = prelux_problem(why, EIO, "backend %s: no thread for the membership: %s", m->options->name, strerror(-err));
  else
  {
    const char *text = m->problem.text;
    err = prelux_problem(why, EIO, "backend %s: %s%.380s", m->options->name, text[0] ? "" : sources[m->options->membership],
                         text[0] ? text : ": no answer yet who the workers are");
    if (why)
      memcpy(why->advice, m->problem.advice, sizeof why->advice);
  }
  pthread_mutex_unlock(&m->lock);
  return err;
}

bool prelux_alluxio_members_known(struct prelux_alluxio_members *m)
{
  pthread_mutex_lock(&m->lock);
  bool known = m->view && (m->view->n || m->generation > 1);
  pthread_mutex_unlock(&m->lock);
  return known;
}

void prelux_alluxio_members_stir(struct prelux_alluxio_members *m)
{
  pthread_mutex_lock(&m->lock);
  if (!m->asking)
  {
    m->stirred = true;
    pthread_cond_broadcast(&m->changed);
  }
  pthread_mutex_unlock(&m->lock);
}

/* Redirects. */

static void without_brackets(const char **host, size_t *len)
{
  if (*len > 2 && (*host)[0] == '[' && (*host)[*len - 1] == ']')
  {
    *host += 1;
    *len -= 2;
  }
}

static bool is_at(const struct prelux_alluxio_worker *w, const char *host, size_t len, unsigned s3_port)
{
  const char *own = w->host;
  size_t own_len = strlen(own);
  without_brackets(&own, &own_len);
  return w->s3_port == s3_port && own_len == len && strncasecmp(own, host, len) == 0;
}

/* A member, or else one that was a member a moment ago. */
static const struct prelux_alluxio_worker *by_name(const struct prelux_alluxio_view *v, const char *host, size_t len, unsigned s3_port)
{
  const struct prelux_alluxio_worker *gone;
  without_brackets(&host, &len);
  for (size_t i = 0; i < v->n; i++)
    if (is_at(&v->workers[i], host, len, s3_port))
      return &v->workers[i];
  for (size_t i = 0; prelux_alluxio_view_gone(v, i, &gone); i++)
    if (gone && is_at(gone, host, len, s3_port))
      return gone;
  return NULL;
}

/* Copies out what the name resolves to; looks it up where that is not known or old. */
static int addresses_of(struct prelux_alluxio_members *m, const char *host, struct prelux_alluxio_addresses *ret)
{
  struct prelux_alluxio_addresses found = {0};
  int64_t now = prelux_alluxio_clock_ms();
  size_t i = 0;
  pthread_mutex_lock(&m->lock);
  while (i < m->n_aliases && strcasecmp(m->aliases[i].host, host) != 0)
    i++;
  bool known = i < m->n_aliases && now - m->aliases[i].at_ms < ALIAS_MS;
  pthread_mutex_unlock(&m->lock);
  if (!known)
    prelux_alluxio_resolve(host, NULL, &found, NULL); /* that there is no answer is remembered as well */
  pthread_mutex_lock(&m->lock);
  for (i = 0; i < m->n_aliases && strcasecmp(m->aliases[i].host, host) != 0;)
    i++;
  if (!m->aliases)
    m->aliases = calloc(ALIASES_MAX, sizeof *m->aliases);
  if (i == ALIASES_MAX)
    i = (size_t)now % ALIASES_MAX;
  int err = m->aliases ? 0 : -ENOMEM;
  if (err == 0 && !known)
  {
    struct alias *a = &m->aliases[i];
    prelux_alluxio_addresses_release(&a->addresses);
    *a = (struct alias){.at_ms = now, .addresses = found};
    snprintf(a->host, sizeof a->host, "%s", host);
    m->n_aliases += i == m->n_aliases;
    found = (struct prelux_alluxio_addresses){0};
  }
  if (err == 0 && i < m->n_aliases && (ret->text = calloc(m->aliases[i].addresses.n + 1, sizeof *ret->text)))
  {
    ret->n = m->aliases[i].addresses.n;
    if (ret->n)
      memcpy(ret->text, m->aliases[i].addresses.text, ret->n * sizeof *ret->text);
  }
  pthread_mutex_unlock(&m->lock);
  prelux_alluxio_addresses_release(&found);
  return ret->text ? 0 : -ENOMEM;
}

static bool meet(const struct prelux_alluxio_addresses *a, const struct prelux_alluxio_addresses *b)
{
  for (size_t i = 0; i < a->n; i++)
    for (size_t k = 0; k < b->n; k++)
      if (strcmp(a->text[i], b->text[k]) == 0)
        return true;
  return false;
}

static const struct prelux_alluxio_worker *by_address(struct prelux_alluxio_members *m, const struct prelux_alluxio_view *v,
                                                      const char *host, unsigned s3_port)
{
  struct prelux_alluxio_addresses theirs = {0};
  const struct prelux_alluxio_worker *found = NULL;
  if (addresses_of(m, host, &theirs) < 0)
    return NULL;
  for (size_t i = 0; i < v->n && theirs.n && !found; i++)
  {
    struct prelux_alluxio_addresses own = {0};
    if (v->workers[i].s3_port == s3_port && addresses_of(m, v->workers[i].host, &own) == 0 && meet(&theirs, &own))
      found = &v->workers[i];
    prelux_alluxio_addresses_release(&own);
  }
  prelux_alluxio_addresses_release(&theirs);
  return found;
}

const struct prelux_alluxio_worker *prelux_alluxio_view_member(struct prelux_alluxio_members *m, const struct prelux_alluxio_view *v,
                                                               const char *host, size_t host_len, unsigned s3_port)
{
  char name[256];
  const struct prelux_alluxio_worker *w = by_name(v, host, host_len, s3_port);
  if (w || m->options->membership == PRELUX_ALLUXIO_ETCD || host_len >= sizeof name)
    return w; /* etcd has the very names that workers send on to */
  memcpy(name, host, host_len);
  name[host_len] = 0;
  return by_address(m, v, name, s3_port);
}

/* Report. */

/* What makes the whole backend degraded, "" when it is well. Lock held. */
static double seconds(int64_t ms)
{
  int64_t whole = ms / 1000;
  return (double)whole;
}

static const char *trouble(const struct prelux_alluxio_members *m)
{
  const struct prelux_alluxio_view *v = m->view;
  if (!v)
    return m->failures ? m->problem.text : "";
  if (v->n == 0)
    return "no worker is registered";
  for (size_t i = 0; i < v->n; i++)
    if (!prelux_alluxio_health_ill(v->workers[i].health, PRELUX_ALLUXIO_HTTP) ||
        !prelux_alluxio_health_ill(v->workers[i].health, PRELUX_ALLUXIO_S3))
      return "";
  return "no worker answers";
}

void prelux_alluxio_members_report(struct prelux_alluxio_members *m, struct cJSON *into)
{
  cJSON *o = cJSON_AddObjectToObject(into, "membership");
  int64_t now = prelux_alluxio_clock_ms();
  pthread_mutex_lock(&m->lock);
  struct prelux_alluxio_view *v = m->view ? prelux_alluxio_view_hold(m->view) : NULL;
  cJSON_AddStringToObject(o, "from", sources[m->options->membership]);
  cJSON_AddNumberToObject(o, "workers", v ? (double)v->n : 0);
  cJSON_AddNumberToObject(o, "generation", v ? (double)v->generation : 0);
  if (m->learned_ms)
    cJSON_AddNumberToObject(o, "age_s", seconds(now - m->learned_ms));
  if (v)
    cJSON_AddStringToObject(o, "ring", trusts[v->trust]);
  cJSON_AddNumberToObject(o, "virtual_nodes", m->options->virtual_nodes);
  if (m->absent)
    cJSON_AddNumberToObject(o, "lost_by_etcd", (double)m->absent);
  if (m->failures)
  {
    cJSON_AddStringToObject(o, "error", m->problem.text);
    cJSON_AddNumberToObject(o, "error_age_s", seconds(now - m->failed_ms));
  }
  const char *wrong = trouble(m);
  if (wrong[0])
    cJSON_AddStringToObject(into, "trouble", wrong);
  pthread_mutex_unlock(&m->lock);
  struct prelux_alluxio_patient **list = calloc((v ? v->n : 0) + 1, sizeof *list);
  for (size_t i = 0; v && list && i < v->n; i++)
    list[i] = v->workers[i].health;
  if (list)
    prelux_alluxio_health_report(m->health, list, v ? v->n : 0, into);
  free(list);
  prelux_alluxio_view_put(v);
}
