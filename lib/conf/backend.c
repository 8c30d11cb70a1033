/* What one row of the key table cannot say about a backend: keys that need, exclude or name one another. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/conf/internal.h"
#include "lib/conf/show.h"

struct checked {
  struct prelux_conf_loader *l;
  struct prelux_conf_at at; /* the backend */
  const struct prelux_conf_backend *b;
};

static struct prelux_conf_at at_value(const struct checked *c, const struct prelux_conf_value *v)
{
  struct prelux_conf_at at = c->at;
  if (v && v->line)
    at.line = v->line, at.column = v->column;
  return at;
}

/* A key that was given; a BOOL: as true. */
static const struct prelux_conf_value *given(const struct checked *c, const char *name)
{
  const struct prelux_conf_value *v = prelux_conf_find_value(c->b->values, c->b->n_values, name);
  if (!v || !v->line || (v->key->type == PRELUX_T_BOOL && !v->number))
    return NULL;
  return v;
}

/* At most one of `names` (NULL-terminated); at least one too when `need`. */
static int one_of(const struct checked *c, const char *const *names, bool need)
{
  const char *first = NULL;
  int bad = 0;
  for (const char *const *n = names; *n; n++)
  {
    const struct prelux_conf_value *v = given(c, *n);
    if (v && first)
    {
      prelux_conf_complain(c->l, at_value(c, v), "`%s` and `%s` exclude each other", first, *n);
      bad = -EINVAL;
    }
    if (v && !first)
      first = *n;
  }
  if (!first && need)
  {
    prelux_conf_complain(c->l, c->at, "one of `%s`, `%s`%s%s%s is missing", names[0], names[1], names[2] ? ", `" : "",
                         names[2] ? names[2] : "", names[2] ? "`" : "");
    bad = -EINVAL;
  }
  return bad;
}

static int needs(const struct checked *c, const char *name, const char *other)
{
  const struct prelux_conf_value *v = given(c, name);
  if (!v || given(c, other))
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`%s` is given without `%s`", name, other);
  return -EINVAL;
}

static int under_store(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "under_store");
  const struct prelux_conf_backend *b = v ? prelux_conf_backend(c->l->conf, v->text) : NULL;
  char q[PRELUX_CONF_QUOTED];
  if (!v)
    return 0;
  if (!b)
    prelux_conf_complain(c->l, at_value(c, v), "`under_store`: there is no backend %s", prelux_conf_quote(q, v->text));
  else if (b->type && strncmp(b->type, "alluxio", 7) == 0)
    prelux_conf_complain(c->l, at_value(c, v), "`under_store`: %s is Alluxio too, not a store under it", prelux_conf_quote(q, v->text));
  else
    return 0;
  return -EINVAL;
}

/* scheme://... or /path */
static int ufs_root(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "root");
  char q[PRELUX_CONF_QUOTED];
  if (!v || v->text[0] == '/' || strstr(v->text, "://"))
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`root` must be a full path with its scheme such as s3://bucket/x, not %s",
                       prelux_conf_quote(q, v->text));
  return -EINVAL;
}

static int first_of(int a, int b)
{
  return a < 0 ? a : b;
}

/* Each item of a LIST is host[:port]. */
static int places(const struct checked *c, const char *name, bool url)
{
  const struct prelux_conf_value *v = given(c, name);
  char q[PRELUX_CONF_QUOTED];
  int bad = 0;
  for (size_t i = 0; v && i < v->n_items; i++)
    if (!prelux_conf_is_place(v->items[i], url))
    {
      char *shown = prelux_conf_redacted(v->items[i]);
      prelux_conf_complain(c->l, at_value(c, v), "`%s`: %s is no %shost:port", name, prelux_conf_quote(q, shown ? shown : "it"),
                           url ? "URL or " : "");
      free(shown);
      bad = -EINVAL;
    }
  return bad;
}

static int domain(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "domain");
  char q[PRELUX_CONF_QUOTED];
  if (!v || (prelux_conf_is_place(v->text, false) && !strchr(v->text, ':')))
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`domain`: %s is no name of a host", prelux_conf_quote(q, v->text));
  return -EINVAL;
}

/* Not in every file: Alluxio's own property may give it. */
static int check_root(const struct checked *c)
{
  if (given(c, "root"))
    return ufs_root(c);
  prelux_conf_complain(c->l, c->at, "the key `root` is missing (or `options: {alluxio.dora.client.ufs.root: ...}`)");
  return -EINVAL;
}

/* A password that somebody protects by TLS must not go out in plain text. */
static int etcd_is_tls(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "etcd");
  const char *by = given(c, "etcd_ca") ? "etcd_ca" : given(c, "etcd_cert") ? "etcd_cert" : given(c, "etcd_tls") ? "etcd_tls" : NULL;
  for (size_t i = 0; v && by && i < v->n_items; i++)
    if (strncasecmp(v->items[i], "http://", 7) == 0)
    {
      prelux_conf_complain(c->l, at_value(c, v), "`etcd`: there is an http:// URL, but `%s` asks for TLS", by);
      return -EINVAL;
    }
  return 0;
}

/* What is to be written must be there, and writable. */
static int writes(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "write_through"), *under = given(c, "under_store");
  const struct prelux_conf_backend *b = under ? prelux_conf_backend(c->l->conf, under->text) : NULL;
  if (!v || !v->text || strcmp(v->text, "under_store") != 0)
    return 0;
  if (!under)
    return needs(c, "write_through", "under_store");
  if (!b || !b->type || strcmp(b->type, "http") != 0)
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`write_through`: backend %s is of type http, which cannot be written", b->name);
  return -EINVAL;
}

static int check_alluxio(const struct checked *c)
{
  static const char *const members[] = {"etcd", "workers", "domain", NULL};
  int bad = first_of(one_of(c, members, true), check_root(c));
  bad = first_of(bad, needs(c, "etcd_user", "etcd_password"));
  bad = first_of(bad, needs(c, "etcd_password", "etcd_user"));
  bad = first_of(bad, needs(c, "etcd_key", "etcd_cert"));
  bad = first_of(bad, first_of(places(c, "etcd", true), places(c, "workers", false)));
  bad = first_of(bad, first_of(domain(c), etcd_is_tls(c)));
  bad = first_of(bad, writes(c));
  return first_of(bad, under_store(c));
}

static int check_alluxio_ee(const struct checked *c)
{
  static const char *const members[] = {"domain", "workers", NULL};
  int bad = first_of(one_of(c, members, true), check_root(c));
  static const char *const unders[] = {"under_store", "fallback_to_ufs_enabled", NULL};
  bad = first_of(bad, first_of(places(c, "workers", false), domain(c)));
  bad = first_of(bad, one_of(c, unders, false));
  return first_of(bad, under_store(c));
}

static int check_alluxio_proxy(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "root");
  char q[PRELUX_CONF_QUOTED];
  if (!v || v->text[0] == '/')
    return needs(c, "ttl_action", "ttl");
  prelux_conf_complain(c->l, at_value(c, v), "`root` must be an Alluxio path such as /data, not %s", prelux_conf_quote(q, v->text));
  return -EINVAL;
}

/* A bucket's name goes into host names and paths as it is. */
static int bucket(const struct checked *c)
{
  const struct prelux_conf_value *v = given(c, "bucket");
  char q[PRELUX_CONF_QUOTED];
  if (!v || (v->text[0] && v->text[strspn(v->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] == 0 &&
             strcmp(v->text, ".") != 0 && strcmp(v->text, "..") != 0))
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`bucket`: %s is no name of a bucket", prelux_conf_quote(q, v->text));
  return -EINVAL;
}

/* "." and ".." in a URL are folded away by whatever stands between us and the server. */
static int no_dots(const struct checked *c, const char *name)
{
  const struct prelux_conf_value *v = given(c, name);
  for (const char *p = v ? v->text : ""; *p; p += strcspn(p, "/"), p += *p == '/')
  {
    size_t n = strcspn(p, "/");
    if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
    {
      prelux_conf_complain(c->l, at_value(c, v), "`%s` must not have . or .. in it", name);
      return -EINVAL;
    }
  }
  return 0;
}

/* It is shown and part of the cache's identity. */
static int no_user(const struct checked *c, const char *name)
{
  const struct prelux_conf_value *v = given(c, name);
  const char *host = v ? strstr(v->text, "://") : NULL;
  if (!host || !memchr(host + 3, '@', strcspn(host + 3, "/")))
    return 0;
  prelux_conf_complain(c->l, at_value(c, v), "`%s` must not have a user in it", name);
  return -EINVAL;
}

static int check_s3(const struct checked *c)
{
  static const char *const sources[] = {"access_key", "profile", "anonymous", NULL};
  int bad = one_of(c, sources, false);
  bad = first_of(bad, needs(c, "access_key", "secret_key"));
  bad = first_of(bad, needs(c, "secret_key", "access_key"));
  bad = first_of(bad, needs(c, "session_token", "access_key"));
  bad = first_of(bad, first_of(bucket(c), no_dots(c, "prefix")));
  return first_of(bad, no_user(c, "endpoint"));
}

static int check_azure(const struct checked *c)
{
  static const char *const sources[] = {"account_key", "sas_token", "bearer", "managed_identity", "default_credential", NULL};
  return one_of(c, sources, false);
}

static const struct check {
  const char *type;
  int (*check)(const struct checked *c);
} checks[] = {
    {.type = "alluxio", .check = check_alluxio},
    {.type = "alluxio-ee", .check = check_alluxio_ee},
    {.type = "alluxio-proxy", .check = check_alluxio_proxy},
    {.type = "s3", .check = check_s3},
    {.type = "azure", .check = check_azure},
};

int prelux_conf_backends_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d)
{
  int bad = 0;
  for (size_t i = 0; i < l->conf->n_backends; i++)
  {
    const struct prelux_conf_backend *b = &l->conf->backends[i];
    struct checked c = {.l = l, .b = b, .at = {.file = d->file, .order = d->order, .line = b->line, .column = b->column}};
    if (b->type && strncmp(b->type, "alluxio", 7) == 0)
    {
      int err = prelux_conf_alluxio_fold(l, d, &l->conf->backends[i]);
      if (err < 0) /* what hangs on it keeps quiet */
      {
        bad = err == -ENOMEM ? err : first_of(err, bad);
        continue;
      }
    }
    for (size_t k = 0; b->type && k < sizeof checks / sizeof checks[0]; k++)
      if (strcmp(checks[k].type, b->type) == 0)
        bad = first_of(checks[k].check(&c), bad);
  }
  return bad;
}

/* A `sync` close says that the remote has the bytes for good. */
int prelux_conf_durable_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m)
{
  const struct prelux_conf_backend *b = prelux_conf_backend(l->conf, m->backend);
  const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, "write");
  const char *kind = b && b->type && strcmp(b->type, "alluxio-proxy") == 0 ? prelux_conf_str(b, "write_type") : NULL;
  if (!v || !v->text || !kind || strcmp(v->text, "off") == 0 || prelux_conf_num(b, "allow_volatile"))
    return 0;
  struct prelux_conf_at at = {.file = d->file, .order = d->order, .line = v->line, .column = v->column};
  bool volatile_kind = strcmp(kind, "MUST_CACHE") == 0 || strcmp(kind, "TRY_CACHE") == 0 || strcmp(kind, "NONE") == 0;
  if (volatile_kind && strcmp(v->text, "sync") == 0)
  {
    prelux_conf_complain(l, at, "`write: sync`: backend %s has `write_type: %s`, which keeps data in the workers' memory only; "
                         "allow_volatile: true in the backend allows it", b->name, kind);
    return -EINVAL;
  }
  if (volatile_kind || strcmp(kind, "ASYNC_THROUGH") == 0)
    return prelux_conf_warn(l, at, "`write: %s`: backend %s has `write_type: %s`: what was sent is lost when a worker dies%s", v->text, b->name,
                            kind, volatile_kind ? "" : " before Alluxio has persisted it");
  return 0;
}

static int bind_env(struct prelux_conf_loader *l, struct prelux_conf_backend *b, const char *const *names)
{
  size_t n = 0, used = 0;
  while (names[n])
    n++;
  if (!(b->env = prelux_conf_alloc(l->conf->memory, (n + 1) * sizeof *b->env)))
    return -ENOMEM;
  for (size_t i = 0; i < n; i++)
  {
    const char *value;
    if (prelux_conf_env_use(l, names[i], &value) < 0)
      return -ENOMEM;
    if (!value)
      continue;
    size_t name_len = strlen(names[i]), len = strlen(value);
    char *entry = prelux_conf_alloc(l->conf->memory, name_len + len + 2);
    if (!entry)
      return -ENOMEM;
    memcpy(entry, names[i], name_len);
    entry[name_len] = '=';
    memcpy(entry + name_len + 1, value, len);
    b->env[used++] = entry;
  }
  return 0;
}

static const struct prelux_conf_kind *kind_of(const char *type)
{
  const struct prelux_conf_kind *k = prelux_conf_kinds;
  while (k->type && strcmp(k->type, type) != 0)
    k++;
  return k->type ? k : NULL;
}

int prelux_conf_kind_env_use(struct prelux_conf_loader *l, const char *type)
{
  const struct prelux_conf_kind *k = kind_of(type);
  const char *value;
  int err = 0;
  for (size_t i = 0; err == 0 && k && k->env && k->env[i]; i++)
    err = prelux_conf_env_use(l, k->env[i], &value);
  return err;
}

static bool is_written(const struct prelux_conf *c, const struct prelux_conf_backend *b)
{
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    const struct prelux_conf_mapping *m = &c->mappings[i];
    const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, "write");
    if (v && v->text && strcmp(v->text, "off") != 0 && m->backend && strcmp(m->backend, b->name) == 0)
      return true;
  }
  return false;
}

int prelux_conf_backends_bind(struct prelux_conf_loader *l)
{
  struct prelux_conf *c = l->conf;
  for (size_t i = 0; i < c->n_backends; i++)
  {
    struct prelux_conf_backend *b = &c->backends[i];
    const struct prelux_conf_kind *k = b->type ? kind_of(b->type) : NULL;
    const char *under = b->type ? prelux_conf_str(b, "under_store") : NULL;
    if (k && k->env && bind_env(l, b, k->env) < 0)
      return -ENOMEM;
    b->under = under ? prelux_conf_backend(c, under) : NULL;
    b->written = is_written(c, b);
  }
  return 0;
}

const char *prelux_conf_backend_env(const struct prelux_conf_backend *b, const char *name)
{
  return prelux_conf_env(b->env, name);
}
