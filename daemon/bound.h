/* Environment that a configuration is bound to: what a client sent, and the keyed digest that tells whether another
 * client's is the same. Values live in memory while a configuration is compiled, never on disk. */
#ifndef PRELUX_DAEMON_BOUND_H
#define PRELUX_DAEMON_BOUND_H

#include <stdbool.h>
#include <stddef.h>

struct prelux_sent_env {
  char **set;   /* NAME=value, NULL-terminated */
  char **unset; /* NAME: known not to be set */
  size_t n_set, n_unset;
};

/* From the ENV and HOME fields of a checked message. 0 or -ENOMEM. */
int prelux_sent_env_read(const void *msg, struct prelux_sent_env *ret);
void prelux_sent_env_release(struct prelux_sent_env *e);
/* The client said that it is set or that it is not. */
bool prelux_sent_env_mentions(const struct prelux_sent_env *e, const char *name);

/* Names that decide which configuration is used, not what it means: not part of the digest. */
bool prelux_bound_ignores(const char *name);

#define PRELUX_BOUND_KEY 32
/* RUNTIME/key: random, made when missing. 0 or -errno. */
int prelux_bound_key(const char *runtime, unsigned char ret[PRELUX_BOUND_KEY]);
/* HMAC-SHA256, cut to 16 bytes, over NAME=value (NAME when unset) of `names` in their order; all zero without names.
 * 0 or -ENOMEM. */
int prelux_bound_digest(const unsigned char key[PRELUX_BOUND_KEY], char *const *names, size_t n,
                        const struct prelux_sent_env *env, unsigned char ret[16]);

#endif
