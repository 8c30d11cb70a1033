/* Alluxio's own property names (`options` of the Alluxio types) and the addresses of a cluster.
 *
 * A property that has a native key becomes that key's value, so that whoever reads the configuration looks in one place. Both may
 * be given when they say the same. Names that are not in the table are none of ours: people paste whole site files. They are
 * warned of, not refused. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/conf/internal.h"

struct property {
  const char *name;
  const char *key;     /* the native key; NULL: none */
  const char *choices; /* of the values that can be served, by '|'; NULL: any, the backend looks at it */
};

static const struct property properties[] = {
    {.name = "alluxio.dora.client.ufs.root", .key = "root"},
    {.name = "alluxio.etcd.endpoints", .key = "etcd"},
    {.name = "alluxio.etcd.username", .key = "etcd_user"},
    {.name = "alluxio.etcd.password", .key = "etcd_password"},
    {.name = "alluxio.etcd.tls.enabled", .key = "etcd_tls"},
    {.name = "alluxio.etcd.tls.ca.cert", .key = "etcd_ca"},
    {.name = "alluxio.etcd.tls.client.cert", .key = "etcd_cert"},
    {.name = "alluxio.etcd.tls.client.key", .key = "etcd_key"},
    {.name = "alluxio.cluster.name", .key = "cluster"},
    {.name = "alluxio.worker.http.server.port", .key = "http_port"},
    {.name = "alluxio.worker.rest.port", .key = "s3_port"},
    {.name = "alluxio.worker.page.store.page.size", .key = "page_size"},
    {.name = "alluxio.user.consistent.hash.virtual.node.count.per.worker", .key = "virtual_nodes"},
    {.name = "alluxio.user.worker.selection.policy.consistent.hash.virtual.node.count.per.worker", .key = "virtual_nodes"},
    {.name = "alluxio.user.worker.list.refresh.interval", .key = "refresh"},
    {.name = "alluxio.user.worker.selection.policy",
     .choices = "CONSISTENT|alluxio.client.file.dora.ConsistentHashPolicy"},
    {.name = "alluxio.user.worker.selection.policy.type", .choices = "CONSISTENT_HASH"},
    {.name = "alluxio.worker.membership.manager.type", .choices = "ETCD|STATIC|SERVICE_REGISTRY"},
    {.name = "alluxio.user.dynamic.consistent.hash.ring.enabled", .choices = "true"},
    {.name = "alluxio.security.login.username"},
    {.name = NULL},
};

struct folding {
  struct prelux_conf_loader *l;
  struct prelux_conf_backend *b;
  const char *file;
  int order;
  const struct prelux_conf_value *options;
};

static struct prelux_conf_at at_item(const struct folding *f, size_t i)
{
  return (struct prelux_conf_at){.file = f->file, .order = f->order, .line = f->options->places[i].line,
                                 .column = f->options->places[i].column};
}

static int warn_unknown(const struct folding *f, size_t i)
{
  struct prelux_conf_at at = at_item(f, i);
  char q[PRELUX_CONF_QUOTED];
  return prelux_conf_warn(f->l, at, "`options`: nothing here looks at %s", prelux_conf_quote(q, f->options->items[2 * i]));
}

static bool among(const char *choices, const char *word)
{
  size_t n = strlen(word);
  for (const char *c = choices; *c; c += strspn(c, "|"))
  {
    size_t len = strcspn(c, "|");
    if (len == n && strncasecmp(c, word, n) == 0)
      return true;
    c += len;
  }
  return false;
}

/* "a, b" -> items of v */
static int split(struct prelux_conf_loader *l, struct prelux_conf_value *v, const char *text)
{
  size_t max = 1;
  for (const char *c = text; *c; c++)
    max += *c == ',';
  if (!(v->items = prelux_conf_alloc(l->conf->memory, max * sizeof *v->items)))
    return -ENOMEM;
  for (const char *c = text; *c; c += *c == ',')
  {
    c += strspn(c, " \t");
    size_t len = strcspn(c, ","), used = len;
    while (used && (c[used - 1] == ' ' || c[used - 1] == '\t'))
      used--;
    if (used && !(v->items[v->n_items++] = prelux_conf_dup(l->conf->memory, c, used)))
      return -ENOMEM;
    c += len;
  }
  v->text = NULL;
  return v->n_items ? 0 : -EINVAL;
}

/* Alluxio's units are ours, but that a bare number is milliseconds, and the long names. */
static int duration(struct prelux_conf_loader *l, struct prelux_conf_value *v)
{
  static const char *const longer[][2] = {{"second", "s"}, {"sec", "s"}, {"minute", "m"}, {"hour", "h"}, {"day", "d"}, {"millisecond", "ms"}};
  size_t digits = strspn(v->text, "0123456789.");
  const char *unit = v->text + digits, *ours = unit;
  char plain[48];
  if (!*unit)
    ours = "ms";
  for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
    if (strcasecmp(unit, longer[i][0]) == 0)
      ours = longer[i][1];
  if (ours == unit)
    return 0;
  if (digits > 32)
    return -EINVAL;
  snprintf(plain, sizeof plain, "%.*s%s", (int)digits, v->text, ours);
  v->text = prelux_conf_dup(l->conf->memory, plain, strlen(plain));
  return v->text ? 0 : -ENOMEM;
}

/* The property's value as one of its native key. */
static int convert(const struct folding *f, size_t i, const struct prelux_conf_key *key, struct prelux_conf_value *ret)
{
  const char *text = f->options->items[2 * i + 1];
  char q[PRELUX_CONF_QUOTED];
  struct prelux_conf_at at = at_item(f, i);
  int err = 0;
  *ret = (struct prelux_conf_value){.key = key, .text = (char *)text, .line = at.line, .column = at.column};
  if (key->type == PRELUX_T_LIST)
    err = split(f->l, ret, text);
  else if (key->type == PRELUX_T_PATH)
    return prelux_conf_path(f->l, at, f->options->items[2 * i], text, &ret->text);
  else
  {
    if (key->type == PRELUX_T_DURATION)
      err = duration(f->l, ret);
    if (err == 0)
      err = prelux_conf_convert(ret);
  }
  if (err == -ENOMEM)
    return err;
  if (err == 0 && key->type == PRELUX_T_STRING && !*text)
    err = -EINVAL;
  if (err == -ERANGE)
    prelux_conf_complain(f->l, at, "`%s`: %s is out of range (%s)", f->options->items[2 * i], prelux_conf_quote(q, text), key->choices);
  else if (err < 0)
    prelux_conf_complain(f->l, at, "`%s` must be %s, not %s", f->options->items[2 * i], prelux_conf_type_name(key->type),
                         key->hidden ? "what is written here" : prelux_conf_quote(q, text));
  return err < 0 ? -EINVAL : 0;
}

static bool same(const struct prelux_conf_value *a, const struct prelux_conf_value *b)
{
  switch (a->key->type)
  {
  case PRELUX_T_LIST:
    if (a->n_items != b->n_items)
      return false;
    for (size_t i = 0; i < a->n_items; i++)
      if (strcmp(a->items[i], b->items[i]) != 0)
        return false;
    return true;
  case PRELUX_T_STRING:
  case PRELUX_T_SECRET:
  case PRELUX_T_PATH:
    return strcmp(a->text, b->text) == 0;
  default:
    return a->number == b->number;
  }
}

/* Puts the value where the native key's is. */
static int put(const struct folding *f, size_t i, const struct prelux_conf_value *v)
{
  struct prelux_conf_backend *b = f->b;
  struct prelux_conf_value *old = (struct prelux_conf_value *)prelux_conf_find_value(b->values, b->n_values, v->key->name);
  if (!old)
    b->values[b->n_values++] = *v; /* there is room for every row of the table */
  else if (!old->line)
    *old = *v;
  else if (!same(old, v))
  {
    prelux_conf_complain(f->l, at_item(f, i), "`%s` contradicts `%s` of line %d", f->options->items[2 * i], v->key->name, old->line);
    return -EINVAL;
  }
  return 0;
}

static int fold_one(const struct folding *f, size_t i)
{
  const char *name = f->options->items[2 * i], *text = f->options->items[2 * i + 1];
  char q[PRELUX_CONF_QUOTED];
  struct prelux_conf_value v;
  const struct property *p = properties;
  while (p->name && strcmp(p->name, name) != 0)
    p++;
  const struct prelux_conf_key *key = p->key ? prelux_conf_row(PRELUX_AT_BACKEND, f->b->type, p->key) : NULL;
  if (!p->name || (p->key && !key))
    return warn_unknown(f, i);
  if (!key && p->choices && !among(p->choices, text))
  {
    prelux_conf_complain(f->l, at_item(f, i), "`%s`: %s cannot be served; only %s", name, prelux_conf_quote(q, text), p->choices);
    return -EINVAL;
  }
  if (!key)
    return 0;
  int err = convert(f, i, key, &v);
  return err < 0 ? err : put(f, i, &v);
}

int prelux_conf_alluxio_fold(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, struct prelux_conf_backend *b)
{
  struct folding f = {.l = l, .b = b, .file = d->file, .order = d->order,
                      .options = prelux_conf_find_value(b->values, b->n_values, "options")};
  int bad = 0;
  /* `options` may move when a value is added, its items do not. */
  struct prelux_conf_value options = f.options ? *f.options : (struct prelux_conf_value){0};
  f.options = &options;
  for (size_t i = 0; i < options.n_items / 2; i++)
  {
    int err = fold_one(&f, i);
    if (err == -ENOMEM)
      return err;
    bad = err < 0 ? err : bad;
  }
  return bad;
}

/* How long the host at s is, brackets and all; 0: none. */
static size_t host_length(const char *s, size_t len)
{
  const char *end = len && s[0] == '[' ? memchr(s, ']', len) : NULL;
  size_t host = end ? (size_t)(end + 1 - s) : strcspn(s, ":[");
  if (host > len)
    host = len;
  for (size_t i = 0; i < host; i++)
    if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || strchr("/?#@\\\"<>%", s[i]))
      return 0;
  return host;
}

/* host, [v6], each with :port or without. */
static bool is_place(const char *s, size_t len)
{
  size_t host = host_length(s, len);
  char digits[8];
  int64_t port;
  if (host == 0 || host == len)
    return host > 0;
  if (s[host] != ':' || len - host - 1 == 0 || len - host - 1 >= sizeof digits)
    return false;
  snprintf(digits, sizeof digits, "%.*s", (int)(len - host - 1), s + host + 1);
  return isdigit((unsigned char)digits[0]) && prelux_conf_parse_int(digits, &port) == 0 && port >= 1 && port <= 65535;
}

bool prelux_conf_is_place(const char *s, bool url)
{
  if (url && (strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0))
    s = strstr(s, "://") + 3;
  size_t len = strlen(s);
  if (url && len && s[len - 1] == '/')
    len--;
  return is_place(s, len);
}
