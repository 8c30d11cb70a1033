/* The environment that a child must have to be under prelux too. Programs drop it (env -i, git, scons, sudo-like
 * wrappers), so what is missing is put back at each exec:
 *
 *   LD_PRELOAD          ours first, whatever else stands there kept
 *   PRELUX_CONFIG       the compiled table, unless the program set another one
 *   PRELUX_RUNTIME_DIR  when this process was started with one
 *
 * PRELUX_OFF=1 in the child's environment is an answer, too: then it stays as it is. */
#include "shim/exec.h"

#include "lib/ipc/runtime.h"
#include "shim/init.h"

enum entry { PRELOAD, CONFIG, RUNTIME, N_ENTRIES };

static const char *const entry_names[N_ENTRIES] = {
  [PRELOAD] = "LD_PRELOAD",
  [CONFIG] = "PRELUX_CONFIG",
  [RUNTIME] = "PRELUX_RUNTIME_DIR",
};

/* Copies, because programs write over the strings they were started with (setproctitle). Set by the constructor. */
static char self[PATH_MAX], start_config[PATH_MAX], start_runtime[PATH_MAX];

static const char library[] = "libprelux.so";

/* Next item of a list split as ld.so does; *list moves behind it. */
static const char *next_item(const char **list, size_t *ret_len)
{
  const char *p = *list;

  while (*p == ' ' || *p == ':') p++;
  *ret_len = strcspn(p, " :");
  *list = p + *ret_len;
  return *ret_len ? p : NULL;
}

/* The item loads this library in any working directory. */
static bool is_ours(const char *item, size_t len)
{
  size_t n = sizeof(library) - 1;

  if (len == strlen(self) && memcmp(item, self, len) == 0) return true;
  if (len < n || memcmp(item + len - n, library, n) != 0) return false;
  return len == n || (item[0] == '/' && item[len - n - 1] == '/');
}

static bool lists_ours(const char *list)
{
  size_t len;

  for (const char *item; (item = next_item(&list, &len));)
    if (is_ours(item, len)) return true;
  return false;
}

static void copy(char out[PATH_MAX], const char *value)
{
  size_t n = value ? strlen(value) : 0;

  if (n < PATH_MAX) memcpy(out, value ? value : "", n + 1);
}

/* The word that loaded us is kept as it was written: it may hold $LIB. */
__attribute__((constructor)) static void remember(int argc, char **argv, char **envp)
{
  const char *list = prelux_env_get(envp, "LD_PRELOAD");
  size_t len;

  if (prelux_self_path(self, sizeof(self)) < 0) self[0] = 0;
  copy(start_config, prelux_env_get(envp, "PRELUX_CONFIG"));
  copy(start_runtime, prelux_env_get(envp, "PRELUX_RUNTIME_DIR"));
  for (const char *item; list && (item = next_item(&list, &len));) {
    if (item[0] != '/' || len >= sizeof(self) || !is_ours(item, len)) continue;
    memcpy(self, item, len);
    self[len] = 0;
    return;
  }
  if (strpbrk(self, " :")) self[0] = 0; /* ld.so would split it */
}

static const char *wanted(enum entry which)
{
  switch (which) {
  case PRELOAD: return self;
  case CONFIG: return *prelux_state.table_path ? prelux_state.table_path : start_config;
  case RUNTIME: return start_runtime;
  default: return "";
  }
}

struct lack {
  bool any;
  bool missing[N_ENTRIES];
  const char *preload;  /* other libraries named in LD_PRELOAD, or "" */
  size_t preload_index; /* of that entry */
  size_t count;         /* entries of envp */
};

static void examine(char *const envp[], struct lack *l)
{
  const char *off = prelux_env_get(envp, "PRELUX_OFF");

  *l = (struct lack){.preload = "", .preload_index = SIZE_MAX};
  while (envp && envp[l->count]) l->count++;
  if (off && *off && strcmp(off, "0") != 0) return;
  for (int i = 0; i < N_ENTRIES; i++) {
    const char *has = prelux_env_get(envp, entry_names[i]);
    if (!*wanted(i)) continue;
    l->missing[i] = i == PRELOAD ? !has || !lists_ours(has) : !has;
    if (i == PRELOAD && has && l->missing[i]) l->preload = has;
    l->any |= l->missing[i];
  }
  if (!*l->preload) return;
  for (size_t i = 0; i < l->count; i++)
    if (envp[i] + strlen("LD_PRELOAD=") == l->preload) l->preload_index = i;
}

/* A program of another class or machine: ld.so would complain about the preload on its stderr. */
static bool is_foreign(int at, const char *path, int depth)
{
  char head[PRELUX_HEAD + 1], *interpreter, *argument;
  uint16_t machine, ours;
  long n = prelux_exec_head(at, path, head);

  if (n >= 20 && memcmp(head, "\177ELF", 4) == 0) {
#if defined(__x86_64__)
    ours = 62;
#elif defined(__aarch64__)
    ours = 183;
#endif
    memcpy(&machine, head + 18, sizeof(machine));
    return head[4] != 2 || machine != ours;
  }
  if (depth == 0 && prelux_exec_script(head, n, &interpreter, &argument))
    return is_foreign(AT_FDCWD, interpreter, depth + 1);
  return false;
}

static char *make_entry(struct prelux_room *room, enum entry which, const char *others)
{
  const char *name = entry_names[which], *value = wanted(which);
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

int prelux_exec_env(struct prelux_room *room, char *const envp[], int at, const char *path, char *const **ret)
{
  struct lack l;
  size_t n = 0;

  *ret = envp;
  examine(envp, &l);
  if (!l.any) return 0;
  if (l.missing[PRELOAD] && path && is_foreign(at, path, 0)) l.missing[PRELOAD] = false;
  char **env = prelux_room_take(room, (l.count + N_ENTRIES + 1) * sizeof(*env));
  if (!env) return -ENOMEM;
  for (int i = 0; i < N_ENTRIES; i++) {
    if (!l.missing[i]) continue;
    env[n] = make_entry(room, i, i == PRELOAD ? l.preload : "");
    if (!env[n++]) return -ENOMEM;
  }
  for (size_t i = 0; i < l.count; i++)
    if (i != l.preload_index || !l.missing[PRELOAD]) env[n++] = envp[i];
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

long prelux_exec_exports(char *const envp[], char *out, size_t cap)
{
  struct lack l;
  size_t at = 0;

  examine(envp, &l);
  for (int i = 0; i < N_ENTRIES; i++) {
    if (!l.missing[i]) continue;
    size_t n = strlen(entry_names[i]);
    if (at + n + 5 > cap) return -ENOMEM;
    memcpy(out + at, entry_names[i], n);
    memcpy(out + at + n, "='", 2);
    at += n + 2;
    if (!put_quoted(out, cap, &at, wanted(i))) return -ENOMEM;
    if (i == PRELOAD && *l.preload && (!put_quoted(out, cap, &at, ":") || !put_quoted(out, cap, &at, l.preload)))
      return -ENOMEM;
    if (at + 3 > cap) return -ENOMEM;
    memcpy(out + at, "' ", 3);
    at += 2;
  }
  return (long)at;
}
