/* posix_spawn: libc makes the child, opens and executes inside itself. So the program and the paths of file actions are
 * replaced before libc sees them; actions then name filled files of the cache tree. */
#include "shim/exec.h"
#include "shim/deep.h"
#include "shim/pending.h"
#include "shim/fds.h"
#include "shim/report.h"
#include "shim/write.h"

/* libc resolves a relative path after the actions that change the directory. Where posix_spawn_file_actions_addchdir_np leads is kept
 * here, in the last words of the padding that glibc leaves: a path of the heap, libc's own, or NULL. */
enum { MOVED = 14 };

static char *moved(const posix_spawn_file_actions_t *actions)
{
  char *folder;
  _Static_assert(sizeof(actions->__pad) >= MOVED * sizeof(int) + sizeof(folder), "room for it");
  memcpy(&folder, actions->__pad + MOVED, sizeof(folder));
  return folder;
}

static int move_to(posix_spawn_file_actions_t *actions, const char *folder)
{
  char *before = moved(actions);
  size_t n = strlen(folder) + 1, head = before && *folder != '/' ? strlen(before) + 1 : 0;
  char *now = malloc(head + n);
  if (!now) return ENOMEM;
  if (head) {
    memcpy(now, before, head - 1);
    now[head - 1] = '/';
  }
  memcpy(now + head, folder, n);
  memcpy(actions->__pad + MOVED, &now, sizeof(now));
  free(before);
  return 0;
}

/* The folder that a relative path will be seen from: AT_FDCWD, a descriptor, or -errno: libc may say what is wrong with it. */
static int seen_from(const posix_spawn_file_actions_t *actions, const char *path)
{
  const char *folder = actions && *path != '/' ? moved(actions) : NULL;
  if (!folder) return AT_FDCWD;
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) prelux_fd_forget((unsigned)fd, (unsigned)fd);
  return fd;
}

static void seen(int from)
{
  if (from < 0) return;
  prelux_fd_forget((unsigned)from, (unsigned)from);
  prelux_sys(SYS_close, from);
}

/* The other words of the padding, in pairs: files to be opened for writing, which are held (shim/write.h) from when the action is made
 * until the list is destroyed. Socket, plus one, and mapping. The child opens the staging file by its name. A negative socket is -errno
 * of an open that cannot be: few programs look at what addopen returns, and the child would go on with the descriptor that it inherits. */
enum { KEPT = 7 };
struct kept {
  int socket;
  int mapping;
};

static struct kept *kept(posix_spawn_file_actions_t *actions)
{
  _Static_assert(MOVED * sizeof(int) >= KEPT * sizeof(struct kept), "room for them before it");
  return (struct kept *)actions->__pad;
}

static int keep(posix_spawn_file_actions_t *actions, const struct prelux_hold *h)
{
  for (int i = 0; i < KEPT; i++) {
    if (kept(actions)[i].socket) continue;
    kept(actions)[i] = (struct kept){.socket = h->socket + 1, .mapping = (int)h->mapping};
    return 0;
  }
  return -ENOMEM;
}

/* 0, and posix_spawn fails with it; or positive, which the program gets at once: no room. */
static int fail_later(posix_spawn_file_actions_t *actions, int rc)
{
  for (int i = 0; i < KEPT; i++) {
    if (kept(actions)[i].socket) continue;
    kept(actions)[i].socket = rc;
    return 0;
  }
  return -rc;
}

/* The first that cannot be: -errno, or 0. */
static int cannot_be(const posix_spawn_file_actions_t *actions)
{
  struct kept k;
  for (int i = 0; actions && i < KEPT; i++) {
    memcpy(&k, actions->__pad + (size_t)i * sizeof(k) / sizeof(int), sizeof(k));
    if (k.socket < 0) return k.socket;
  }
  return 0;
}

PRELUX_EXPORT int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
  int saved = errno;
  for (int i = 0; !prelux_idle() && i < KEPT; i++) {
    struct kept *k = &kept(actions)[i];
    struct prelux_hold h;
    if (k->socket > 0 && prelux_hold_again(k->socket - 1, (uint32_t)k->mapping, &h)) prelux_hold_close(&h, "posix_spawn_file_actions_destroy");
    k->socket = 0;
  }
  if (!prelux_idle()) {
    char *none = NULL;
    free(moved(actions));
    memcpy(actions->__pad + MOVED, &none, sizeof(none));
  }
  errno = saved;
  return prelux_real.posix_spawn_file_actions_destroy(actions);
}

typedef int (*spawn_fn)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                        char *const[], char *const[]);

static int call_libc(spawn_fn real, pid_t *pid, const struct prelux_target *t,
                     const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const envp[])
{
  pid_t made = -1;
  struct prelux_report_exec *note = prelux_report_exec(t->at, t->path, envp, true);
  int rc = real(pid ? pid : &made, t->path, actions, attr, t->argv, envp);
  prelux_report_exec_done(note, rc ? -1 : pid ? *pid : made);
  return rc;
}

/* Which descriptors the actions copy is libc's secret. */
static void settle_for(const posix_spawn_file_actions_t *actions)
{
  if (actions) prelux_settle_all();
  else if (prelux_pending_any()) prelux_pending_settle_vfork();
}

/* Positive errno, or 0, as posix_spawn. */
static int spawn(spawn_fn real, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
  struct prelux_room room;
  struct prelux_target t = {.room = &room, .at = AT_FDCWD, .path = path, .argv = argv};
  char *const *env;
  int saved = errno;
  int from = seen_from(actions, path);
  bool fixed = from < 0 && from != AT_FDCWD;

  settle_for(actions);
  prelux_room_init(&room);
  t.moves = from >= 0;
  int launched = -1, rc = cannot_be(actions);
  if (rc == 0 && !fixed) rc = prelux_exec_resolve(&t, from, path, argv);
  if (rc == 0) rc = prelux_exec_env(&room, envp, t.at, fixed ? NULL : t.path, false, &env);
  if (rc == 0 && !fixed && (rc = prelux_deep_launch(&t, 0, &launched)) > 0) rc = 0;
  if (rc == 0) {
    rc = -call_libc(real, pid, &t, actions, attr, env);
    int again = rc && !fixed ? prelux_exec_again(&t, from, path, argv, -rc) : 0;
    if (again > 0) rc = -call_libc(real, pid, &t, actions, attr, env);
    if (again < 0) rc = again;
  }
  prelux_room_release(&room);
  seen(from);
  errno = saved;
  return -rc;
}

PRELUX_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                              const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
  if (prelux_idle()) return prelux_real.posix_spawn(pid, path, actions, attr, argv, envp);
  return spawn(prelux_real.posix_spawn, pid, path, actions, attr, argv, envp);
}

/* Looks through PATH when a folder in it is ours (or `always`). 1 and the program's name, 0: libc may look, -errno. */
static int find_in_path(const char *file, char name[PATH_MAX], bool always)
{
  const char *path = getenv("PATH");
  struct prelux_route r;
  bool ours = always, denied = false;
  size_t file_len = strlen(file);

  if (!path || file_len == 0 || file_len > NAME_MAX) return 0;
  for (int round = 0; round < 2; round++) {
    if (round == 1 && !ours) return 0;
    for (const char *p = path, *end;; p = end + 1) {
      end = strchrnul(p, ':');
      size_t len = (size_t)(end - p);
      if (len + file_len + 2 <= PATH_MAX) {
        memcpy(name, p, len);
        if (len) name[len++] = '/';
        name[len] = 0;
        if (round == 0) {
          ours |= prelux_route(AT_FDCWD, len ? name : ".", 0, &r) != PRELUX_UNMAPPED || r.use == r.path;
        } else {
          memcpy(name + len, file, file_len + 1);
          if (access(name, X_OK) == 0) return 1; /* the hook: it knows both sides */
          denied |= errno == EACCES;
        }
      }
      if (!*end) break;
    }
  }
  return denied ? -EACCES : -ENOENT;
}

PRELUX_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                               const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
  char name[PATH_MAX];

  if (prelux_idle()) return prelux_real.posix_spawnp(pid, file, actions, attr, argv, envp);
  if (strchr(file, '/')) return spawn(prelux_real.posix_spawnp, pid, file, actions, attr, argv, envp);
  int saved = errno;
  int found = find_in_path(file, name, false);
  errno = saved;
  if (found < 0) return -found;
  if (found > 0) return spawn(prelux_real.posix_spawn, pid, name, actions, attr, argv, envp);
  struct prelux_room room;
  char *const *env;
  settle_for(actions);
  prelux_room_init(&room);
  bool named = find_in_path(file, name, true) > 0;
  struct prelux_target t = {.room = &room, .at = AT_FDCWD, .path = named ? name : "", .argv = argv};
  int launched = -1, rc = -cannot_be(actions);
  if (rc == 0) rc = -prelux_exec_env(&room, envp, AT_FDCWD, named ? name : NULL, false, &env);
  if (rc == 0 && (rc = -prelux_deep_launch(&t, 0, &launched)) < 0) rc = 0;
  if (t.path == name || !named) t.path = file;
  if (rc == 0) rc = call_libc(prelux_real.posix_spawnp, pid, &t, actions, attr, env);
  prelux_room_release(&room);
  /* Found, but a script whose interpreter libc did not find: it may be mapped. */
  if (rc == ENOENT && find_in_path(file, name, true) > 0)
    rc = spawn(prelux_real.posix_spawn, pid, name, actions, attr, argv, envp);
  errno = saved;
  return rc;
}

static int path_from(int from, const char *call, const char *path, struct prelux_route *r, char cache[PATH_MAX],
                     struct prelux_attr *attr, const char **ret)
{
  int where = prelux_route(from, path, 0, r);
  if (where == PRELUX_UNMAPPED && r->use == path && prelux_sys(SYS_faccessat, from, path, F_OK) == -ENOENT) {
    errno = ENOENT;
    if (prelux_route_again(from, path, 0, r)) where = r->where;
  }
  if (where < 0) return where;
  *ret = r->use;
  if (where != PRELUX_MAPPED) return 0;
  *ret = cache;
  return prelux_real_path(r, call, cache, PATH_MAX, attr);
}

/* What an action shall name. 0: *ret (in r or cache), or -errno. */
static int action_path(posix_spawn_file_actions_t *actions, const char *call, const char *path, struct prelux_route *r,
                       char cache[PATH_MAX], struct prelux_attr *attr, const char **ret)
{
  *ret = path;
  attr->type = PRELUX_NONE;
  if (prelux_idle()) return 0;
  int from = seen_from(actions, path);
  if (from < 0 && from != AT_FDCWD) return 0;
  int rc = path_from(from, call, path, r, cache, attr, ret);
  seen(from);
  return rc;
}

/* Positive errno, or 0: the action opens for writing what r names. */
static int add_writer(posix_spawn_file_actions_t *actions, int fd, const struct prelux_route *r, int flags, mode_t mode)
{
  enum { DONE = O_CREAT | O_EXCL | O_TRUNC };
  static const char call[] = "posix_spawn_file_actions_addopen";
  char path[PATH_MAX];
  struct prelux_hold h;
  int rc = prelux_hold(r, call, flags, mode, &h);
  if (rc < 0) return -rc;
  long n = prelux_hold_path(&h, path, sizeof(path));
  rc = n < 0 ? (int)n : keep(actions, &h);
  if (rc < 0) {
    prelux_hold_close(&h, call);
    return -rc;
  }
  return prelux_real.posix_spawn_file_actions_addopen(actions, fd, path, flags & ~DONE, mode);
}

PRELUX_EXPORT int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path,
                                                   int flags, mode_t mode)
{
  static const char call[] = "posix_spawn_file_actions_addopen";
  struct prelux_route r;
  struct prelux_attr attr;
  char cache[PATH_MAX];
  const char *use;
  int saved = errno;
  int rc = action_path(actions, call, path, &r, cache, &attr, &use);
  bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);

  if ((rc == 0 || rc == -ENOENT) && use == cache && (writes || (rc && (flags & O_CREAT))) && prelux_writable(&r)) {
    rc = add_writer(actions, fd, &r, flags, mode);
    errno = saved;
    return rc ? fail_later(actions, -rc) : 0;
  }
  if (rc == -ENOENT && (flags & O_CREAT) && use == cache) rc = prelux_refuse(call, &r);
  if (rc == 0 && use == cache && writes) rc = attr.type == PRELUX_DIR ? -EISDIR : prelux_refuse(call, &r);
  errno = saved;
  if (rc) return fail_later(actions, rc);
  if (use == cache) flags &= ~O_CREAT;
  return prelux_real.posix_spawn_file_actions_addopen(actions, fd, use, flags, mode);
}

PRELUX_EXPORT int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path)
{
  struct prelux_route r;
  struct prelux_attr attr;
  char cache[PATH_MAX];
  const char *use;
  int saved = errno;
  int rc = action_path(actions, "posix_spawn_file_actions_addchdir_np", path, &r, cache, &attr, &use);

  if (rc == 0 && use == cache && attr.type != PRELUX_DIR) rc = -ENOTDIR;
  errno = saved;
  if (rc) return fail_later(actions, rc);
  rc = prelux_real.posix_spawn_file_actions_addchdir_np(actions, use);
  return rc || prelux_idle() ? rc : move_to(actions, use);
}

/* The folder is the one that this process has open by that number when the child is made: one that an earlier action opens is not known,
 * and then relative paths are libc's. */
PRELUX_EXPORT int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd)
{
  char name[32] = "/proc/self/fd/";
  int rc = prelux_real.posix_spawn_file_actions_addfchdir_np(actions, fd);
  if (rc || prelux_idle()) return rc;
  size_t n = strlen(name), digits = 1;
  for (int rest = fd; rest >= 10; rest /= 10) digits++;
  for (size_t i = digits; i > 0; i--, fd /= 10) name[n + i - 1] = (char)('0' + fd % 10);
  name[n + digits] = '\0';
  return move_to(actions, name);
}
