/* What a started program sees: its arguments, how many environment entries beside prelux's own, and the first line of every
 * argument that names a file. Links nothing but libc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

int main(int argc, char **argv)
{
  static const char *const own[] = {"LD_PRELOAD=", "PRELUX_CONFIG=", "PRELUX_PREFIXES=", "PRELUX_RUNTIME_DIR="};
  size_t entries = 0, bytes = 0;

  for (char **e = environ; e && *e; e++) {
    int is_own = 0;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) is_own |= strncmp(*e, own[i], strlen(own[i])) == 0;
    entries += !is_own;
    bytes += is_own ? 0 : strlen(*e);
  }
  printf("  env %zu entries %zu bytes, X=%s\n", entries, bytes, getenv("X") ? getenv("X") : "none");
  for (int i = 0; i < argc; i++) printf("  argv[%d] %s\n", i, argv[i]);
  for (int i = 1; i < argc; i++) {
    char line[80];
    FILE *f = strchr(argv[i], '/') ? fopen(argv[i], "r") : NULL;
    if (f && fgets(line, sizeof(line), f) && line[0] != 0x7f) printf("  %s: %s", argv[i], line);
    if (f) fclose(f);
  }
  return argc > 1 && strcmp(argv[1], "fail") == 0 ? 7 : 0;
}
