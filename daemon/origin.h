/* Origins: the backends of all configurations, as trees see them.
 *
 * A tree is keyed by *which data* it mirrors, so two configurations that differ only in credentials share it. Each
 * brings its own backend instance. A tree is therefore given a switch: a backend that passes every call to the instance
 * that the calling thread is bound to (the asker's credentials), else to the newest one; and that prepends the switch's
 * prefix, for trees that mirror a folder of the remote. So a job with a wrong token fails alone. */
#ifndef PRELUX_DAEMON_ORIGIN_H
#define PRELUX_DAEMON_ORIGIN_H

#include "lib/backend/backend.h"
#include "lib/conf/conf.h"

struct prelux_origins;
struct prelux_instance;
struct prelux_switch;

/* net is borrowed. find: NULL for prelux_backend_find (tests pass their own registry). */
int prelux_origins_create(struct prelux_net *net, const struct prelux_backend_ops *(*find)(const char *type),
                          struct prelux_origins **ret);
/* After all instances and trees are gone. NULL is allowed. */
void prelux_origins_free(struct prelux_origins *o);

/* The instance for this configuration of a backend (equal ones are shared). 0, or with why: -ENOSYS this preluxd has no
 * such backend; what its create() says. Caller drops it. */
int prelux_instance_get(struct prelux_origins *o, const struct prelux_conf_backend *conf, struct prelux_instance **ret,
                        struct prelux_problem *why);
struct prelux_instance *prelux_instance_hold(struct prelux_instance *i);
void prelux_instance_drop(struct prelux_instance *i);
const char *prelux_instance_identity(const struct prelux_instance *i);
const char *prelux_instance_type(const struct prelux_instance *i);
uint32_t prelux_instance_number(const struct prelux_instance *i); /* unique in this process, from 1 */

/* Asks the remote itself: no store, no memory. */
int prelux_instance_stat(struct prelux_instance *i, const char *path, struct prelux_object *ret,
                         struct prelux_problem *why);

/* The optional ops of its backend (backend.h). owners: none where the backend has no workers. load: -EOPNOTSUPP where it
 * has no load jobs. */
struct cJSON;
int prelux_instance_owners(struct prelux_instance *i, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                           struct prelux_problem *why);
int prelux_instance_load(struct prelux_instance *i, const char *path, enum prelux_load_verb verb,
                         const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why);
/* A backend without: INFO is what its stat says, LOCATE adds nothing, the rest is -EOPNOTSUPP. */
int prelux_instance_cluster(struct prelux_instance *i, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                            struct prelux_problem *why);
int prelux_instance_object(struct prelux_instance *i, const char *uri, char *out, size_t cap); /* -EOPNOTSUPP: none of its own */
void prelux_instance_report(struct prelux_instance *i, struct cJSON *into);
void prelux_instance_examine(struct prelux_instance *i, struct cJSON *into); /* may take long; as report where there is nothing to ask */

/* A switch whose newest instance is `i` (held). prefix: object path, "" for none. */
int prelux_switch_create(struct prelux_instance *i, const char *prefix, struct prelux_switch **ret);
void prelux_switch_free(struct prelux_switch *s);
struct prelux_backend *prelux_switch_backend(struct prelux_switch *s);
void prelux_switch_renew(struct prelux_switch *s, struct prelux_instance *i);

/* Binds the calling thread (borrowed; NULL unbinds). */
void prelux_origin_bind(struct prelux_instance *i);

#endif
