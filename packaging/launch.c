/* PREFIX/bin/prelux and PREFIX/bin/preluxd of the packages that are for any distribution: starts PREFIX/lib/prelux/rt/NAME by the loader and libc
 * that lie there, wherever PREFIX is. It is linked statically, so it needs neither. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *path)
{
  fprintf(stderr, "%s: %s\n", path, strerror(errno));
  return 127;
}

/* What others preload is made for the machine's libc, not for this one: programs get it, the command does not. prelux's own library stays, by which the
 * command reaches a program of a mapping. cli/main.c puts the whole back. */
static void keep_own_preload(void)
{
  const char *all = getenv("LD_PRELOAD");
  char *own = all ? calloc(1, strlen(all) + 2) : NULL;
  if (!own || setenv("PRELUX_LAUNCH_PRELOAD", all, 1) < 0)
    return;
  for (size_t n; *all; all += n + (all[n] != 0))
  {
    static const char name[] = "/libprelux.so";
    n = strcspn(all, ": ");
    if (n >= strlen(name) && memcmp(all + n - strlen(name), name, strlen(name)) == 0)
      strncat(strcat(own, *own ? ":" : ""), all, n);
  }
  if (*own)
    setenv("LD_PRELOAD", own, 1);
  else
    unsetenv("LD_PRELOAD");
}

int main(int argc, char **argv)
{
  char own[PATH_MAX], rt[PATH_MAX + 32], loader[PATH_MAX + 48], program[2 * PATH_MAX + 48];
  ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
  if (n < 0)
    return fail("/proc/self/exe");
  own[n] = 0;
  char *name = strrchr(own, '/'), *bin;
  *name++ = 0;
  bin = strrchr(own, '/');
  if (!bin)
    bin = own;
  *bin = 0;
  snprintf(rt, sizeof rt, "%s/lib/prelux/rt", own);
  snprintf(loader, sizeof loader, "%s/ld.so", rt);
  snprintf(program, sizeof program, "%s/%s", rt, name);
  char **words = calloc((size_t)argc + 7, sizeof *words);
  if (!words)
    return fail(name);
  int k = 0;
  words[k++] = loader;
  words[k++] = (char *)"--library-path";
  words[k++] = rt;
  words[k++] = (char *)"--argv0";
  words[k++] = argc > 0 ? argv[0] : name;
  words[k++] = program;
  for (int i = 1; i < argc; i++)
    words[k++] = argv[i];
  words[k] = NULL;
  /* The daemon sees the real files: what is preloaded is for programs. */
  if (strcmp(name, "preluxd") == 0)
    unsetenv("LD_PRELOAD");
  else
    keep_own_preload();
  execv(loader, words);
  return fail(loader);
}
