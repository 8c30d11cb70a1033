/* prelux env: what `prelux run` sets, for a shell that wants it for good. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/map/match.h"
#include "lib/map/prefixes.h"

static void print_export(const char *name, const char *value)
{
  printf("export %s='", name);
  for (; *value; value++)
    if (*value == '\'')
      fputs("'\\''", stdout);
    else
      putchar(*value);
  puts("'");
}

/* PRELUX_PREFIXES of the table, malloc'd; NULL: it cannot be read. */
static char *prefixes_of(const struct prelux_cli *cli, bool *ret_writes)
{
  *ret_writes = false;
  struct stat st;
  char *text = NULL;
  int fd = open(cli->table_path, O_RDONLY | O_CLOEXEC);
  void *map = fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  if (fd >= 0)
    close(fd);
  if (map == MAP_FAILED)
    return NULL;
  if (prelux_table_check(map, (size_t)st.st_size) == 0)
  {
    const struct prelux_table *t = map;
    for (uint32_t i = 0; i < t->n_mappings; i++)
      *ret_writes |= (prelux_table_mappings(t)[i].flags & PRELUX_MAPPING_WRITE) != 0;
    size_t n = prelux_prefixes_format(map, NULL, 0);
    text = malloc(n + 1);
    if (text)
      prelux_prefixes_format(map, text, n + 1);
  }
  munmap(map, (size_t)st.st_size);
  return text;
}

int prelux_cli_guest(struct prelux_cli *cli, struct prelux_guest *ret)
{
  *ret = (struct prelux_guest){0};
  int rc = prelux_cli_register(cli);
  if (rc == 0)
    rc = prelux_cli_preload(cli, ret->preload, sizeof ret->preload);
  if (rc == 0 && !(ret->prefixes = prefixes_of(cli, &ret->writes)))
    rc = prelux_cli_fail("%s: cannot be read", cli->table_path);
  return rc;
}

int prelux_cmd_env(struct prelux_cli *cli)
{
  struct prelux_guest g;
  int ret = prelux_cli_guest(cli, &g);
  if (ret != 0)
    return ret;
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "LD_PRELOAD", g.preload);
    cJSON_AddStringToObject(o, "PRELUX_CONFIG", cli->table_path);
    cJSON_AddStringToObject(o, PRELUX_PREFIXES_ENV, g.prefixes);
    cJSON_AddStringToObject(o, "PRELUX_RUNTIME_DIR", cli->runtime);
    prelux_print_json(o);
    free(g.prefixes);
    return 0;
  }
  print_export("PRELUX_CONFIG", cli->table_path);
  print_export(PRELUX_PREFIXES_ENV, g.prefixes);
  free(g.prefixes);
  print_export("PRELUX_RUNTIME_DIR", cli->runtime);
  print_export("LD_PRELOAD", g.preload);
  return 0;
}
