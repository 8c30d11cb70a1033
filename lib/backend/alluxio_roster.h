/* Where the membership of a cluster comes from: the three sources behind alluxio_members.c. Nobody else includes this. */
#ifndef PRELUX_BACKEND_ALLUXIO_ROSTER_H
#define PRELUX_BACKEND_ALLUXIO_ROSTER_H

#include <stdatomic.h>

#include "lib/backend/alluxio_members.h"
#include "lib/backend/alluxio_options.h"
#include "lib/backend/alluxio_ring.h"

/* One worker as a source names it. */
struct prelux_alluxio_entry {
  char *host; /* IPv6 in brackets */
  unsigned http_port;
  bool identified;
  struct prelux_alluxio_identity identity;
  int64_t birth;
};

struct prelux_alluxio_roster {
  struct prelux_alluxio_entry *entries;
  size_t n, cap;
};

/* host: a name or address, IPv6 with brackets or without. 0; -EINVAL: no host (nothing is added); -ENOMEM; -E2BIG: too many. */
int prelux_alluxio_roster_add(struct prelux_alluxio_roster *r, const char *host, size_t len, unsigned http_port,
                              const struct prelux_alluxio_identity *identity, int64_t birth);
void prelux_alluxio_roster_release(struct prelux_alluxio_roster *r);

/* LIST. 0 or -ENOMEM. */
int prelux_alluxio_roster_list(const struct prelux_alluxio_options *o, struct prelux_alluxio_roster *ret);

/* alluxio_etcd.c: etcd's JSON gateway (PROTOCOLS 2D.2). One thread. */
#define PRELUX_ALLUXIO_ETCD_CONNECT_MS 2000u
#define PRELUX_ALLUXIO_ETCD_STALL_S 3u
struct prelux_alluxio_etcd {
  const struct prelux_alluxio_options *options;
  struct prelux_net *net;
  const atomic_bool *stop;
  size_t place; /* the end point that answered last */
  bool beta;    /* it is etcd 3.3: /v3beta */
  char *token;  /* NULL: none yet */
  unsigned skipped; /* values nobody can read, in the last answer */
};
/* All live workers. 0, -EIO with why naming the end points, -ENOMEM; *ret is to be released in any case. */
int prelux_alluxio_etcd_fetch(struct prelux_alluxio_etcd *e, struct prelux_alluxio_roster *ret, struct prelux_problem *why);
void prelux_alluxio_etcd_release(struct prelux_alluxio_etcd *e);

/* alluxio_absent.c: workers of the view that etcd does not tell of any more. */
enum prelux_alluxio_pulse
{
  PRELUX_ALLUXIO_PULSE_NONE,   /* nobody there, or silent */
  PRELUX_ALLUXIO_PULSE_OK,
  PRELUX_ALLUXIO_PULSE_CLOSES, /* closes the connection, which only something alive can do: no health call is known there */
  PRELUX_ALLUXIO_PULSE_UNKNOWN /* could not be asked */
};
enum prelux_alluxio_pulse prelux_alluxio_pulse(struct prelux_net *net, const struct prelux_alluxio_worker *w, unsigned connect_ms,
                                               unsigned stall_s, const atomic_bool *cancel);
size_t prelux_alluxio_absent_count(const struct prelux_alluxio_view *known, const struct prelux_alluxio_roster *r); /* NULL: no view */
/* Adds those to *r that answer; takes some seconds at most. 0, -ENOMEM or -E2BIG. */
int prelux_alluxio_absent_keep(struct prelux_net *net, const struct prelux_alluxio_view *known, const atomic_bool *stop,
                               struct prelux_alluxio_roster *r, size_t *ret_kept);

/* alluxio_dns.c: getaddrinfo with an end. */
#define PRELUX_ALLUXIO_DNS_MS 5000
#define PRELUX_ALLUXIO_DNS_MAX 1024
struct prelux_alluxio_addresses {
  char (*text)[64]; /* numeric, IPv6 in brackets; sorted, each once */
  size_t n;
};
/* 0; -EIO with why; -ETIMEDOUT; -ECANCELED: *stop was set meanwhile (NULL: never). ret is untouched on failure. */
int prelux_alluxio_resolve(const char *host, const atomic_bool *stop, struct prelux_alluxio_addresses *ret, struct prelux_problem *why);
void prelux_alluxio_addresses_release(struct prelux_alluxio_addresses *a);

#endif
