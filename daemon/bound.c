#include "daemon/bound.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/files.h"
#include "lib/ipc/msg.h"
#include "lib/ipc/runtime.h"

static const char *const ignored[] = {
    "HOME",
    "PRELUX_CONFIG",
    "PRELUX_RUNTIME_DIR",
    "PRELUX_OFF",
    "PRELUX_LOG",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "AZFUSE_CLOUD_FUSE_CONFIG_FILE",
    "QD_CLOUD_FUSE_CONFIG_FILE",
};

bool prelux_bound_ignores(const char *name)
{
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
    if (strcmp(name, ignored[i]) == 0)
      return true;
  return false;
}

static size_t count_fields(const void *msg, enum prelux_field id)
{
  size_t pos = 0, len, n = 0;
  while (prelux_msg_next(msg, id, &pos, &len))
    n++;
  return n;
}

static char *home_entry(const char *home)
{
  char *s = NULL;
  return asprintf(&s, "HOME=%s", home) < 0 ? NULL : s;
}

int prelux_sent_env_read(const void *msg, struct prelux_sent_env *ret)
{
  size_t n = count_fields(msg, PRELUX_FIELD_ENV) + 2, pos = 0, len;
  struct prelux_sent_env e = {calloc(n, sizeof(char *)), calloc(n, sizeof(char *)), 0, 0};
  bool full = e.set && e.unset;
  for (const char *v; full && (v = prelux_msg_next(msg, PRELUX_FIELD_ENV, &pos, &len));)
  {
    char *copy = strdup(v);
    full = copy != NULL;
    if (full && strchr(copy, '='))
      e.set[e.n_set++] = copy;
    else if (full)
      e.unset[e.n_unset++] = copy;
  }
  const char *home = prelux_msg_str(msg, PRELUX_FIELD_HOME);
  if (full && home && !prelux_env_get(e.set, "HOME"))
    full = (e.set[e.n_set++] = home_entry(home)) != NULL;
  if (!full)
  {
    prelux_sent_env_release(&e);
    return -ENOMEM;
  }
  *ret = e;
  return 0;
}

/* Values may be secrets: they do not stay in freed memory. */
static void wipe(char **list, size_t n)
{
  for (size_t i = 0; list && i < n; i++)
    if (list[i])
    {
      explicit_bzero(list[i], strlen(list[i]));
      free(list[i]);
    }
  free(list);
}

void prelux_sent_env_release(struct prelux_sent_env *e)
{
  wipe(e->set, e->n_set);
  wipe(e->unset, e->n_unset);
  *e = (struct prelux_sent_env){0};
}

bool prelux_sent_env_mentions(const struct prelux_sent_env *e, const char *name)
{
  for (size_t i = 0; i < e->n_unset; i++)
    if (strcmp(e->unset[i], name) == 0)
      return true;
  return prelux_env_get(e->set, name) != NULL;
}

int prelux_bound_key(const char *runtime, unsigned char ret[PRELUX_BOUND_KEY])
{
  char *path = prelux_join(runtime, "key"), *text = NULL;
  size_t len = 0;
  int err = path ? prelux_file_read(path, PRELUX_BOUND_KEY, &text, &len, NULL) : -ENOMEM;
  free(path);
  if (err == 0 && len == PRELUX_BOUND_KEY)
    memcpy(ret, text, len);
  else if (err == 0 || err == -ENOENT || err == -EFBIG)
  {
    if (getrandom(ret, PRELUX_BOUND_KEY, 0) != PRELUX_BOUND_KEY)
      err = -EIO;
    else
      err = prelux_files_write(runtime, "key", ret, PRELUX_BOUND_KEY);
  }
  free(text);
  return err;
}

int prelux_bound_digest(const unsigned char key[PRELUX_BOUND_KEY], char *const *names, size_t n,
                        const struct prelux_sent_env *env, unsigned char ret[16])
{
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned md_len = 0;
  char *text = NULL;
  size_t len = 0;
  memset(ret, 0, 16);
  if (n == 0)
    return 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    return -ENOMEM;
  for (size_t i = 0; i < n; i++)
  {
    const char *v = prelux_env_get(env->set, names[i]);
    fprintf(f, "%s%s%s%c", names[i], v ? "=" : "", v ? v : "", 0);
  }
  bool failed = ferror(f);
  if (fclose(f) != 0 || failed)
  {
    free(text);
    return -ENOMEM;
  }
  bool ok = HMAC(EVP_sha256(), key, PRELUX_BOUND_KEY, (unsigned char *)text, len, md, &md_len) != NULL;
  explicit_bzero(text, len);
  free(text);
  if (!ok)
    return -ENOMEM;
  memcpy(ret, md, 16);
  return 0;
}
