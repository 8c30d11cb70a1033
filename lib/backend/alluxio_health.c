#include "lib/backend/alluxio_health.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"

struct door
{
  unsigned streak;      /* failures since the last success */
  bool poisoned;
  int64_t rest_until;   /* 0: open to all */
  int64_t probe_until;  /* one caller is finding out; 0: none */
  uint64_t ok, failed;
  char cause[160];      /* of the last failure */
};

struct prelux_alluxio_patient
{
  struct prelux_alluxio_health *health;
  struct prelux_alluxio_patient *next;
  char *address;
  unsigned s3_port;
  unsigned refs;
  int64_t left_ms; /* when the last view dropped it */
  struct door doors[PRELUX_ALLUXIO_DOORS];
};

struct prelux_alluxio_health
{
  pthread_mutex_t lock; /* guards all */
  pthread_cond_t under_left;
  struct prelux_alluxio_patient *patients;
  size_t n_patients;
  uint64_t reads[PRELUX_ALLUXIO_SOURCES], bytes[PRELUX_ALLUXIO_SOURCES];
  unsigned under_calls;
  double tokens;
  int64_t tokens_ms;    /* when they were counted */
  uint64_t refused;
  unsigned seed;        /* of the jitter: nodes should not come back all at once */
};

static const char *const door_names[] = {[PRELUX_ALLUXIO_HTTP] = "HTTP", [PRELUX_ALLUXIO_S3] = "S3"};
static const char *const door_keys[] = {[PRELUX_ALLUXIO_HTTP] = "http", [PRELUX_ALLUXIO_S3] = "s3"};
static const char *const source_keys[] = {
    [PRELUX_ALLUXIO_FROM_PAGES] = "worker_pages",
    [PRELUX_ALLUXIO_FROM_S3] = "worker_s3",
    [PRELUX_ALLUXIO_FROM_UNDER] = "under_store",
};

static int64_t monotonic_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t (*prelux_alluxio_clock_ms)(void) = monotonic_ms;

int prelux_alluxio_health_create(struct prelux_alluxio_health **ret)
{
  struct prelux_alluxio_health *h = calloc(1, sizeof *h);
  pthread_condattr_t attr;
  if (!h)
    return -ENOMEM;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&h->under_left, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&h->lock, NULL);
  h->tokens = PRELUX_ALLUXIO_UNDER_TOKENS;
  h->tokens_ms = prelux_alluxio_clock_ms();
  h->seed = (unsigned)h->tokens_ms ^ (unsigned)(uintptr_t)h;
  *ret = h;
  return 0;
}

static void patient_free(struct prelux_alluxio_patient *p)
{
  free(p->address);
  free(p);
}

void prelux_alluxio_health_free(struct prelux_alluxio_health *h)
{
  if (!h)
    return;
  for (struct prelux_alluxio_patient *p = h->patients, *next; p; p = next)
  {
    next = p->next;
    patient_free(p);
  }
  pthread_cond_destroy(&h->under_left);
  pthread_mutex_destroy(&h->lock);
  free(h);
}

/* Drops the one that has been in no view for longest. */
static void forget_one(struct prelux_alluxio_health *h)
{
  struct prelux_alluxio_patient **oldest = NULL;
  for (struct prelux_alluxio_patient **at = &h->patients; *at; at = &(*at)->next)
    if ((*at)->refs == 0 && (!oldest || (*at)->left_ms < (*oldest)->left_ms))
      oldest = at;
  if (!oldest)
    return;
  struct prelux_alluxio_patient *gone = *oldest;
  *oldest = gone->next;
  h->n_patients--;
  patient_free(gone);
}

struct prelux_alluxio_patient *prelux_alluxio_patient_find(struct prelux_alluxio_health *h, const char *address, unsigned s3_port)
{
  pthread_mutex_lock(&h->lock);
  struct prelux_alluxio_patient *p = h->patients;
  while (p && (p->s3_port != s3_port || strcmp(p->address, address) != 0))
    p = p->next;
  if (!p && (p = calloc(1, sizeof *p)))
  {
    p->health = h;
    p->s3_port = s3_port;
    p->address = strdup(address);
    if (!p->address)
    {
      free(p);
      p = NULL;
    }
    else
    {
      if (h->n_patients >= PRELUX_ALLUXIO_PATIENTS_MAX)
        forget_one(h);
      p->next = h->patients;
      h->patients = p;
      h->n_patients++;
    }
  }
  if (p)
    p->refs++;
  pthread_mutex_unlock(&h->lock);
  return p;
}

void prelux_alluxio_patient_drop(struct prelux_alluxio_patient *p)
{
  if (!p)
    return;
  pthread_mutex_lock(&p->health->lock);
  if (--p->refs == 0)
    p->left_ms = prelux_alluxio_clock_ms();
  pthread_mutex_unlock(&p->health->lock);
}

/* Is the door open, resting being over? Lock held. */
static bool open_now(const struct door *d, int64_t now)
{
  return d->rest_until == 0 || (now >= d->rest_until && now >= d->probe_until);
}

bool prelux_alluxio_health_usable(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  struct door *d = &p->doors[door];
  int64_t now = prelux_alluxio_clock_ms();
  pthread_mutex_lock(&p->health->lock);
  bool open = open_now(d, now);
  if (open && d->rest_until)
    d->probe_until = now + PRELUX_ALLUXIO_PROBE_MS;
  pthread_mutex_unlock(&p->health->lock);
  return open;
}

bool prelux_alluxio_health_well(const struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  pthread_mutex_lock(&p->health->lock);
  bool open = open_now(&p->doors[door], prelux_alluxio_clock_ms());
  pthread_mutex_unlock(&p->health->lock);
  return open;
}

bool prelux_alluxio_health_ill(const struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  pthread_mutex_lock(&p->health->lock);
  bool ill = p->doors[door].rest_until != 0;
  pthread_mutex_unlock(&p->health->lock);
  return ill;
}

void prelux_alluxio_health_ok(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  struct door *d = &p->doors[door];
  pthread_mutex_lock(&p->health->lock);
  bool back = d->streak > 0;
  /* Somebody let in before the failure proves nothing about a worker that is poisoned or has just died. */
  bool counts = d->rest_until == 0 || d->probe_until != 0;
  d->ok++;
  if (counts)
  {
    d->streak = 0;
    d->poisoned = false;
    d->rest_until = d->probe_until = 0;
  }
  pthread_mutex_unlock(&p->health->lock);
  if (back && counts)
    prelux_info("worker %s: its %s port is well again", p->address, door_names[door]);
}

void prelux_alluxio_health_answered(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  pthread_mutex_lock(&p->health->lock);
  bool poisoned = p->doors[door].poisoned;
  pthread_mutex_unlock(&p->health->lock);
  (poisoned ? prelux_alluxio_health_done : prelux_alluxio_health_ok)(p, door);
}

void prelux_alluxio_health_done(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door)
{
  struct door *d = &p->doors[door];
  pthread_mutex_lock(&p->health->lock);
  d->probe_until = 0; /* the next may find out */
  pthread_mutex_unlock(&p->health->lock);
}

/* n-th failure in a row: base * 2^(n-1) up to max, 0 to 25 % more. Lock held. */
static int64_t rest_ms(struct prelux_alluxio_health *h, unsigned streak, int64_t base, int64_t max)
{
  int64_t ms = streak > 20 ? max : base << (streak - 1);
  if (ms > max)
    ms = max;
  return ms + rand_r(&h->seed) % (ms / 4 + 1);
}

/* How long the door is left alone after this failure. Lock held. */
static int64_t rest_of(struct prelux_alluxio_health *h, const struct door *d, bool silent)
{
  if (d->poisoned)
    return rest_ms(h, d->streak, PRELUX_ALLUXIO_POISON_MS, PRELUX_ALLUXIO_POISON_MAX_MS);
  if (silent)
    return rest_ms(h, d->streak, PRELUX_ALLUXIO_SILENT_MS, PRELUX_ALLUXIO_SILENT_MAX_MS);
  return rest_ms(h, d->streak, PRELUX_ALLUXIO_BACKOFF_MS, PRELUX_ALLUXIO_BACKOFF_MAX_MS);
}

/* Those who were under way when it failed report the same failure: one step back for all of them. */
static bool already_known(const struct door *d, int64_t now)
{
  return d->rest_until > now && d->probe_until == 0;
}

static void note_cause(struct door *d, const struct prelux_problem *why, const char *plain)
{
  const char *text = why && why->text[0] ? why->text : plain;
  size_t n = strlen(text);
  if (n >= sizeof d->cause)
    for (n = sizeof d->cause - 1; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;) /* UTF-8 is cut between characters */
      n--;
  memcpy(d->cause, text, n);
  d->cause[n] = 0;
}

static void fall_ill(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door, bool poison, const struct prelux_problem *why)
{
  struct door *d = &p->doors[door];
  int64_t now = prelux_alluxio_clock_ms();
  pthread_mutex_lock(&p->health->lock);
  bool first = poison ? !d->poisoned : d->streak == 0;
  d->failed++;
  note_cause(d, why, poison ? "promised bytes and sent none" : "failed");
  if (!already_known(d, now) || (poison && !d->poisoned))
  {
    if (poison && !d->poisoned)
      d->streak = 0;
    d->poisoned |= poison;
    d->streak++;
    d->rest_until = now + rest_of(p->health, d, why && why->err == ETIMEDOUT);
  }
  d->probe_until = 0;
  char cause[sizeof d->cause];
  memcpy(cause, d->cause, sizeof cause);
  pthread_mutex_unlock(&p->health->lock);
  if (first)
    prelux_warn(poison ? "worker %s: its %s port is poisoned until it restarts: %s" : "worker %s: its %s port fails: %s", p->address,
                door_names[door], cause);
}

void prelux_alluxio_health_failed(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door, const struct prelux_problem *why)
{
  fall_ill(p, door, false, why);
}

void prelux_alluxio_health_poisoned(struct prelux_alluxio_patient *p, const struct prelux_problem *why)
{
  fall_ill(p, PRELUX_ALLUXIO_S3, true, why);
}

void prelux_alluxio_health_reborn(struct prelux_alluxio_patient *p)
{
  pthread_mutex_lock(&p->health->lock);
  for (int i = 0; i < PRELUX_ALLUXIO_DOORS; i++)
  {
    struct door *d = &p->doors[i];
    d->streak = 0;
    d->poisoned = false;
    d->rest_until = d->probe_until = 0;
  }
  pthread_mutex_unlock(&p->health->lock);
}

void prelux_alluxio_count(struct prelux_alluxio_health *h, enum prelux_alluxio_source source, uint64_t bytes)
{
  pthread_mutex_lock(&h->lock);
  h->reads[source]++;
  h->bytes[source] += bytes;
  pthread_mutex_unlock(&h->lock);
}

uint64_t prelux_alluxio_counted(struct prelux_alluxio_health *h, enum prelux_alluxio_source source, uint64_t *ret_bytes)
{
  pthread_mutex_lock(&h->lock);
  uint64_t n = h->reads[source];
  if (ret_bytes)
    *ret_bytes = h->bytes[source];
  pthread_mutex_unlock(&h->lock);
  return n;
}

/* Lock held. */
static bool take_token(struct prelux_alluxio_health *h)
{
  int64_t now = prelux_alluxio_clock_ms();
  h->tokens += (double)(now - h->tokens_ms) * PRELUX_ALLUXIO_UNDER_TOKENS_S / 1000;
  h->tokens_ms = now;
  if (h->tokens > PRELUX_ALLUXIO_UNDER_TOKENS)
    h->tokens = PRELUX_ALLUXIO_UNDER_TOKENS;
  if (h->tokens < 1)
    return false;
  h->tokens -= 1;
  return true;
}

int prelux_alluxio_under_enter(struct prelux_alluxio_health *h, enum prelux_alluxio_plight plight)
{
  struct timespec end;
  int err = 0;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += PRELUX_ALLUXIO_UNDER_WAIT_MS / 1000;
  pthread_mutex_lock(&h->lock);
  if (plight == PRELUX_ALLUXIO_SLOW && !take_token(h))
  {
    h->refused++;
    err = -EAGAIN;
  }
  while (err == 0 && h->under_calls >= PRELUX_ALLUXIO_UNDER_CALLS)
    if (pthread_cond_timedwait(&h->under_left, &h->lock, &end) == ETIMEDOUT)
      err = -ETIMEDOUT;
  h->under_calls += err == 0;
  pthread_mutex_unlock(&h->lock);
  return err;
}

void prelux_alluxio_under_leave(struct prelux_alluxio_health *h)
{
  pthread_mutex_lock(&h->lock);
  h->under_calls--;
  pthread_cond_signal(&h->under_left);
  pthread_mutex_unlock(&h->lock);
}

/* Lock held. */
static cJSON *door_json(const struct door *d, int64_t now)
{
  cJSON *o = cJSON_CreateObject();
  bool rests = d->rest_until != 0;
  cJSON_AddStringToObject(o, "state", d->poisoned ? "poisoned" : !rests ? "ok" : now < d->rest_until ? "resting" : "probing");
  cJSON_AddNumberToObject(o, "ok", (double)d->ok);
  cJSON_AddNumberToObject(o, "failed", (double)d->failed);
  if (rests)
    cJSON_AddNumberToObject(o, "retry_ms", now < d->rest_until ? (double)(d->rest_until - now) : 0);
  if (d->cause[0])
    cJSON_AddStringToObject(o, "cause", d->cause);
  return o;
}

void prelux_alluxio_health_report(struct prelux_alluxio_health *h, struct prelux_alluxio_patient *const *list, size_t n, struct cJSON *into)
{
  cJSON *workers = cJSON_AddArrayToObject(into, "workers"), *reads = cJSON_AddObjectToObject(into, "reads");
  int64_t now = prelux_alluxio_clock_ms();
  pthread_mutex_lock(&h->lock);
  for (size_t i = 0; i < n; i++)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "worker", list[i]->address);
    for (int d = 0; d < PRELUX_ALLUXIO_DOORS; d++)
      cJSON_AddItemToObject(o, door_keys[d], door_json(&list[i]->doors[d], now));
    cJSON_AddItemToArray(workers, o);
  }
  for (int s = 0; s < PRELUX_ALLUXIO_SOURCES; s++)
  {
    cJSON *o = cJSON_AddObjectToObject(reads, source_keys[s]);
    cJSON_AddNumberToObject(o, "reads", (double)h->reads[s]);
    cJSON_AddNumberToObject(o, "bytes", (double)h->bytes[s]);
    if (s == PRELUX_ALLUXIO_FROM_UNDER)
      cJSON_AddNumberToObject(o, "refused", (double)h->refused);
  }
  pthread_mutex_unlock(&h->lock);
}
