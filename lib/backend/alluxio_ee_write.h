/* Inside of backend `alluxio-ee`, writing (alluxio_ee_{change,write,swap,names}.c). Paths are object paths; errors as in backend.h. */
#ifndef PRELUX_BACKEND_ALLUXIO_EE_WRITE_H
#define PRELUX_BACKEND_ALLUXIO_EE_WRITE_H

#include "lib/backend/alluxio_ee.h"
#include "lib/backend/hidden.h"

#define PRELUX_EE_TRIES 3    /* of a change that was looked at and found not done, where twice does no harm */
#define PRELUX_EE_LOOKS 5    /* for what a worker says is done to be seen, with back-off: 1.5 s */
#define PRELUX_EE_CHANGE_S 120 /* silence that ends a change: object stores rename by copying */

#define PRELUX_EE_WRITE_CAPS                                                                                                  \
  (PRELUX_CAP_WRITE | PRELUX_CAP_RENAME_FILE | PRELUX_CAP_MKDIR | PRELUX_CAP_COPY)

/* alluxio_ee_change.c */
struct prelux_ee_change
{
  const char *action; /* of POST /v1/ACTION/ID */
  const char *path;   /* its owner is asked, its id is sent */
  const char *to;     /* mv, copy; else NULL */
  const char *more;   /* "&name=value..."; NULL: nothing */
  const struct prelux_net_upload *upload;
};
/* One request, sent once; to another worker only where the one before surely got nothing. 0; -errno: surely not done;
 * -PRELUX_EUNKNOWN: perhaps. */
int prelux_ee_change(struct prelux_ee *e, const struct prelux_ee_change *c, struct prelux_problem *why);
/* What a status says of a change: 0, -errno (not done), -PRELUX_EUNKNOWN (perhaps). Pure. */
int prelux_ee_change_status(int status);
/* What the workers say of a path, hidden or not; never the under store. -ENOTDIR: what is above it is a file. */
int prelux_ee_look(struct prelux_ee *e, const char *path, struct prelux_object *ret, struct prelux_problem *why);
/* 0: the folder of `path` is there. */
int prelux_ee_above(struct prelux_ee *e, const char *path, struct prelux_problem *why);
/* 0, or why nothing can be made of that name (-EOPNOTSUPP, -ENAMETOOLONG). */
int prelux_ee_may_make(struct prelux_ee *e, const char *path, struct prelux_problem *why);

/* alluxio_ee_write.c */
extern const struct prelux_backend_write prelux_ee_write;
int prelux_ee_no_condition(const struct prelux_condition *cond, struct prelux_problem *why);

/* alluxio_ee_swap.c */
struct prelux_ee_move
{
  const char *from, *to;
  struct prelux_object it;  /* what is at `from` */
  struct prelux_object old; /* what was at `to`; type 0: nothing */
  bool hidden;              /* `from` is a hidden name of this process: nobody else touches it, and to move it twice does no harm */
};
/* `from`, a file, becomes `to`, whatever file is there. ret: the object; its version is "" unless it surely is that of the bytes. */
int prelux_ee_publish(struct prelux_ee *e, const struct prelux_ee_move *m, struct prelux_object *ret, struct prelux_problem *why);
/* Removes a file or an empty folder, never more than that; 0 when it is seen to be gone, -ENOENT when it was not there. */
int prelux_ee_drop(struct prelux_ee *e, const char *path, struct prelux_problem *why);
int prelux_ee_make_folder(struct prelux_ee *e, const char *path, struct prelux_problem *why);

/* alluxio_ee_names.c */
int prelux_ee_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why);
int prelux_ee_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                     struct prelux_problem *why);
int prelux_ee_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
int prelux_ee_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why);
int prelux_ee_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);

#endif
