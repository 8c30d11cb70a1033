/* Configuration -> live table. */
#ifndef PRELUX_DAEMON_COMPILE_H
#define PRELUX_DAEMON_COMPILE_H

#include "daemon/daemon.h"
#include "lib/conf/conf.h"

struct prelux_compile {
  const struct prelux_conf *conf;
  struct prelux_snapshot *snapshot; /* moved into the table on success */
  unsigned char bound[16];
  const char *error; /* the configuration is broken, and how; NULL: it is not */
};

/* Opens what the mappings need and writes RUNTIME/tables/HEX and HEX.conf. A mapping whose backend or cache folder
 * cannot be set up is broken, not the table. 0 and a table that is not in the registry yet; or -errno with why. */
int prelux_compile(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_live_table **ret,
                   struct prelux_problem *why);

/* Has metrics.listen follow: the caller holds d->compiling. old: see metrics.h. */
void prelux_compile_metrics(struct prelux_daemon *d, const struct prelux_live_table *t, bool old);

/* Writes a table's files again if somebody (a cleaner of /tmp) has removed the table: programs that start find their
 * prefixes by it. 0 or -errno. The caller holds d->compiling. */
int prelux_compile_restore(struct prelux_daemon *d, struct prelux_live_table *t);
/* All of them. */
void prelux_tables_restore(struct prelux_daemon *d);

/* The table file that an earlier daemon wrote, checked; malloc'd. */
int prelux_compile_read(struct prelux_daemon *d, const char *hex, struct prelux_table **ret,
                        struct prelux_problem *why);
/* Opens what such a table needs. Takes `bytes` on success. */
int prelux_compile_again(struct prelux_daemon *d, const struct prelux_compile *in, struct prelux_table *bytes,
                         struct prelux_live_table **ret, struct prelux_problem *why);

#endif
