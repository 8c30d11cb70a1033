#include "lib/base/own.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool cut(char *text, const char *end)
{
  size_t n = strlen(text), m = strlen(end);
  if (n < m || strcmp(text + n - m, end) != 0)
    return false;
  text[n - m] = 0;
  return true;
}

bool prelux_own_bundled(char *exe, size_t cap, const char *name)
{
  size_t n = strlen(exe);
  if (!cut(exe, "/lib/prelux/rt/ld.so"))
    return false;
  size_t m = strlen(exe);
  if (m + sizeof "/bin/" + strlen(name) > cap) /* put back: no such path can be told */
  {
    memcpy(exe + m, "/lib/prelux/rt/ld.so", n - m + 1);
    return false;
  }
  sprintf(exe + m, "/bin/%s", name);
  return true;
}

long prelux_own_path(char *out, size_t cap, const char *name)
{
  ssize_t n = readlink("/proc/self/exe", out, cap - 1);
  if (n < 0)
    return -errno;
  out[n] = 0;
  cut(out, " (deleted)");
  prelux_own_bundled(out, cap, name);
  return (long)strlen(out);
}
