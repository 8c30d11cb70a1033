/* The native form: a map with version, backends, mappings and sections. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/prelux/table.h"
#include "lib/base/path.h"
#include "lib/conf/internal.h"

struct native {
  struct prelux_conf_loader *l;
  struct prelux_conf_doc *d;
  bool backends_known; /* false: their section is broken, so a name that is not there is not complained of */
};

static bool good_name(const char *s)
{
  if (!*s)
    return false;
  for (; *s; s++)
    if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
      return false;
  return true;
}

/* The `type` of a backend as the key table spells it. */
static int backend_type(struct native *t, yaml_node_t *n, char **ret)
{
  struct prelux_conf_map m;
  struct prelux_conf_value v = {.text = NULL};
  const struct prelux_conf_key *row = prelux_conf_row(PRELUX_AT_BACKEND, "*", "type");
  int err = prelux_conf_map_open(t->l, t->d, n, &m);
  const struct prelux_conf_pair *p = prelux_conf_map_find(&m, "type");
  if (err != -ENOMEM && !p && !t->d->spent)
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, n), "the key `type` is missing");
  else if (err != -ENOMEM && p && (err = prelux_conf_value_read(t->l, t->d, row, p->value, &v)) == 1)
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, p->key), "`type` has no value");
  prelux_conf_map_close(&m);
  *ret = v.text;
  return err == -ENOMEM ? err : v.text ? 0 : -EINVAL;
}

/* A backend that has a mistake is kept by name, without a type: what refers to it is not wrong too. */
static int read_backend(struct native *t, const struct prelux_conf_pair *p)
{
  struct prelux_conf *c = t->l->conf;
  struct prelux_conf_backend *b = &c->backends[c->n_backends];
  struct prelux_conf_at at = prelux_conf_doc_at(t->d, p->value);
  char q[PRELUX_CONF_QUOTED];
  int bad = 0;
  *b = (struct prelux_conf_backend){.name = prelux_conf_dup(c->memory, p->name, strlen(p->name)), .line = at.line, .column = at.column};
  if (!b->name)
    return -ENOMEM;
  c->n_backends++;
  if (!good_name(p->name))
  {
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, p->key), "%s is no name for a backend: letters, digits, '_', '.', '-'",
                         prelux_conf_quote(q, p->name));
    bad = -EINVAL;
  }
  if (p->value->type != YAML_MAPPING_NODE)
  {
    prelux_conf_complain(t->l, at, "the backend %s must be a map with a `type`", prelux_conf_quote(q, p->name));
    return -EINVAL;
  }
  char *type;
  int err = backend_type(t, p->value, &type);
  if (err < 0)
    return err;
  err = prelux_conf_section_read(t->l, t->d, p->value, PRELUX_AT_BACKEND, type, &b->values, &b->n_values);
  if (err == 0 && bad == 0)
    b->type = type;
  return err < 0 ? err : bad;
}

static int read_backends(struct native *t, const struct prelux_conf_map *top)
{
  struct prelux_conf *c = t->l->conf;
  const struct prelux_conf_pair *p = prelux_conf_map_find(top, "backends");
  struct prelux_conf_map m;
  t->backends_known = true;
  if (!p || prelux_conf_is_null(p->value))
    return 0;
  if (p->value->type != YAML_MAPPING_NODE)
  {
    t->backends_known = false;
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, p->value), "`backends` must be a map of names to backends");
    return -EINVAL;
  }
  int bad = prelux_conf_map_open(t->l, t->d, p->value, &m);
  c->backends = prelux_conf_alloc(c->memory, (m.n + 1) * sizeof *c->backends);
  if (!c->backends)
    bad = -ENOMEM;
  for (size_t i = 0; i < m.n && bad != -ENOMEM; i++)
  {
    int err = read_backend(t, &m.pairs[i]);
    bad = err < 0 ? err : bad;
  }
  prelux_conf_map_close(&m);
  if (bad == -ENOMEM)
    return bad;
  int err = prelux_conf_backends_check(t->l, t->d);
  return err < 0 ? err : bad;
}

static const char *next_backend(void *arg, size_t i)
{
  const struct prelux_conf *c = arg;
  return i < c->n_backends ? c->backends[i].name : NULL;
}

/* "name:/path" */
static int take_remote(struct native *t, struct prelux_conf_mapping *m, struct prelux_conf_at at)
{
  struct prelux_conf *c = t->l->conf;
  char q[PRELUX_CONF_QUOTED], near[PRELUX_CONF_NAME_MAX];
  const char *colon = strchr(m->remote, ':');
  if (!colon || colon == m->remote)
  {
    prelux_conf_complain(t->l, at, "`remote` must be a backend's name, a colon and a path, not %s", prelux_conf_quote(q, m->remote));
    return -EINVAL;
  }
  m->backend = prelux_conf_dup(c->memory, m->remote, (size_t)(colon - m->remote));
  if (!m->backend)
    return -ENOMEM;
  if (!prelux_conf_backend(c, m->backend))
  {
    if (!t->backends_known)
      return -EINVAL;
    prelux_conf_quote(q, m->backend);
    if (prelux_conf_nearest(m->backend, next_backend, c, near))
      prelux_conf_complain(t->l, at, "`remote`: there is no backend %s; did you mean %s?", q, near);
    else
      prelux_conf_complain(t->l, at, "`remote`: there is no backend %s", q);
    return -EINVAL;
  }
  return prelux_conf_object_path(t->l, at, colon + 1, &m->path);
}

static uint32_t freshness_of(const char *word)
{
  static const char *const words[] = {
      [PRELUX_FRESH_MAX_AGE] = "max_age",
      [PRELUX_FRESH_IMMUTABLE] = "immutable",
      [PRELUX_FRESH_ALWAYS] = "always",
      [PRELUX_FRESH_SKIP] = "skip",
  };
  for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcmp(word, words[i]) == 0)
      return i;
  return PRELUX_FRESH_MAX_AGE;
}

static struct prelux_conf_at at_value(const struct native *t, const struct prelux_conf_value *v)
{
  return (struct prelux_conf_at){.file = t->d->file, .order = t->d->order, .line = v->line, .column = v->column};
}

/* What could be read of a mapping -> its members. */
static int take_mapping(struct native *t, struct prelux_conf_mapping *m)
{
  int bad = 0;
  for (size_t i = 0; i < m->n_values; i++)
  {
    struct prelux_conf_value *v = &m->values[i];
    const char *name = v->key->name;
    int err = 0;
    if (strcmp(name, "local") == 0)
    {
      err = prelux_conf_local(t->l, at_value(t, v), v->text, &m->local);
      if (err == 0)
        v->text = m->local, v->raw = NULL; /* shown as it came out */
    }
    else if (strcmp(name, "remote") == 0)
    {
      m->remote = v->text;
      err = take_remote(t, m, at_value(t, v));
    }
    else if (strcmp(name, "cache") == 0)
      m->cache = v->text;
    else if (strcmp(name, "staging") == 0)
      m->staging = v->text;
    else if (strcmp(name, "freshness") == 0)
    {
      m->freshness = freshness_of(v->text);
      m->max_age_ns = (uint64_t)v->number;
    }
    else if (strcmp(name, "negative_age") == 0)
      m->negative_age_ns = (uint64_t)v->number;
    else if (strcmp(name, "file_mode") == 0)
      m->file_mode = (uint32_t)v->number;
    else if (strcmp(name, "dir_mode") == 0)
      m->dir_mode = (uint32_t)v->number;
    else if (strcmp(name, "exec") == 0)
      m->exec_auto = strcmp(v->text, "auto") == 0;
    if (err == -ENOMEM)
      return err;
    bad = err < 0 ? err : bad;
  }
  return bad;
}

static int read_mapping(struct native *t, yaml_node_t *n)
{
  struct prelux_conf *c = t->l->conf;
  struct prelux_conf_mapping m = {.line = prelux_conf_doc_at(t->d, n).line, .column = prelux_conf_doc_at(t->d, n).column};
  int err = prelux_conf_visit(t->l, t->d, n);
  if (err < 0)
    return err;
  if (n->type != YAML_MAPPING_NODE)
  {
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, n), "a mapping must be a map with `local` and `remote`");
    return -EINVAL;
  }
  err = prelux_conf_section_read(t->l, t->d, n, PRELUX_AT_MAPPING, NULL, &m.values, &m.n_values);
  if (err == -ENOMEM)
    return err;
  int taken = take_mapping(t, &m);
  int fits = taken == -ENOMEM ? 0 : prelux_conf_writing_check(t->l, t->d, &m);
  taken = fits < 0 && taken != -ENOMEM ? fits : taken;
  if (err == 0 && taken == 0)
    taken = prelux_conf_durable_check(t->l, t->d, &m);
  if (m.local)
    c->mappings[c->n_mappings++] = m;
  return err < 0 ? err : taken;
}

static int read_mappings(struct native *t, const struct prelux_conf_map *top)
{
  struct prelux_conf *c = t->l->conf;
  const struct prelux_conf_pair *p = prelux_conf_map_find(top, "mappings");
  int bad = 0;
  if (!p)
    return 0; /* said by the section */
  if (p->value->type != YAML_SEQUENCE_NODE)
  {
    prelux_conf_complain(t->l, prelux_conf_doc_at(t->d, p->value), "`mappings` must be a list of mappings");
    return -EINVAL;
  }
  yaml_node_item_t *items = p->value->data.sequence.items.start;
  size_t n = (size_t)(p->value->data.sequence.items.top - items);
  c->mappings = prelux_conf_alloc(c->memory, (n + 1) * sizeof *c->mappings);
  if (!c->mappings)
    return -ENOMEM;
  for (size_t i = 0; i < n && bad != -ENOMEM && !t->d->spent; i++)
  {
    int err = read_mapping(t, prelux_conf_doc_node(t->d, items[i]));
    bad = err < 0 ? err : bad;
  }
  return bad;
}

int prelux_conf_native(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root)
{
  struct native t = {.l = l, .d = d};
  struct prelux_conf_map top;
  int err = prelux_conf_map_open(l, d, root, &top), bad = err; /* its complaints are the section's, too */
  if (err != -ENOMEM && (err = prelux_conf_settings_read(l, d, root, &top)) < 0)
    bad = err;
  if (err != -ENOMEM && (err = read_backends(&t, &top)) < 0)
    bad = err;
  if (err != -ENOMEM && (err = read_mappings(&t, &top)) < 0)
    bad = err;
  if (err != -ENOMEM && (err = prelux_conf_rules_check(l, d)) < 0)
    bad = err;
  prelux_conf_map_close(&top);
  return err == -ENOMEM ? err : bad;
}
