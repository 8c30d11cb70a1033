/* Programs that reach remote data without open().
 *
 * Some libraries know s3://... themselves: they hand it to a client of their own, which speaks to the store over the network. No file is
 * opened, so nothing that is preloaded can serve it, cache it or even see it. `doctor CMD ARG...` looks for such names where a command
 * shows them: in its words, and in words that are files of text (a script), whose import lines tell which libraries are at work. It does
 * not run anything, and what is in modules, in configuration files or computed it cannot know: finding nothing proves nothing. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/conf/conf.h"

#define SCRIPT_MAX (1u << 20)
#define URI_MAX 1024
#define URIS_MAX 32
#define NAMES_MAX 160

static const char *const schemes[] = {"s3", "s3a", "s3n", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "gs", "gcs", "oss", "hdfs", "alluxio", "alluxiofs"};

/* Python packages with clients of their own. */
static const char *const packages[] = {"pandas", "pyarrow", "ray",   "dask",  "polars", "duckdb",    "fsspec",     "s3fs",    "boto3", "botocore",
                                       "aioboto3", "adlfs", "azure", "gcsfs", "daft", "deltalake", "smart_open", "alluxiofs", "datasets"};
static const char *const programs[] = {"aws", "s3cmd", "s5cmd", "mc", "rclone", "azcopy", "az", "gsutil", "gcloud", "duckdb", "hdfs", "hadoop", "alluxio"};

struct search {
  const struct prelux_conf *conf;
  prelux_cli_say *say;
  void *arg;
  char seen[URIS_MAX][URI_MAX];
  size_t n_seen;
};

static bool listed(const char *const *list, size_t n, const char *word, size_t len)
{
  for (size_t i = 0; i < n; i++)
    if (strlen(list[i]) == len && memcmp(list[i], word, len) == 0)
      return true;
  return false;
}
#define LISTED(list, word, len) listed(list, sizeof(list) / sizeof *(list), word, len)

/* ---- names ---- */

static void add_name(char *names, const char *word, size_t len)
{
  size_t at = strlen(names);
  char *there = memmem(names, at, word, len);
  bool known = there && (there == names || there[-1] == ' ') && (!there[len] || there[len] == ',');
  if (!known && at + len + 3 < NAMES_MAX)
    snprintf(names + at, NAMES_MAX - at, "%s%.*s", at ? ", " : "", (int)len, word);
}

/* Of `import a.b as c, d` and `from a import b`: the packages that are in the list. */
static void imports(const char *text, char *names)
{
  for (const char *line = text; line && *line; line = strchr(line, '\n'))
  {
    line += strspn(line, "\n \t;");
    bool from = strncmp(line, "from ", 5) == 0;
    if (!from && strncmp(line, "import ", 7) != 0)
      continue;
    for (const char *word = line + (from ? 5 : 7);;)
    {
      word += strspn(word, " \t");
      size_t len = strcspn(word, " \t\n,.;#"), rest = strcspn(word, ",\n;#");
      if (LISTED(packages, word, len))
        add_name(names, word, len);
      if (from || word[rest] != ',')
        break;
      word += rest + 1;
    }
  }
}

/* The next name with one of the schemes: its length, *ret at its beginning; 0 none. */
static size_t next_uri(const char *text, const char **ret)
{
  for (const char *colon = text; (colon = strstr(colon, "://")); colon += 3)
  {
    const char *start = colon;
    while (start > text && isalnum((unsigned char)start[-1]))
      start--;
    size_t len = strcspn(colon, " \t\n\r\"'`,;)>]}|\\");
    if (!LISTED(schemes, start, (size_t)(colon - start)) || len <= 3)
      continue;
    *ret = start;
    return (size_t)(colon - start) + len;
  }
  return 0;
}

/* "s3a://bucket//x/" -> "s3:/bucket/x", as mappings have it. */
static void plain_form(const char *uri, size_t len, char out[URI_MAX])
{
  size_t scheme = strcspn(uri, ":"), n = 0;
  bool s3 = scheme == 3 && memcmp(uri, "s3", 2) == 0;
  for (size_t i = 0; i < len && n + 1 < URI_MAX; i++)
    if (!(s3 && i == 2) && !(uri[i] == '/' && n > 0 && out[n - 1] == '/'))
      out[n++] = uri[i];
  while (n > 0 && out[n - 1] == '/')
    n--;
  out[n] = 0;
}

/* ---- what of the configuration shows it ---- */

/* `path` at or below `top` -> what follows, without a slash; else NULL. */
static const char *below(const char *path, const char *top)
{
  size_t len = strlen(top);
  if (strncmp(path, top, len) != 0 || (len && path[len] && path[len] != '/'))
    return NULL;
  return path + len + (path[len] == '/');
}

static void joined(char out[URI_MAX], const char *head, const char *tail)
{
  snprintf(out, URI_MAX, "%s%s%s", head, *head && *tail ? "/" : "", tail);
}

/* The name of a backend's root, in plain form; "" when it has none. */
static void root_of(const struct prelux_conf_backend *b, char out[URI_MAX])
{
  const char *type = b->type ? b->type : "", *root = NULL;
  out[0] = 0;
  if (strcmp(type, "s3") == 0 && prelux_conf_str(b, "bucket"))
  {
    const char *prefix = prelux_conf_str(b, "prefix");
    char uri[URI_MAX];
    snprintf(uri, sizeof uri, "s3://%s/%s", prelux_conf_str(b, "bucket"), prefix ? prefix : "");
    plain_form(uri, strlen(uri), out);
  }
  else if ((strcmp(type, "alluxio") == 0 || strcmp(type, "alluxio-ee") == 0) && (root = prelux_conf_str(b, "root")))
    plain_form(root, strlen(root), out);
}

/* Backend and path of the object that a name in plain form stands for. *ret_opened: open() of the name itself is served, too. */
static const struct prelux_conf_backend *object_of(const struct prelux_conf *c, const char *name, char path[URI_MAX], bool *ret_opened)
{
  char root[URI_MAX];
  *ret_opened = false;
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    const struct prelux_conf_mapping *m = &c->mappings[i];
    const char *rest = m->local && m->local[0] != '/' ? below(name, m->local) : NULL;
    if (!rest || !m->backend || !m->path)
      continue;
    joined(path, m->path, rest);
    *ret_opened = true;
    return prelux_conf_backend(c, m->backend);
  }
  for (size_t i = 0; i < c->n_backends; i++)
  {
    root_of(&c->backends[i], root);
    const char *rest = *root ? below(name, root) : NULL;
    if (!rest)
      continue;
    snprintf(path, URI_MAX, "%s", rest);
    return &c->backends[i];
  }
  return NULL;
}

/* A path without a scheme at which a mapping shows the object; false: none. */
static bool path_of(const struct prelux_conf *c, const struct prelux_conf_backend *b, const char *object, char out[URI_MAX])
{
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    const struct prelux_conf_mapping *m = &c->mappings[i];
    const char *rest = m->local && m->local[0] == '/' && m->path && m->backend && strcmp(m->backend, b->name) == 0 ? below(object, m->path) : NULL;
    if (!rest)
      continue;
    joined(out, m->local, rest);
    return true;
  }
  return false;
}

/* ---- the finding ---- */

static void judge(struct search *s, const char *where, const char *uri, const char *name, const char *clients)
{
  char object[URI_MAX], path[URI_MAX] = "", text[URI_MAX * 2], advice[URI_MAX * 2];
  bool opened = false;
  const struct prelux_conf_backend *b = s->conf ? object_of(s->conf, name, object, &opened) : NULL;
  bool has = b && path_of(s->conf, b, object, path);
  if (*clients)
    snprintf(text, sizeof text, "%s%.300s: %s would reach it by clients of their own, which never call open(): nothing of it goes through prelux",
             where, uri, clients);
  else if (opened)
    snprintf(text, sizeof text, "%s%.300s: open() of it is served; libraries with clients of their own (pandas, PyArrow, Ray, boto3, ...) never call open()",
             where, uri);
  else
    snprintf(text, sizeof text, "%s%.300s: no mapping has this name, and libraries that know it do not call open()", where, uri);
  if (has)
    snprintf(advice, sizeof advice, "give %.600s instead", path);
  else if (b)
    snprintf(advice, sizeof advice, "map backend %.100s at a path (local: /...) and give that instead", b->name);
  else
    snprintf(advice, sizeof advice, "if it is to go through prelux, map it at a path (local: /...) and give that instead");
  s->say(s->arg, *clients && b ? "warn" : "info", text, advice);
}

static void look(struct search *s, const char *where, const char *text, const char *clients)
{
  const char *at = text;
  for (size_t len; (len = next_uri(at, &at)) > 0 && s->n_seen < URIS_MAX; at += len)
  {
    char uri[URI_MAX], *name = s->seen[s->n_seen];
    size_t i = 0;
    snprintf(uri, sizeof uri, "%.*s", (int)len, at);
    plain_form(uri, strlen(uri), name);
    while (strcmp(s->seen[i], name) != 0)
      i++;
    if (i < s->n_seen)
      continue;
    s->n_seen++;
    judge(s, where, uri, name, clients);
  }
}

/* A file of text of modest size, NUL-terminated, or NULL. Caller frees. */
static char *script(const char *path)
{
  struct stat st;
  char *text = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0)
    return NULL;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= SCRIPT_MAX && (text = malloc((size_t)st.st_size + 1)))
  {
    ssize_t n = read(fd, text, (size_t)st.st_size);
    text[n > 0 ? n : 0] = 0;
    if (n <= 0 || memchr(text, 0, (size_t)n))
      free(text), text = NULL;
  }
  close(fd);
  return text;
}

void prelux_cli_bypass(char *const *words, int n, const struct prelux_conf *conf, prelux_cli_say *say, void *arg)
{
  struct search *s = calloc(1, sizeof *s);
  char clients[NAMES_MAX] = "", where[URI_MAX];
  const char *slash = n > 0 ? strrchr(words[0], '/') : NULL, *program = n > 0 ? slash ? slash + 1 : words[0] : "";
  if (!s)
    return;
  *s = (struct search){.conf = conf, .say = say, .arg = arg};
  if (LISTED(programs, program, strlen(program)))
    add_name(clients, program, strlen(program));
  /* First who is at work, then what it is given: `train.py s3://...` */
  for (int i = 0; i < n; i++)
  {
    char *text = script(words[i]);
    imports(text ? text : words[i], clients);
    free(text);
  }
  for (int i = 0; i < n; i++)
  {
    char *text = script(words[i]);
    snprintf(where, sizeof where, "%.200s: ", words[i]);
    look(s, text ? where : "", text ? text : words[i], clients);
    free(text);
  }
  free(s);
}
