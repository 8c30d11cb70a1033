/* Where a cache may lie: a local file system (locks, leases, shared memory maps and inode numbers have to be this kernel's
 * own), ours, writable, and from which programs can be run. */
#include "lib/store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"

#define FUSE_MAGIC 0x65735546u
#define FLAG_NOEXEC 0x8u /* statfs.f_flags: ST_NOEXEC */

/* f_type of file systems that other hosts may change under us (linux/magic.h and the file systems' own sources). */
static const struct {
  uint32_t magic;
  const char *name;
} network[] = {
    {0x6969, "nfs"},         {0xff534d42, "cifs"},    {0xfe534d42, "smb2"},   {0x517b, "smb"},
    {0x0bd00bd0, "lustre"},  {0x00c36400, "ceph"},    {0x47504653, "gpfs"},   {0x01021997, "9p"},
    {0x5346414f, "afs"},     {0x6b414653, "kafs"},    {0x73757245, "coda"},   {0x7461636f, "ocfs2"},
    {0x01161970, "gfs2"},    {0x19830326, "beegfs"},  {0xaad7aaea, "panfs"},  {0x013111a8, "ibrix"},
    {0x20030528, "orangefs"}, {0x564c, "ncp"},        {0xa501fcf5, "vxfs"},   {0x61756673, "aufs"},
};

/* FUSE file systems that are local. */
static const char *const local_fuse[] = {"fuse.fuse-overlayfs", "fuseblk"};

/* The fstype of the mount with this device number, from /proc/self/mountinfo ("fuse.sshfs"), or "". */
static void mount_type(dev_t dev, char *ret, size_t cap)
{
  char line[4096], want[32];
  *ret = 0;
  snprintf(want, sizeof want, "%u:%u", major(dev), minor(dev));
  FILE *f = fopen("/proc/self/mountinfo", "re");
  while (f && fgets(line, sizeof line, f))
  {
    char device[32];
    const char *dash = strstr(line, " - ");
    if (dash && sscanf(line, "%*s %*s %31s", device) == 1 && strcmp(device, want) == 0)
      snprintf(ret, cap, "%.*s", (int)strcspn(dash + 3, " "), dash + 3);
  }
  if (f)
    fclose(f);
}

static const char *network_name(const struct statfs *fs, dev_t dev, char *buf, size_t cap)
{
  for (size_t i = 0; i < sizeof network / sizeof *network; i++)
    if ((uint32_t)fs->f_type == network[i].magic)
      return network[i].name;
  if ((uint32_t)fs->f_type != FUSE_MAGIC)
    return NULL;
  mount_type(dev, buf, cap);
  for (size_t i = 0; i < sizeof local_fuse / sizeof *local_fuse; i++)
    if (strcmp(buf, local_fuse[i]) == 0)
      return NULL;
  if (!*buf)
    snprintf(buf, cap, "fuse");
  return buf;
}

static int refuse(struct prelux_problem *why, int err, const char *advice, const char *dir, const char *reason)
{
  prelux_problem(why, err, "cache folder %s: %s", dir, reason);
  if (why)
    snprintf(why->advice, sizeof why->advice, "%s", advice);
  return -err;
}

int prelux_place_check(int dirfd, const char *dir, bool single, struct prelux_problem *why)
{
  static const char set[] = "set cache.dir to a folder of yours on a local disk";
  struct statfs fs;
  struct stat st;
  char type[64], reason[160];
  if (prelux_os.fstatfs(dirfd, &fs) < 0 || prelux_os.fstat(dirfd, &st) < 0)
    return prelux_problem(why, errno, "cache folder %s: %s", dir, strerror(errno));
  const char *name = network_name(&fs, st.st_dev, type, sizeof type);
  if (name)
  {
    snprintf(reason, sizeof reason, "lies on a network file system (%s)", name);
    return refuse(why, EREMOTE, set, dir, reason);
  }
  if (st.st_uid != geteuid() && !(single && st.st_uid == 0))
  {
    snprintf(reason, sizeof reason, "belongs to user %u, not to user %u", (unsigned)st.st_uid, (unsigned)geteuid());
    return refuse(why, EACCES, set, dir, reason);
  }
  if ((st.st_mode & S_IWOTH) || (!single && (st.st_mode & S_IWGRP)))
    return refuse(why, EACCES, "chmod go-w it, or set cache.dir to another folder", dir, "others may write to it");
  if (faccessat(dirfd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0)
    return refuse(why, EACCES, set, dir, "is not writable");
  return 0;
}

/* What stands by the name itself, before it is followed: in /var/tmp anybody can put a link there first, into a folder of ours. */
static int check_link(const char *dir, struct prelux_problem *why)
{
  struct stat st;
  char reason[64];
  if (prelux_os.lstat(dir, &st) < 0 || !S_ISLNK(st.st_mode) || st.st_uid == 0 || st.st_uid == geteuid())
    return 0;
  snprintf(reason, sizeof reason, "is a link that user %u has made", (unsigned)st.st_uid);
  return refuse(why, EACCES, "set cache.dir to a folder of yours on a local disk", dir, reason);
}

int prelux_place_open(const char *dir, struct prelux_problem *why)
{
  char path[PATH_MAX];
  size_t len = strlen(dir);
  int cause = 0;
  if (*dir != '/' || len >= sizeof path)
    return prelux_problem(why, *dir == '/' ? ENAMETOOLONG : EINVAL, "cache folder %.200s: not an absolute path that fits", dir);
  memcpy(path, dir, len + 1);
  for (char *p = path + 1; p[-1]; p++)
  {
    if (*p && *p != '/')
      continue;
    char was = *p;
    *p = 0;
    if (prelux_os.mkdir(path, 0700) < 0 && errno != EEXIST)
      cause = errno; /* perhaps it is there all the same: a read-only parent says EROFS before EEXIST */
    *p = was;
    if (!was)
      break;
  }
  int linked = check_link(dir, why);
  if (linked < 0)
    return linked;
  int fd = prelux_os.open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
  {
    int err = errno == ENOENT && cause ? cause : errno;
    return prelux_problem(why, err, "cannot make or open cache folder %s: %s; cache.dir names another one", dir, strerror(err));
  }
  return fd;
}

static int usable(const char *dir, struct prelux_problem *why)
{
  struct statfs fs;
  int fd = prelux_place_open(dir, why);
  if (fd < 0)
    return fd;
  int ret = prelux_place_check(fd, dir, false, why);
  if (ret == 0 && prelux_os.fstatfs(fd, &fs) == 0 && ((uint32_t)fs.f_flags & FLAG_NOEXEC))
    ret = refuse(why, EACCES, "set cache.dir to a folder from which programs may be run", dir, "is mounted noexec");
  prelux_os.close(fd);
  return ret;
}

/* Nothing that the folder is like. In another one for a while files that wait to be sent would be told of by nobody, and sent when somebody comes by
 * there again. */
static bool passing(int err)
{
  return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -EINTR || err == -EIO;
}

int prelux_store_place(const char *dir, const char *home, char *out, size_t cap, struct prelux_problem *why)
{
  struct prelux_problem first = {0}, now = {0};
  char path[PATH_MAX];
  for (int i = 0; i < 3; i++)
  {
    if (i == 0 && dir && *dir)
      snprintf(path, sizeof path, "%s", dir);
    else if (i == 1 && home && *home == '/' && home[1])
      snprintf(path, sizeof path, "%s/.cache/prelux", home);
    else if (i == 2)
      snprintf(path, sizeof path, "/var/tmp/prelux-%u", (unsigned)geteuid());
    else
      continue;
    int err = usable(path, &now);
    if (passing(err))
    {
      if (why)
        *why = now;
      return err;
    }
    if (err == 0)
    {
      size_t len = strlen(path);
      if (len >= cap)
        return prelux_problem(why, ENAMETOOLONG, "cache folder %s: the name is too long", path);
      memcpy(out, path, len + 1);
      if (first.err)
        prelux_warn("%s; using %s%s%s", first.text, path, *first.advice ? ": " : "", first.advice);
      return 0;
    }
    if (!first.err)
      first = now;
  }
  if (why)
    *why = first;
  return first.err ? -first.err : -EACCES;
}
