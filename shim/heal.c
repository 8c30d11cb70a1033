/* A table that is gone, or is no table any more: somebody has cleared the runtime folder away. What PRELUX_PREFIXES says about
 * it (lib/map/prefixes.h) closes the prefixes; and its source is compiled again, by a daemon that is started when needed,
 * so that all is well again. The new table must map all that the old one did: another table, of a file edited meanwhile,
 * may not open what was closed. */
#include <sys/mman.h>

#include "lib/base/path.h"
#include "lib/ipc/runtime.h"
#include "lib/map/match.h"
#include "shim/init.h"
#include "shim/state.h"

static struct prelux_prefixes known;

/* RUNTIME/tables/HASH -> RUNTIME, where the daemon is to be found and errors are recorded. */
static void take_runtime(const char *config)
{
  static const char middle[] = "/tables/";
  const char *name = strrchr(config, '/');
  size_t n = (size_t)(name - config) + 1, m = sizeof(middle) - 1;
  if (n <= m || memcmp(name + 1 - m, middle, m) != 0) return;
  const char *runtime = prelux_keep(config, n - m);
  if (*runtime) prelux_state.runtime = runtime;
}

/* What is known, in memory that stays: programs write over their environment. */
static bool take_known(const char *config, char *const envp[])
{
  const char *value = prelux_env_get(envp, PRELUX_PREFIXES_ENV);
  if (!value) return false;
  size_t n = (strlen(value) + 8) & ~(size_t)7;
  long map = prelux_sys(SYS_mmap, NULL, n + prelux_prefixes_room(value), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (map < 0 && map > -4096) return false;
  char *text = memcpy((char *)map, value, strlen(value) + 1);
  if (prelux_prefixes_parse(text, config, text + n, &known) < 0) {
    prelux_sys(SYS_munmap, map, n + prelux_prefixes_room(value));
    return false;
  }
  prelux_state.prefixes = text;
  return true;
}

/* The folder for the record of what is wrong. */
static void make_runtime(void)
{
  int fd = prelux_runtime_open(prelux_state.runtime);
  if (fd >= 0) prelux_sys(SYS_close, fd);
}

bool prelux_heal(const char *config, char *const envp[], char *path, size_t cap, const char **ret_why)
{
  if (!take_known(config, envp)) return false;
  take_runtime(config);
  path[0] = '\0';
  int rc = known.source[0] == '/' ? prelux_register(known.source, known.folder, NULL, path, cap) : -ENOENT;
  if (rc == 0 || path[0] == '/') rc = prelux_load_table(path, &prelux_state.table);
  if (rc == 0 && prelux_prefixes_covered(&known, prelux_state.table)) return true;
  prelux_state.table = NULL;
  make_runtime();
  *ret_why = rc == 0 ? "the compiled configuration is gone, and its source has other prefixes now"
                     : "the compiled configuration is gone or damaged, and could not be made again";
  prelux_state.lost = known.cut ? prelux_lost_prefixes(known.source, known.folder, true) : &known;
  path[0] = '\0';
  return true;
}

int prelux_register_again(const struct prelux_table *t)
{
  char path[PATH_MAX];
  int rc = prelux_register(prelux_table_str(t, t->source), prelux_table_str(t, t->cwd), NULL, path, sizeof(path));
  const char *name = rc == 0 ? strrchr(path, '/') : NULL;
  if (rc == 0 && (!name || !prelux_prefixes_is_name(name + 1, t))) rc = -ENOENT;
  return rc;
}
