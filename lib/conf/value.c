/* A YAML node -> the value of a key, by the key's type. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "include/prelux/table.h"
#include "lib/conf/internal.h"

struct place { /* what a reader of a value needs beside the value */
  struct prelux_conf_loader *l;
  struct prelux_conf_doc *d;
  const struct prelux_conf_key *key;
};

/* file:PATH -> the file's content without its last line end. Relative to the folder of the configuration file. */
static int secret_file(const struct place *p, struct prelux_conf_at at, const char *name, const char **ret)
{
  char folder[PRELUX_CONF_PATH_MAX], *path, *content, q[PRELUX_CONF_QUOTED];
  struct prelux_conf_input in = *p->l->in;
  const struct prelux_conf_input *whole = p->l->in;
  size_t len, n = (size_t)(strrchr(p->d->file, '/') - p->d->file);
  if (n >= sizeof folder)
    return -EINVAL;
  memcpy(folder, p->d->file, n);
  folder[n] = 0;
  in.cwd = n ? folder : "/";
  p->l->in = &in;
  int err = prelux_conf_path(p->l, at, p->key->name, name, &path);
  p->l->in = whole;
  if (err < 0)
    return err;
  err = prelux_conf_slurp(p->l, path, true, PRELUX_CONF_SECRET_MAX, &content, &len);
  if (err < 0)
  {
    prelux_conf_complain(p->l, at, "`%s`: %s cannot be read: %s", p->key->name, prelux_conf_quote(q, path), strerror(-err));
    return err == -ENOMEM ? err : -EINVAL;
  }
  while (len > 0 && (content[len - 1] == '\n' || content[len - 1] == '\r'))
    content[--len] = 0;
  if (strlen(content) == len && len > 0)
  {
    *ret = prelux_conf_dup(p->l->conf->memory, content, len);
    err = *ret ? 0 : -ENOMEM;
    if (err == 0 && prelux_conf_exposed(p->l, path))
      err = prelux_conf_warn(p->l, at, "`%s`: every user of this machine can read %s: chmod o-r", p->key->name, prelux_conf_quote(q, path));
  }
  else
  {
    prelux_conf_complain(p->l, at, "`%s`: %s %s", p->key->name, prelux_conf_quote(q, path), len ? "holds a NUL byte" : "is empty");
    err = -EINVAL;
  }
  explicit_bzero(content, len);
  free(content);
  return err;
}

/* ${ENV} and, for what is hidden, file:PATH. *ret_raw is set where the text is not as written. */
static int resolve(const struct place *p, struct prelux_conf_at at, const char *text, char **ret, char **ret_raw)
{
  struct prelux_conf_memory *m = p->l->conf->memory;
  const char *out = text;
  int err = prelux_conf_expand(p->l, at, text, &out);
  if (err == 0 && p->key->hidden && strncmp(text, "file:", 5) == 0)
    err = secret_file(p, at, out + 5, &out);
  if (err < 0)
    return err;
  *ret = out == text ? prelux_conf_dup(m, text, strlen(text)) : (char *)out;
  *ret_raw = out == text ? NULL : prelux_conf_dup(m, text, strlen(text));
  return *ret && (out == text || *ret_raw) ? 0 : -ENOMEM;
}

static bool has_control(const char *s)
{
  for (; *s; s++)
    if ((unsigned char)*s < 0x20 || *s == 0x7f)
      return true;
  return false;
}

static bool is_address(const char *s)
{
  int64_t port;
  const char *colon = strrchr(s, ':');
  if (!colon || colon == s || has_control(s) || strchr(s, ' ') || strchr(s, '/'))
    return false;
  if (s[0] == '[' ? colon[-1] != ']' : memchr(s, ':', (size_t)(colon - s)) != NULL)
    return false;
  return isdigit((unsigned char)colon[1]) && prelux_conf_parse_int(colon + 1, &port) == 0 && port >= 1 && port <= 65535;
}

/* http[s]://[user@]host[:port][/path], without a query: paths are put behind it. */
static bool is_url(const char *s)
{
  char host[512];
  size_t scheme = strncasecmp(s, "http://", 7) == 0 ? 7 : strncasecmp(s, "https://", 8) == 0 ? 8 : 0;
  if (!scheme || has_control(s) || strpbrk(s, " ?#"))
    return false;
  const char *authority = s + scheme, *end = authority + strcspn(authority, "/");
  const char *at = memrchr(authority, '@', (size_t)(end - authority));
  const char *begin = at ? at + 1 : authority;
  if (begin == end || snprintf(host, sizeof host, "%.*s", (int)(end - begin), begin) >= (int)sizeof host)
    return false;
  size_t bare = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
  return host[bare + (host[bare] == ']')] == 0 ? host[0] != '[' || host[bare] == ']' : is_address(host);
}

#define WORDS_MAX 16
struct words {
  char word[WORDS_MAX][PRELUX_CONF_NAME_MAX];
  size_t n;
};

static const char *next_word(void *arg, size_t i)
{
  const struct words *w = arg;
  return i < w->n ? w->word[i] : NULL;
}

static void bad_word(const struct place *p, struct prelux_conf_at at, const char *shown)
{
  char q[PRELUX_CONF_QUOTED], near[PRELUX_CONF_NAME_MAX], list[256] = "";
  struct words w = {.n = 0};
  for (const char *c = p->key->choices; *c && w.n < WORDS_MAX; c += strspn(c, "|"))
  {
    size_t len = strcspn(c, "|"), used = strlen(list);
    snprintf(w.word[w.n++], sizeof w.word[0], "%.*s", (int)len, c);
    snprintf(list + used, sizeof list - used, "%s%.*s", used ? ", " : "", (int)len, c);
    c += len;
  }
  bool found = prelux_conf_nearest(shown, next_word, &w, near);
  prelux_conf_complain(p->l, at, "`%s` must be one of %s, not %s%s%s%s", p->key->name, list, prelux_conf_quote(q, shown),
                       found ? "; did you mean " : "", found ? near : "", found ? "?" : "");
}

/* A scalar of any type that is one text. `v->text` is resolved; `shown` is what a message may repeat. */
static int check_text(const struct place *p, struct prelux_conf_at at, struct prelux_conf_value *v, const char *shown)
{
  char q[PRELUX_CONF_QUOTED];
  const struct prelux_conf_key *k = p->key;
  int err = prelux_conf_convert(v);
  bool fits = true;
  if (k->type == PRELUX_T_URL)
    fits = is_url(v->text);
  else if (k->type == PRELUX_T_ADDRESS)
    fits = is_address(v->text);
  else if ((k->hidden && has_control(v->text)) || ((k->hidden || k->required) && v->text[0] == 0))
  {
    prelux_conf_complain(p->l, at, v->text[0] ? "`%s` holds control characters or more than one line" : "`%s` is empty", k->name);
    return -EINVAL;
  }
  else if (k->type == PRELUX_T_ENUM && err < 0)
  {
    bad_word(p, at, shown);
    return -EINVAL;
  }
  if (err == -EINVAL || !fits)
    prelux_conf_complain(p->l, at, "`%s` must be %s, not %s", k->name, prelux_conf_type_name(k->type), prelux_conf_quote(q, shown));
  else if (err == -ERANGE)
    prelux_conf_complain(p->l, at, "`%s`: %s is out of range (%s)", k->name, prelux_conf_quote(q, shown),
                         k->choices                     ? k->choices
                         : k->type == PRELUX_T_MODE     ? "0..0777"
                         : k->type == PRELUX_T_SHARE || k->type == PRELUX_T_SHARE_OR_SIZE ? "0..1"
                                                        : "too large");
  return err < 0 || !fits ? -EINVAL : 0;
}

static int read_text(const struct place *p, yaml_node_t *n, struct prelux_conf_value *v)
{
  struct prelux_conf_at at = prelux_conf_doc_at(p->d, n);
  const char *word, *text = prelux_conf_scalar(p->l, p->d, n, p->key->name, prelux_conf_type_name(p->key->type));
  size_t len;
  if (!text)
    return -EINVAL;
  int err = resolve(p, at, text, &v->text, &v->raw);
  if (err == 0)
    err = check_text(p, at, v, text);
  if (err == 0)
    err = prelux_conf_check_exposed(p->l, at, p->key, p->key->name, text);
  if (err == 0 && p->key->type == PRELUX_T_PATH)
    err = prelux_conf_path(p->l, at, p->key->name, v->text, &v->text);
  if (err == 0 && p->key->type == PRELUX_T_ENUM)
  {
    int64_t ignore;
    prelux_conf_parse_enum(p->key->choices, v->text, &ignore, &word, &len);
    v->text = prelux_conf_dup(p->l->conf->memory, word, len);
    err = v->text ? 0 : -ENOMEM;
  }
  return err;
}

/* "a, b" -> items */
static int split_list(const struct place *p, struct prelux_conf_value *v, char *text)
{
  size_t max = 1;
  for (const char *c = text; *c; c++)
    max += *c == ',';
  v->items = prelux_conf_alloc(p->l->conf->memory, max * sizeof *v->items);
  if (!v->items)
    return -ENOMEM;
  for (char *save, *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save))
  {
    item += strspn(item, " \t");
    for (size_t n = strlen(item); n > 0 && (item[n - 1] == ' ' || item[n - 1] == '\t');)
      item[--n] = 0;
    if (*item)
      v->items[v->n_items++] = item;
  }
  return 0;
}

static int read_list(const struct place *p, yaml_node_t *n, struct prelux_conf_value *v)
{
  struct prelux_conf_at at = prelux_conf_doc_at(p->d, n);
  char *text, *raw;
  int bad = 0, err;
  if (n->type == YAML_SCALAR_NODE)
  {
    const char *scalar = prelux_conf_scalar(p->l, p->d, n, p->key->name, prelux_conf_type_name(p->key->type));
    err = scalar ? resolve(p, at, scalar, &text, &raw) : -EINVAL;
    if (err == 0)
      err = split_list(p, v, text);
    if (err < 0)
      return err;
  }
  else if (n->type == YAML_SEQUENCE_NODE)
  {
    size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
    v->items = prelux_conf_alloc(p->l->conf->memory, (count + 1) * sizeof *v->items);
    if (!v->items)
      return -ENOMEM;
    for (size_t i = 0; i < count; i++)
    {
      yaml_node_t *item = prelux_conf_doc_node(p->d, n->data.sequence.items.start[i]);
      const char *scalar;
      if ((err = prelux_conf_visit(p->l, p->d, item)) < 0)
        return err;
      scalar = prelux_conf_scalar(p->l, p->d, item, p->key->name, prelux_conf_type_name(p->key->type));
      err = scalar ? resolve(p, prelux_conf_doc_at(p->d, item), scalar, &v->items[v->n_items], &raw) : -EINVAL;
      if (err == -ENOMEM)
        return err;
      bad = err < 0 ? err : bad;
      v->n_items += err == 0;
    }
  }
  else
  {
    prelux_conf_complain(p->l, at, "`%s` must be a list of strings, not a map", p->key->name);
    return -EINVAL;
  }
  if (bad == 0 && v->n_items == 0)
  {
    prelux_conf_complain(p->l, at, "`%s` is an empty list", p->key->name);
    return -EINVAL;
  }
  return bad;
}

static int read_map(const struct place *p, yaml_node_t *n, struct prelux_conf_value *v)
{
  struct prelux_conf_map m;
  if (n->type != YAML_MAPPING_NODE)
  {
    prelux_conf_complain(p->l, prelux_conf_doc_at(p->d, n), "`%s` must be a map of strings, not a %s", p->key->name,
                         n->type == YAML_SEQUENCE_NODE ? "list" : "single value");
    return -EINVAL;
  }
  int bad = prelux_conf_map_open(p->l, p->d, n, &m);
  v->items = prelux_conf_alloc(p->l->conf->memory, (2 * m.n + 1) * sizeof *v->items);
  v->places = prelux_conf_alloc(p->l->conf->memory, (m.n + 1) * sizeof *v->places);
  if (!v->items || !v->places)
    bad = -ENOMEM;
  for (size_t i = 0; i < m.n && bad != -ENOMEM; i++)
  {
    struct prelux_conf_at at = prelux_conf_doc_at(p->d, m.pairs[i].value);
    char *raw, **slot = v->items + v->n_items;
    const char *text = prelux_conf_scalar(p->l, p->d, m.pairs[i].value, m.pairs[i].name, "a string");
    int err = text ? resolve(p, at, text, &slot[1], &raw) : -EINVAL;
    if (err == 0)
      err = prelux_conf_check_exposed(p->l, at, p->key, m.pairs[i].name, text);
    if (err == 0 && (has_control(slot[1]) || has_control(m.pairs[i].name) || !m.pairs[i].name[0]))
    {
      prelux_conf_complain(p->l, at, "`%s`: names and values are one line without control characters", p->key->name);
      err = -EINVAL;
    }
    if (err == 0 && !(slot[0] = prelux_conf_dup(p->l->conf->memory, m.pairs[i].name, strlen(m.pairs[i].name))))
      err = -ENOMEM;
    if (err == 0)
    {
      v->places[v->n_items / 2] = (struct prelux_conf_place){.line = at.line, .column = at.column};
      v->n_items += 2;
    }
    else
      bad = err;
  }
  prelux_conf_map_close(&m);
  return bad;
}

#define AGES "0..36500d"
static const struct prelux_conf_key age_key = {.name = "max_age", .type = PRELUX_T_DURATION, .choices = AGES};
static const struct prelux_conf_key word_key = {.name = "freshness", .type = PRELUX_T_ENUM, .choices = "immutable|always|skip"};

static int read_freshness(const struct place *p, yaml_node_t *n, struct prelux_conf_value *v)
{
  struct prelux_conf_map m;
  struct place inner = {.l = p->l, .d = p->d, .key = n->type == YAML_MAPPING_NODE ? &age_key : &word_key};
  struct prelux_conf_value part = {.key = inner.key};
  if (n->type != YAML_MAPPING_NODE)
  {
    int err = prelux_conf_scalar(p->l, p->d, n, p->key->name, prelux_conf_type_name(p->key->type)) ? read_text(&inner, n, &part)
                                                                                                   : -EINVAL;
    if (err == 0)
      v->text = part.text, v->raw = part.raw;
    return err;
  }
  int bad = prelux_conf_map_open(p->l, p->d, n, &m);
  const struct prelux_conf_pair *age = prelux_conf_map_find(&m, "max_age");
  for (size_t i = 0; i < m.n; i++)
    if (&m.pairs[i] != age)
    {
      char q[PRELUX_CONF_QUOTED];
      prelux_conf_complain(p->l, prelux_conf_doc_at(p->d, m.pairs[i].key), "unknown key %s in `freshness`; it has max_age only",
                           prelux_conf_quote(q, m.pairs[i].name));
      bad = -EINVAL;
    }
  if (bad == 0 && !age)
  {
    prelux_conf_complain(p->l, prelux_conf_doc_at(p->d, n), "`freshness` lacks max_age");
    bad = -EINVAL;
  }
  if (bad == 0)
    bad = read_text(&inner, age->value, &part);
  prelux_conf_map_close(&m);
  if (bad == 0 && !(v->text = prelux_conf_dup(p->l->conf->memory, "max_age", 7)))
    bad = -ENOMEM;
  v->number = part.number;
  return bad;
}

int prelux_conf_value_read(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const struct prelux_conf_key *key,
                           yaml_node_t *n, struct prelux_conf_value *ret)
{
  struct place p = {.l = l, .d = d, .key = key};
  struct prelux_conf_at at = prelux_conf_doc_at(d, n);
  struct prelux_conf_value v = {.key = key, .line = at.line, .column = at.column};
  int err = prelux_conf_visit(l, d, n);
  if (err < 0)
    return err;
  if (prelux_conf_is_null(n))
    return 1;
  switch (key->type)
  {
  case PRELUX_T_LIST: err = read_list(&p, n, &v); break;
  case PRELUX_T_MAP: err = read_map(&p, n, &v); break;
  case PRELUX_T_FRESHNESS: err = read_freshness(&p, n, &v); break;
  default: err = read_text(&p, n, &v); break;
  }
  if (err == 0)
    *ret = v;
  return err;
}

/* Fallbacks are trusted: a unit test converts every one. */
int prelux_conf_value_default(struct prelux_conf_loader *l, const struct prelux_conf_key *key, struct prelux_conf_value *ret)
{
  struct prelux_conf_value v = {.key = key};
  const char *text = key->fallback;
  if (key->type == PRELUX_T_FRESHNESS)
  {
    char age[32];
    if (sscanf(text, "{max_age: %31[^}]}", age) == 1)
    {
      text = "max_age";
      prelux_conf_parse_duration(age, &v.number);
    }
  }
  v.text = prelux_conf_dup(l->conf->memory, text, strlen(text));
  if (!v.text)
    return -ENOMEM;
  if (key->type != PRELUX_T_FRESHNESS)
    prelux_conf_convert(&v);
  *ret = v;
  return 0;
}
