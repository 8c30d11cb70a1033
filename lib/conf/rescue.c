/* Failing closed on a broken file: the prefixes it was about must give EIO, not the folders behind them. So every `local:`
 * that the lines show is taken, whether or not the file is YAML. One too many costs an EIO inside a broken run; one too few
 * lets a program read or write real files: in doubt a value is taken in both its possible forms. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/path.h"
#include "lib/conf/internal.h"

#define RESCUED_MAX 100000

struct rescue {
  struct prelux_conf_loader *l;
  bool list; /* azfuse's form: no ~, no ${ENV}, no URI */
  size_t cap;
  uint32_t *at, mask; /* hash of the mappings' numbers from 1 on */
};

static uint32_t *find(const struct rescue *r, const char *local)
{
  uint32_t at = (uint32_t)XXH3_64bits(local, strlen(local)) & r->mask;
  while (r->at[at] && strcmp(r->l->conf->mappings[r->at[at] - 1].local, local) != 0)
    at = (at + 1) & r->mask;
  return &r->at[at];
}

/* Room for one mapping more, in the array and in its hash, which is never more than half full. */
static int grow(struct rescue *r)
{
  struct prelux_conf *c = r->l->conf;
  if (c->n_mappings < r->cap)
    return 0;
  size_t cap = 16;
  while (cap <= c->n_mappings)
    cap *= 2;
  struct prelux_conf_mapping *grown = prelux_conf_alloc(c->memory, cap * sizeof *grown);
  uint32_t *at = prelux_conf_alloc(c->memory, 2 * cap * sizeof *at);
  if (!grown || !at)
    return -ENOMEM;
  if (c->n_mappings)
    memcpy(grown, c->mappings, c->n_mappings * sizeof *grown);
  memset(at, 0, 2 * cap * sizeof *at);
  c->mappings = grown;
  r->at = at;
  r->cap = cap;
  r->mask = (uint32_t)(2 * cap - 1);
  for (size_t i = 0; i < c->n_mappings; i++)
    *find(r, c->mappings[i].local) = (uint32_t)i + 1;
  return 0;
}

static int keep(struct rescue *r, char *local)
{
  struct prelux_conf *c = r->l->conf;
  if (c->n_mappings >= RESCUED_MAX)
    return 0;
  int err = grow(r);
  uint32_t *at = err == 0 ? find(r, local) : NULL;
  if (err < 0 || *at)
    return err;
  c->mappings[c->n_mappings++] = (struct prelux_conf_mapping){.local = local};
  *at = (uint32_t)c->n_mappings;
  return 0;
}

/* One text that may be a prefix. The mistakes found on the way are not news: the caller drops them. */
static int take(struct rescue *r, const char *text, size_t len)
{
  char out[PRELUX_CONF_PATH_MAX], *local = NULL;
  const char *plain;
  while (len > 0 && strchr(" \t\r", text[len - 1]))
    len--;
  char *copy = len ? prelux_conf_dup(r->l->conf->memory, text, len) : NULL;
  if (!copy)
    return len ? -ENOMEM : 0;
  int err = 0;
  struct prelux_conf_at nowhere = {.file = ""};
  if (r->list)
  {
    long n = prelux_path_join(out, sizeof out, r->l->in->cwd, copy);
    if (n > 0 && !(local = prelux_conf_dup(r->l->conf->memory, out, (size_t)n)))
      err = -ENOMEM;
  }
  else if ((err = prelux_conf_expand(r->l, nowhere, copy, &plain)) == 0)
    err = prelux_conf_local(r->l, nowhere, plain, &local);
  if (err == -ENOMEM)
    return err;
  return local ? keep(r, local) : 0;
}

/* A quoted scalar from its opening quote on; backslashes only as far as paths need them. */
static int take_quoted(struct rescue *r, const char *p, const char *end)
{
  char out[PRELUX_CONF_PATH_MAX] = "", quote = *p++;
  size_t n = 0;
  while (p < end && n < sizeof out)
  {
    if (*p == quote && quote == '\'' && p + 1 < end && p[1] == '\'')
      p++;
    else if (*p == quote)
      break;
    else if (*p == '\\' && quote == '"' && p + 1 < end)
      p++;
    out[n++] = *p++;
  }
  return take(r, out, n);
}

/* A plain scalar: to the end of the line or a comment; where it might stand in a flow map, to its comma or bracket too. */
static int take_plain(struct rescue *r, const char *p, const char *end, bool flow)
{
  const char *stop = p, *comma = NULL;
  bool more_keys = false;
  for (; stop < end; stop++)
  {
    if (*stop == '#' && stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
      break;
    if (!comma && strchr(",}]", *stop))
      comma = stop;
    if (*stop == ':' && stop + 1 < end && stop[1] == ' ')
      more_keys = true;
  }
  int err = comma ? take(r, p, (size_t)(comma - p)) : 0;
  if (err == 0 && (!comma || (!flow && !more_keys)))
    err = take(r, p, (size_t)(stop - p));
  return err;
}

static const char *skip_blank(const char *p, const char *end)
{
  while (p < end && (*p == ' ' || *p == '\t'))
    p++;
  return p;
}

/* What stands behind "local:". `next` is the line after this one, for values that begin there. */
static int take_value(struct rescue *r, const char *p, const char *end, const char *next, const char *text_end, bool flow)
{
  p = skip_blank(p, end);
  while (p < end && (*p == '&' || *p == '!')) /* an anchor, a tag */
  {
    while (p < end && *p != ' ')
      p++;
    p = skip_blank(p, end);
  }
  if (p == end || *p == '#' || *p == '|' || *p == '>' || *p == '\r')
  {
    if (next >= text_end)
      return 0;
    const char *newline = memchr(next, '\n', (size_t)(text_end - next));
    end = newline ? newline : text_end;
    p = skip_blank(next, end);
  }
  if (p == end || *p == '*')
    return 0;
  return *p == '"' || *p == '\'' ? take_quoted(r, p, end) : take_plain(r, p, end, flow);
}

/* Finds each key `local` in [line, end). */
static int scan_line(struct rescue *r, const char *line, const char *end, const char *next, const char *text_end)
{
  static const char word[] = "local";
  const size_t n = sizeof word - 1;
  for (const char *p = line; p + n < end; p++)
  {
    if (memcmp(p, word, n) != 0)
      continue;
    const char *before = p, *after = p + n;
    bool quoted = p > line && (p[-1] == '"' || p[-1] == '\'') && *after == p[-1];
    if (quoted)
      before--, after++;
    if (before > line && !strchr(" \t-{,[?", before[-1]))
      continue;
    after = skip_blank(after, end);
    if (after == end || *after != ':' || (!quoted && after + 1 < end && !strchr(" \t\r", after[1])))
      continue;
    while (before > line && (before[-1] == ' ' || before[-1] == '\t'))
      before--;
    bool flow = before > line && (before[-1] == '{' || before[-1] == ',');
    int err = take_value(r, after + 1, end, next, text_end, flow);
    if (err < 0)
      return err;
  }
  return 0;
}

bool prelux_conf_looks_like_list(const char *text, size_t len)
{
  const char *end = text + len;
  if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
    text += 3;
  while (text < end)
  {
    const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;
    const char *p = skip_blank(text, stop);
    bool marker = stop - text >= 3 && memcmp(text, "---", 3) == 0;
    if (p < stop && *p != '#' && *p != '\r' && *p != '%' && !marker)
      return *p == '[' || (*p == '-' && (p + 1 == stop || p[1] == ' ' || p[1] == '\r'));
    text = stop + 1;
  }
  return false;
}

int prelux_conf_rescue(struct prelux_conf_loader *l, const char *text, size_t len)
{
  struct rescue r = {.l = l, .list = prelux_conf_looks_like_list(text, len), .cap = 0};
  size_t complaints = l->n_complaints, dropped = l->dropped;
  const char *end = text + len;
  int err = 0;
  while (text < end && err == 0)
  {
    const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;
    const char *first = skip_blank(text, stop);
    if (first < stop && *first != '#')
      err = scan_line(&r, text, stop, newline ? newline + 1 : end, end);
    text = stop + 1;
  }
  while (l->n_complaints > complaints)
    free(l->complaints[--l->n_complaints].text);
  l->dropped = dropped;
  return err;
}
