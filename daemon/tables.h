/* Live tables: the configurations that this daemon serves. */
#ifndef PRELUX_DAEMON_TABLES_H
#define PRELUX_DAEMON_TABLES_H

#include <stdatomic.h>

#include "daemon/bound.h"
#include "daemon/peer.h"
#include "daemon/snapshot.h"
#include "daemon/stores.h"
#include "include/prelux/table.h"

struct prelux_live_mapping {
  bool broken;
  bool single;                       /* its tree is its own cache folder, where the name .prelux is ours */
  struct prelux_view view;           /* unless broken */
  struct prelux_write_rules rules;   /* unless broken */
  struct prelux_instance *instance;  /* unless broken */
  struct prelux_measure *measure;    /* NULL: no memory for it */
  uint8_t ahead;                     /* enum prelux_ahead_way */
  char *backend, *type;              /* names in the configuration */
  char *root;                        /* object path of the mapping's root below the backend's */
  char *cache;                       /* when broken: the folder that the mapping names for its files, or NULL */
  char *cause, *advice;              /* when broken */
  int err;                           /* when broken: -errno */
  struct prelux_who readers, writers; /* of others than the daemon's own user and root (node.h); readers has the writers, too */
};

/* Immutable but for the counters once it is in the registry. */
struct prelux_live_table {
  atomic_uint refs;
  atomic_uint_fast64_t uses;
  struct prelux_live_table *next; /* the registry's */
  uint64_t order;                 /* the registry's: greater is newer */
  uint64_t last_use_ms;           /* the registry's */
  struct prelux_table *table;     /* malloc'd bytes of the file */
  char *path;                     /* of the file */
  char hex[33];
  struct prelux_live_mapping *mappings; /* as many as the table has */
  uint32_t n_mappings;
  struct prelux_snapshot snapshot;
  unsigned char bound[16];
  uint64_t idle_ns;  /* its idle_exit; UINT64_MAX: never, 0: it says nothing */
  uint64_t grace_ns; /* its grace */
  char *metrics;     /* its metrics.listen, or NULL */
  uint64_t text;     /* a hash of its files' text */
  bool broken;       /* the configuration did not compile */
  uint64_t retry_ms; /* 0, or: something that may heal was broken; compile anew after this instant */
};

void prelux_live_table_drop(struct prelux_live_table *t); /* NULL is allowed */

struct prelux_tables;
int prelux_tables_create(struct prelux_tables **ret);
void prelux_tables_free(struct prelux_tables *all);

/* A held table, or NULL. Never blocks on anything but the registry's mutex. */
struct prelux_live_table *prelux_tables_get(struct prelux_tables *all, const unsigned char hash[16]);
/* Takes the caller's table into the registry (one reference is the registry's, one stays with the caller); an older one
 * of the same hash is replaced. Above PRELUX_TABLES_MAX the one not used for longest is forgotten: it can be registered
 * again. */
#define PRELUX_TABLES_MAX 512u
void prelux_tables_add(struct prelux_tables *all, struct prelux_live_table *t);
/* The newest table, held, for which match() says yes; NULL. */
struct prelux_live_table *prelux_tables_find(struct prelux_tables *all,
                                             bool (*match)(const struct prelux_live_table *t, void *arg), void *arg);
/* fn for each, newest first, under the registry's mutex. */
void prelux_tables_each(struct prelux_tables *all, void (*fn)(struct prelux_live_table *t, void *arg), void *arg);
unsigned prelux_tables_count(struct prelux_tables *all);

void prelux_hex(const unsigned char bytes[16], char out[33]);
/* 32 lower-case hex digits and nothing else -> 0, or -EINVAL. */
int prelux_unhex(const char *hex, unsigned char out[16]);

#endif
