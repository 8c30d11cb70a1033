/* What the files of backend `file` share: file.c reads, file_write.c, file_names.c and file_parts.c write. Private to
 * them. */
#ifndef PRELUX_BACKEND_FILE_H
#define PRELUX_BACKEND_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "lib/backend/backend.h"

/* Names that begin so are this backend's own: unfinished files. No object path leads to one. */
#define PRELUX_FILE_HIDDEN ".prelux~"

#define PRELUX_FILE_TICK_NS 10000000 /* the slowest kernels tick at 100 Hz: the granularity of ctime */

#define PRELUX_FILE_PART_MIN 4096
#define PRELUX_FILE_PART_MAX ((uint64_t)1 << 40)

#define PRELUX_FILE_WRITE_CAPS                                                                                         \
  (PRELUX_CAP_WRITE | PRELUX_CAP_PUT_ABSENT | PRELUX_CAP_PUT_VERSION | PRELUX_CAP_REMOVE_VERSION |                     \
   PRELUX_CAP_MULTIPART | PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_DIR | PRELUX_CAP_RENAME_ATOMIC |                  \
   PRELUX_CAP_RENAME_NOREPLACE | PRELUX_CAP_RENAME_EXCHANGE | PRELUX_CAP_MKDIR | PRELUX_CAP_KEEP_MODE |                \
   PRELUX_CAP_KEEP_MTIME | PRELUX_CAP_SET_ATTR | PRELUX_CAP_COPY)

struct prelux_file
{
  struct prelux_backend base;
  char *root; /* absolute */
};

/* file.c */

/* O_PATH fd of the root folder, or -EACCES, -EIO. */
int prelux_file_open_root(const struct prelux_file *f, struct prelux_problem *why);
/* O_PATH fd of the object and its attributes, links followed; -ENOENT for what is neither file nor folder. */
int prelux_file_open_object(const struct prelux_file *f, const char *path, struct stat *ret_st,
                            struct prelux_problem *why);
/* The same object for reading: an O_PATH fd can only be opened anew through /proc. An fd, or -errno. */
int prelux_file_open_again(int fd, int flags);
void prelux_file_describe(const struct stat *st, struct prelux_object *ret);
int64_t prelux_file_ns(struct timespec t);
struct timespec prelux_file_timespec(int64_t ns); /* the reverse, also before 1970 (file_place.c) */
bool prelux_file_is_hidden(const char *name);
/* Waits until a change of the file would show in its ctime. */
void prelux_file_wait_for_tick(const struct stat *st);

/* file_place.c: where a name stands */

struct prelux_file_place
{
  const struct prelux_file *f; /* borrowed, as path */
  const char *path;
  int dir;                 /* the folder that holds the name, opened for reading */
  bool unlockable;         /* its file system has no locks: nothing can be promised for a version */
  char name[NAME_MAX + 1]; /* its last name there; may not exist */
};

/* follow: where the last name is a link, the place is that of what it leads to (a dangling one: its own).
 * 0, or -errno; close what was opened, also when it failed. -EBUSY for the root. */
int prelux_file_place_open(const struct prelux_file *f, const char *path, bool follow, struct prelux_file_place *ret,
                           struct prelux_problem *why);
void prelux_file_place_close(struct prelux_file_place *p);
/* Everything that changes a name of the folder holds its lock (flock of the folder itself) from the look to the change.
 * Held until unlock or close. -EBUSY: somebody held it all the time. Where there are no locks: 0, and no version passes
 * the check. */
int prelux_file_place_lock(struct prelux_file_place *p, struct prelux_problem *why);
/* flock that does not wait: 0, -EBUSY held by somebody else, -ENOLCK not on this file system, other -errno. */
int prelux_file_flock(int fd, int how);
void prelux_file_place_unlock(struct prelux_file_place *p);
/* What a reader of the remote sees there: attributes of the file or folder (of what a link leads to). -ENOENT nothing
 * at all; -EEXIST something that readers are not shown. *ret_link: the name itself is a link. */
int prelux_file_place_look(const struct prelux_file_place *p, struct stat *ret, bool *ret_link,
                           struct prelux_problem *why);
/* 0, -ESTALE, -EEXIST or -EINVAL. seen: NULL, nothing is there. */
int prelux_file_place_check(const struct prelux_file_place *p, const struct prelux_condition *cond,
                            const struct stat *seen, struct prelux_problem *why);
/* -EOPNOTSUPP for a condition on a version where the folder's lock may not reach everybody. (file_write.c) */
int prelux_file_place_exact(const struct prelux_file_place *p, const struct prelux_condition *cond,
                            struct prelux_problem *why);
/* Makes a change of the folder's names durable; -PRELUX_EUNKNOWN when the disk would not say so. */
int prelux_file_place_sync(const struct prelux_file_place *p, struct prelux_problem *why);
/* Waits until whatever takes the place of this file gets another ctime, and so another version. */
void prelux_file_outlive(const struct stat *old);
/* -errno of a failed change in words. Returns it, or what the contract calls it. */
int prelux_file_fail(const struct prelux_file *f, const char *path, int rc, struct prelux_problem *why);

/* file_write.c */

extern const struct prelux_backend_write prelux_file_write;

/* A file that is being made in a folder. */
struct prelux_file_temp
{
  int fd;
  char name[NAME_MAX + 1]; /* in that folder; "": it has none */
};

/* Bytes of fd into `to` at to_off. fd's offset is not touched. */
int prelux_file_copy_in(const struct prelux_file_place *p, int fd, uint64_t off, uint64_t len, int to, uint64_t to_off,
                        const struct prelux_put *how, struct prelux_problem *why);
/* Attributes, fsync, and under the folder's lock: condition, name. On success `t` has no name of its own any more. */
int prelux_file_commit(struct prelux_file_place *p, struct prelux_file_temp *t, uint64_t size,
                       const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
/* "PREFIX + kind + 16 digits" */
void prelux_file_random_name(const char *kind, char name[NAME_MAX + 1]);

/* file_names.c */
int prelux_file_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                       struct prelux_problem *why);
int prelux_file_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                       struct prelux_object *ret, struct prelux_problem *why);
int prelux_file_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
int prelux_file_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why);
int prelux_file_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                         const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why);

/* file_parts.c */
int prelux_file_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                      char token[PRELUX_TOKEN_MAX], struct prelux_problem *why);
int prelux_file_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                     uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why);
int prelux_file_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts,
                         size_t n, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                         struct prelux_problem *why);
int prelux_file_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why);

/* An upload's token tells what it is for: only the object it was begun for takes it. */
bool prelux_file_token_is_for(const char *token, const char *name);

/* file_sweep.c */
int prelux_file_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                        struct prelux_problem *why);
int prelux_file_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);
/* Hidden names of one locked folder: those of the dead are removed, uploads idle for idle_s with them. 0 or -errno. */
struct prelux_file_swept
{
  unsigned removed, left; /* hidden names */
  unsigned others;        /* that readers see */
};
int prelux_file_sweep(int dir, uint64_t idle_s, struct prelux_file_swept *ret);

#endif
