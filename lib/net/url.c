/* URLs and their percent encoding. Pure. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/net/net.h"

static bool unreserved(unsigned char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

long prelux_url_encode(char *out, size_t cap, const char *s, size_t len)
{
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  for (size_t i = 0; i < len; i++)
  {
    unsigned char c = (unsigned char)s[i];
    if (cap < 4 || n > cap - 4)
      return -ENAMETOOLONG;
    if (unreserved(c) || c == '/')
    {
      out[n++] = (char)c;
    }
    else
    {
      out[n++] = '%';
      out[n++] = hex[c >> 4];
      out[n++] = hex[c & 15];
    }
  }
  if (n >= cap)
    return -ENAMETOOLONG;
  out[n] = 0;
  return (long)n;
}

static int hex_digit(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

long prelux_url_decode(char *out, size_t cap, const char *s, size_t len)
{
  size_t n = 0;
  for (size_t i = 0; i < len; i++)
  {
    int c = (unsigned char)s[i];
    if (c == '%')
    {
      int high = i + 2 < len ? hex_digit(s[i + 1]) : -1;
      int low = i + 2 < len ? hex_digit(s[i + 2]) : -1;
      if (high < 0 || low < 0)
        return -EINVAL;
      c = high * 16 + low;
      i += 2;
    }
    if (c == 0)
      return -EINVAL;
    if (n + 1 >= cap)
      return -ENAMETOOLONG;
    out[n++] = (char)c;
  }
  if (n >= cap)
    return -ENAMETOOLONG;
  out[n] = 0;
  return (long)n;
}

/* Digits behind the colon of "host:port"; 0: none, -1: bad. */
static int parse_port(const char *s, size_t len)
{
  int port = 0;
  for (size_t i = 0; i < len; i++)
  {
    if (s[i] < '0' || s[i] > '9')
      return -1;
    port = port * 10 + (s[i] - '0');
    if (port > 65535)
      return -1;
  }
  return len > 0 && port == 0 ? -1 : port;
}

/* [user@]host[:port] between s and s+len. */
static int parse_authority(const char *s, size_t len, struct prelux_url *u)
{
  const char *at = memrchr(s, '@', len);
  if (at)
  {
    u->has_user = true;
    len -= (size_t)(at + 1 - s);
    s = at + 1;
  }
  const char *end = s + len, *colon;
  if (len && *s == '[')
  {
    const char *close = memchr(s, ']', len);
    if (!close || (close + 1 < end && close[1] != ':'))
      return -EINVAL;
    colon = close + 1 < end ? close + 1 : NULL;
  }
  else
  {
    colon = memchr(s, ':', len);
  }
  u->host = s;
  u->host_len = colon ? (size_t)(colon - s) : len;
  int port = colon ? parse_port(colon + 1, (size_t)(end - colon - 1)) : 0;
  if (u->host_len == 0 || port < 0)
    return -EINVAL;
  u->port = port ? (unsigned)port : u->https ? 443 : 80;
  return 0;
}

int prelux_url_parse(const char *url, struct prelux_url *ret)
{
  struct prelux_url u = {0};
  for (const unsigned char *p = (const unsigned char *)url; *p; p++)
    if (*p <= ' ' || *p == 0x7f)
      return -EINVAL;
  const char *rest;
  if (strncasecmp(url, "http://", 7) == 0)
    rest = url + 7;
  else if (strncasecmp(url, "https://", 8) == 0)
    rest = url + 8, u.https = true;
  else
    return -EINVAL;
  size_t len = strcspn(rest, "/?#");
  int rc = parse_authority(rest, len, &u);
  if (rc < 0)
    return rc;
  u.origin_len = (size_t)(rest + len - url);
  u.path = rest + len;
  u.path_len = strcspn(u.path, "?#");
  u.has_query = u.path[u.path_len] != 0;
  *ret = u;
  return 0;
}

bool prelux_url_same_origin(const struct prelux_url *a, const struct prelux_url *b)
{
  return a->https == b->https && a->port == b->port && a->host_len == b->host_len &&
         strncasecmp(a->host, b->host, a->host_len) == 0;
}

/* Folds "/./" and "/../" of an absolute path in place, up to a '?' or '#'. */
static void fold_dots(char *path)
{
  size_t end = strcspn(path, "?#"), from = 0, to = 0;
  while (from < end)
  {
    size_t len = 1;
    while (from + len < end && path[from + len] != '/')
      len++; /* one segment with its slash in front */
    bool last = from + len == end;
    if (len == 2 && path[from + 1] == '.')
    {
      if (last)
        path[to++] = '/';
    }
    else if (len == 3 && path[from + 1] == '.' && path[from + 2] == '.')
    {
      while (to > 0 && path[--to] != '/')
        ;
      if (last)
        path[to++] = '/';
    }
    else
    {
      memmove(path + to, path + from, len);
      to += len;
    }
    from += len;
  }
  memmove(path + to, path + end, strlen(path + end) + 1);
}

static bool has_scheme(const char *ref)
{
  size_t n = strcspn(ref, ":/?#");
  return n > 0 && ref[n] == ':';
}

long prelux_url_join(char *out, size_t cap, const char *base, const char *ref)
{
  struct prelux_url b, joined;
  int rc = prelux_url_parse(base, &b);
  if (rc < 0)
    return rc;
  int n;
  if (has_scheme(ref))
  {
    n = snprintf(out, cap, "%s", ref);
  }
  else if (ref[0] == '/' && ref[1] == '/')
  {
    n = snprintf(out, cap, "%s:%s", b.https ? "https" : "http", ref);
  }
  else if (ref[0] == '/')
  {
    n = snprintf(out, cap, "%.*s%s", (int)b.origin_len, base, ref);
  }
  else if (ref[0] == '?' || ref[0] == '#' || !ref[0])
  {
    n = snprintf(out, cap, "%.*s%.*s%s", (int)b.origin_len, base, (int)b.path_len, b.path, ref);
  }
  else
  {
    const char *slash = memrchr(b.path, '/', b.path_len);
    int folder = slash ? (int)(slash + 1 - b.path) : 0;
    n = snprintf(out, cap, "%.*s%.*s%s%s", (int)b.origin_len, base, folder, b.path, slash ? "" : "/", ref);
  }
  if (n < 0 || (size_t)n >= cap)
    return -ENAMETOOLONG;
  rc = prelux_url_parse(out, &joined);
  if (rc < 0)
    return rc;
  fold_dots(out + joined.origin_len);
  out[strcspn(out, "#")] = 0;
  return (long)strlen(out);
}

void prelux_url_show(char *out, size_t cap, const char *url)
{
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0)
  {
    snprintf(out, cap, "(not a URL)");
    return;
  }
  const char *after_host = u.host + u.host_len;
  int port_len = (int)(url + u.origin_len - after_host);
  snprintf(out, cap, "%s://%.*s%.*s%.*s", u.https ? "https" : "http", (int)u.host_len, u.host, port_len, after_host,
           (int)u.path_len, u.path);
}

long prelux_url_canonical(char *out, size_t cap, const char *url)
{
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0)
    return -EINVAL;
  int n = snprintf(out, cap, "%s://%.*s:%u%.*s", u.https ? "https" : "http", (int)u.host_len, u.host, u.port, (int)u.path_len, u.path);
  if (n < 0 || (size_t)n >= cap)
    return -ENAMETOOLONG;
  char *host = strstr(out, "://") + 3;
  for (size_t i = 0; i < u.host_len; i++)
    if (host[i] >= 'A' && host[i] <= 'Z')
      host[i] = (char)(host[i] | 32);
  return n;
}
