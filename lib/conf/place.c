/* Where a mapping lies: local prefixes, object paths, and the rules that hold between mappings. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/path.h"
#include "lib/conf/internal.h"

/* Length of "s3:" in "s3:/x", or 0. */
static size_t scheme_length(const char *s)
{
  size_t n = 0;
  if (!isalpha((unsigned char)s[0]))
    return 0;
  while (isalnum((unsigned char)s[n]) || (s[n] && strchr("+.-", s[n])))
    n++;
  return s[n] == ':' && s[n + 1] == '/' ? n + 1 : 0;
}

static int local_uri(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, size_t scheme, char **ret)
{
  char out[PRELUX_CONF_PATH_MAX], q[PRELUX_CONF_QUOTED];
  memcpy(out, text, scheme);
  long len = prelux_path_join(out + scheme, sizeof out - scheme, NULL, text + scheme);
  if (len <= 1)
  {
    prelux_conf_complain(l, at, "`local`: %s %s", prelux_conf_quote(q, text), len < 0 ? "is too long" : "names nothing behind its scheme");
    return -EINVAL;
  }
  *ret = prelux_conf_dup(l->conf->memory, out, scheme + (size_t)len);
  return *ret ? 0 : -ENOMEM;
}

int prelux_conf_local(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, char **ret)
{
  size_t scheme = scheme_length(text);
  if (scheme > 0 && scheme < 64)
    return local_uri(l, at, text, scheme, ret);
  return prelux_conf_path(l, at, "local", text, ret);
}

int prelux_conf_object_path(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *text, char **ret)
{
  char q[PRELUX_CONF_QUOTED];
  size_t len = 0;
  char *out = prelux_conf_alloc(l->conf->memory, strlen(text) + 1);
  if (!out)
    return -ENOMEM;
  while (*text)
  {
    text += strspn(text, "/");
    size_t n = strcspn(text, "/");
    if ((n == 1 && text[0] == '.') || (n == 2 && memcmp(text, "..", 2) == 0))
    {
      prelux_conf_complain(l, at, "`remote`: %s is no part of a remote path", prelux_conf_quote(q, n == 1 ? "." : ".."));
      return -EINVAL;
    }
    if (n > 0 && len > 0)
      out[len++] = '/';
    memcpy(out + len, text, n);
    len += n;
    text += n;
  }
  if (len >= PRELUX_CONF_PATH_MAX)
  {
    prelux_conf_complain(l, at, "`remote` is too long");
    return -EINVAL;
  }
  *ret = out;
  return 0;
}

static int by_local(const void *a, const void *b)
{
  const struct prelux_conf_mapping *const *x = a, *const *y = b;
  int order = strcmp((*x)->local, (*y)->local);
  return order ? order : *x < *y ? -1 : 1; /* both lie in one array: earlier first */
}

static int by_cache(const void *a, const void *b)
{
  const struct prelux_conf_mapping *const *x = a, *const *y = b;
  const char *c = (*x)->cache ? (*x)->cache : "", *d = (*y)->cache ? (*y)->cache : "";
  int order = strcmp(c, d);
  return order ? order : *x < *y ? -1 : 1;
}

static struct prelux_conf_at at_key(const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m, const char *key)
{
  const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, key);
  return (struct prelux_conf_at){d->file, d->order, v ? v->line : m->line, v ? v->column : m->column};
}

static bool same_remote(const struct prelux_conf_mapping *a, const struct prelux_conf_mapping *b)
{
  if (!a->path || !b->path)
    return true; /* broken, and said so */
  return strcmp(a->backend, b->backend) == 0 && strcmp(a->path, b->path) == 0;
}

/* What is in one cache is staged in one other folder. */
static int check_staging(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping **sorted)
{
  const struct prelux_conf_mapping *first = NULL;
  char q[PRELUX_CONF_QUOTED];
  int bad = 0;
  for (size_t i = 0; i < l->conf->n_mappings; i++)
  {
    const struct prelux_conf_mapping *m = sorted[i];
    if (!m->staging)
      continue;
    if (!first || strcmp(first->cache ? first->cache : "", m->cache ? m->cache : "") != 0)
      first = m;
    if (strcmp(first->staging, m->staging) == 0)
      continue;
    prelux_conf_complain(l, at_key(d, m, "staging"), "`staging` %s: files of the same cache are staged in that of line %d already",
                         prelux_conf_quote(q, m->staging), at_key(d, first, "staging").line);
    bad = -EINVAL;
  }
  return bad;
}

int prelux_conf_rules_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d)
{
  const struct prelux_conf *c = l->conf;
  char q[PRELUX_CONF_QUOTED];
  int bad = 0;
  const struct prelux_conf_mapping **sorted = calloc(c->n_mappings + 1, sizeof *sorted);
  if (!sorted)
    return -ENOMEM;
  for (size_t i = 0; i < c->n_mappings; i++)
    sorted[i] = &c->mappings[i];
  qsort(sorted, c->n_mappings, sizeof *sorted, by_local);
  for (size_t i = 1, first = 0; i < c->n_mappings; i++)
  {
    if (strcmp(sorted[first]->local, sorted[i]->local) != 0)
    {
      first = i;
      continue;
    }
    prelux_conf_complain(l, at_key(d, sorted[i], "local"), "this rule is never reached: `local` %s is that of line %d already",
                         prelux_conf_quote(q, sorted[i]->local), at_key(d, sorted[first], "local").line);
    bad = -EINVAL;
  }
  qsort(sorted, c->n_mappings, sizeof *sorted, by_cache);
  for (size_t i = 1, first = 0; i < c->n_mappings; i++)
  {
    if (!sorted[i]->cache || !sorted[first]->cache || strcmp(sorted[first]->cache, sorted[i]->cache) != 0)
    {
      first = i;
      continue;
    }
    if (same_remote(sorted[first], sorted[i]))
      continue;
    prelux_conf_complain(l, at_key(d, sorted[i], "cache"), "`cache` %s mirrors the other `remote` of line %d already",
                         prelux_conf_quote(q, sorted[i]->cache), at_key(d, sorted[first], "cache").line);
    bad = -EINVAL;
  }
  int err = check_staging(l, d, sorted);
  free(sorted);
  return err < 0 ? err : bad;
}
