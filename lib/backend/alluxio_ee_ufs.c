/* The under store that /v1/ufsInfo tells of, keys and all (`fallback_to_ufs_enabled`, as the vendor's client has it): a backend `s3`
 * over the bucket of `root`, for the time when no worker can help. It is read only.
 *
 * What a worker says decides here where this node goes with which keys, so it is taken for nothing else: values become a configuration
 * of that one backend, in memory, only when they are made of the characters that keys and URLs are made of, so none is a `file:` or a
 * `${NAME}` to be looked up here; the environment's own keys are not in reach. That text is wiped; the keys stay in the backend's
 * memory, as keys of the configuration do, and no text of any of this is shown: only that there is such an under store, or not.
 *
 * A later answer with other keys makes another backend; who is reading by the old one ends with it. Keys that are refused may have been
 * replaced since: then the cluster is asked before its time. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/base/log.h"
#include "lib/conf/conf.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define VALUE_MAX 512
#define TEXT_MAX 16384
#define REFUSED_MS 5000 /* between two questions for other keys than those that are refused */
#define LOOK_MS 30000 /* between two looks at whether the table of mounts is to be renewed */

struct prelux_ee_learnt
{
  struct prelux_backend *backend;
  uint64_t hash; /* of what it was made of */
  unsigned refs; /* under the lock */
};

void prelux_ee_learning_init(struct prelux_ee_learning *l)
{
  pthread_mutex_init(&l->lock, NULL);
}

static void put_away(struct prelux_ee_learnt *one)
{
  if (!one)
    return;
  one->backend->ops->free(one->backend);
  free(one);
}

void prelux_ee_learning_release(struct prelux_ee_learning *l)
{
  put_away(l->now);
  pthread_mutex_destroy(&l->lock);
}

/* Borrowing */

struct prelux_backend *prelux_ee_under_take(struct prelux_ee *e, struct prelux_ee_learnt **ret)
{
  struct prelux_ee_learning *l = &e->learning;
  *ret = NULL;
  if (e->under)
    return e->under;
  pthread_mutex_lock(&l->lock);
  if (l->now)
  {
    *ret = l->now;
    l->now->refs++;
  }
  pthread_mutex_unlock(&l->lock);
  return *ret ? (*ret)->backend : NULL;
}

static void drop(struct prelux_ee_learning *l, struct prelux_ee_learnt *one)
{
  pthread_mutex_lock(&l->lock);
  bool last = --one->refs == 0;
  pthread_mutex_unlock(&l->lock);
  if (last)
    put_away(one);
}

void prelux_ee_under_drop(struct prelux_ee *e, struct prelux_ee_learnt *one)
{
  if (one)
    drop(&e->learning, one);
}

/* Learning */

static const char *value(const cJSON *entry, const char *name, const char *made_of)
{
  const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, name));
  size_t n = s ? strlen(s) : 0;
  return n && n < VALUE_MAX && strspn(s, made_of) == n ? s : NULL;
}

/* "s3://BUCKET/PREFIX"; false: another kind of under store, or nothing that may stand in a configuration. */
static bool bucket_of(const char *root, char *bucket, const char **ret_prefix)
{
  static const char *const schemes[] = {"s3://", "s3a://", "s3n://"};
  for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
  {
    size_t len = strlen(schemes[i]);
    if (strncmp(root, schemes[i], len) != 0)
      continue;
    size_t n = strspn(root + len, ALNUM ".-_");
    if (n == 0 || n > 255 || (root[len + n] && root[len + n] != '/') || strstr(root, "${"))
      return false;
    memcpy(bucket, root + len, n);
    bucket[n] = 0;
    *ret_prefix = root + len + n + (root[len + n] == '/');
    return true;
  }
  return false;
}

/* The configuration of the backend, as text to be wiped; NULL: there is none to be made of it. */
static char *text_of(const struct prelux_ee *e, const cJSON *entry)
{
  char bucket[256];
  const char *prefix, *access = value(entry, "access_key", ALNUM "+/=_.~-"), *secret = value(entry, "secret_key", ALNUM "+/=_.~-");
  const char *endpoint = value(entry, "endpoint", ALNUM ".:/_[]~-"), *region = value(entry, "region", ALNUM "-_");
  bool wants_endpoint = cJSON_GetObjectItemCaseSensitive(entry, "endpoint") != NULL;
  if (!access || !secret || (wants_endpoint && !endpoint) || !bucket_of(e->options.root, bucket, &prefix))
    return NULL;
  cJSON *top = cJSON_CreateObject(), *s3 = cJSON_AddObjectToObject(cJSON_AddObjectToObject(top, "backends"), "ufs");
  bool good = cJSON_AddNumberToObject(top, "version", 1) && cJSON_AddArrayToObject(top, "mappings") &&
              cJSON_AddStringToObject(s3, "type", "s3") && cJSON_AddStringToObject(s3, "bucket", bucket) &&
              (!prefix[0] || cJSON_AddStringToObject(s3, "prefix", prefix)) && (!endpoint || cJSON_AddStringToObject(s3, "endpoint", endpoint)) &&
              (!region || cJSON_AddStringToObject(s3, "region", region)) && cJSON_AddStringToObject(s3, "access_key", access) &&
              cJSON_AddStringToObject(s3, "secret_key", secret);
  char *text = good ? calloc(1, TEXT_MAX) : NULL; /* grown by cJSON it would leave copies */
  if (text && !cJSON_PrintPreallocated(top, text, TEXT_MAX, false))
  {
    explicit_bzero(text, TEXT_MAX);
    free(text);
    text = NULL;
  }
  prelux_ee_wipe(top);
  cJSON_Delete(top);
  return text;
}

static int give_text(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  if (secret || !(*ret = strdup(arg)))
    return secret ? -EACCES : -ENOMEM;
  *ret_len = strlen(*ret);
  return 0;
}

static struct prelux_backend *make(struct prelux_ee *e, char *text)
{
  char *nothing[] = {NULL};
  struct prelux_conf_input in = {.file = "/ufsInfo", .cwd = "/", .env = nothing, .read_file = give_text, .read_arg = text};
  struct prelux_conf *conf = NULL;
  struct prelux_backend *ret = NULL;
  if (prelux_conf_load(&in, false, &conf, NULL) < 0)
    return NULL;
  const struct prelux_conf_backend *s3 = prelux_conf_backend(conf, "ufs");
  const struct prelux_backend_ops *ops = s3 ? prelux_backend_find("s3") : NULL;
  if (ops && ops->create(s3, e->net, &ret, NULL) < 0)
    ret = NULL;
  prelux_conf_free(conf); /* wipes it */
  return ret;
}

/* The mount at or above the root; the longest. */
static const cJSON *entry_of(const struct prelux_ee *e, const cJSON *mounts)
{
  const cJSON *best = NULL;
  size_t best_len = 0;
  const char *root = e->options.root;
  for (const cJSON *c = mounts->child; c; c = c->next)
  {
    size_t len = strlen(c->string);
    while (len && c->string[len - 1] == '/')
      len--;
    if (len > best_len && strncmp(root, c->string, len) == 0 && (root[len] == 0 || root[len] == '/'))
    {
      best = c;
      best_len = len;
    }
  }
  return best;
}

void prelux_ee_learn(struct prelux_ee *e, const cJSON *mounts)
{
  struct prelux_ee_learning *l = &e->learning;
  if (!l->on)
    return;
  const cJSON *entry = entry_of(e, mounts);
  char *text = entry ? text_of(e, entry) : NULL;
  uint64_t hash = text ? XXH3_64bits(text, strlen(text)) : 0;
  pthread_mutex_lock(&l->lock);
  bool known = text && l->now && l->now->hash == hash;
  pthread_mutex_unlock(&l->lock);
  struct prelux_backend *backend = text && !known ? make(e, text) : NULL;
  struct prelux_ee_learnt *one = backend ? malloc(sizeof(*one)) : NULL, *old = NULL;
  if (text)
    explicit_bzero(text, strlen(text));
  free(text);
  if (backend && !one)
    backend->ops->free(backend);
  if (one)
  {
    *one = (struct prelux_ee_learnt){.backend = backend, .hash = hash, .refs = 1};
    pthread_mutex_lock(&l->lock);
    old = l->now;
    l->now = one;
    pthread_mutex_unlock(&l->lock);
    prelux_info("backend %s: the cluster tells of an under store that can be read when no worker helps", e->options.name);
  }
  if (old)
    drop(l, old);
}

void prelux_ee_keep_learning(struct prelux_ee *e)
{
  struct prelux_ee_learning *l = &e->learning;
  int64_t now = prelux_alluxio_now_ms();
  char *place = NULL;
  if (!l->on)
    return;
  pthread_mutex_lock(&l->lock);
  bool due = now >= l->next_ms;
  if (due)
    l->next_ms = now + LOOK_MS;
  pthread_mutex_unlock(&l->lock);
  if (due && prelux_ee_place(e, e->options.root, &place, NULL) == 0)
    free(place);
}

bool prelux_ee_learn_again(struct prelux_ee *e, const struct prelux_ee_learnt *one)
{
  struct prelux_ee_learning *l = &e->learning;
  int64_t now = prelux_alluxio_now_ms();
  char *place = NULL;
  pthread_mutex_lock(&l->lock);
  bool others = l->now != one, due = !others && now >= l->refused_ms;
  if (due)
    l->refused_ms = now + REFUSED_MS;
  pthread_mutex_unlock(&l->lock);
  if (due)
  {
    prelux_ee_mounts_expire(&e->mounts);
    if (prelux_ee_place(e, e->options.root, &place, NULL) == 0)
      free(place);
    pthread_mutex_lock(&l->lock);
    others = l->now != one;
    pthread_mutex_unlock(&l->lock);
  }
  return others;
}
