/* The hooks of ftw and fts, and what their walkers share. Here, in ftw.c, fts.c, scandir.c and glob.c, calls by their plain
 * names (fstatat, opendir, chdir, ...) are meant to be the hooks: these files are programs of their own. */
#include "shim/walk.h"

#include "shim/decls.h"
#include "shim/fds.h"
#include "shim/fts.h"
#include "shim/ftw.h"
#include "shim/route.h"

int prelux_walk_folder(int at, const char *path, int (*each)(const struct dirent *entry, void *arg), void *arg)
{
  int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  DIR *dir = fdopendir(fd);
  if (!dir) {
    int err = errno;
    close(fd);
    return -err;
  }
  int rc = 0;
  while (rc == 0) {
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (!entry) {
      rc = -errno;
      break;
    }
    rc = each(entry, arg);
  }
  closedir(dir);
  return rc;
}

static bool has_dotdot(const char *path)
{
  for (const char *p = path; (p = strstr(p, "..")); p += 2)
    if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == 0)) return true;
  return false;
}

bool prelux_walk_can_reach(int at, const char *path, bool follow)
{
  struct prelux_route r;
  struct stat st;

  if (prelux_idle() || !path) return false;
  if (follow && !(prelux_state.table && (prelux_state.table->flags & PRELUX_TABLE_LINKS_OFF))) return true;
  if (has_dotdot(path)) return true; /* up, and perhaps down again */
  if (prelux_route(at, path, 0, &r) != PRELUX_UNMAPPED || r.use != path) return true;
  if (prelux_sys(SYS_newfstatat, at, path, &st, 0) != -ENOENT) return false;
  int saved = errno;
  errno = ENOENT;
  bool linked = prelux_route_again(at, path, 0, &r); /* the way to the root leads through a link */
  errno = saved;
  return linked;
}

PRELUX_EXPORT int ftw(const char *root, __ftw_func_t fn, int fds)
{
  if (!prelux_walk_can_reach(AT_FDCWD, root, true)) return prelux_real.ftw(root, fn, fds);
  return prelux_ftw_walk(root, NULL, fn, 0);
}

PRELUX_EXPORT int ftw64(const char *root, __ftw64_func_t fn, int fds)
{
  if (!prelux_walk_can_reach(AT_FDCWD, root, true)) return prelux_real.ftw64(root, fn, fds);
  return prelux_ftw_walk(root, NULL, (prelux_ftw_fn)fn, 0);
}

/* libc's changes of directory would pass the chdir hook by, and callbacks run in between. */
static bool nftw_can_reach(const char *root, int flags)
{
  return prelux_walk_can_reach(AT_FDCWD, root, !(flags & FTW_PHYS)) || ((flags & FTW_CHDIR) && !prelux_idle());
}

PRELUX_EXPORT int nftw(const char *root, __nftw_func_t fn, int fds, int flags)
{
  if (!nftw_can_reach(root, flags)) return prelux_real.nftw(root, fn, fds, flags);
  return prelux_ftw_walk(root, fn, NULL, flags);
}

PRELUX_EXPORT int nftw64(const char *root, __nftw64_func_t fn, int fds, int flags)
{
  if (!nftw_can_reach(root, flags)) return prelux_real.nftw64(root, fn, fds, flags);
  return prelux_ftw_walk(root, (prelux_nftw_fn)fn, NULL, flags);
}

/* FTS and FTS64, FTSENT and FTSENT64 are one layout where prelux runs. */
_Static_assert(sizeof(FTS) == sizeof(FTS64) && sizeof(FTSENT) == sizeof(FTSENT64), "one layout");

static bool any_can_reach(char *const *argv, int options)
{
  for (; argv && *argv; argv++)
    if (prelux_walk_can_reach(AT_FDCWD, *argv, options & (FTS_LOGICAL | FTS_COMFOLLOW))) return true;
  return false;
}

/* libc's own walk may have changed the working directory without the chdir hook. */
static void after_libc(int options)
{
  if (!(options & FTS_NOCHDIR) && !prelux_idle()) prelux_cwd_unknown();
}

PRELUX_EXPORT FTS *fts_open(char *const *argv, int options, int (*cmp)(const FTSENT **, const FTSENT **))
{
  if (!any_can_reach(argv, options)) return prelux_real.fts_open(argv, options, cmp);
  return prelux_fts_open(argv, options, cmp);
}

PRELUX_EXPORT FTSENT *fts_read(FTS *fts)
{
  if (prelux_fts_is_ours(fts)) return prelux_fts_read(fts);
  int options = fts->fts_options;
  FTSENT *entry = prelux_real.fts_read(fts);
  after_libc(options);
  return entry;
}

PRELUX_EXPORT FTSENT *fts_children(FTS *fts, int instr)
{
  if (prelux_fts_is_ours(fts)) return prelux_fts_children(fts, instr);
  int options = fts->fts_options;
  FTSENT *entry = prelux_real.fts_children(fts, instr);
  after_libc(options);
  return entry;
}

PRELUX_EXPORT int fts_close(FTS *fts)
{
  if (prelux_fts_is_ours(fts)) return prelux_fts_close(fts);
  int options = fts->fts_options;
  int rc = prelux_real.fts_close(fts);
  after_libc(options);
  return rc;
}

PRELUX_EXPORT FTS64 *fts64_open(char *const *argv, int options, int (*cmp)(const FTSENT64 **, const FTSENT64 **))
{
  return (FTS64 *)fts_open(argv, options, (prelux_fts_cmp)cmp);
}

PRELUX_EXPORT FTSENT64 *fts64_read(FTS64 *fts)
{
  return (FTSENT64 *)fts_read((FTS *)fts);
}

PRELUX_EXPORT FTSENT64 *fts64_children(FTS64 *fts, int instr)
{
  return (FTSENT64 *)fts_children((FTS *)fts, instr);
}

PRELUX_EXPORT int fts64_close(FTS64 *fts)
{
  return fts_close((FTS *)fts);
}
