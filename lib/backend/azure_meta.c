#include "lib/backend/azure_meta.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/backend/backend.h"
#include "lib/net/net.h"

#define PREFIX "x-ms-meta-"
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define LINES_MAX 100 /* a blob has 8 KiB for all */
#define TEXT_MAX 32

uint32_t prelux_azure_meta_mode(const char *text)
{
  bool octal = text[0] == '0';
  size_t len = strlen(text);
  if (len == 0 || len > 10 || strspn(text, octal ? "01234567" : "0123456789") != len)
    return 0;
  return (uint32_t)strtoul(text, NULL, octal ? 8 : 10) & 07777;
}

bool prelux_azure_meta_mtime(const char *text, int64_t *ret_ns)
{
  const char *digits = text + (text[0] == '-');
  size_t len = strlen(digits);
  if (len == 0 || len > 19 || strspn(digits, "0123456789") != len)
    return false;
  errno = 0;
  long long ns = strtoll(text, NULL, 10);
  if (errno == ERANGE)
    return false;
  *ret_ns = ns;
  return true;
}

void prelux_azure_meta_read(const struct prelux_net_answer *a, struct prelux_object *obj)
{
  char text[TEXT_MAX];
  if (prelux_net_header(a, PREFIX PRELUX_AZURE_META_MODE, text, sizeof(text)) > 0)
    obj->mode = prelux_azure_meta_mode(text);
  if (prelux_net_header(a, PREFIX PRELUX_AZURE_META_MTIME, text, sizeof(text)) > 0)
    prelux_azure_meta_mtime(text, &obj->mtime_ns);
}

static int append(struct prelux_azure_meta *m, char *line)
{
  if (!line || m->n == LINES_MAX)
  {
    free(line);
    return line ? -E2BIG : -ENOMEM;
  }
  if (!m->lines)
    m->lines = calloc(LINES_MAX + 1, sizeof(*m->lines));
  if (!m->lines)
  {
    free(line);
    return -ENOMEM;
  }
  m->lines[m->n++] = line;
  return 0;
}

int prelux_azure_meta_line(struct prelux_azure_meta *m, const char *line)
{
  return append(m, strdup(line));
}

int prelux_azure_meta_add(struct prelux_azure_meta *m, const char *name, const char *value)
{
  char *line = NULL;
  return append(m, asprintf(&line, PREFIX "%s: %s", name, value) < 0 ? NULL : line);
}

static bool is_ours(const char *line)
{
  static const char *const names[] = {PRELUX_AZURE_META_MODE ":", PRELUX_AZURE_META_MTIME ":"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    if (strncasecmp(line + PREFIX_LEN, names[i], strlen(names[i])) == 0)
      return true;
  return false;
}

int prelux_azure_meta_copy(struct prelux_azure_meta *m, const struct prelux_net_answer *a)
{
  int rc = 0;
  const char *end = a->head ? a->head + a->head_len : NULL;
  for (const char *line = a->head; rc == 0 && line && line < end;)
  {
    size_t len = strcspn(line, "\r\n");
    if (len > PREFIX_LEN && strncasecmp(line, PREFIX, PREFIX_LEN) == 0 && memchr(line, ':', len) && !is_ours(line))
      rc = append(m, strndup(line, len));
    line += len;
    line += strspn(line, "\r\n");
  }
  return rc;
}

int prelux_azure_meta_set(struct prelux_azure_meta *m, uint32_t mode, bool has_mtime, int64_t mtime_ns)
{
  char text[TEXT_MAX];
  int rc = 0;
  if (mode)
  {
    snprintf(text, sizeof(text), "%u", (unsigned)(S_IFREG | (mode & 07777)));
    rc = prelux_azure_meta_add(m, PRELUX_AZURE_META_MODE, text);
  }
  if (rc == 0 && has_mtime)
  {
    snprintf(text, sizeof(text), "%" PRId64, mtime_ns);
    rc = prelux_azure_meta_add(m, PRELUX_AZURE_META_MTIME, text);
  }
  return rc;
}

void prelux_azure_meta_free(struct prelux_azure_meta *m)
{
  for (size_t i = 0; i < m->n; i++)
    free(m->lines[i]);
  free(m->lines);
  *m = (struct prelux_azure_meta){0};
}
