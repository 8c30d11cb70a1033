/* Keys of a mapping that go together, or do not. */
#include <string.h>

#include "lib/conf/internal.h"

/* Keys that say how something is written. */
static const char *const of_writing[] = {"async_durable", "held", "on_conflict", "after_upload", "on_crash"};

static const char *word(const struct prelux_conf_mapping *m, const char *name)
{
  const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, name);
  return v && v->text ? v->text : "";
}

int prelux_conf_writing_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m)
{
  bool off = strcmp(word(m, "write"), "off") == 0, sync = strcmp(word(m, "write"), "sync") == 0;
  int rc = 0;
  for (size_t i = 0; i < sizeof of_writing / sizeof of_writing[0] && rc == 0; i++)
  {
    const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, of_writing[i]);
    if (!v || !v->line || !v->text || strcmp(v->text, v->key->fallback) == 0)
      continue;
    const struct prelux_conf_at at = {.file = d->file, .order = d->order, .line = v->line, .column = v->column};
    if (off)
      rc = prelux_conf_warn(l, at, "`%s` has no effect: the mapping is read-only (`write: off`)", v->key->name);
    else if (sync && strcmp(v->key->name, "async_durable") == 0)
      rc = prelux_conf_warn(l, at, "`async_durable` has no effect with `write: sync`");
  }
  return rc;
}
