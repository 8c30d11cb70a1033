/* Start of the library in a process.
 *
 * The constructor binds libc, then looks for a configuration: a compiled table is mapped and that is all; a YAML file
 * is sent to the daemon once (which is started when needed) and answered by a table, whose path replaces the process's
 * own PRELUX_CONFIG entry, so that children neither ask again nor resolve relative prefixes against another folder.
 * When no table can be had the prefixes are read from the YAML as well as can be (shim/lost.c), and each is EIO.
 * Linked -z initfirst: this runs before other libraries' constructors and before libc has set `environ`. */
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "include/prelux/version.h"
#include "lib/base/errlog.h"
#include "lib/base/path.h"
#include "lib/base/trust.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"
#include "lib/map/match.h"
#include "shim/init.h"
#include "shim/deep.h"
#include "shim/state.h"
#include "shim/write.h"

struct prelux_state prelux_state = {.table_path = "", .runtime = "", .lost_why = ""};

static char runtime_buf[PATH_MAX];
/* Small tables and the strings of the start, side by side: see PRELUX_AT_START. The rest of it is never touched. */
enum { SMALL_TABLE = 2048 };
static PRELUX_START_DATA size_t kept_len;
static __attribute__((section(".bss.start.last"))) char kept[SMALL_TABLE + 4 * PATH_MAX] __attribute__((aligned(8)));
static char daemon_buf[PATH_MAX];

static PRELUX_AT_START char *keep_room(size_t n)
{
  if (n > sizeof(kept) - kept_len) return NULL;
  char *at = kept + kept_len;
  kept_len += n;
  return at;
}

/* No function of libc here and in what follows: see prelux_env_get(). */
PRELUX_AT_START const char *prelux_keep(const char *s, size_t max)
{
  size_t n = 0;
  while (s && n < max && s[n]) n++;
  char *at = n ? keep_room(n + 1) : NULL;
  if (!at) return "";
  for (size_t i = 0; i < n; i++) at[i] = s[i];
  at[n] = '\0';
  return at;
}

/* The library's own file, absolute: the name ld.so loaded it by. */
long prelux_self_path(char *out, size_t cap)
{
  for (const struct link_map *m = _r_debug.r_map; m; m = m->l_next) {
    if (m->l_ld != _DYNAMIC) continue;
    char cwd[PATH_MAX];
    if (m->l_name[0] != '/' && prelux_sys(SYS_getcwd, cwd, sizeof(cwd)) < 0) return -ENOENT;
    return prelux_path_join(out, cap, m->l_name[0] == '/' ? NULL : cwd, m->l_name);
  }
  return -ENOENT;
}

static int never;

void prelux_daemon_never(void)
{
  __atomic_store_n(&never, 1, __ATOMIC_RELAXED);
}

/* preluxd beside the library (build tree) or where `make install` puts it. */
const char *prelux_daemon_path(void)
{
  static const char *const places[] = {"../preluxd", "../../bin/preluxd", "../../../bin/preluxd",
                                       "../../../../preluxd", "../../../preluxd", /* preload/lib/x86_64-linux-gnu, preload/lib64 */
                                       "../../../../../bin/preluxd", "../../../../bin/preluxd"};
  if (__atomic_load_n(&never, __ATOMIC_RELAXED)) return NULL;
  if (prelux_state.table) {
    const char *named = prelux_table_str(prelux_state.table, prelux_state.table->daemon);
    if (*named && prelux_sys(SYS_faccessat, AT_FDCWD, named, X_OK) == 0) return named;
  }
  const char *asked = prelux_env_get(prelux_state.envp, "PRELUX_DAEMON");
  if (asked && *asked == '/') return asked;
  char self[PATH_MAX];
  if (prelux_self_path(self, sizeof(self)) < 0) return NULL;
  for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
    char found[PATH_MAX];
    if (prelux_path_join(found, sizeof(found), self, places[i]) < 0) continue;
    if (prelux_sys(SYS_faccessat, AT_FDCWD, found, X_OK) < 0) continue;
    memcpy(daemon_buf, found, strlen(found) + 1); /* the same bytes whoever writes them */
    return daemon_buf;
  }
  return NULL;
}

/* A table that is too large to be kept. */
static int map_table(long fd, const struct prelux_table **ret)
{
  struct stat st;
  long rc = prelux_sys(SYS_fstat, fd, &st);
  if (rc < 0) return (int)rc;
  long map = prelux_sys(SYS_mmap, NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0L);
  if (map < 0 && map > -4096) return (int)map;
  rc = prelux_table_check((const void *)map, (size_t)st.st_size);
  if (rc < 0) prelux_sys(SYS_munmap, map, st.st_size);
  else *ret = (const struct prelux_table *)map;
  return (int)rc;
}

/* Somebody else has made it: where a daemon of several users puts it, or it is not believed (it names a program to be executed, and folders to be read). */
__attribute__((noinline)) static int check_maker(const char *path, uid_t uid)
{
  char folder[PATH_MAX];
  const char *name = strrchr(path, '/');
  size_t n = name ? (size_t)(name - path) : 0;
  if (n >= sizeof(folder)) return -EACCES;
  memcpy(folder, path, n);
  folder[n] = '\0';
  return prelux_believed(folder, uid);
}

/* Small ones are read: that is cheaper than a map, whose page would have to be faulted in. */
PRELUX_AT_START int prelux_load_table(const char *path, const struct prelux_table **ret)
{
  size_t at = (kept_len + 7) & ~(size_t)7;
  struct prelux_table *t = (struct prelux_table *)(kept + at);
  if (at + SMALL_TABLE > sizeof(kept)) return -ENOMEM;
  long fd = prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return (int)fd;
  struct stat st;
  long n = prelux_sys(SYS_fstat, fd, &st);
  if (n == 0) n = prelux_sys(SYS_pread64, fd, t, SMALL_TABLE, 0L);
  int rc = -ENOEXEC;
  if (n >= (long)sizeof(t->magic) && t->magic == PRELUX_TABLE_MAGIC && st.st_uid != 0) rc = check_maker(path, st.st_uid);
  if (n >= (long)sizeof(t->magic) && t->magic == PRELUX_TABLE_MAGIC && rc != -EACCES)
    rc = n == SMALL_TABLE ? map_table(fd, ret) : prelux_table_check(t, (size_t)n);
  prelux_sys(SYS_close, fd);
  if (rc == 0 && n < SMALL_TABLE) {
    kept_len = at + (size_t)n;
    *ret = t;
  }
  return rc;
}

/* What cannot be looked at is taken, and fails later with its reason. */
static bool is_there(const char *path)
{
  long rc = prelux_sys(SYS_faccessat, AT_FDCWD, path, F_OK);
  return rc != -ENOENT && rc != -ENOTDIR;
}

/* Path of the configuration by the order of docs/CONFIGURATION, made absolute; NULL: there is none. */
static const char *find_config(char *const envp[], const char *cwd, char *out, size_t cap)
{
  static const char *const named[] = {"PRELUX_CONFIG", "QD_CLOUD_FUSE_CONFIG_FILE", "AZFUSE_CLOUD_FUSE_CONFIG_FILE"};
  for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
    const char *v = prelux_env_get(envp, named[i]);
    if (v && *v) return prelux_path_join(out, cap, cwd, v) < 0 ? NULL : out;
  }
  bool given, wrong;
  if (prelux_azfuse_switch(envp, &given, &wrong) != 0 && prelux_path_join(out, cap, cwd, "aux_data/configs/azfuse.yaml") > 0 && is_there(out))
    return out;
  const char *base = prelux_env_get(envp, "XDG_CONFIG_HOME");
  const char *tail = "prelux/config.yaml";
  if (!base || *base != '/') {
    base = prelux_env_get(envp, "HOME");
    tail = ".config/prelux/config.yaml";
  }
  if (base && *base == '/' && prelux_path_join(out, cap, base, tail) > 0 && is_there(out)) return out;
  if (prelux_path_join(out, cap, NULL, "/etc/prelux/config.yaml") > 0 && is_there(out)) return out;
  return NULL;
}

/* The environment variables that the daemon said it needs (NEED fields of `reply`) go into `m`; a name alone: not set. */
static void put_needed(struct prelux_msg *m, const void *reply)
{
  size_t pos = 0, len;
  const char *name;
  while ((name = prelux_msg_next(reply, PRELUX_FIELD_NEED, &pos, &len))) {
    const char *entry = name;
    for (char *const *e = prelux_state.envp; e && *e; e++) {
      if (strncmp(*e, name, len) == 0 && (*e)[len] == '=') entry = *e;
    }
    prelux_msg_put_str(m, PRELUX_FIELD_ENV, entry);
  }
}

int prelux_register(const char *config, const char *folder, const unsigned char *hash, char *path, size_t cap)
{
  unsigned char msg[12288] __attribute__((aligned(8))), reply[8192] __attribute__((aligned(8)));
  char cwd[PATH_MAX];
  const struct prelux_client_opts opts = {
    .runtime = prelux_state.runtime,
    .daemon = prelux_daemon_path(),
    .start = prelux_deep_start,
    .envp = prelux_state.envp,
    .timeout_ms = prelux_state.table ? prelux_state.table->daemon_timeout_ms : 15000,
    .fd_cloexec = 1,
  };
  const char *home = prelux_env_get(prelux_state.envp, "HOME");
  if (prelux_sys(SYS_getcwd, cwd, sizeof(cwd)) < 0) memcpy(cwd, "/", 2);
  int rc = 0;
  for (int round = 0; round < 3; round++) {
    struct prelux_msg m;
    prelux_msg_begin(&m, msg, sizeof(msg), PRELUX_OP_REGISTER);
    if (config) prelux_msg_put_str(&m, PRELUX_FIELD_CONFIG, config);
    if (hash) prelux_msg_put(&m, PRELUX_FIELD_TABLE, hash, 16);
    prelux_msg_put_str(&m, PRELUX_FIELD_CWD, folder ? folder : cwd);
    if (home) prelux_msg_put_str(&m, PRELUX_FIELD_HOME, home);
    if (config && !folder) prelux_msg_put_u32(&m, PRELUX_FIELD_BARE, 1);
    if (round) put_needed(&m, reply);
    if (m.overflow) return -E2BIG;
    memset(reply, 0, sizeof(struct prelux_msg_header)); /* of no bytes, until one has come */
    rc = prelux_client_call(&opts, &m, reply, sizeof(reply), NULL);
    size_t pos = 0, len;
    if (prelux_msg_op(reply) != PRELUX_OP_REPLY) { /* nothing that could be read */
      if (path) path[0] = '\0';
      return rc;
    }
    if (rc <= -1000 || !prelux_msg_next(reply, PRELUX_FIELD_NEED, &pos, &len)) break;
  }
  if (!path) return rc;
  const char *text = prelux_msg_str(reply, PRELUX_FIELD_TEXT);
  size_t n = text ? strlen(text) : 0;
  if (n >= cap) n = cap - 1;
  memcpy(path, text ? text : "", n);
  path[n] = '\0';
  return rc;
}

/* Puts the table's path where children and the exec hooks find it. */
static PRELUX_AT_START void publish_table_path(char **envp, const char *path)
{
  static const char head[] = "PRELUX_CONFIG=";
  size_t n = 0, h = sizeof(head) - 1;
  while (path[n]) n++;
  char *entry = n < PATH_MAX ? keep_room(h + n + 1) : NULL;
  if (!entry) return;
  for (size_t i = 0; i < h; i++) entry[i] = head[i];
  for (size_t i = 0; i <= n; i++) entry[h + i] = path[i];
  prelux_state.table_path = entry + h;
  for (char **e = envp; e && *e; e++) {
    size_t same = 0;
    while (same < h && (*e)[same] == head[same]) same++;
    if (same == h) *e = entry;
  }
}

static const char *why_not(int rc)
{
  switch (rc) {
  case -ENOTCONN: return "no daemon is running and none could be started";
  case -ETIMEDOUT: return "the daemon does not answer";
  case -EPROTO: return "the daemon went away while it read the configuration";
  case -EPROTONOSUPPORT: return "the daemon is of another version of prelux than this program's library";
  case -ENOENT: return "there is no such configuration file";
  default: return "the configuration could not be loaded";
  }
}

/* ON with a table, ON with lost prefixes, or OFF. */
static enum prelux_phase configure(char **envp)
{
  static char text[1024];
  char cwd[PATH_MAX], found[PATH_MAX], table[PATH_MAX];
  if (prelux_sys(SYS_getcwd, cwd, sizeof(cwd)) < 0) memcpy(cwd, "/", 2);
  const char *config = find_config(envp, cwd, found, sizeof(found));
  if (!config) return PRELUX_OFF;
  if (prelux_runtime_path(runtime_buf, sizeof(runtime_buf), envp) > 0) prelux_state.runtime = runtime_buf;
  prelux_deep_remember(envp); /* a daemon may be needed */
  int rc = prelux_load_table(config, &prelux_state.table);
  if (rc == 0) {
    publish_table_path(envp, config);
    return PRELUX_ON;
  }
  const char *why = NULL;
  table[0] = '\0';
  if (prelux_heal(config, envp, table, sizeof(table), &why)) {
    if (prelux_state.table) publish_table_path(envp, table);
    prelux_state.lost_why = why;
    return PRELUX_ON;
  }
  if (rc == -ENOEXEC || rc == -EACCES) { /* the configuration of a daemon that serves several users need not be readable to them */
    rc = prelux_register(config, NULL, NULL, table, sizeof(table));
    /* A broken configuration has a table too: it knows the prefixes and says why they are EIO. */
    if (rc == 0 || table[0] == '/') rc = prelux_load_table(table, &prelux_state.table);
    if (rc == 0) {
      publish_table_path(envp, table);
      return PRELUX_ON;
    }
  }
  size_t n = strnlen(table, sizeof(text) - 1);
  memcpy(text, n ? table : why_not(rc), n ? n : strlen(why_not(rc)) + 1);
  prelux_state.lost_why = text;
  prelux_state.lost = prelux_lost_prefixes(config, cwd, false);
  if (prelux_state.lost) return PRELUX_ON;
  const struct prelux_error_record rec = {
    .err = EIO, .call = "start", .path = config, .cause = text, .advice = "see `prelux config check` and `prelux doctor`"};
  prelux_error_record(prelux_state.runtime, &rec);
  return PRELUX_OFF;
}

/* The common case, in as few pages and system calls as can be: each costs every process's start. */
static PRELUX_AT_START bool take_table(char **envp)
{
  const char *config = prelux_env_get(envp, "PRELUX_CONFIG");
  if (!config || *config != '/' || prelux_load_table(config, &prelux_state.table) < 0) return false;
  publish_table_path(envp, config);
  return true;
}

/* Files that exec closed: told once, not by children again. */
__attribute__((noinline)) static void tell_what_ended(char **envp, const char *writers)
{
  static char inherits[] = PRELUX_WRITERS_ENV "=1";
  int saved = errno;
  prelux_writers_left(writers);
  for (char **e = envp; *e; e++)
    if (strncmp(*e, inherits, sizeof(inherits) - 2) == 0) *e = inherits;
  errno = saved;
}

static PRELUX_AT_START void start(char **envp, bool secure)
{
  prelux_real_bind();
  prelux_state.envp = envp;
  enum prelux_phase phase = PRELUX_OFF;
  const char *off = prelux_env_get(envp, "PRELUX_OFF");
  bool is_off = off && *off && (off[0] != '0' || off[1]);
  if (!secure && !is_off && take_table(envp)) {
    phase = PRELUX_ON;
  } else if (!secure && !is_off) {
    int saved = errno;
    phase = configure(envp);
    errno = saved;
  }
  if (prelux_state.table && prelux_table_str(prelux_state.table, prelux_state.table->runtime)[0])
    prelux_state.runtime = prelux_table_str(prelux_state.table, prelux_state.table->runtime);
  if (phase == PRELUX_ON) prelux_exec_remember(envp);
  const char *writers = phase == PRELUX_ON ? prelux_env_get(envp, PRELUX_WRITERS_ENV) : NULL;
  if (writers) prelux_state.writers = PRELUX_WRITERS_INHERITED;
  __atomic_store_n(&prelux_state.phase, phase, __ATOMIC_RELEASE);
  if (writers && writers[0] && writers[1]) tell_what_ended(envp, writers);
}

/* 0: nobody set it up yet, 1: under way or done. A thread that meets it under way passes its call to libc: that can
 * only be our own, as other threads do not exist before constructors have run. */
static PRELUX_START_DATA int begun;

/* The kernel's vector follows the environment that it made, which is what ld.so passes to constructors, unless the library is
 * loaded by dlopen into a program that has an environment of its own by then. Where ld.so has struck out variables, for
 * programs that are secure, NULL follows instead. */
#ifdef __GLIBC__
__attribute__((constructor)) static PRELUX_AT_START void prelux_constructor(int argc, char **argv, char **envp)
{
  if (__atomic_exchange_n(&begun, 1, __ATOMIC_ACQ_REL)) return;
  if (envp != argv + argc + 1) {
    start(envp, getauxval(AT_SECURE) != 0);
    return;
  }
  char **end = envp;
  while (*end) end++;
  const ElfW(auxv_t) *aux = (const ElfW(auxv_t) *)(end + 1);
  bool secure = aux->a_type == AT_NULL;
  for (; aux->a_type != AT_NULL; aux++) secure |= aux->a_type == AT_SECURE && aux->a_un.a_val != 0;
  start(envp, secure);
}
#else
/* musl gives constructors no arguments; it has set `environ` by then. */
__attribute__((constructor)) static void prelux_constructor(void)
{
  if (!__atomic_exchange_n(&begun, 1, __ATOMIC_ACQ_REL)) start(environ, getauxval(AT_SECURE) != 0);
}
#endif

bool prelux_idle_slow(void)
{
  if (__atomic_load_n(&prelux_state.phase, __ATOMIC_ACQUIRE) != PRELUX_NEW) return true;
  if (!environ) { /* libc is not set up: the constructor will do it */
    prelux_real_bind();
    return true;
  }
  if (__atomic_exchange_n(&begun, 1, __ATOMIC_ACQ_REL)) return true;
  start(environ, getauxval(AT_SECURE) != 0);
  return __atomic_load_n(&prelux_state.phase, __ATOMIC_ACQUIRE) != PRELUX_ON;
}
