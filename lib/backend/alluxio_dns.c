/* getaddrinfo knows no time-out and cannot be stopped: it runs on a thread of its own, and whoever waits may leave. The job belongs
 * to both and is freed by the last. */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/backend/alluxio_roster.h"

#define STEP_MS 200 /* how often a waiting caller looks at its `stop` */

struct job
{
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int refs;
  bool done;
  int rc, sys; /* of getaddrinfo, and errno with it */
  struct prelux_alluxio_addresses found;
  char host[256];
};

static void job_drop(struct job *j)
{
  pthread_mutex_lock(&j->lock);
  bool last = --j->refs == 0;
  pthread_mutex_unlock(&j->lock);
  if (!last)
    return;
  prelux_alluxio_addresses_release(&j->found);
  pthread_cond_destroy(&j->changed);
  pthread_mutex_destroy(&j->lock);
  free(j);
}

static int by_text(const void *a, const void *b)
{
  return strcmp(a, b);
}

static bool collect(const struct addrinfo *list, struct prelux_alluxio_addresses *ret)
{
  size_t n = 0;
  for (const struct addrinfo *a = list; a; a = a->ai_next)
    n++;
  if (n > PRELUX_ALLUXIO_DNS_MAX)
    n = PRELUX_ALLUXIO_DNS_MAX;
  ret->text = calloc(n + 1, sizeof *ret->text);
  if (!ret->text)
    return false;
  for (const struct addrinfo *a = list; a && ret->n < n; a = a->ai_next)
  {
    char plain[60];
    if (getnameinfo(a->ai_addr, a->ai_addrlen, plain, sizeof plain, NULL, 0, NI_NUMERICHOST) != 0 || strchr(plain, '%'))
      continue; /* a link-local address has no place in a URL */
    snprintf(ret->text[ret->n++], sizeof *ret->text, a->ai_family == AF_INET6 ? "[%s]" : "%s", plain);
  }
  qsort(ret->text, ret->n, sizeof *ret->text, by_text);
  size_t kept = 0;
  for (size_t i = 0; i < ret->n; i++)
    if (kept == 0 || strcmp(ret->text[kept - 1], ret->text[i]) != 0)
      memmove(ret->text[kept++], ret->text[i], sizeof *ret->text);
  ret->n = kept;
  return true;
}

static void *run(void *arg)
{
  struct job *j = arg;
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  struct addrinfo *list = NULL;
  struct prelux_alluxio_addresses found = {0};
  int rc = getaddrinfo(j->host, NULL, &hints, &list), sys = errno;
  if (rc == 0 && !collect(list, &found))
    rc = EAI_MEMORY;
  if (list)
    freeaddrinfo(list);
  pthread_mutex_lock(&j->lock);
  j->rc = rc;
  j->sys = sys;
  j->found = found;
  j->done = true;
  pthread_cond_signal(&j->changed);
  pthread_mutex_unlock(&j->lock);
  job_drop(j);
  return NULL;
}

static struct job *job_start(const char *host, size_t len)
{
  struct job *j = calloc(1, sizeof *j);
  pthread_condattr_t attr;
  pthread_t thread;
  sigset_t all, old;
  if (!j)
    return NULL;
  memcpy(j->host, host, len);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&j->changed, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&j->lock, NULL);
  j->refs = 2;
  sigfillset(&all); /* signals are the main thread's */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&thread, NULL, run, j);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (rc == 0)
  {
    pthread_detach(thread);
    return j;
  }
  j->refs = 1;
  job_drop(j);
  return NULL;
}

static void later(struct timespec *t, long ms)
{
  clock_gettime(CLOCK_MONOTONIC, t);
  t->tv_sec += ms / 1000;
  t->tv_nsec += ms % 1000 * 1000000;
  if (t->tv_nsec >= 1000000000)
  {
    t->tv_sec++;
    t->tv_nsec -= 1000000000;
  }
}

int prelux_alluxio_resolve(const char *host, const atomic_bool *stop, struct prelux_alluxio_addresses *ret, struct prelux_problem *why)
{
  size_t len = strlen(host);
  bool brackets = len > 2 && host[0] == '[' && host[len - 1] == ']';
  struct timespec end;
  if (len - 2 * brackets >= sizeof ((struct job *)0)->host)
    return prelux_problem(why, EIO, "%.40s...: too long for the name of a host", host);
  struct job *j = job_start(host + brackets, len - 2 * brackets);
  if (!j)
    return prelux_problem(why, EIO, "no thread or memory to look up %s", host);
  int err = 0;
  pthread_mutex_lock(&j->lock);
  for (int left = PRELUX_ALLUXIO_DNS_MS / STEP_MS; !j->done && err == 0; left--)
  {
    later(&end, STEP_MS);
    if (stop && atomic_load(stop))
      err = -ECANCELED;
    else if (left == 0)
      err = prelux_problem(why, ETIMEDOUT, "DNS has not answered for %s within %d s", host, PRELUX_ALLUXIO_DNS_MS / 1000);
    else
      pthread_cond_timedwait(&j->changed, &j->lock, &end);
  }
  if (err == 0 && j->rc != 0)
    err = prelux_problem(why, EIO, "%s: %s", host, j->rc == EAI_SYSTEM ? strerror(j->sys) : gai_strerror(j->rc));
  else if (err == 0 && j->found.n == 0)
    err = prelux_problem(why, EIO, "%s: DNS knows no address of it", host);
  else if (err == 0)
  {
    *ret = j->found;
    j->found = (struct prelux_alluxio_addresses){0};
  }
  pthread_mutex_unlock(&j->lock);
  job_drop(j);
  return err;
}

void prelux_alluxio_addresses_release(struct prelux_alluxio_addresses *a)
{
  free(a->text);
  *a = (struct prelux_alluxio_addresses){0};
}
