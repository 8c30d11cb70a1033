/* route() alone: this program is linked with the library's own objects and calls what every hook calls first.
 * PRELUX_CONFIG names the compiled table. Prints one JSON object a line: {"name", "ns", "low", "high"}: median, 10th and
 * 90th percentile of ROUNDS batches. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "shim/route.h"

#define ROUNDS 41
#define CALLS 200000

static double now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *x, const void *y)
{
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static void measure(const char *name, const char *path)
{
  double t[ROUNDS];
  volatile int far = 0;
  for (int i = 0; i < ROUNDS; i++)
  {
    double start = now_ns();
    for (int k = 0; k < CALLS; k++)
    {
      const char *p = path;
      __asm__ volatile("" : "+r"(p)); /* the path is new to the compiler each time */
      far += prelux_far(AT_FDCWD, p);
    }
    t[i] = (now_ns() - start) / CALLS;
  }
  qsort(t, ROUNDS, sizeof *t, by_value);
  printf("{\"name\": \"route: %s\", \"ns\": %.1f, \"low\": %.1f, \"high\": %.1f, \"short_cut\": %s}\n", name, t[ROUNDS / 2], t[ROUNDS / 10],
         t[ROUNDS - 1 - ROUNDS / 10], far ? "true" : "false");
}

int main(void)
{
  measure("absolute, /usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6");
  measure("absolute, /etc/passwd", "/etc/passwd");
  measure("relative, far folder", "src/main.c");
  return 0;
}
