/* Secrets that are written where every user of the machine can read them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/base/os.h"
#include "lib/conf/internal.h"
#include "lib/conf/show.h"

/* The mode lets others read it, and so does each folder above it: a file in a home that is closed is nobody's. */
static bool can_read(const char *path)
{
  char real[PRELUX_CONF_PATH_MAX];
  struct stat st;
  if (!realpath(path, real) || prelux_os.stat(real, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
    return false;
  for (char *slash = strrchr(real, '/'); slash; slash = strrchr(real, '/'))
  {
    *slash = 0;
    if (prelux_os.stat(real[0] ? real : "/", &st) < 0 || !(st.st_mode & S_IXOTH))
      return false;
  }
  return true;
}

bool prelux_conf_exposed(const struct prelux_conf_loader *l, const char *path)
{
  return !l->in->replayed && can_read(path);
}

/* The value itself stands there, not what it is to be taken from. */
static bool is_literal(const char *text)
{
  return *text && strncmp(text, "file:", 5) != 0 && !strstr(text, "${");
}

/* scheme://user:password@host */
static bool has_password(const char *text)
{
  const char *authority = strstr(text, "://"), *end, *at;
  if (!authority)
    return false;
  authority += 3;
  end = authority + strcspn(authority, "/");
  at = memrchr(authority, '@', (size_t)(end - authority));
  return at && memchr(authority, ':', (size_t)(at - authority)) != NULL;
}

static bool is_secret(const struct prelux_conf_key *key, const char *name, const char *text)
{
  if (!is_literal(text))
    return false;
  if (key->type != PRELUX_T_MAP)
    return key->hidden || (key->type == PRELUX_T_URL && has_password(text));
  return prelux_conf_sounds_secret(name) || strcasestr(name, "authorization") || strcasestr(name, "cookie") || strcasestr(name, "api-key");
}

int prelux_conf_check_exposed(struct prelux_conf_loader *l, struct prelux_conf_at at, const struct prelux_conf_key *key, const char *name, const char *text)
{
  if (!is_secret(key, name, text) || !prelux_conf_exposed(l, at.file))
    return 0;
  prelux_conf_complain(l, at, "`%s` is a secret, and every user of this machine can read the file: chmod o-r, or let ${NAME} or file:PATH say where it is", name);
  return -EINVAL;
}
