/* All keys of one place: a section of the file, one mapping or one backend. */
#include "lib/conf/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct section {
  struct prelux_conf_loader *l;
  struct prelux_conf_doc *d;
  enum prelux_conf_where where;
  const char *backend;
  struct prelux_conf_value *values;
  size_t n;
  bool seen[PRELUX_CONF_ROWS_MAX]; /* by row of the key table: given, right or wrong */
};

static bool belongs(const struct section *s, const struct prelux_conf_key *k)
{
  return k->where == s->where &&
         (s->where != PRELUX_AT_BACKEND || strcmp(k->backend, "*") == 0 || strcmp(k->backend, s->backend) == 0);
}

/* `prefix` is "" or the "tls." of nested keys. */
static const struct prelux_conf_key *find_key(const struct section *s, const char *prefix, const char *name)
{
  size_t n = strlen(prefix);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (belongs(s, k) && strncmp(k->name, prefix, n) == 0 && strcmp(k->name + n, name) == 0 && !strchr(name, '.'))
      return k;
  return NULL;
}

/* Is `name` a map that holds keys, as `tls` is? */
static bool is_group(const struct section *s, const char *name)
{
  size_t n = strlen(name);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (belongs(s, k) && strncmp(k->name, name, n) == 0 && k->name[n] == '.')
      return true;
  return false;
}

struct names {
  const struct section *s;
  const char *prefix;
  char group[PRELUX_CONF_NAME_MAX];
};

/* The names that may stand here: keys, and groups of nested keys. */
static const char *next_name(void *arg, size_t i)
{
  struct names *n = arg;
  size_t skip = strlen(n->prefix);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    if (!belongs(n->s, k) || strncmp(k->name, n->prefix, skip) != 0 || i-- > 0)
      continue;
    snprintf(n->group, sizeof n->group, "%.*s", (int)strcspn(k->name + skip, "."), k->name + skip);
    return n->group;
  }
  return NULL;
}

/* A key that is near to a known one counts as that one given: else a misspelt required key would be two mistakes. */
static void unknown(struct section *s, const struct prelux_conf_pair *p, const char *prefix)
{
  char q[PRELUX_CONF_QUOTED], near[PRELUX_CONF_NAME_MAX];
  struct prelux_conf_at at = prelux_conf_doc_at(s->d, p->key);
  struct names names = {.s = s, .prefix = prefix};
  prelux_conf_quote(q, p->name);
  if (prelux_conf_nearest(p->name, next_name, &names, near))
  {
    const struct prelux_conf_key *meant = find_key(s, prefix, near);
    if (meant)
      s->seen[meant - prelux_conf_keys] = true;
    prelux_conf_complain(s->l, at, "unknown key %s; did you mean %s%s?", q, prefix, near);
    return;
  }
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name && s->where == PRELUX_AT_BACKEND; k++)
    if (k->where == PRELUX_AT_BACKEND && strcmp(k->name, p->name) == 0)
    {
      prelux_conf_complain(s->l, at, "unknown key %s: backends of type %s have it, those of type %s do not", q, k->backend,
                           s->backend);
      return;
    }
  prelux_conf_complain(s->l, at, "unknown key %s", q);
}

static int read_pairs(struct section *s, yaml_node_t *n, const char *prefix);

/* `tls: {...}` */
static int read_group(struct section *s, const struct prelux_conf_pair *p)
{
  char prefix[PRELUX_CONF_NAME_MAX];
  if (prelux_conf_is_null(p->value))
    return 0;
  if (p->value->type != YAML_MAPPING_NODE || strlen(p->name) + 2 > sizeof prefix)
  {
    prelux_conf_complain(s->l, prelux_conf_doc_at(s->d, p->value), "`%s` must be a map of its own keys", p->name);
    return -EINVAL;
  }
  snprintf(prefix, sizeof prefix, "%s.", p->name);
  return read_pairs(s, p->value, prefix);
}

static int read_pair(struct section *s, const struct prelux_conf_pair *p, const char *prefix)
{
  const struct prelux_conf_key *k = find_key(s, prefix, p->name);
  if (!k && !*prefix && is_group(s, p->name))
    return read_group(s, p);
  if (!k)
  {
    unknown(s, p, prefix);
    return -EINVAL;
  }
  if (k->type == PRELUX_T_SECTION)
  {
    s->seen[k - prelux_conf_keys] = true;
    return 0;
  }
  int err = prelux_conf_value_read(s->l, s->d, k, p->value, &s->values[s->n]);
  if (err == 1 && k->required)
  {
    prelux_conf_complain(s->l, prelux_conf_doc_at(s->d, p->key), "`%s` has no value", k->name);
    err = -EINVAL;
  }
  s->n += err == 0;
  s->seen[k - prelux_conf_keys] |= err != 1;
  return err == 1 ? 0 : err;
}

static int read_pairs(struct section *s, yaml_node_t *n, const char *prefix)
{
  struct prelux_conf_map m;
  int bad = prelux_conf_map_open(s->l, s->d, n, &m);
  for (size_t i = 0; i < m.n && bad != -ENOMEM && !s->d->spent; i++)
  {
    int err = read_pair(s, &m.pairs[i], prefix);
    bad = err < 0 ? err : bad;
  }
  prelux_conf_map_close(&m);
  return bad;
}

static int finish(struct section *s, yaml_node_t *n)
{
  int bad = 0;
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    int err = 0;
    if (!belongs(s, k) || s->seen[k - prelux_conf_keys])
      continue;
    if (k->required)
    {
      prelux_conf_complain(s->l, prelux_conf_doc_at(s->d, n), "the key `%s` is missing", k->name);
      err = -EINVAL;
    }
    else if (k->fallback && (err = prelux_conf_value_default(s->l, k, &s->values[s->n])) == 0)
      s->n++;
    if (err == -ENOMEM)
      return err;
    bad = err < 0 ? err : bad;
  }
  return bad;
}

int prelux_conf_section_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n,
                             enum prelux_conf_where where, const char *backend, struct prelux_conf_value **ret, size_t *ret_n)
{
  struct section s = {.l = l, .d = d, .where = where, .backend = backend};
  size_t rows = 0;
  int bad = 0;
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    rows += belongs(&s, k);
  s.values = prelux_conf_alloc(l->conf->memory, (rows + 1) * sizeof *s.values);
  if (!s.values)
    return -ENOMEM;
  if (n)
    bad = read_pairs(&s, n, "");
  if (bad != -ENOMEM && !d->spent)
  {
    int err = finish(&s, n);
    bad = err < 0 ? err : bad;
  }
  *ret = s.values;
  *ret_n = s.n;
  return bad;
}

int prelux_conf_section_defaults(struct prelux_conf_loader *l, enum prelux_conf_where where, const char *backend,
                                 struct prelux_conf_value *values, size_t *n)
{
  struct section s = {.where = where, .backend = backend};
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    if (!belongs(&s, k) || !k->fallback || prelux_conf_find_value(values, *n, k->name))
      continue;
    if (prelux_conf_value_default(l, k, &values[*n]) < 0)
      return -ENOMEM;
    ++*n;
  }
  return 0;
}

const struct prelux_conf_key *prelux_conf_row(enum prelux_conf_where where, const char *backend, const char *name)
{
  const struct prelux_conf_key *k = prelux_conf_keys;
  while (k->name && (k->where != where || strcmp(k->name, name) != 0 || (backend && strcmp(k->backend, backend) != 0)))
    k++;
  return k->name ? k : NULL;
}

const struct prelux_conf_value *prelux_conf_find_value(const struct prelux_conf_value *v, size_t n, const char *name)
{
  for (size_t i = 0; i < n; i++)
    if (strcmp(v[i].key->name, name) == 0)
      return &v[i];
  return NULL;
}
