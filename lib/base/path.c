#include "lib/base/path.h"

#include <errno.h>
#include <string.h>

/* Appends the components of `path` to out[0..len), folding "." and "..". */
static long fold(char *out, size_t cap, size_t len, const char *path)
{
  while (*path)
  {
    while (*path == '/')
      path++;
    size_t n = 0;
    while (path[n] && path[n] != '/')
      n++;
    if (n == 0)
      break;
    if (n == 2 && path[0] == '.' && path[1] == '.')
    {
      while (len > 0 && out[len - 1] != '/')
        len--;
      if (len > 0)
        len--;
    }
    else if (n != 1 || path[0] != '.')
    {
      if (len + n + 2 > cap)
        return -ENAMETOOLONG;
      out[len++] = '/';
      memcpy(out + len, path, n);
      len += n;
    }
    path += n;
  }
  return (long)len;
}

long prelux_path_join(char *out, size_t cap, const char *base, const char *path)
{
  long len = 0;
  if (cap < 2)
    return -ENAMETOOLONG;
  if (path[0] != '/')
  {
    if (!base || base[0] != '/')
      return -EINVAL;
    len = fold(out, cap, 0, base);
  }
  if (len >= 0)
    len = fold(out, cap, (size_t)len, path);
  if (len < 0)
    return len;
  if (len == 0)
    out[len++] = '/';
  out[len] = 0;
  return len;
}

bool prelux_path_below(const char *path, const char *prefix, const char **rel)
{
  size_t n = strlen(prefix);
  while (n > 0 && prefix[n - 1] == '/')
    n--;
  if (strncmp(path, prefix, n) != 0 || (path[n] != 0 && path[n] != '/'))
    return false;
  if (rel)
  {
    const char *p = path + n;
    while (*p == '/')
      p++;
    *rel = p;
  }
  return true;
}

long prelux_path_expand(char *out, size_t cap, const char *home, const char *path)
{
  size_t n = 0;
  if (path[0] == '~' && (path[1] == 0 || path[1] == '/'))
  {
    if (!home || home[0] != '/')
      return -ENOENT;
    n = strlen(home);
    if (n >= cap)
      return -ENAMETOOLONG;
    memcpy(out, home, n);
    path++;
  }
  size_t m = strlen(path);
  if (n + m >= cap)
    return -ENAMETOOLONG;
  memcpy(out + n, path, m + 1);
  return (long)(n + m);
}

char *prelux_path_number(char *out, unsigned n)
{
  char digits[12];
  size_t len = 0;
  do
    digits[len++] = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  while (len > 0)
    *out++ = digits[--len];
  *out = 0;
  return out;
}
