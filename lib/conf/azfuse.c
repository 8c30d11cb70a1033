/* azfuse's mapping file, taken as azfuse takes it: a list, the first match wins, storage accounts in files of their own.
 *
 * What azfuse does and this keeps: keys it does not know are ignored, a repeated key's last value counts, `local` is made
 * absolute lexically and without looking at ~, `cache` knows ~ only, all accounts are read at once. What it does not keep:
 * tags never make objects (azfuse loads with UnsafeLoader), and mistakes are named before anything runs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/prelux/table.h"
#include "lib/base/path.h"
#include "lib/conf/internal.h"

/* QD_NAME wins over AZFUSE_NAME, even when it is empty. */
int prelux_conf_azfuse_env(struct prelux_conf_loader *l, const char *name, const char **ret, char used[64])
{
  static const char *const prefixes[] = {"QD_", "AZFUSE_"};
  *ret = NULL;
  for (size_t i = 0; i < 2 && !*ret; i++)
  {
    snprintf(used, 64, "%s%s", prefixes[i], name);
    int err = prelux_conf_env_use(l, used, ret);
    if (err < 0)
      return err;
  }
  return 0;
}

/* Python's int(): blanks around, a sign, digits with single underscores between them. */
bool prelux_conf_python_int(const char *s, long *ret)
{
  long v = 0;
  s += strspn(s, " \t\n\r\f\v");
  bool negative = *s == '-';
  s += *s == '-' || *s == '+';
  if (!isdigit((unsigned char)*s))
    return false;
  for (; isdigit((unsigned char)*s); s += s[1] == '_' && isdigit((unsigned char)s[2]) ? 2 : 1)
    if (v < 100000000)
      v = v * 10 + (*s - '0');
  s += strspn(s, " \t\n\r\f\v");
  *ret = negative ? -v : v;
  return *s == 0;
}

int prelux_conf_azfuse_switch(struct prelux_conf_loader *l, struct prelux_conf_at at, bool *ret_off)
{
  static const char *const names[] = {"USE_FUSE", "TSV_USE_FUSE"};
  bool given = false;
  long sum = 0;
  for (size_t i = 0; i < 2; i++)
  {
    char used[64], q[PRELUX_CONF_QUOTED];
    const char *value;
    long n = 0;
    int err = prelux_conf_azfuse_env(l, names[i], &value, used);
    if (err < 0)
      return err;
    if (value && !prelux_conf_python_int(value, &n))
    {
      prelux_conf_complain(l, at, "the environment variable %s must be a whole number, not %s", used, prelux_conf_quote(q, value));
      return -EINVAL;
    }
    given |= value != NULL;
    sum += n;
  }
  *ret_off = given ? sum == 0 : l->in->bare;
  /* Noted even when off: a client that is asked for variables is asked for all of them at once. */
  const char *folder;
  char used[64];
  int err = prelux_conf_azfuse_env(l, "STORAGE_ACCOUNT_CONFIG_FOLDER", &folder, used);
  return err < 0 ? err : prelux_conf_kind_env_use(l, "azure");
}

static const char *entry_text(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n, const struct prelux_conf_map *m,
                              const char *name, struct prelux_conf_at *at, int *bad)
{
  const struct prelux_conf_pair *p = prelux_conf_map_find(m, name);
  const char *text = NULL;
  *at = prelux_conf_doc_at(d, p ? p->value : n);
  if (!p)
    prelux_conf_complain(l, *at, "the key `%s` is missing", name);
  else if (prelux_conf_is_null(p->value))
    prelux_conf_complain(l, prelux_conf_doc_at(d, p->key), "`%s` has no value", name);
  else
    text = prelux_conf_scalar(l, d, p->value, name, "a string");
  if (!text)
    *bad = -EINVAL;
  return text;
}

/* os.path.abspath(): lexical, no ~. */
static int take_local(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, char **ret)
{
  char out[PRELUX_CONF_PATH_MAX];
  long len = prelux_path_join(out, sizeof out, l->in->cwd, text);
  if (len < 0)
  {
    prelux_conf_complain(l, at, "`local` is %s", len == -ENAMETOOLONG ? "too long" : "relative, and the working folder is not known");
    return -EINVAL;
  }
  *ret = prelux_conf_dup(l->conf->memory, out, (size_t)len);
  return *ret ? 0 : -ENOMEM;
}

static int64_t default_of(const char *name)
{
  struct prelux_conf_value v = {.key = prelux_conf_row(PRELUX_AT_MAPPING, NULL, name)};
  v.text = (char *)v.key->fallback;
  prelux_conf_convert(&v);
  return v.number;
}

static int read_entry(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n, const struct prelux_conf_map *map)
{
  struct prelux_conf_at at = prelux_conf_doc_at(d, n);
  struct prelux_conf_mapping m = {
      .line = at.line,
      .column = at.column,
      .freshness = PRELUX_FRESH_IMMUTABLE,
      .negative_age_ns = (uint64_t)default_of("negative_age"),
      .file_mode = (uint32_t)default_of("file_mode"),
      .dir_mode = (uint32_t)default_of("dir_mode"),
      .exec_auto = true,
  };
  int bad = 0, err = 0;
  const char *text = entry_text(l, d, n, map, "local", &at, &bad);
  if (text)
    err = take_local(l, at, text, &m.local);
  bad = err < 0 ? err : bad;
  if (bad != -ENOMEM && (text = entry_text(l, d, n, map, "remote", &at, &bad)))
  {
    m.remote = prelux_conf_dup(l->conf->memory, text, strlen(text));
    err = m.remote ? prelux_conf_object_path(l, at, text, &m.path) : -ENOMEM;
    bad = err < 0 ? err : bad;
  }
  if (bad != -ENOMEM && (text = entry_text(l, d, n, map, "cache", &at, &bad)))
  {
    err = prelux_conf_path(l, at, "cache", text, &m.cache);
    bad = err < 0 ? err : bad;
  }
  if (bad != -ENOMEM && (text = entry_text(l, d, n, map, "storage_account", &at, &bad)))
  {
    err = prelux_conf_account_use(l, at, text);
    const struct prelux_conf_backend *b = prelux_conf_backend(l->conf, text);
    m.backend = b ? b->name : NULL;
    bad = err < 0 ? err : bad;
  }
  if (m.local && bad != -ENOMEM)
    l->conf->mappings[l->conf->n_mappings++] = m;
  return bad;
}

int prelux_conf_azfuse(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root)
{
  struct prelux_conf *c = l->conf;
  yaml_node_item_t *items = root->data.sequence.items.start;
  size_t n = (size_t)(root->data.sequence.items.top - items);
  int bad = 0;
  c->mappings = prelux_conf_alloc(c->memory, (n + 1) * sizeof *c->mappings);
  c->backends = prelux_conf_alloc(c->memory, (n + 1) * sizeof *c->backends);
  if (!c->mappings || !c->backends)
    return -ENOMEM;
  for (size_t i = 0; i < n && bad != -ENOMEM && !d->spent; i++)
  {
    yaml_node_t *item = prelux_conf_doc_node(d, items[i]);
    struct prelux_conf_map m;
    int err = prelux_conf_visit(l, d, item);
    if (err == 0 && item->type != YAML_MAPPING_NODE)
    {
      prelux_conf_complain(l, prelux_conf_doc_at(d, item), "an entry must be a map with local, remote, cache and storage_account");
      err = -EINVAL;
    }
    else if (err == 0)
    {
      err = prelux_conf_map_open(l, d, item, &m);
      int read = err == -ENOMEM || d->spent ? err : read_entry(l, d, item, &m);
      err = read < 0 ? read : err;
      prelux_conf_map_close(&m);
    }
    bad = err < 0 ? err : bad;
  }
  return bad;
}
