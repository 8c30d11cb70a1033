/* What a configuration takes from the environment of the process that starts a run: variables, home, working folder. */
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/path.h"
#include "lib/conf/internal.h"

const char *prelux_conf_env(char *const *env, const char *name)
{
  size_t n = strlen(name);
  for (; env && *env; env++)
    if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
      return *env + n + 1;
  return NULL;
}

static int note(struct prelux_conf_loader *l, const char *name)
{
  struct prelux_conf *c = l->conf;
  for (size_t i = 0; i < c->n_used_env; i++)
    if (strcmp(c->used_env[i], name) == 0)
      return 0;
  if (c->n_used_env == l->cap_env)
  {
    size_t cap = l->cap_env ? l->cap_env * 2 : 16;
    char **grown = prelux_conf_alloc(c->memory, cap * sizeof *grown);
    if (!grown)
      return -ENOMEM;
    if (c->n_used_env)
      memcpy(grown, c->used_env, c->n_used_env * sizeof *grown);
    c->used_env = grown;
    l->cap_env = cap;
  }
  char *copy = prelux_conf_dup(c->memory, name, strlen(name));
  if (!copy)
    return -ENOMEM;
  c->used_env[c->n_used_env++] = copy;
  return 0;
}

int prelux_conf_env_use(struct prelux_conf_loader *l, const char *name, const char **ret)
{
  *ret = prelux_conf_env(l->in->env, name);
  return strcmp(name, "HOME") == 0 ? 0 : note(l, name);
}

long prelux_conf_home(char *const *env, const char *user, char *out, size_t cap)
{
  struct passwd pw, *found = NULL;
  char buf[4096];
  const char *home = user ? NULL : prelux_conf_env(env, "HOME");
  if (home && home[0] != '/')
    home = NULL;
  if (!home)
  {
    if (user)
      getpwnam_r(user, &pw, buf, sizeof buf, &found);
    else
      getpwuid_r(getuid(), &pw, buf, sizeof buf, &found);
    if (!found || !found->pw_dir || found->pw_dir[0] != '/')
      return -ENOENT;
    home = found->pw_dir;
  }
  size_t n = strlen(home);
  if (n >= cap)
    return -ENAMETOOLONG;
  memcpy(out, home, n + 1);
  return (long)n;
}

/* "${NAME}" at p: writes its value. Returns what follows; NULL: no memory. */
static const char *expand_one(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *p, FILE *out, bool *bad)
{
  const char *name = p + 2, *end = name, *value;
  char copy[128];
  while (isalnum((unsigned char)*end) || *end == '_')
    end++;
  if (*end != '}' || end == name || isdigit((unsigned char)*name) || (size_t)(end - name) >= sizeof copy)
  {
    prelux_conf_complain(l, at, "\"${\" must begin a variable such as ${NAME}; write $${ for the characters themselves");
    *bad = true;
    return p + 2;
  }
  memcpy(copy, name, (size_t)(end - name));
  copy[end - name] = 0;
  if (prelux_conf_env_use(l, copy, &value) < 0)
    return NULL;
  if (value)
    fputs(value, out);
  else
  {
    prelux_conf_complain(l, at, "the environment variable %s is not set", copy);
    *bad = true;
  }
  return end + 1;
}

int prelux_conf_expand(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, const char **ret)
{
  char *buf = NULL;
  size_t len = 0;
  bool bad = false;
  if (!strstr(text, "${"))
  {
    *ret = text;
    return 0;
  }
  FILE *out = open_memstream(&buf, &len);
  if (!out)
    return -ENOMEM;
  const char *p = text;
  while (p && *p)
  {
    if (p[0] == '$' && p[1] == '{')
      p = expand_one(l, at, p, out, &bad);
    else
    {
      if (strncmp(p, "$${", 3) == 0)
        fputs("${", out), p += 3;
      else
        fputc(*p++, out);
    }
  }
  bool lost = ferror(out); /* a memory stream that cannot grow says so here, not at its end */
  lost |= fclose(out) != 0 || !buf;
  int err = lost || !p ? -ENOMEM : bad ? -EINVAL : 0;
  if (err == 0)
  {
    char *copy = prelux_conf_dup(l->conf->memory, buf, len);
    if (copy)
      *ret = copy;
    else
      err = -ENOMEM;
  }
  if (buf)
    explicit_bzero(buf, len);
  free(buf);
  return err;
}

/* "~..." -> out. An unknown user leaves the text as it is, as shells and Python do. */
static long expand_home(struct prelux_conf_loader *l, const char *text, char *out, size_t cap)
{
  char home[PRELUX_CONF_PATH_MAX], user[256];
  size_t n = strcspn(text, "/");
  long len = -ENOENT;
  if (n == 1)
    len = prelux_conf_home(l->in->env, NULL, home, sizeof home);
  else if (n - 1 < sizeof user)
  {
    memcpy(user, text + 1, n - 1);
    user[n - 1] = 0;
    len = prelux_conf_home(l->in->env, user, home, sizeof home);
    if (len == -ENOENT)
      n = 0, home[0] = 0, len = 0;
  }
  if (len < 0)
    return len;
  len = snprintf(out, cap, "%s%s", home, text + n);
  return len < (long)cap ? len : -ENAMETOOLONG;
}

int prelux_conf_path(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *what, const char *text, char **ret)
{
  char plain[PRELUX_CONF_PATH_MAX], out[PRELUX_CONF_PATH_MAX], q[PRELUX_CONF_QUOTED];
  long len = 0;
  if (text[0] == 0)
  {
    prelux_conf_complain(l, at, "`%s` is empty: a path is wanted", what);
    return -EINVAL;
  }
  if (text[0] == '~')
    len = expand_home(l, text, plain, sizeof plain);
  if (len >= 0)
    len = prelux_path_join(out, sizeof out, l->in->cwd, text[0] == '~' ? plain : text);
  if (len < 0)
  {
    prelux_conf_complain(l, at, "`%s`: %s %s", what, prelux_conf_quote(q, text),
                         len == -ENAMETOOLONG ? "is too long"
                         : len == -ENOENT     ? "needs a home folder, and there is none: set HOME"
                                              : "is relative, and the working folder is not known");
    return -EINVAL;
  }
  *ret = prelux_conf_dup(l->conf->memory, out, (size_t)len);
  return *ret ? 0 : -ENOMEM;
}
