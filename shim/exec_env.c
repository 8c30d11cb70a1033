/* The environment that a child must have to be under prelux too. Programs drop it (env -i, git, scons, sudo-like
 * wrappers), so what is missing is put back at each exec:
 *
 *   LD_PRELOAD          ours first, whatever else stands there kept
 *   PRELUX_CONFIG       the compiled table, unless the program set another one
 *   PRELUX_PREFIXES     what the table holds, for the case that it goes (lib/map/prefixes.h); when the table is ours
 *   PRELUX_RUNTIME_DIR  when this process was started with one
 *   PRELUX_REPORT       when this process was started with one
 *   PRELUX_DEEP         the same
 *   PRELUX_WRITERS      it may inherit descriptors by which files of a mapping are written, or its exec ends some (shim/write.h)
 *   ASAN_OPTIONS        verify_asan_link_order=0, for programs linked with shared libasan, or given it by LD_PRELOAD
 *
 * PRELUX_OFF=1 in the child's environment is an answer, too: then it stays as it is. */
#include "shim/exec.h"

#include "deep/deep.h"
#include "lib/ipc/runtime.h"
#include "shim/deep.h"
#include "shim/init.h"
#include "shim/report.h"
#include "shim/write.h"

enum entry { PRELOAD, CONFIG, PREFIXES, RUNTIME, REPORT, DEEP, WRITERS, N_ENTRIES };

static const char *const entry_names[N_ENTRIES] = {
  [PRELOAD] = "LD_PRELOAD",
  [CONFIG] = "PRELUX_CONFIG",
  [PREFIXES] = PRELUX_PREFIXES_ENV,
  [RUNTIME] = "PRELUX_RUNTIME_DIR",
  [REPORT] = PRELUX_REPORT_ENV,
  [DEEP] = PRELUX_DEEP_ENV,
  [WRITERS] = PRELUX_WRITERS_ENV,
};

/* Copies, because programs write over the strings they were started with (setproctitle). NULL: none. Set at the start. */
static PRELUX_START_DATA const char *self, *start_config, *start_runtime, *start_report;

static const char library[] = "libprelux.so";

/* Next item of a list split as ld.so does; *list moves behind it. */
static PRELUX_AT_START const char *next_item(const char **list, size_t *ret_len)
{
  const char *p = *list;

  while (*p == ' ' || *p == ':') p++;
  const char *end = p;
  while (*end && *end != ' ' && *end != ':') end++;
  *ret_len = (size_t)(end - p);
  *list = end;
  return end > p ? p : NULL;
}

/* As memcmp, without libc: see prelux_env_get(). */
static PRELUX_AT_START bool equal(const char *a, const char *b, size_t len)
{
  while (len > 0 && *a == *b) a++, b++, len--;
  return len == 0;
}

/* The item loads this library in any working directory. */
static PRELUX_AT_START bool is_ours(const char *item, size_t len)
{
  size_t n = sizeof(library) - 1;

  if (self && equal(item, self, len) && !self[len]) return true;
  if (len < n || !equal(item + len - n, library, n)) return false;
  return len == n || (item[0] == '/' && item[len - n - 1] == '/');
}

static bool lists_ours(const char *list)
{
  size_t len;

  for (const char *item; (item = next_item(&list, &len));)
    if (is_ours(item, len)) return true;
  return false;
}

/* Programs of another class find one of theirs by it: the Makefile's PRELOAD. */
static bool names_class(const char *list)
{
  size_t len;
  bool all = true;

  for (const char *item; (item = next_item(&list, &len));)
    if (is_ours(item, len)) all &= memmem(item, len, "/$LIB/", 6) || memmem(item, len, "/${LIB}/", 8);
  return all;
}

/* What ld.so loads of an environment: where a variable stands there twice, the last one. NULL: it is not set. */
static PRELUX_AT_START const char *preload_of(char *const envp[])
{
  static const char name[] = "LD_PRELOAD=";
  const char *found = NULL;

  for (; envp && *envp; envp++)
    if (equal(*envp, name, sizeof(name) - 1)) found = *envp + sizeof(name) - 1;
  return found;
}

/* Loaded by a relative name, or by /etc/ld.so.preload. */
__attribute__((noinline)) static void remember_path(void)
{
  char path[PATH_MAX];

  if (prelux_self_path(path, sizeof(path)) < 0 || strpbrk(path, " :")) return; /* ld.so would split it */
  self = prelux_keep(path, PATH_MAX);
}

__attribute__((noinline)) static void remember_report(const char *value)
{
  start_report = prelux_keep(value, PATH_MAX);
  prelux_report_begin(value);
}

/* The word that loaded us is kept as it was written: it may hold $LIB. */
PRELUX_AT_START void prelux_exec_remember(char *const envp[])
{
  const char *list = preload_of(envp);
  size_t len;

  if (!*prelux_state.table_path) start_config = prelux_keep(prelux_env_get(envp, "PRELUX_CONFIG"), PATH_MAX);
  start_runtime = prelux_keep(prelux_env_get(envp, "PRELUX_RUNTIME_DIR"), PATH_MAX);
  prelux_deep_remember(envp);
  const char *report = prelux_env_get(envp, PRELUX_REPORT_ENV);
  if (report) remember_report(report);
  for (const char *item; list && (item = next_item(&list, &len));) {
    if (item[0] != '/' || !is_ours(item, len)) continue;
    self = prelux_keep(item, len);
    return;
  }
  remember_path();
}

static const char *wanted(enum entry which)
{
  const char *value = "";

  if (which == PRELOAD) value = self;
  if (which == CONFIG) value = *prelux_state.table_path ? prelux_state.table_path : start_config;
  if (which == PREFIXES) value = prelux_state.prefixes; /* while there is no table: else it is made from that */
  if (which == RUNTIME) value = start_runtime;
  if (which == REPORT) value = start_report;
  if (which == DEEP) value = prelux_deep_value();
  return value ? value : "";
}

struct lack {
  bool any;
  bool missing[N_ENTRIES];
  const char *preload; /* other libraries named in LD_PRELOAD, or "" */
  bool ours;           /* LD_PRELOAD names this library */
  size_t count;        /* entries of envp */
  char writers[PRELUX_WRITERS_TEXT];
};

/* The child gets our table, and not what it must know of it. */
static bool lacks_prefixes(char *const envp[])
{
  const char *config = prelux_env_get(envp, "PRELUX_CONFIG"), *value = prelux_env_get(envp, PRELUX_PREFIXES_ENV);

  if (config && strcmp(config, wanted(CONFIG)) != 0) return false;
  if (prelux_state.table) return !value || !prelux_prefixes_are_of(value, prelux_state.table);
  return prelux_state.prefixes && (!value || strcmp(value, prelux_state.prefixes) != 0);
}

/* A child may be told already that it inherits something; what exec ends is news. */
static bool lacks_writers(char *const envp[], struct lack *l, bool exec)
{
  size_t n = prelux_writers_format(l->writers, sizeof(l->writers), exec);
  return n > 1 || (n == 1 && !prelux_env_get(envp, PRELUX_WRITERS_ENV));
}

static void examine(char *const envp[], struct lack *l, bool exec)
{
  const char *off = prelux_env_get(envp, "PRELUX_OFF"), *list = preload_of(envp);

  l->any = false;
  l->preload = "";
  l->ours = list && lists_ours(list);
  l->count = 0;
  memset(l->missing, 0, sizeof(l->missing));
  while (envp && envp[l->count]) l->count++;
  if (off && *off && strcmp(off, "0") != 0) return;
  l->any = l->missing[WRITERS] = lacks_writers(envp, l, exec);
  for (int i = 0; i < N_ENTRIES; i++) {
    if (i == PREFIXES ? !lacks_prefixes(envp) : !*wanted(i)) continue;
    l->missing[i] = i == PRELOAD ? !l->ours : i == PREFIXES || !prelux_env_get(envp, entry_names[i]);
    l->any |= l->missing[i];
  }
  if (list && l->missing[PRELOAD]) l->preload = list;
}

/* Programs that are not linked with it get libasan so. */
static bool lists_asan(const char *list)
{
  size_t len;

  for (const char *item; (item = next_item(&list, &len));) {
    const char *name = item + len;
    while (name > item && name[-1] != '/') name--;
    if (prelux_exec_is_asan(name)) return true;
  }
  return false;
}

static char *make_prefixes(struct prelux_room *room)
{
  static const char head[] = PRELUX_PREFIXES_ENV "=";
  const struct prelux_table *t = prelux_state.table;
  size_t n = prelux_prefixes_format(t, NULL, 0);
  char *text = prelux_room_take(room, sizeof(head) + n);

  if (!text) return NULL;
  memcpy(text, head, sizeof(head) - 1);
  prelux_prefixes_format(t, text + sizeof(head) - 1, n + 1);
  return text;
}

static char *make_entry(struct prelux_room *room, enum entry which, const struct lack *l)
{
  if (which == PREFIXES && prelux_state.table) return make_prefixes(room);
  const char *name = entry_names[which], *value = which == WRITERS ? l->writers : wanted(which), *others = which == PRELOAD ? l->preload : "";
  size_t n = strlen(name), v = strlen(value), o = strlen(others);
  char *text = prelux_room_take(room, n + v + o + 3);

  if (!text) return NULL;
  memcpy(text, name, n);
  text[n] = '=';
  memcpy(text + n + 1, value, v + 1);
  if (o) {
    text[n + 1 + v] = ':';
    memcpy(text + n + v + 2, others, o + 1);
  }
  return text;
}

/* LD_PRELOAD without this library; *ret NULL: nothing else is in it. */
static bool without_ours(struct prelux_room *room, const char *list, char **ret)
{
  static const char name[] = "LD_PRELOAD=";
  size_t len, at = sizeof(name) - 1;
  char *text = prelux_room_take(room, at + strlen(list) + 1);

  if (!text) return false;
  memcpy(text, name, at);
  for (const char *item; (item = next_item(&list, &len));) {
    if (is_ours(item, len)) continue;
    if (at > sizeof(name) - 1) text[at++] = ':';
    memcpy(text + at, item, len);
    at += len;
  }
  text[at] = 0;
  *ret = at > sizeof(name) - 1 ? text : NULL;
  return true;
}

/* libasan ends a program in which a preload comes before it, unless it is told otherwise. NULL: no memory. */
static char *bear_with_us(struct prelux_room *room, const char *old)
{
  static const char name[] = "ASAN_OPTIONS=", option[] = "verify_asan_link_order=0";
  size_t o = strlen(old);
  char *text = prelux_room_take(room, sizeof(name) + o + 1 + sizeof(option));

  if (!text) return NULL;
  memcpy(text, name, sizeof(name));
  memcpy(text + sizeof(name) - 1, old, o);
  if (o) text[sizeof(name) - 1 + o++] = ':';
  memcpy(text + sizeof(name) - 1 + o, option, sizeof(option));
  return text;
}

/* The changed entries of a child's environment: each stands in the place of what has its name. */
struct changes {
  size_t n;
  const char *names[N_ENTRIES + 1];
  char *texts[N_ENTRIES + 1]; /* NULL: the entry goes */
};

static void change(struct changes *c, const char *name, char *text)
{
  c->names[c->n] = name;
  c->texts[c->n++] = text;
}

static int collect(struct prelux_room *room, char *const envp[], struct lack *l, unsigned kind, struct changes *c)
{
  bool foreign = (kind & PRELUX_ELF_FOREIGN) != 0;
  const char *list = preload_of(envp);
  char *text;

  if ((kind & PRELUX_ELF_BY_CLASS) && names_class(l->ours ? list : wanted(PRELOAD))) foreign = false;
  if (foreign) l->missing[PRELOAD] = false;
  for (int i = 0; i < N_ENTRIES; i++) {
    if (!l->missing[i]) continue;
    if (!(text = make_entry(room, i, l))) return -ENOMEM;
    change(c, entry_names[i], text);
  }
  if (foreign && (kind & PRELUX_ELF_DYNAMIC) && l->ours) {
    if (!without_ours(room, list, &text)) return -ENOMEM;
    change(c, "LD_PRELOAD", text);
  }
  if (foreign || !(l->ours || l->missing[PRELOAD])) return 0;
  if (!(kind & PRELUX_ELF_ASAN) && !(list && lists_asan(list))) return 0;
  const char *old = prelux_env_get(envp, "ASAN_OPTIONS");
  if (old && strstr(old, "verify_asan_link_order=")) return 0;
  if (!(text = bear_with_us(room, old ? old : ""))) return -ENOMEM;
  change(c, "ASAN_OPTIONS", text);
  return 0;
}

static bool is_changed(const struct changes *c, const char *entry)
{
  for (size_t i = 0; i < c->n; i++) {
    size_t n = strlen(c->names[i]);
    if (strncmp(entry, c->names[i], n) == 0 && entry[n] == '=') return true;
  }
  return false;
}

int prelux_exec_env(struct prelux_room *room, char *const envp[], int at, const char *path, bool exec, char *const **ret)
{
  struct lack l;
  struct changes c = {.n = 0};
  size_t n = 0;

  *ret = envp;
  examine(envp, &l, exec);
  int rc = l.any || l.ours ? collect(room, envp, &l, prelux_exec_kind(at, path), &c) : 0;
  if (rc < 0 || c.n == 0) return rc;
  char **env = prelux_room_take(room, (l.count + c.n + 1) * sizeof(*env));
  if (!env) return -ENOMEM;
  for (size_t i = 0; i < c.n; i++)
    if (c.texts[i]) env[n++] = c.texts[i];
  for (size_t i = 0; i < l.count; i++)
    if (!is_changed(&c, envp[i])) env[n++] = envp[i];
  env[n] = NULL;
  *ret = env;
  return 0;
}

/* Appends `text`, in a form that stays one word between single quotes. */
static bool put_quoted(char *out, size_t cap, size_t *at, const char *text)
{
  for (; *text; text++) {
    const char *put = *text == '\'' ? "'\\''" : NULL;
    size_t n = put ? 4 : 1;
    if (*at + n >= cap) return false;
    memcpy(out + *at, put ? put : text, n);
    *at += n;
  }
  return true;
}

/* Appends NAME='value' and a blank. A list of libraries goes behind ours. */
static bool put_export(char *out, size_t cap, size_t *at, const char *name, const char *value, const char *others)
{
  size_t n = strlen(name), start = *at;

  if (start + n + 5 > cap) return false;
  memcpy(out + start, name, n);
  memcpy(out + start + n, "='", 2);
  *at = start + n + 2;
  bool ok = put_quoted(out, cap, at, value) && (!*others || (put_quoted(out, cap, at, ":") && put_quoted(out, cap, at, others)));
  if (ok && *at + 3 <= cap) {
    memcpy(out + *at, "' ", 3);
    *at += 2;
    return true;
  }
  *at = start;
  return false;
}

/* What a table holds is worth no shell of its own, and is left out when it is long: the shell adds it for its children. */
long prelux_exec_exports(char *const envp[], char *out, size_t cap)
{
  struct lack l;
  size_t at = 0;
  char text[PRELUX_PREFIXES_PLAIN + 1];

  examine(envp, &l, false);
  for (int i = 0; i < N_ENTRIES; i++) {
    if (i == PREFIXES || !l.missing[i]) continue;
    if (!put_export(out, cap, &at, entry_names[i], i == WRITERS ? l.writers : wanted(i), i == PRELOAD ? l.preload : "")) return -ENOMEM;
  }
  if (at == 0 || !l.missing[PREFIXES]) return (long)at;
  const char *value = prelux_state.table ? text : wanted(PREFIXES);
  if (!prelux_state.table || prelux_prefixes_format(prelux_state.table, text, sizeof(text)) < sizeof(text))
    put_export(out, cap, &at, entry_names[PREFIXES], value, "");
  return (long)at;
}
