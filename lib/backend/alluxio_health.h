/* How the workers of a cluster do: what failed, until when a worker is left alone, how much was read from where, and how much the
 * under store may be asked instead. One per backend; outlives every view of the membership, since a worker is known by its
 * address. Thread-safe; nothing here blocks but prelux_alluxio_under_enter.
 *
 * A worker has two doors: its HTTP port (metadata, pages, load jobs) and its S3 port. One can be shut while the other is open
 * (the S3 API is off by default). After a failure a door is left alone for a time that doubles with each further failure; when it
 * is over, one caller alone is let through, and what it reports decides. Reporting is the caller's duty: each use that `usable`
 * allowed ends in ok, answered, failed or poisoned, or in done when it said nothing about the worker (a closed connection on /v1/info of a
 * missing file, a page that is not there). */
#ifndef PRELUX_BACKEND_ALLUXIO_HEALTH_H
#define PRELUX_BACKEND_ALLUXIO_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/problem.h"

struct cJSON;
struct prelux_alluxio_health;
struct prelux_alluxio_patient; /* one worker's health; lives as long as the health it is from */

enum prelux_alluxio_door { PRELUX_ALLUXIO_HTTP, PRELUX_ALLUXIO_S3, PRELUX_ALLUXIO_DOORS };

#define PRELUX_ALLUXIO_BACKOFF_MS 500            /* after a first failure; doubles */
#define PRELUX_ALLUXIO_BACKOFF_MAX_MS 30000
#define PRELUX_ALLUXIO_SILENT_MS 15000           /* after a time-out, which cost its caller seconds. Doubles, too */
#define PRELUX_ALLUXIO_SILENT_MAX_MS 60000
#define PRELUX_ALLUXIO_POISON_MS 30000           /* after "206 and no bytes": only a restart heals it. Doubles, too */
#define PRELUX_ALLUXIO_POISON_MAX_MS 600000
#define PRELUX_ALLUXIO_PROBE_MS 15000            /* a caller let through who has not reported by now is forgotten */
#define PRELUX_ALLUXIO_PATIENTS_MAX 4096         /* beyond: those in no view are dropped, the longest unused first */

extern int64_t (*prelux_alluxio_clock_ms)(void); /* CLOCK_MONOTONIC, unless a test has set it */

int prelux_alluxio_health_create(struct prelux_alluxio_health **ret); /* 0 or -ENOMEM */
void prelux_alluxio_health_free(struct prelux_alluxio_health *h);     /* after all views are put */

/* That of "host:http_port" and its S3 port; made when new. NULL: no memory. Each find wants a drop (views do both). */
struct prelux_alluxio_patient *prelux_alluxio_patient_find(struct prelux_alluxio_health *h, const char *address, unsigned s3_port);
void prelux_alluxio_patient_drop(struct prelux_alluxio_patient *p);

/* May it be asked now? True: go, and report. False: take the next worker. */
bool prelux_alluxio_health_usable(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
/* The same without going: no slot is taken, nothing is to be reported. For choosing an order, and for texts. */
bool prelux_alluxio_health_well(const struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
/* Has its last use gone wrong? Stays so until one goes well, also while it may be tried again. */
bool prelux_alluxio_health_ill(const struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
void prelux_alluxio_health_ok(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
/* It answered, but with no data of a file: a poisoned worker does that, too, so it is well only if it was not that. */
void prelux_alluxio_health_answered(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
void prelux_alluxio_health_done(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door);
/* why (may be NULL): what is shown by `status`. */
void prelux_alluxio_health_failed(struct prelux_alluxio_patient *p, enum prelux_alluxio_door door, const struct prelux_problem *why);
/* It promised bytes and sent none (PROTOCOLS 0.2). Logged once. The HTTP door stays as it is: pages it has are good. */
void prelux_alluxio_health_poisoned(struct prelux_alluxio_patient *p, const struct prelux_problem *why);
/* It has started anew (its lease is another): the past is forgotten. */
void prelux_alluxio_health_reborn(struct prelux_alluxio_patient *p);

/* Where bytes of reads came from. */
enum prelux_alluxio_source { PRELUX_ALLUXIO_FROM_PAGES, PRELUX_ALLUXIO_FROM_S3, PRELUX_ALLUXIO_FROM_UNDER, PRELUX_ALLUXIO_SOURCES };
void prelux_alluxio_count(struct prelux_alluxio_health *h, enum prelux_alluxio_source source, uint64_t bytes);
uint64_t prelux_alluxio_counted(struct prelux_alluxio_health *h, enum prelux_alluxio_source source, uint64_t *ret_bytes);

/* The under store instead of the workers. When none of the workers asked is usable it is the only way: then the bound is how
 * many calls run at once. When workers are there but slow or failing, each call costs a token as well, so that a slow cluster does not
 * send the whole node to the under store. */
#define PRELUX_ALLUXIO_UNDER_CALLS 16            /* at once */
#define PRELUX_ALLUXIO_UNDER_TOKENS 32           /* at most saved up */
#define PRELUX_ALLUXIO_UNDER_TOKENS_S 8          /* new ones a second */
#define PRELUX_ALLUXIO_UNDER_WAIT_MS 30000       /* for one of the calls to end */
enum prelux_alluxio_plight { PRELUX_ALLUXIO_SLOW, PRELUX_ALLUXIO_NO_WORKER };
/* 0: go, and leave; -EAGAIN (SLOW only): no token, stay with the workers; -ETIMEDOUT: too many for too long. */
int prelux_alluxio_under_enter(struct prelux_alluxio_health *h, enum prelux_alluxio_plight plight);
void prelux_alluxio_under_leave(struct prelux_alluxio_health *h);

/* Adds "workers": [{worker, http: {state: ok|resting|probing|poisoned, ok, failed, retry_ms, cause}, s3: {...}}] of `list`, and
 * "reads": {worker_pages: {reads, bytes}, worker_s3: {..}, under_store: {.., refused}}. */
void prelux_alluxio_health_report(struct prelux_alluxio_health *h, struct prelux_alluxio_patient *const *list, size_t n,
                                  struct cJSON *into);

#endif
