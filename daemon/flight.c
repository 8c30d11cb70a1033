#include "daemon/flight.h"
#include "daemon/gate.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"

static uint64_t hash_of(const void *key, size_t len)
{
  uint64_t h = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < len; i++)
    h = (h ^ ((const unsigned char *)key)[i]) * 0x100000001b3ull;
  return h ^ (h >> 32);
}

static void run(struct prelux_job *job)
{
  struct prelux_flight *f = (struct prelux_flight *)job;
  atomic_store(&f->started, true);
  if (atomic_load(&f->abandoned))
    return;
  struct prelux_problem why = {0};
  int err = prelux_gate_enter(f, &why);
  if (err == 0)
    f->work(f);
  else
    prelux_answer_fail(&f->answer, err, &why);
  prelux_gate_leave(f);
}

struct prelux_flight *prelux_flight_new(const void *key, size_t key_len)
{
  struct prelux_flight *f = calloc(1, sizeof *f + key_len);
  if (!f)
    return NULL;
  f->job.run = run;
  f->direct = -1;
  f->waiters.next = f->waiters.prev = &f->waiters;
  prelux_answer_init(&f->answer);
  f->key_len = key_len;
  if (key_len)
    memcpy(f->key, key, key_len);
  f->hash = hash_of(key, key_len);
  return f;
}

struct prelux_flight *prelux_flights_find(struct prelux_flights *all, const void *key, size_t key_len, bool fresh)
{
  uint64_t h = hash_of(key, key_len);
  for (struct prelux_flight *f = all->buckets[h % PRELUX_FLIGHT_BUCKETS]; f; f = f->chain)
    if (f->hash == h && f->key_len == key_len && memcmp(f->key, key, key_len) == 0)
      if (!atomic_load(&f->abandoned) && (!fresh || !atomic_load(&f->started)))
        return f;
  return NULL;
}

void prelux_flights_add(struct prelux_flights *all, struct prelux_flight *f)
{
  struct prelux_flight **head = &all->buckets[f->hash % PRELUX_FLIGHT_BUCKETS];
  f->chain = *head;
  *head = f;
  all->count++;
}

void prelux_flights_land(struct prelux_flights *all, struct prelux_flight *f)
{
  for (struct prelux_flight **at = &all->buckets[f->hash % PRELUX_FLIGHT_BUCKETS]; *at; at = &(*at)->chain)
    if (*at == f)
    {
      *at = f->chain;
      f->chain = NULL;
      all->count--;
      return;
    }
}

void prelux_flight_free(struct prelux_flight *f)
{
  if (!f)
    return;
  if (f->drop)
    f->drop(f);
  prelux_answer_release(&f->answer);
  if (f->direct >= 0)
    prelux_os.close(f->direct);
  explicit_bzero(f->key, f->key_len); /* a REGISTER's key holds environment values */
  free(f);
}

void prelux_flight_join(struct prelux_flight *f, struct prelux_waiter *w)
{
  w->flight = f;
  w->next = &f->waiters;
  w->prev = f->waiters.prev;
  w->prev->next = w;
  f->waiters.prev = w;
  f->n_waiters++;
}

void prelux_flight_leave(struct prelux_waiter *w)
{
  if (!w->flight)
    return;
  w->prev->next = w->next;
  w->next->prev = w->prev;
  if (--w->flight->n_waiters == 0)
    atomic_store(&w->flight->abandoned, true);
  w->flight = NULL;
}
