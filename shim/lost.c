/* Failing closed: there is a configuration, but no daemon that could compile it. The library has no YAML parser, so it
 * takes every scalar after `local:` for a prefix, in block or flow style, quoted or not; a line too many costs nothing,
 * since all that happens to a prefix found here is EIO. URIs need no care: libc does not know them either. */
#include <sys/mman.h>

#include "lib/base/path.h"
#include "lib/ipc/runtime.h"
#include "shim/init.h"
#include "shim/state.h"

enum { LOST_BYTES = 16384, CONFIG_MAX = 4 << 20 };
static char lost[LOST_BYTES + 1];

static bool truthy(const char *v)
{
  return v && *v && strcmp(v, "0") != 0 && strcmp(v, "false") != 0 && strcmp(v, "False") != 0;
}

/* An azfuse list is off under a bare preload unless its switch says on. */
static bool azfuse_off(const char *text, size_t len, char *const envp[])
{
  size_t i = 0;
  while (i < len && (text[i] == '\n' || text[i] == ' ' || text[i] == '#')) {
    if (text[i] == '#') {
      while (i < len && text[i] != '\n') i++;
    } else {
      i++;
    }
  }
  if (i >= len || (text[i] != '-' && text[i] != '[') || (i + 2 < len && memcmp(text + i, "---", 3) == 0)) return false;
  const char *v = prelux_env_get(envp, "QD_USE_FUSE");
  if (!v) v = prelux_env_get(envp, "AZFUSE_USE_FUSE");
  return !truthy(v);
}

/* The scalar that begins at text[i]; its length, with *start moved past a quote. */
static size_t scalar(const char *text, size_t len, size_t i, size_t *start)
{
  while (i < len && (text[i] == ' ' || text[i] == '\t')) i++;
  char quote = i < len && (text[i] == '"' || text[i] == '\'') ? text[i] : 0;
  if (quote) i++;
  *start = i;
  size_t end = i;
  while (end < len && text[end] != '\n' && text[end] != '\r') {
    if (quote ? text[end] == quote : text[end] == ',' || text[end] == '}') break;
    if (!quote && text[end] == '#' && end > i && text[end - 1] == ' ') break;
    end++;
  }
  while (!quote && end > i && (text[end - 1] == ' ' || text[end - 1] == '\t')) end--;
  return end - i;
}

static void add(const char *s, size_t n, const char *cwd, const char *home, size_t *used)
{
  char raw[PATH_MAX], plain[PATH_MAX], joined[PATH_MAX];
  if (n == 0 || n >= sizeof(raw)) return;
  memcpy(raw, s, n);
  raw[n] = '\0';
  if (strstr(raw, "://")) return;
  if (prelux_path_expand(plain, sizeof(plain), home, raw) < 0) return;
  long len = prelux_path_join(joined, sizeof(joined), cwd, plain);
  if (len <= 0 || *used + (size_t)len + 1 > LOST_BYTES) return;
  memcpy(lost + *used, joined, (size_t)len + 1);
  *used += (size_t)len + 1;
}

static void scan(const char *text, size_t len, const char *cwd, const char *home)
{
  static const char key[] = "local";
  const size_t k = sizeof(key) - 1;
  size_t used = 0;
  for (size_t i = 0; i + k < len; i++) {
    if (memcmp(text + i, key, k) != 0) continue;
    if (i > 0 && !strchr(" \t\n-{,\"'", text[i - 1])) continue;
    size_t at = i + k, start;
    if (text[at] == '"' || text[at] == '\'') at++;
    while (at < len && text[at] == ' ') at++;
    if (at >= len || text[at] != ':') continue;
    size_t n = scalar(text, len, at + 1, &start);
    add(text + start, n, cwd, home, &used);
    i = at;
  }
  lost[used] = '\0';
}

const char *prelux_lost_prefixes(const char *config, const char *cwd, char *const envp[])
{
  long fd = prelux_sys(SYS_openat, AT_FDCWD, config, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return NULL;
  struct stat st;
  long rc = prelux_sys(SYS_fstat, fd, &st);
  if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > CONFIG_MAX)) rc = -EINVAL;
  if (rc == 0) rc = prelux_sys(SYS_mmap, NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0L);
  prelux_sys(SYS_close, fd);
  if (rc < 0 && rc > -4096) return NULL;
  const char *text = (const char *)rc;
  size_t len = (size_t)st.st_size;
  if (!azfuse_off(text, len, envp)) scan(text, len, cwd, prelux_env_get(envp, "HOME"));
  prelux_sys(SYS_munmap, text, len);
  return lost[0] ? lost : NULL;
}
