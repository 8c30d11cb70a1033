/* Which file, and its way from text to struct prelux_conf. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"
#include "lib/base/path.h"
#include "lib/conf/internal.h"

static const char *set_and_full(char *const *env, const char *name)
{
  const char *v = prelux_conf_env(env, name);
  return v && *v ? v : NULL;
}

/* azfuse's own default file counts where its environment says that it is in use. */
static const char *azfuse_default(char *const *env)
{
  static const char *const names[][2] = {{"QD_USE_FUSE", "AZFUSE_USE_FUSE"}, {"QD_TSV_USE_FUSE", "AZFUSE_TSV_USE_FUSE"}};
  long sum = 0, n;
  for (size_t i = 0; i < 2; i++)
  {
    const char *v = prelux_conf_env(env, names[i][0]);
    if (!v)
      v = prelux_conf_env(env, names[i][1]);
    sum += v && prelux_conf_python_int(v, &n) ? n : 0;
  }
  return sum != 0 ? "aux_data/configs/azfuse.yaml" : NULL;
}

/* -ENOENT: surely not there. What cannot be looked at is taken, and fails later with its reason. */
static int look(const char *path, const char *cwd, char *out, size_t cap)
{
  struct stat st;
  long len = prelux_path_join(out, cap, cwd, path);
  if (len < 0)
    return len == -EINVAL ? -ENOENT : (int)len;
  return prelux_os.stat(out, &st) < 0 && (errno == ENOENT || errno == ENOTDIR) ? -ENOENT : 0;
}

int prelux_conf_find(const struct prelux_conf_input *in, char *out, size_t cap)
{
  static const char *const names[] = {"PRELUX_CONFIG", "QD_CLOUD_FUSE_CONFIG_FILE", "AZFUSE_CLOUD_FUSE_CONFIG_FILE"};
  char path[PRELUX_CONF_PATH_MAX], home[PRELUX_CONF_PATH_MAX];
  const char *named = in->file;
  for (size_t i = 0; !named && i < sizeof names / sizeof names[0]; i++)
    named = set_and_full(in->env, names[i]);
  if (named)
  {
    long len = prelux_path_join(out, cap, in->cwd, named);
    return len >= 0 ? 0 : len == -EINVAL ? -ENOENT : (int)len;
  }
  const char *azfuse = azfuse_default(in->env);
  int err = azfuse ? look(azfuse, in->cwd, out, cap) : -ENOENT;
  if (err != -ENOENT)
    return err;
  const char *xdg = set_and_full(in->env, "XDG_CONFIG_HOME");
  int n = 0;
  if (xdg && xdg[0] == '/') /* the specification: a relative one is to be ignored */
    n = snprintf(path, sizeof path, "%s/prelux/config.yaml", xdg);
  else if (prelux_conf_home(in->env, NULL, home, sizeof home) >= 0)
    n = snprintf(path, sizeof path, "%s/.config/prelux/config.yaml", home);
  err = n > 0 && n < (int)sizeof path ? look(path, NULL, out, cap) : -ENOENT;
  return err == -ENOENT ? look("/etc/prelux/config.yaml", NULL, out, cap) : err;
}

static int read_document(struct prelux_conf_loader *l, const char *text, size_t len)
{
  struct prelux_conf *c = l->conf;
  struct prelux_conf_doc d = {.last_wins = prelux_conf_looks_like_list(text, len)};
  int err = prelux_conf_doc_parse(l, &d, c->source, text, len);
  yaml_node_t *root = err == 0 ? prelux_conf_doc_root(&d) : NULL;
  if (err == 0 && root && root->type == YAML_SEQUENCE_NODE)
  {
    c->azfuse = true;
    d.last_wins = true;
    err = prelux_conf_azfuse(l, &d, root);
  }
  else if (err == 0 && root && root->type == YAML_MAPPING_NODE)
  {
    d.last_wins = false;
    err = prelux_conf_native(l, &d, root);
  }
  else if (err == 0)
  {
    prelux_conf_complain(l, prelux_conf_doc_at(&d, root), "no configuration: a map with `version`, `backends` and `mappings` is wanted, "
                                                          "or azfuse's list");
    err = -EINVAL;
  }
  prelux_conf_doc_release(&d);
  return prelux_conf_backends_bind(l) < 0 ? -ENOMEM : err;
}

/* A list that azfuse's environment switches off is not even read, so that it need not be right. */
static int switched_off(struct prelux_conf_loader *l, const char *text, size_t len)
{
  if (!prelux_conf_looks_like_list(text, len))
    return 0;
  l->conf->azfuse = true;
  return prelux_conf_azfuse_switch(l, (struct prelux_conf_at){.file = l->conf->source, .order = 0, .line = 1, .column = 1},
                                   &l->conf->azfuse_off);
}

static int read_source(struct prelux_conf_loader *l, bool lenient)
{
  char *text;
  size_t len;
  int err = prelux_conf_slurp(l, l->conf->source, false, PRELUX_CONF_FILE_MAX, &text, &len);
  if (err == -ENOMEM)
    return err;
  if (err < 0)
  {
    prelux_conf_complain(l, (struct prelux_conf_at){.file = l->conf->source, .line = 1, .column = 1}, "cannot be read: %s",
                         err == -EFBIG ? "larger than 16 MiB" : strerror(-err));
    return -EINVAL;
  }
  err = switched_off(l, text, len);
  if (err == 0 && !l->conf->azfuse_off)
  {
    err = read_document(l, text, len);
    if (err == -EINVAL && lenient && prelux_conf_rescue(l, text, len) < 0)
      err = -ENOMEM;
  }
  else if (err == -EINVAL && lenient && prelux_conf_rescue(l, text, len) < 0)
    err = -ENOMEM;
  explicit_bzero(text, len);
  free(text);
  return l->no_memory ? -ENOMEM : err;
}

int prelux_conf_load(const struct prelux_conf_input *in, bool lenient, struct prelux_conf **ret, struct prelux_conf_error *err)
{
  char path[PRELUX_CONF_PATH_MAX];
  int status = prelux_conf_find(in, path, sizeof path);
  struct prelux_conf_memory *memory = status == 0 ? prelux_conf_memory_create() : NULL;
  if (!memory)
    return status < 0 ? status : -ENOMEM;
  struct prelux_conf *c = prelux_conf_alloc(memory, sizeof *c);
  if (!c)
  {
    prelux_conf_memory_free(memory);
    return -ENOMEM;
  }
  struct prelux_conf_loader l = {.in = in, .conf = c};
  c->memory = memory;
  c->source = prelux_conf_dup(memory, path, strlen(path));
  status = c->source ? prelux_conf_settings_default(&l) : -ENOMEM;
  if (status == 0)
    status = read_source(&l, lenient);
  if (status == -EINVAL && err && !(err->text = prelux_conf_report(&l)))
    status = -ENOMEM;
  prelux_conf_report_release(&l);
  if (status == 0 || (status == -EINVAL && lenient))
    *ret = c;
  else
    prelux_conf_free(c);
  return status;
}

void prelux_conf_free(struct prelux_conf *c)
{
  if (c)
    prelux_conf_memory_free(c->memory); /* which holds *c too */
}

const struct prelux_conf_value *prelux_conf_get(const struct prelux_conf_backend *b, const char *key)
{
  return prelux_conf_find_value(b->values, b->n_values, key);
}

const char *prelux_conf_str(const struct prelux_conf_backend *b, const char *key)
{
  const struct prelux_conf_value *v = prelux_conf_get(b, key);
  return v ? v->text : NULL;
}

int64_t prelux_conf_num(const struct prelux_conf_backend *b, const char *key)
{
  const struct prelux_conf_value *v = prelux_conf_get(b, key);
  return v ? v->number : 0;
}

const char *prelux_conf_item(const struct prelux_conf_backend *b, const char *key, const char *name)
{
  const struct prelux_conf_value *v = prelux_conf_get(b, key);
  for (size_t i = 0; v && i + 1 < v->n_items; i += 2)
    if (strcmp(v->items[i], name) == 0)
      return v->items[i + 1];
  return NULL;
}

const struct prelux_conf_backend *prelux_conf_backend(const struct prelux_conf *c, const char *name)
{
  for (size_t i = 0; i < c->n_backends; i++)
    if (strcmp(c->backends[i].name, name) == 0)
      return &c->backends[i];
  return NULL;
}
