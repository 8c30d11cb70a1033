/* Top level, cache, log and metrics: keys -> members of struct prelux_conf. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/conf/internal.h"

enum kind { TEXT, NUMBER, SHARE, NOT_OFF };

static const struct member {
  const char *key;
  size_t offset;
  enum prelux_conf_where where;
  enum kind kind;
} members[] = {
    {"outside_links", offsetof(struct prelux_conf, outside_links), PRELUX_AT_TOP, NOT_OFF},
    {"daemon_timeout", offsetof(struct prelux_conf, daemon_timeout_ns), PRELUX_AT_TOP, NUMBER},
    {"idle_exit", offsetof(struct prelux_conf, idle_exit_ns), PRELUX_AT_TOP, NUMBER},
    {"grace", offsetof(struct prelux_conf, grace_ns), PRELUX_AT_TOP, NUMBER},
    {"dir", offsetof(struct prelux_conf, cache_dir), PRELUX_AT_CACHE, TEXT},
    {"max_size", offsetof(struct prelux_conf, cache_max_size), PRELUX_AT_CACHE, NUMBER},
    {"staging", offsetof(struct prelux_conf, cache_staging), PRELUX_AT_CACHE, NUMBER},
    {"high", offsetof(struct prelux_conf, cache_high), PRELUX_AT_CACHE, SHARE},
    {"low", offsetof(struct prelux_conf, cache_low), PRELUX_AT_CACHE, SHARE},
    {"min_free", offsetof(struct prelux_conf, min_free_share), PRELUX_AT_CACHE, SHARE},
    {"min_free", offsetof(struct prelux_conf, min_free_bytes), PRELUX_AT_CACHE, NUMBER},
    {"level", offsetof(struct prelux_conf, log_level), PRELUX_AT_LOG, TEXT},
    {"file", offsetof(struct prelux_conf, log_file), PRELUX_AT_LOG, TEXT},
    {"format", offsetof(struct prelux_conf, log_format), PRELUX_AT_LOG, TEXT},
    {"listen", offsetof(struct prelux_conf, metrics_listen), PRELUX_AT_METRICS, TEXT},
};

static const struct prelux_conf_value *setting(const struct prelux_conf *c, enum prelux_conf_where where, const char *name)
{
  for (size_t i = 0; i < c->n_values; i++)
    if (c->values[i].key->where == where && strcmp(c->values[i].key->name, name) == 0)
      return &c->values[i];
  return NULL;
}

/* A value that could not be read leaves the member as it was: at its default. */
static void take_all(struct prelux_conf *c)
{
  for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
  {
    const struct member *m = &members[i];
    const struct prelux_conf_value *v = setting(c, m->where, m->key);
    void *p = (char *)c + m->offset;
    if (!v)
      continue;
    switch (m->kind)
    {
    case TEXT: *(char **)p = v->text; break;
    case NUMBER: *(uint64_t *)p = (uint64_t)v->number; break;
    case SHARE: *(double *)p = v->share; break;
    case NOT_OFF: *(bool *)p = strcmp(v->text, "off") != 0; break;
    }
  }
}

int prelux_conf_settings_default(struct prelux_conf_loader *l)
{
  struct prelux_conf *c = l->conf;
  c->values = prelux_conf_alloc(c->memory, PRELUX_CONF_ROWS_MAX * sizeof *c->values);
  if (!c->values)
    return -ENOMEM;
  for (enum prelux_conf_where w = PRELUX_AT_TOP; w <= PRELUX_AT_METRICS; w++)
    if (prelux_conf_section_defaults(l, w, NULL, c->values, &c->n_values) < 0)
      return -ENOMEM;
  take_all(c);
  return 0;
}

/* Adds what one map gives to conf->values, whose array has room for every row of the key table. */
static int read_section(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *n, enum prelux_conf_where where)
{
  struct prelux_conf_value *v = NULL;
  size_t count = 0;
  int err = prelux_conf_section_read(l, d, n, where, NULL, &v, &count);
  if (count)
    memcpy(l->conf->values + l->conf->n_values, v, count * sizeof *v);
  l->conf->n_values += count;
  return err;
}

static int read_named(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct prelux_conf_map *top, const char *name,
                      enum prelux_conf_where where)
{
  const struct prelux_conf_pair *p = prelux_conf_map_find(top, name);
  if (!p || prelux_conf_is_null(p->value))
    return read_section(l, d, NULL, where);
  if (p->value->type == YAML_MAPPING_NODE)
    return read_section(l, d, p->value, where);
  prelux_conf_complain(l, prelux_conf_doc_at(d, p->value), "`%s` must be a map of its own keys", name);
  return -EINVAL;
}

static int check_marks(struct prelux_conf_loader *l, const struct prelux_conf_doc *d)
{
  const struct prelux_conf_value *high = setting(l->conf, PRELUX_AT_CACHE, "high");
  const struct prelux_conf_value *low = setting(l->conf, PRELUX_AT_CACHE, "low");
  if (!high || !low || low->share < high->share)
    return 0;
  const struct prelux_conf_value *given = low->line ? low : high;
  prelux_conf_complain(l, (struct prelux_conf_at){d->file, d->order, given->line, given->column}, "`low` (%g) must be below `high` (%g)",
                       low->share, high->share);
  return -EINVAL;
}

int prelux_conf_settings_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, yaml_node_t *root,
                              const struct prelux_conf_map *top)
{
  static const struct {
    const char *name;
    enum prelux_conf_where where;
  } sections[] = {{"cache", PRELUX_AT_CACHE}, {"log", PRELUX_AT_LOG}, {"metrics", PRELUX_AT_METRICS}};
  l->conf->n_values = 0; /* the defaults are added again, to what is given */
  int bad = read_section(l, d, root, PRELUX_AT_TOP);
  for (size_t i = 0; i < sizeof sections / sizeof sections[0] && bad != -ENOMEM; i++)
  {
    int err = read_named(l, d, top, sections[i].name, sections[i].where);
    bad = err < 0 ? err : bad;
  }
  if (bad == -ENOMEM)
    return bad;
  take_all(l->conf);
  int err = check_marks(l, d);
  return err < 0 ? err : bad;
}
