/* Failing closed: there is a configuration, but no daemon that could compile it. The library has no YAML parser, so it
 * takes every `local:` that the lines show, as lib/conf/rescue.c does where a file is no YAML any more: one too many costs an
 * EIO in a run that is broken anyway, one too few lets a program read or write real files; in doubt a value is taken in both
 * its possible forms. URIs need no care: libc does not know them either. */
#include <sys/mman.h>

#include "lib/base/path.h"
#include "lib/ipc/runtime.h"
#include "shim/init.h"
#include "shim/state.h"

enum { CONFIG_MAX = 16 << 20, ROOM_MIN = 1 << 16, ROOM_MAX = 256 << 20 };

struct scan {
  const char *cwd, *home;
  char *const *envp;
  bool list; /* azfuse's form: no ~, no ${ENV}, no URI */
  char *room;
  size_t cap, used;
};

/* ---- azfuse's switch */

static bool is_blank(char c)
{
  return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

/* Python's int(): blanks around, a sign, digits with single underscores between them. */
static bool python_int(const char *s, long *ret)
{
  long v = 0;
  while (*s == ' ' || (*s >= '\t' && *s <= '\r')) s++;
  bool negative = *s == '-';
  s += *s == '-' || *s == '+';
  if (!is_digit(*s)) return false;
  for (; is_digit(*s); s += s[1] == '_' && is_digit(s[2]) ? 2 : 1)
    if (v < 100000000) v = v * 10 + (*s - '0');
  while (*s == ' ' || (*s >= '\t' && *s <= '\r')) s++;
  *ret = negative ? -v : v;
  return *s == '\0';
}

long prelux_azfuse_switch(char *const envp[], bool *ret_given, bool *ret_wrong)
{
  static const char names[2][2][20] = {{"QD_USE_FUSE", "AZFUSE_USE_FUSE"}, {"QD_TSV_USE_FUSE", "AZFUSE_TSV_USE_FUSE"}};
  long sum = 0;
  *ret_given = *ret_wrong = false;
  for (size_t i = 0; i < 2; i++) {
    const char *v = prelux_env_get(envp, names[i][0]);
    long n = 0;
    if (!v) v = prelux_env_get(envp, names[i][1]);
    *ret_given |= v != NULL;
    *ret_wrong |= v && !python_int(v, &n);
    sum += n;
  }
  return sum;
}

/* Off by its switch, or by having none under a bare preload. A switch that makes no sense is no reason to open anything. */
static bool azfuse_off(char *const envp[])
{
  bool given, wrong;
  long sum = prelux_azfuse_switch(envp, &given, &wrong);
  return !wrong && sum == 0;
}

/* ---- values */

/* Whether a URI begins here: "s3:/". */
static bool is_uri(const char *s)
{
  size_t n = 0;
  if (!((s[0] | 32) >= 'a' && (s[0] | 32) <= 'z')) return false;
  while (((s[n] | 32) >= 'a' && (s[n] | 32) <= 'z') || is_digit(s[n]) || (s[n] && strchr("+.-", s[n]))) n++;
  return s[n] == ':' && s[n + 1] == '/';
}

static bool append(char *out, size_t cap, size_t *len, const char *text, size_t n)
{
  if (n >= cap - *len) return false;
  memcpy(out + *len, text, n);
  *len += n;
  out[*len] = '\0';
  return true;
}

/* ${NAME}, and $${ for "${". False: a variable that is not set, or too long: a mistake, and no prefix. */
static bool expand(const struct scan *s, const char *text, char *out, size_t cap)
{
  size_t len = 0;
  out[0] = '\0';
  while (*text) {
    char name[128];
    if (strncmp(text, "$${", 3) == 0) {
      if (!append(out, cap, &len, "${", 2)) return false;
      text += 3;
    } else if (strncmp(text, "${", 2) == 0) {
      const char *end = strchr(text, '}');
      size_t n = end ? (size_t)(end - text) - 2 : 0;
      if (n == 0 || n >= sizeof(name)) return false;
      memcpy(name, text + 2, n);
      name[n] = '\0';
      const char *value = prelux_env_get(s->envp, name);
      if (!value || !append(out, cap, &len, value, strlen(value))) return false;
      text = end + 1;
    } else if (!append(out, cap, &len, text++, 1)) {
      return false;
    }
  }
  return true;
}

/* One text that may be a prefix. */
static void take(struct scan *s, const char *text, size_t n)
{
  char raw[PATH_MAX], full[PATH_MAX], plain[PATH_MAX], joined[PATH_MAX];
  const char *path = raw;
  while (n > 0 && (is_blank(text[n - 1]) || text[n - 1] == '\r')) n--;
  if (n == 0 || n >= sizeof(raw)) return;
  memcpy(raw, text, n);
  raw[n] = '\0';
  if (!s->list) {
    if (!expand(s, raw, full, sizeof(full)) || is_uri(full)) return;
    if (prelux_path_expand(plain, sizeof(plain), s->home, full) < 0) return;
    path = plain;
  }
  long len = *path ? prelux_path_join(joined, sizeof(joined), s->cwd, path) : 0;
  if (len <= 0 || s->used + (size_t)len + 2 > s->cap) return;
  memcpy(s->room + s->used, joined, (size_t)len + 1);
  s->used += (size_t)len + 1;
}

/* What "\x" in double quotes stands for; *p stands on the backslash and is moved to the last letter. */
static char unescape(const char **p, const char *end)
{
  static const char from[] = "0abtnvfre", to[] = "\0\a\b\t\n\v\f\r\033";
  static const char hex[] = "0123456789abcdef";
  const char *q = *p + 1, *known = strchr(from, *q);
  *p = q;
  if (*q == 'x' && end - q > 2) {
    const char *high = strchr(hex, q[1] | 32), *low = strchr(hex, q[2] | 32);
    if (!high || !low) return 'x';
    *p = q + 2;
    return (char)((high - hex) << 4 | (low - hex));
  }
  return known && *known ? to[known - from] : *q;
}

/* A quoted scalar from its opening quote on. */
static void take_quoted(struct scan *s, const char *p, const char *end)
{
  char out[PATH_MAX], quote = *p++;
  size_t n = 0;
  for (; p < end && n < sizeof(out); p++) {
    if (*p == quote && quote == '\'' && p + 1 < end && p[1] == '\'') out[n++] = *p++;
    else if (*p == quote) break;
    else out[n++] = *p == '\\' && quote == '"' && p + 1 < end ? unescape(&p, end) : *p;
  }
  if (n < sizeof(out)) take(s, out, n);
}

/* A plain scalar: to the end of the line or a comment; where it might stand in a flow map, to its comma or bracket too. */
static void take_plain(struct scan *s, const char *p, const char *end, bool flow)
{
  const char *stop = p, *comma = NULL;
  bool more_keys = false;
  for (; stop < end; stop++) {
    while (stop + 1 < end && stop[0] == '$' && stop[1] == '{') { /* its bracket ends nothing */
      const char *close = memchr(stop, '}', (size_t)(end - stop));
      stop = close ? close + 1 : end;
    }
    if (stop == end) break;
    if (*stop == '#' && stop > p && is_blank(stop[-1])) break;
    if (!comma && (*stop == ',' || *stop == '}' || *stop == ']')) comma = stop;
    if (*stop == ':' && stop + 1 < end && stop[1] == ' ') more_keys = true;
  }
  if (comma) take(s, p, (size_t)(comma - p));
  if (!comma || (!flow && !more_keys)) take(s, p, (size_t)(stop - p));
}

/* ---- lines */

static const char *skip_blank(const char *p, const char *end)
{
  while (p < end && is_blank(*p)) p++;
  return p;
}

static const char *line_end(const char *p, const char *end)
{
  const char *newline = memchr(p, '\n', (size_t)(end - p));
  return newline ? newline : end;
}

/* What stands behind "local:" on the line that ends at `end`. */
static void take_value(struct scan *s, const char *p, const char *end, const char *text_end, bool flow)
{
  p = skip_blank(p, end);
  while (p < end && (*p == '&' || *p == '!')) { /* an anchor, a tag */
    while (p < end && *p != ' ') p++;
    p = skip_blank(p, end);
  }
  if (p == end || *p == '#' || *p == '|' || *p == '>' || *p == '\r') { /* on the next line */
    if (end >= text_end) return;
    p = end + 1;
    end = line_end(p, text_end);
    p = skip_blank(p, end);
  }
  if (p == end || *p == '*') return;
  if (*p == '"' || *p == '\'') take_quoted(s, p, end);
  else take_plain(s, p, end, flow);
}

/* Finds each key `local` in [line, end). */
static void scan_line(struct scan *s, const char *line, const char *end, const char *text_end)
{
  enum { WORD = 5 };
  for (const char *p = line; p + WORD < end; p++) {
    if (memcmp(p, "local", WORD) != 0) continue;
    const char *before = p, *after = p + WORD;
    bool quoted = p > line && (p[-1] == '"' || p[-1] == '\'') && *after == p[-1];
    if (quoted) before--, after++;
    if (before > line && !strchr(" \t-{,[?", before[-1])) continue;
    after = skip_blank(after, end);
    if (after == end || *after != ':' || (!quoted && after + 1 < end && !strchr(" \t\r", after[1]))) continue;
    while (before > line && is_blank(before[-1])) before--;
    take_value(s, after + 1, end, text_end, before > line && (before[-1] == '{' || before[-1] == ','));
  }
}

/* The first thing said decides: after a byte order mark, comments, directives and the document's marker. */
static bool looks_like_list(const char *text, const char *end)
{
  if (end - text >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3;
  for (; text < end; text = line_end(text, end) + 1) {
    const char *stop = line_end(text, end), *p = skip_blank(text, stop);
    if (stop - text >= 3 && memcmp(text, "---", 3) == 0) continue;
    if (p < stop && *p != '#' && *p != '\r' && *p != '%')
      return *p == '[' || (*p == '-' && (p + 1 == stop || p[1] == ' ' || p[1] == '\r'));
  }
  return false;
}

/* ---- the file */

/* Memory for all the prefixes that there can be; what is not used is never touched. */
static bool make_room(struct scan *s, const char *text, const char *end)
{
  size_t keys = 1;
  for (const char *p = text; (p = memchr(p, 'l', (size_t)(end - p))); p++) keys += end - p > 5 && memcmp(p, "local", 5) == 0;
  s->cap = keys * 2 * PATH_MAX;
  if (s->cap > ROOM_MAX) s->cap = ROOM_MAX;
  for (; s->cap >= ROOM_MIN / 8; s->cap /= 2) {
    long map = prelux_sys(SYS_mmap, NULL, s->cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
    s->room = (char *)map;
    if (map >= 0 || map <= -4096) return true;
  }
  return false;
}

static const char *map_file(const char *path, size_t *ret_len)
{
  long fd = prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return NULL;
  struct stat st;
  long rc = prelux_sys(SYS_fstat, fd, &st);
  if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > CONFIG_MAX)) rc = -EINVAL;
  if (rc == 0) rc = prelux_sys(SYS_mmap, NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0L);
  prelux_sys(SYS_close, fd);
  if (rc < 0 && rc > -4096) return NULL;
  *ret_len = (size_t)st.st_size;
  return (const char *)rc;
}

const struct prelux_prefixes *prelux_lost_prefixes(const char *config, const char *cwd, bool was_on)
{
  static struct prelux_prefixes found = {.source = "", .folder = ""};
  struct scan s = {.cwd = cwd, .envp = prelux_state.envp, .home = prelux_env_get(prelux_state.envp, "HOME")};
  size_t len;
  const char *text = map_file(config, &len);
  if (!text) return NULL;
  const char *end = text + len;
  s.list = looks_like_list(text, end);
  if ((was_on || !s.list || !azfuse_off(s.envp)) && make_room(&s, text, end)) {
    for (const char *line = text; line < end; line = line_end(line, end) + 1) {
      const char *stop = line_end(line, end), *first = skip_blank(line, stop);
      if (first < stop && *first != '#') scan_line(&s, line, stop, end);
    }
    found.list = s.room; /* fresh memory: an empty one ends the list */
  }
  prelux_sys(SYS_munmap, text, len);
  return s.used ? &found : NULL;
}
