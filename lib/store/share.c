#include "lib/store/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/private.h"

#define PASS 1u
#define WALK_FDS 32
#define UNDER_WAY 01700 /* mode of a tree's root while those of its folders are changed */

static void shut_one(int trees, const char *name)
{
  struct stat st;
  if (name[0] != '.' && prelux_os.fstatat(trees, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 077))
    prelux_os.fchmodat(trees, name, 0700, 0); /* an access list's mask goes with it */
}

void prelux_share_shut(int dir_fd)
{
  int fd = prelux_dir_open(dir_fd, "trees");
  DIR *d = fd < 0 ? NULL : fdopendir(fd);
  if (!d)
  {
    if (fd >= 0)
      prelux_os.close(fd);
    return;
  }
  for (struct dirent *e; (e = readdir(d));)
    shut_one(fd, e->d_name);
  prelux_os.fchmod(fd, 0700);
  closedir(d);
}

static __thread mode_t walk_mode;

static int change_folder(const char *path, const struct stat *st, int kind, struct FTW *at)
{
  if (kind == FTW_D && at->level > 0 && (st->st_mode & 07777) != walk_mode && chmod(path, walk_mode) < 0)
    return -1;
  return 0;
}

/* All folders of the tree; its root says that it is under way, so that what was broken off, either way, is done again. */
static int change_folders(struct prelux_tree *t, mode_t mode)
{
  struct stat st;
  if (prelux_os.fstat(t->fd, &st) < 0)
    return -errno;
  if ((st.st_mode & 07777) == mode)
    return 0;
  if (prelux_os.fchmod(t->fd, UNDER_WAY) < 0)
    return -errno;
  walk_mode = mode;
  if (nftw(t->root, change_folder, WALK_FDS, FTW_PHYS | FTW_MOUNT) != 0)
    return -EIO;
  return prelux_os.fchmod(t->fd, mode) < 0 ? -errno : 0;
}

/* The folders above the gates: to be passed by who knows where, not to be listed. */
static int open_way(struct prelux_store *s)
{
  struct stat st;
  int fd = prelux_dir_open(s->dir_fd, "trees");
  if (fd < 0)
    return fd;
  int ret = prelux_os.fchmod(fd, 0711) < 0 || prelux_os.fstat(s->dir_fd, &st) < 0 || prelux_os.fchmod(s->dir_fd, (st.st_mode & 07777) | 0111) < 0 ? -errno : 0;
  prelux_os.close(fd);
  s->read_bits = 0444;
  s->exec_bits = 0111;
  return ret;
}

int prelux_share_tree(struct prelux_tree *t, const struct prelux_allowed *readers)
{
  bool open = readers && (readers->all || readers->n_uids + readers->n_gids > 0);
  if (t->store->opts.single)
    return -ENOTSUP;
  int gate = prelux_dir_open(t->fd, "..");
  if (gate < 0)
    return gate;
  int ret = prelux_acl_set(gate, 0700, NULL, 0);
  t->folder_mode = ret == 0 && open ? 0755 : 0;
  if (ret == 0)
    ret = change_folders(t, open ? 0755 : 0700);
  if (ret == 0 && open)
    ret = open_way(t->store);
  if (ret == 0 && open)
    ret = prelux_acl_set(gate, 0700, readers, PASS);
  prelux_os.close(gate);
  return ret;
}
