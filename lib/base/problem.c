#include "lib/base/problem.h"

#include <stdarg.h>
#include <stdio.h>

int prelux_problem(struct prelux_problem *why, int err, const char *fmt, ...)
{
  if (why)
  {
    va_list ap;
    va_start(ap, fmt);
    why->err = err;
    why->advice[0] = 0;
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
  }
  return -err;
}

void prelux_problem_said(char *out, size_t cap, const char *text, size_t len)
{
  size_t n = 0;
  for (; text && n < len && n + 1 < cap; n++)
    out[n] = text[n] < ' ' || text[n] > '~' ? '.' : text[n];
  out[n] = 0;
}
