/* The head of an answer, line by line. A field that is longer than its place counts as not sent: a cut one would lie.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/net/engine.h"

struct field
{
  const char *name;
  size_t off, cap;
};
#define FIELD(header, member)                                                                                          \
  {                                                                                                                    \
    .name = (header), .off = offsetof(struct prelux_net_answer, member),                                               \
    .cap = sizeof(((struct prelux_net_answer *)0)->member)                                                             \
  }

static const struct field fields[] = {
    FIELD("ETag", etag),
    FIELD("Last-Modified", last_modified),
    FIELD("Content-Range", content_range),
    FIELD("Content-Type", content_type),
    FIELD("Content-MD5", content_md5),
    FIELD("Date", date),
    FIELD("Retry-After", retry_after),
};

void prelux_net_head_reset(struct prelux_net_answer *a)
{
  int redirects = a->redirects;
  bool sent = a->sent;
  free(a->location);
  free(a->body);
  free(a->head);
  *a = (struct prelux_net_answer){.content_length = UINT64_MAX, .redirects = redirects, .sent = sent};
}

void prelux_net_answer_free(struct prelux_net_answer *a)
{
  if (!a)
    return;
  free(a->body);
  free(a->location);
  free(a->head);
  a->body = NULL;
  a->location = NULL;
  a->head = NULL;
  a->head_len = 0;
}

/* "HTTP/1.1 200 OK" */
static int status_line(struct prelux_net_answer *a, const char *line, size_t len)
{
  const char *space = memchr(line, ' ', len);
  size_t left = space ? len - (size_t)(space + 1 - line) : 0;
  if (left < 3)
    return -EPROTO;
  int status = 0;
  for (int i = 1; i <= 3; i++)
  {
    if (space[i] < '0' || space[i] > '9')
      return -EPROTO;
    status = status * 10 + (space[i] - '0');
  }
  if (status < 100)
    return -EPROTO;
  prelux_net_head_reset(a);
  a->status = status;
  return 0;
}

static int content_length(struct prelux_net_answer *a, const char *value, size_t len)
{
  uint64_t n = 0;
  if (len == 0 || len > 19)
    return -EPROTO;
  for (size_t i = 0; i < len; i++)
  {
    if (value[i] < '0' || value[i] > '9')
      return -EPROTO;
    n = n * 10 + (uint64_t)(value[i] - '0');
  }
  if (a->content_length != UINT64_MAX && a->content_length != n)
    return -EPROTO; /* two lengths: which is meant, nobody knows */
  a->content_length = n;
  return 0;
}

static bool is(const char *name, const char *line, size_t len)
{
  return strlen(name) == len && strncasecmp(name, line, len) == 0;
}

/* Keeps a line for prelux_net_header. The engine bounds what comes. */
static int keep_line(struct prelux_net_answer *a, const char *line, size_t len)
{
  char *more = realloc(a->head, a->head_len + len + 2);
  if (!more)
    return -ENOMEM;
  memcpy(more + a->head_len, line, len);
  a->head = more;
  a->head_len += len + 1;
  more[a->head_len - 1] = '\n';
  more[a->head_len] = 0;
  return 0;
}

long prelux_net_header(const struct prelux_net_answer *a, const char *name, char *out, size_t cap)
{
  const char *line = a->head, *end = a->head ? a->head + a->head_len : NULL;
  for (const char *next; line && line < end; line = next)
  {
    const char *stop = memchr(line, '\n', (size_t)(end - line)), *colon = memchr(line, ':', (size_t)(stop - line));
    next = stop + 1;
    if (!colon || !is(name, line, (size_t)(colon - line)))
      continue;
    const char *value = colon + 1;
    while (value < stop && (*value == ' ' || *value == '\t'))
      value++;
    while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
      stop--;
    size_t len = (size_t)(stop - value);
    if (len >= cap)
      return -ENAMETOOLONG;
    memcpy(out, value, len);
    out[len] = 0;
    return (long)len;
  }
  return -ENOENT;
}

int prelux_net_head_line(struct prelux_net_answer *a, const char *line, size_t len)
{
  while (len && (line[len - 1] == '\r' || line[len - 1] == '\n'))
    len--;
  if (memchr(line, 0, len))
    return -EPROTO; /* who reads it as a string would stop there */
  if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
    return status_line(a, line, len);
  const char *colon = memchr(line, ':', len);
  if (!colon)
    return 0; /* the empty line, or one that curl let pass */
  if (keep_line(a, line, len) < 0)
    return -ENOMEM;
  size_t name_len = (size_t)(colon - line);
  const char *value = colon + 1, *end = line + len;
  while (value < end && (*value == ' ' || *value == '\t'))
    value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  len = (size_t)(end - value);
  if (is("Content-Length", line, name_len))
    return content_length(a, value, len);
  if (is("Transfer-Encoding", line, name_len))
    a->bounded = true;
  if (is("Location", line, name_len) && !a->location)
    a->location = strndup(value, len);
  for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
    if (is(fields[i].name, line, name_len) && len < fields[i].cap)
    {
      char *place = (char *)a + fields[i].off;
      memcpy(place, value, len);
      place[len] = 0;
    }
  return 0;
}
