#include "lib/backend/alluxio_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/conf/conf.h"

/* Bytes of "scheme://authority" in front of the path; 0: no scheme. */
static size_t authority_length(const char *uri)
{
  const char *colon = strstr(uri, "://");
  if (!colon || colon == uri || memchr(uri, '/', (size_t)(colon - uri)))
    return 0;
  const char *path = colon + 3;
  return (size_t)(path - uri) + strcspn(path, "/");
}

/* As AlluxioURI normalises a path: \ is /, slashes once, none at the end. "." and ".." it would resolve; nobody writes them. */
static int normalise(const char *root, char **ret)
{
  char *out = malloc(strlen(root) + 1);
  if (!out)
    return -ENOMEM;
  size_t n = authority_length(root);
  memcpy(out, root, n);
  for (const char *p = root + n; *p;)
  {
    size_t len = strcspn(p, "/\\");
    if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
    {
      free(out);
      return -EINVAL;
    }
    if (len)
    {
      out[n++] = '/';
      memcpy(out + n, p, len);
      n += len;
    }
    p += len + (p[len] != 0);
  }
  out[n] = 0;
  *ret = out;
  return 0;
}

static int add_place(struct prelux_alluxio_options *o, const char *text, size_t len, const char *before, const char *after)
{
  char *place = malloc(strlen(before) + len + strlen(after) + 1);
  if (!place)
    return -ENOMEM;
  sprintf(place, "%s%.*s%s", before, (int)len, text, after);
  for (size_t i = 0; i < o->n_places; i++)
    if (strcmp(o->places[i], place) == 0)
    {
      free(place);
      return 0;
    }
  o->places[o->n_places++] = place;
  return 0;
}

static bool has_port(const char *host)
{
  const char *end = host[0] == '[' ? strchr(host, ']') : host;
  return end && strchr(end, ':');
}

static int add_etcd(struct prelux_alluxio_options *o, const char *text, bool tls, int64_t port)
{
  char after[16] = "";
  const char *scheme = tls ? "https://" : "http://";
  if (strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0)
  {
    scheme = strncasecmp(text, "https", 5) == 0 ? "https://" : "http://";
    text = strstr(text, "://") + 3;
  }
  size_t len = strlen(text);
  if (len && text[len - 1] == '/')
    len--;
  if (!has_port(text))
    snprintf(after, sizeof after, ":%lld", (long long)port);
  return add_place(o, text, len, scheme, after);
}

static int take_places(struct prelux_alluxio_options *o, const struct prelux_conf_backend *conf)
{
  const struct prelux_conf_value *etcd = prelux_conf_get(conf, "etcd"), *workers = prelux_conf_get(conf, "workers");
  const char *domain = prelux_conf_str(conf, "domain");
  bool tls = prelux_conf_str(conf, "etcd_ca") || prelux_conf_str(conf, "etcd_cert") || prelux_conf_num(conf, "etcd_tls");
  const struct prelux_conf_value *list = etcd ? etcd : workers;
  size_t n = list ? list->n_items : 1;
  int err = 0;
  o->membership = etcd ? PRELUX_ALLUXIO_ETCD : workers ? PRELUX_ALLUXIO_LIST : PRELUX_ALLUXIO_DNS;
  o->places = calloc(n, sizeof *o->places);
  if (!o->places)
    return -ENOMEM;
  if (!list)
    return domain ? add_place(o, domain, strlen(domain), "", "") : -EINVAL;
  for (size_t i = 0; i < n && err == 0; i++)
    err = etcd ? add_etcd(o, list->items[i], tls, prelux_conf_num(conf, "etcd_port"))
               : add_place(o, list->items[i], strlen(list->items[i]), "", "");
  return err;
}

static int copy(char **to, const char *from)
{
  *to = from ? strdup(from) : NULL;
  return from && !*to ? -ENOMEM : 0;
}

int prelux_alluxio_options_init(struct prelux_alluxio_options *o, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const char *root = prelux_conf_str(conf, "root"), *ca = prelux_conf_str(conf, "etcd_ca");
  *o = (struct prelux_alluxio_options){
      .http_port = (unsigned)prelux_conf_num(conf, "http_port"),
      .s3_port = (unsigned)prelux_conf_num(conf, "s3_port"),
      .page_size = (uint64_t)prelux_conf_num(conf, "page_size"),
      .virtual_nodes = (unsigned)prelux_conf_num(conf, "virtual_nodes"),
      .refresh_ms = prelux_conf_num(conf, "refresh") / 1000000,
  };
  int err = root ? normalise(root, &o->root) : -EINVAL;
  if (err == -EINVAL)
    return prelux_problem(why, EINVAL, "backend %s: root: a full path such as s3://bucket/x, without . and .., is needed", conf->name);
  if (err == 0)
    err = take_places(o, conf);
  if (err == -EINVAL)
    return prelux_problem(why, EINVAL, "backend %s: one of etcd, workers, domain is needed", conf->name);
  if (err < 0 || copy(&o->name, conf->name) < 0 || copy(&o->cluster, prelux_conf_str(conf, "cluster")) < 0 ||
      copy(&o->etcd_user, prelux_conf_str(conf, "etcd_user")) < 0 || copy(&o->etcd_password, prelux_conf_str(conf, "etcd_password")) < 0 ||
      copy(&o->ca_file, ca ? ca : prelux_conf_str(conf, "tls.ca_file")) < 0 ||
      copy(&o->cert_file, prelux_conf_str(conf, "etcd_cert")) < 0 || copy(&o->key_file, prelux_conf_str(conf, "etcd_key")) < 0)
    return prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
  o->etcd_tls = (struct prelux_net_tls){.ca_file = o->ca_file,
                                        .insecure = (int)prelux_conf_num(conf, "tls.insecure"),
                                        .cert_file = o->cert_file,
                                        .key_file = o->key_file};
  return 0;
}

void prelux_alluxio_options_release(struct prelux_alluxio_options *o)
{
  for (size_t i = 0; i < o->n_places; i++)
    free(o->places[i]);
  free(o->places);
  free(o->name);
  free(o->root);
  free(o->cluster);
  free(o->etcd_user);
  if (o->etcd_password)
    explicit_bzero(o->etcd_password, strlen(o->etcd_password));
  free(o->etcd_password);
  free(o->ca_file);
  free(o->cert_file);
  free(o->key_file);
  *o = (struct prelux_alluxio_options){0};
}

static long full_path(const struct prelux_alluxio_options *o, const char *path, char *out, size_t cap)
{
  char *plain = NULL;
  size_t len = strlen(o->root);
  int err = normalise(path, &plain);
  long n = err < 0 ? err : (long)strlen(plain);
  if (n >= 0 && (strncmp(plain, o->root, len) != 0 || (plain[len] && plain[len] != '/')))
    n = -EINVAL;
  if (n >= 0 && (size_t)n >= cap)
    n = -ENAMETOOLONG;
  if (n >= 0)
    memcpy(out, plain, (size_t)n + 1);
  free(plain);
  return n;
}

long prelux_alluxio_ufs_path(const struct prelux_alluxio_options *o, const char *path, char *out, size_t cap)
{
  size_t len = strlen(o->root);
  if (authority_length(path))
    return full_path(o, path, out, cap);
  bool slash = path[0] || len == 0 || o->root[len - 1] == '/'; /* "/" and "file:///" are paths that end in their slash */
  int n = snprintf(out, cap, "%s%s%s", o->root, slash ? "/" : "", path);
  return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : n;
}

int prelux_alluxio_options_object(const struct prelux_alluxio_options *o, const char *uri, char *out, size_t cap)
{
  if (!authority_length(uri))
    return -EOPNOTSUPP;
  long n = full_path(o, uri, out, cap);
  if (n < 0)
    return n == -EINVAL ? -EOPNOTSUPP : (int)n;
  size_t root = strlen(o->root);
  root += out[root] == '/';
  memmove(out, out + root, (size_t)n + 1 - root);
  return 0;
}
