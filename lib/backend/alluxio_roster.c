#include "lib/backend/alluxio_roster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_members.h"

/* What goes into a URL and into `map`: nothing that could end the host there. Brackets enclose it all, or are not there. */
static bool is_host(const char *s, size_t len)
{
  if (len == 0 || len > 255)
    return false;
  bool enclosed = len > 2 && s[0] == '[' && s[len - 1] == ']';
  for (size_t i = enclosed; i < len - enclosed; i++)
    if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || strchr("/?#@\\\"<>%[]", s[i]))
      return false;
  return true;
}

static char *bracketed(const char *host, size_t len)
{
  bool bare = host[0] != '[' && memchr(host, ':', len);
  char *out = malloc(len + 3);
  if (!out)
    return NULL;
  memcpy(out + bare, host, len);
  if (bare)
  {
    out[0] = '[';
    out[len + 1] = ']';
    len += 2;
  }
  out[len] = 0;
  return out;
}

int prelux_alluxio_roster_add(struct prelux_alluxio_roster *r, const char *host, size_t len, unsigned http_port,
                              const struct prelux_alluxio_identity *identity, int64_t birth)
{
  if (!is_host(host, len) || http_port == 0 || http_port > 65535)
    return -EINVAL;
  if (r->n == PRELUX_ALLUXIO_WORKERS_MAX)
    return -E2BIG;
  if (r->n == r->cap)
  {
    size_t cap = r->cap ? 2 * r->cap : 16;
    struct prelux_alluxio_entry *more = realloc(r->entries, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    r->entries = more;
    r->cap = cap;
  }
  struct prelux_alluxio_entry e = {.host = bracketed(host, len), .http_port = http_port, .identified = identity != NULL, .birth = birth};
  if (!e.host)
    return -ENOMEM;
  if (identity)
    e.identity = *identity;
  r->entries[r->n++] = e;
  return 0;
}

void prelux_alluxio_roster_release(struct prelux_alluxio_roster *r)
{
  for (size_t i = 0; i < r->n; i++)
    free(r->entries[i].host);
  free(r->entries);
  *r = (struct prelux_alluxio_roster){0};
}

/* Alluxio hashes the names of its static list: without brackets and port. */
static int add_listed(struct prelux_alluxio_roster *r, const char *place, unsigned http_port)
{
  const char *end = place[0] == '[' ? strchr(place, ']') : NULL;
  size_t len = end ? (size_t)(end + 1 - place) : strcspn(place, ":");
  char bare[256];
  struct prelux_alluxio_identity id;
  size_t skip = end != NULL;
  if (len - 2 * skip >= sizeof bare)
    return -EINVAL;
  memcpy(bare, place + skip, len - 2 * skip);
  bare[len - 2 * skip] = 0;
  if (place[len] == ':')
    http_port = (unsigned)strtoul(place + len + 1, NULL, 10);
  int err = prelux_alluxio_identity_of_host(bare, &id);
  return err < 0 ? err : prelux_alluxio_roster_add(r, place, len, http_port, &id, 0);
}

int prelux_alluxio_roster_list(const struct prelux_alluxio_options *o, struct prelux_alluxio_roster *ret)
{
  int err = 0;
  *ret = (struct prelux_alluxio_roster){0};
  for (size_t i = 0; i < o->n_places && err == 0; i++)
    err = add_listed(ret, o->places[i], o->http_port);
  return err;
}
