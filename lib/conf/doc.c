/* One YAML file as a document with positions.
 *
 * libyaml builds whatever it is given, searches anchors one by one, and hands out aliases as shared nodes. So the text is
 * parsed twice: first as events, which are counted and dropped (size, depth, anchors, tags that ask for objects), then into
 * the document. A walk that unfolds aliases takes a visit for each step, and there is an end to these too. */
#include "lib/conf/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/os.h"

static int read_plain(const char *path, size_t max, char **ret, size_t *ret_len)
{
  /* O_NONBLOCK: a FIFO that nobody writes to may not hang the daemon; taken back so that one with a writer is waited for. */
  int fd = prelux_os.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0)
    return -errno;
  size_t len = 0, cap = 0;
  char *buf = NULL;
  int err = prelux_os.fcntl(fd, F_SETFL, 0) < 0 ? -errno : 0;
  while (err == 0)
  {
    if (cap - len < 2)
    {
      cap = cap ? cap * 2 : 16384;
      char *grown = realloc(buf, cap);
      if (!grown)
      {
        err = -ENOMEM;
        break;
      }
      buf = grown;
    }
    ssize_t n = prelux_os.read(fd, buf + len, cap - len - 1);
    if (n == 0)
      break;
    if (n < 0)
      err = errno == EINTR ? 0 : -errno;
    else if ((len += (size_t)n) > max)
      err = -EFBIG;
  }
  prelux_os.close(fd);
  if (err < 0)
  {
    free(buf);
    return err;
  }
  buf[len] = 0;
  *ret = buf;
  *ret_len = len;
  return 0;
}

int prelux_conf_slurp(struct prelux_conf_loader *l, const char *path, bool secret, size_t max, char **ret, size_t *ret_len)
{
  if (!l->in->read_file)
    return read_plain(path, max, ret, ret_len);
  int err = l->in->read_file(l->in->read_arg, path, secret, ret, ret_len);
  if (err < 0 || *ret_len <= max)
    return err;
  free(*ret);
  return -EFBIG;
}

static struct prelux_conf_at at_mark(const struct prelux_conf_doc *d, yaml_mark_t m)
{
  return (struct prelux_conf_at){.file = d->file, .order = d->order, .line = (int)m.line + 1, .column = (int)m.column + 1};
}

struct prelux_conf_at prelux_conf_doc_at(const struct prelux_conf_doc *d, const yaml_node_t *n)
{
  return at_mark(d, n ? n->start_mark : (yaml_mark_t){0});
}

/* Where the reader, which counts bytes only, stopped. */
static struct prelux_conf_at at_offset(const struct prelux_conf_doc *d, const char *text, size_t len, size_t offset)
{
  struct prelux_conf_at at = {.file = d->file, .order = d->order, .line = 1, .column = 1};
  for (size_t i = 0; i < offset && i < len; i++)
  {
    if (text[i] == '\n')
      at.line++, at.column = 1;
    else if (((unsigned char)text[i] & 0xc0) != 0x80)
      at.column++;
  }
  return at;
}

static int not_yaml(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const yaml_parser_t *p, const char *text,
                    size_t len)
{
  const char *problem = p->problem;
  if (p->error == YAML_MEMORY_ERROR || !problem) /* libyaml's loader does not always say that memory was short */
    return -ENOMEM;
  if (p->error == YAML_READER_ERROR)
    prelux_conf_complain(l, at_offset(d, text, len, p->problem_offset), "not YAML in UTF-8: %s", problem);
  else if (p->context && p->context_mark.line != p->problem_mark.line)
    prelux_conf_complain(l, at_mark(d, p->problem_mark), "not YAML: %s (%s that begins in line %zu)", problem, p->context,
                         p->context_mark.line + 1);
  else
    prelux_conf_complain(l, at_mark(d, p->problem_mark), "not YAML: %s%s%s%s", problem, p->context ? " (" : "",
                         p->context ? p->context : "", p->context ? ")" : "");
  return -EINVAL;
}

struct census {
  unsigned nodes, depth, anchors, aliases, documents;
};

/* Tags of YAML's own types say nothing new; any other asks the reader to make an object. */
static bool harmless(const yaml_char_t *tag)
{
  static const char *const types[] = {"str", "int", "float", "bool", "null", "map", "seq", "merge"};
  static const char core[] = "tag:yaml.org,2002:";
  const char *t = (const char *)tag;
  if (!t || strcmp(t, "!") == 0)
    return true;
  if (strncmp(t, core, sizeof core - 1) != 0)
    return false;
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (strcmp(t + sizeof core - 1, types[i]) == 0)
      return true;
  return false;
}

/* Counts an event in. Complains and returns -EINVAL where the document must not be built. */
static int census_take(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, struct census *c, const yaml_event_t *e)
{
  const yaml_char_t *tag = NULL, *anchor = NULL;
  const char *limit = NULL;
  switch (e->type)
  {
  case YAML_SCALAR_EVENT:
    tag = e->data.scalar.tag, anchor = e->data.scalar.anchor, c->nodes++;
    break;
  case YAML_SEQUENCE_START_EVENT:
    tag = e->data.sequence_start.tag, anchor = e->data.sequence_start.anchor, c->nodes++, c->depth++;
    break;
  case YAML_MAPPING_START_EVENT:
    tag = e->data.mapping_start.tag, anchor = e->data.mapping_start.anchor, c->nodes++, c->depth++;
    break;
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT:
    c->depth--;
    break;
  case YAML_ALIAS_EVENT:
    c->nodes++, c->aliases++;
    break;
  case YAML_DOCUMENT_START_EVENT:
    c->documents++;
    break;
  default:
    break;
  }
  c->anchors += anchor != NULL;
  if (!harmless(tag))
  {
    char q[PRELUX_CONF_QUOTED];
    prelux_conf_complain(l, at_mark(d, e->start_mark), "the tag %s is not allowed: nothing is ever made from a tag",
                         prelux_conf_quote(q, (const char *)tag));
  }
  if (c->documents > 1)
    limit = "a second document; one file is one document";
  else if (c->depth > PRELUX_CONF_DEPTH_MAX)
    limit = "nested too deeply (more than 64 levels)";
  else if (c->nodes > PRELUX_CONF_NODES_MAX)
    limit = "too much: more than 1000000 values";
  else if (c->anchors > PRELUX_CONF_ANCHORS_MAX || c->aliases > PRELUX_CONF_ALIASES_MAX)
    limit = "too many anchors (4096 at most) or aliases (65536 at most)";
  if (limit)
    prelux_conf_complain(l, at_mark(d, e->start_mark), "%s", limit);
  return limit ? -EINVAL : 0;
}

static int census_all(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const char *text, size_t len)
{
  yaml_parser_t p;
  struct census c = {0};
  size_t before = l->n_complaints;
  bool end = false;
  int err = 0;
  if (!yaml_parser_initialize(&p))
    return -ENOMEM;
  yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
  while (err == 0 && !end)
  {
    yaml_event_t e;
    if (!yaml_parser_parse(&p, &e))
    {
      err = not_yaml(l, d, &p, text, len);
      break;
    }
    err = census_take(l, d, &c, &e);
    end = e.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&e);
  }
  yaml_parser_delete(&p);
  return err == 0 && l->n_complaints > before ? -EINVAL : err;
}

int prelux_conf_doc_parse(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const char *file, const char *text, size_t len)
{
  d->file = file;
  d->order = l->files++;
  d->loaded = d->spent = false;
  d->visits = PRELUX_CONF_VISITS_MAX;
  if (len > PRELUX_CONF_FILE_MAX)
  {
    prelux_conf_complain(l, prelux_conf_doc_at(d, NULL), "too large: more than 16 MiB");
    return -EINVAL;
  }
  int err = census_all(l, d, text, len);
  if (err < 0)
    return err;
  yaml_parser_t p;
  if (!yaml_parser_initialize(&p))
    return -ENOMEM;
  yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
  if (yaml_parser_load(&p, &d->yaml))
    d->loaded = true;
  else
    err = not_yaml(l, d, &p, text, len);
  yaml_parser_delete(&p);
  return err;
}

void prelux_conf_doc_release(struct prelux_conf_doc *d)
{
  if (d->loaded)
    yaml_document_delete(&d->yaml);
  d->loaded = false;
}

yaml_node_t *prelux_conf_doc_root(struct prelux_conf_doc *d)
{
  return d->loaded ? yaml_document_get_root_node(&d->yaml) : NULL;
}

yaml_node_t *prelux_conf_doc_node(struct prelux_conf_doc *d, int index)
{
  return yaml_document_get_node(&d->yaml, index);
}

bool prelux_conf_is_null(const yaml_node_t *n)
{
  static const char *const words[] = {"", "~", "null", "Null", "NULL"};
  if (n->type != YAML_SCALAR_NODE || n->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
    return false;
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcmp((const char *)n->data.scalar.value, words[i]) == 0)
      return true;
  return false;
}

const char *prelux_conf_scalar(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const yaml_node_t *n, const char *what,
                               const char *must)
{
  struct prelux_conf_at at = prelux_conf_doc_at(d, n);
  if (n->type != YAML_SCALAR_NODE)
    prelux_conf_complain(l, at, "`%s` must be %s, not a %s", what, must, n->type == YAML_SEQUENCE_NODE ? "list" : "map");
  else if (strlen((const char *)n->data.scalar.value) != n->data.scalar.length)
    prelux_conf_complain(l, at, "`%s` holds a NUL byte", what);
  else
    return (const char *)n->data.scalar.value;
  return NULL;
}

int prelux_conf_visit(struct prelux_conf_loader *l, struct prelux_conf_doc *d, const yaml_node_t *n)
{
  if (d->visits > 0)
  {
    d->visits--;
    return 0;
  }
  if (!d->spent)
    prelux_conf_complain(l, prelux_conf_doc_at(d, n), "too much: its aliases unfold to more than 4000000 values");
  d->spent = true;
  return -EINVAL;
}
