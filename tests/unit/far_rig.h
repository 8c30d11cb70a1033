/* Names of an `async` mapping over stage_rig.h: a remote that can be down, and what a program does and sees. */
#ifndef PRELUX_TESTS_FAR_RIG_H
#define PRELUX_TESTS_FAR_RIG_H

#include "include/prelux/listing.h"
#include "lib/store/deferred.h"
#include "tests/unit/stage_rig.h"

/* ---- the remote: it can be down, lose an answer or refuse, and tells what it was asked to change ---- */

static struct
{
  atomic_bool down;
  atomic_int lose;   /* so many changes are done, and their answers lost */
  atomic_int refuse; /* so many changes fail with EACCES */
  char log[2000];    /* changes that were done */
  atomic_bool broken; /* changes fail, questions do not */
  bool dies;              /* with the answer that is lost, the remote */
  bool quiet;             /* no log: another thread sends */
  bool rename_only_there; /* a rename is done, and fails all the same as if the connection had broken */
} far;

static inline int down(struct prelux_problem *why)
{
  return far.down ? prelux_problem(why, EIO, "the remote is down") : 0;
}

/* Around a change: what to answer when rc came out. */
static inline int answer(int rc, const char *what, const char *path, const char *to, struct prelux_problem *why)
{
  if (getenv("PRELUX_TEST_TRACE"))
    print_message("  far: %s %s%s%s: %d\n", what, path, to ? ">" : "", to ? to : "", rc);
  size_t at = far.quiet ? 0 : strlen(far.log);
  if (rc == 0 && !far.quiet)
    snprintf(far.log + at, sizeof far.log - at, "%s %s%s%s; ", what, path, to ? ">" : "", to ? to : "");
  if (rc < 0 || atomic_fetch_sub(&far.lose, 1) <= 0)
    return rc;
  far.down = far.down || far.dies;
  return prelux_problem(why, PRELUX_EUNKNOWN, "no answer");
}

static inline int before(struct prelux_problem *why)
{
  if (atomic_fetch_sub(&far.refuse, 1) > 0)
    return prelux_problem(why, EACCES, "refused");
  return far.broken ? prelux_problem(why, EIO, "the connection broke") : down(why);
}

static inline int far_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  int rc = down(why);
  return rc < 0 ? rc : faulty.real->ops->stat(faulty.real, path, ret, why);
}

static inline int far_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  int rc = down(why);
  return rc < 0 ? rc : faulty.real->ops->list(faulty.real, path, add, arg, why);
}

static inline int far_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                    prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  int rc = down(why);
  return rc < 0 ? rc : faulty.real->ops->read(faulty.real, path, expect, off, len, sink, arg, why);
}

static inline int far_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                   struct prelux_problem *why)
{
  int rc = before(why);
  return rc < 0 ? rc : answer(faulty.real->ops->write->put(faulty.real, path, fd, size, how, ret, why), "put", path, NULL, why);
}

static inline int far_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  int rc = before(why);
  return rc < 0 ? rc : answer(faulty.real->ops->write->remove(faulty.real, path, cond, why), "rm", path, NULL, why);
}

static inline int far_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                      struct prelux_problem *why)
{
  int rc = before(why);
  if (rc == 0)
    rc = answer(faulty.real->ops->write->rename(faulty.real, from, to, flags, ret, why), "mv", from, to, why);
  return rc == 0 && far.rename_only_there ? prelux_problem(why, EIO, "broken") : rc;
}

static inline int far_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  int rc = before(why);
  return rc < 0 ? rc : answer(faulty.real->ops->write->mkdir(faulty.real, path, mode, why), "mkdir", path, NULL, why);
}

static inline int far_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  int rc = before(why);
  return rc < 0 ? rc : answer(faulty.real->ops->write->rmdir(faulty.real, path, why), "rmdir", path, NULL, why);
}

static inline int far_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                        struct prelux_object *ret, struct prelux_problem *why)
{
  int rc = before(why);
  return rc < 0 ? rc : faulty.real->ops->write->set_attr(faulty.real, path, cond, set, ret, why);
}

static inline int set_up_far(void **state)
{
  int rc = set_up(state);
  memset(&far, 0, sizeof far);
  faulty.ops.stat = far_stat;
  faulty.ops.list = far_list;
  faulty.ops.read = far_read;
  faulty.write.put = far_put;
  faulty.write.remove = far_remove;
  faulty.write.rename = far_rename;
  faulty.write.mkdir = far_mkdir;
  faulty.write.rmdir = far_rmdir;
  faulty.write.set_attr = far_set_attr;
  rig.rules.async = true;
  return rc;
}

/* ---- what a program does and sees ---- */

static inline int rm(const char *path)
{
  return prelux_store_unlink(&rig.v, &rig.rules, path, &rig.why);
}

static inline int rmd(const char *path)
{
  return prelux_store_rmdir(&rig.v, &rig.rules, path, &rig.why);
}

static inline int mkd(const char *path)
{
  return prelux_store_mkdir(&rig.v, &rig.rules, path, 0750, &rig.why);
}

static inline int mv(const char *from, const char *to)
{
  return prelux_store_rename(&rig.v, &rig.rules, from, to, 0, &rig.why);
}

static inline void write_file(const char *path, const char *text)
{
  int fd = wopen(path, O_WRONLY | O_CREAT | O_TRUNC);
  assert_true(fd >= 0);
  say(fd, text);
  assert_int_equal(wclose(fd), 0);
}

static inline int look(const char *path, struct prelux_attr *ret)
{
  return prelux_store_stat(&rig.v, path, 0, ret, &rig.why);
}

static int ls_rc; /* of the last ls() */

/* Names of a folder as a program reads them, one after another; "" when ls_rc says that it cannot be read. */
static inline const char *ls(const char *folder)
{
  static char names[600];
  struct prelux_attr attr;
  struct stat st;
  int fd = -1, rc = prelux_store_list(&rig.v, folder, 0, &attr, &fd, &rig.why);
  names[0] = 0;
  ls_rc = rc;
  if (rc < 0)
    return names;
  assert_int_equal(fstat(fd, &st), 0);
  struct prelux_listing *l = malloc((size_t)st.st_size);
  assert_int_equal(pread(fd, l, (size_t)st.st_size, 0), st.st_size);
  close(fd);
  for (uint32_t i = 0; i < l->count; i++)
  {
    strcat(names, (const char *)l + l->entries[i].name_off);
    strcat(names, l->entries[i].type == PRELUX_DIR ? "/ " : " ");
  }
  free(l);
  return names;
}

/* Those that wait to be tried again are, too. */
static inline void send_all(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

/* As many tries as there are rows: while the remote is down each fails once. */
static inline void try_once(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  for (uint64_t n = pending(); n > 0; n--)
    prelux_stage_work(rig.g, &next);
}

static inline void make_remote(const char *name)
{
  char path[600];
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  assert_int_equal(mkdir(path, 0755), 0);
}

static inline void restart(void)
{
  rig_close();
  if (rig_open() < 0)
    fail_msg("%s", rig.why.text);
}

#endif
