/* Complaints: collected while the files are walked, shown by position. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf/internal.h"

/* A message is one line whatever names and values it repeats. */
static void flatten(char *s)
{
  for (; *s; s++)
    if ((unsigned char)*s < 0x20 || *s == 0x7f)
      *s = '?';
}

void prelux_conf_complain(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *fmt, ...)
{
  va_list ap;
  if (l->n_complaints == PRELUX_CONF_ERRORS_MAX)
  {
    l->dropped++;
    return;
  }
  if (!l->complaints)
    l->complaints = calloc(PRELUX_CONF_ERRORS_MAX, sizeof *l->complaints);
  char *text = NULL;
  va_start(ap, fmt);
  if (!l->complaints || vasprintf(&text, fmt, ap) < 0)
    l->no_memory = true;
  else
  {
    flatten(text);
    l->complaints[l->n_complaints++] = (struct prelux_conf_complaint){.at = at, .text = text};
  }
  va_end(ap);
}

int prelux_conf_warn(struct prelux_conf_loader *l, struct prelux_conf_at at, const char *fmt, ...)
{
  struct prelux_conf *c = l->conf;
  char text[512];
  va_list ap;
  if (c->n_warnings == PRELUX_CONF_WARNINGS_MAX)
    return 0;
  if (!c->warnings && !(c->warnings = prelux_conf_alloc(c->memory, PRELUX_CONF_WARNINGS_MAX * sizeof *c->warnings)))
    return -ENOMEM;
  int n = snprintf(text, sizeof text, "%s:%d:%d: ", at.file, at.line, at.column);
  size_t used = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
  va_start(ap, fmt);
  vsnprintf(text + used, sizeof text - used, fmt, ap);
  va_end(ap);
  flatten(text + used);
  if (!(c->warnings[c->n_warnings] = prelux_conf_dup(c->memory, text, strlen(text))))
    return -ENOMEM;
  c->n_warnings++;
  return 0;
}

static int by_position(const void *a, const void *b)
{
  const struct prelux_conf_complaint *x = a, *y = b;
  if (x->at.order != y->at.order)
    return x->at.order < y->at.order ? -1 : 1;
  if (x->at.line != y->at.line)
    return x->at.line < y->at.line ? -1 : 1;
  if (x->at.column != y->at.column)
    return x->at.column < y->at.column ? -1 : 1;
  return strcmp(x->text, y->text);
}

char *prelux_conf_report(struct prelux_conf_loader *l)
{
  char *out = NULL;
  size_t len = 0;
  if (l->n_complaints == 0)
    return NULL;
  qsort(l->complaints, l->n_complaints, sizeof *l->complaints, by_position);
  FILE *f = open_memstream(&out, &len);
  if (!f)
    return NULL;
  for (size_t i = 0; i < l->n_complaints; i++)
  {
    const struct prelux_conf_at *at = &l->complaints[i].at;
    /* A broken node that is read twice, or reached by several aliases, is one mistake. */
    if (i && by_position(&l->complaints[i - 1], &l->complaints[i]) == 0)
      continue;
    fprintf(f, "%s%s:%d:%d: %s", i ? "\n" : "", at->file, at->line, at->column, l->complaints[i].text);
  }
  if (l->dropped)
  {
    const struct prelux_conf_at *at = &l->complaints[l->n_complaints - 1].at;
    fprintf(f, "\n%s:%d:%d: and %zu mistakes more", at->file, at->line, at->column, l->dropped);
  }
  bool lost = ferror(f);
  if (fclose(f) != 0 || lost)
  {
    free(out);
    return NULL;
  }
  return out;
}

void prelux_conf_report_release(struct prelux_conf_loader *l)
{
  for (size_t i = 0; i < l->n_complaints; i++)
    free(l->complaints[i].text);
  free(l->complaints);
  l->complaints = NULL;
  l->n_complaints = l->dropped = 0;
}

const char *prelux_conf_quote(char buf[PRELUX_CONF_QUOTED], const char *s)
{
  size_t len = strlen(s), max = PRELUX_CONF_QUOTED - 6;
  bool cut = len > max;
  if (cut)
    for (len = max; len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80;)
      len--;
  snprintf(buf, PRELUX_CONF_QUOTED, "\"%.*s%s\"", (int)len, s, cut ? "..." : "");
  flatten(buf);
  return buf;
}

/* Levenshtein distance; names longer than 63 bytes are nobody's typing mistake. */
static size_t distance(const char *a, const char *b)
{
  size_t row[64], n = strlen(b);
  if (n >= 64 || strlen(a) >= 64)
    return SIZE_MAX;
  for (size_t j = 0; j <= n; j++)
    row[j] = j;
  for (size_t i = 1; a[i - 1]; i++)
  {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= n; j++)
    {
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      if (row[j] + 1 < best)
        best = row[j] + 1;
      if (row[j - 1] + 1 < best)
        best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[n];
}

bool prelux_conf_nearest(const char *wrong, const char *(*next)(void *arg, size_t i), void *arg, char ret[PRELUX_CONF_NAME_MAX])
{
  size_t best = 2 + strlen(wrong) / 3; /* more mistakes than that are another word */
  const char *name;
  bool found = false;
  for (size_t i = 0; (name = next(arg, i)); i++)
  {
    bool begun = strlen(wrong) >= 2 && strncmp(name, wrong, strlen(wrong)) == 0;
    size_t d = begun ? 1 : distance(wrong, name);
    if (d >= best)
      continue;
    best = d;
    found = true;
    snprintf(ret, PRELUX_CONF_NAME_MAX, "%s", name);
  }
  return found;
}
