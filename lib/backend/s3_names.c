/* Backend `s3`, writing: removing, and folders as markers.
 *
 * DELETE answers the same whether or not something was there, so it is looked for before. A folder is made by the empty
 * object `dir/`, which servers, consoles and other tools take for one; a folder that others made by putting keys below
 * it needs none, and is gone with its last key. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/s3_write.h"

static int delete_key(struct prelux_s3 *s, const char *key, const struct prelux_s3_guard *guard,
                      struct prelux_problem *why)
{
  struct prelux_net_answer a;
  const char *headers[] = {guard && guard->header[0] ? guard->header : NULL, NULL};
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_DELETES, .key = key, .headers = headers};
  int rc = prelux_s3_change(s, &ask, guard, &a, why);
  prelux_net_answer_free(&a);
  return rc == -ENOENT ? 0 : rc; /* some servers say it */
}

int prelux_s3_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                     struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_s3_guard guard = {.unmet = 0};
  struct prelux_object obj;
  char *key = malloc(PRELUX_S3_KEY_MAX);
  int rc =
      key ? prelux_s3_needs(s, PRELUX_CAP_WRITE, "writing", why) : prelux_problem(why, ENOMEM, "no memory for a key");
  if (rc == 0 && !path[0])
    rc = prelux_problem(why, EBUSY, "the root cannot be removed");
  if (rc == 0 && cond->must == PRELUX_MUST_BE_ABSENT)
    rc = prelux_problem(why, EINVAL, "%.200s: to remove what must not be there", path);
  if (rc == 0)
    rc = prelux_s3_guard(s, cond, PRELUX_CAP_REMOVE_VERSION, &guard, why);
  bool foreign = rc == -ESTALE; /* a version that nothing can have: what there is decides between ENOENT and ESTALE */
  if (rc == 0 || foreign)
    rc = b->ops->stat(b, path, &obj, why);
  if (rc == 0 && obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", path);
  if (rc == 0 && foreign)
    rc = prelux_problem(why, ESTALE, "%.200s is not of the version %.80s", path, cond->version);
  if (rc == 0)
    rc = (int)prelux_s3_key(s, path, false, key, why) < 0 ? -EOPNOTSUPP : 0;
  if (rc == 0)
    rc = delete_key(s, key, &guard, why);
  free(key);
  return rc;
}

/* Folders */

static int make_marker(struct prelux_s3 *s, const char *key, const struct prelux_s3_guard *guard,
                       struct prelux_problem *why)
{
  struct prelux_net_answer a;
  const char *headers[] = {"Content-Type: application/x-directory", guard->header[0] ? guard->header : NULL, NULL};
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_PUTS, .key = key, .headers = headers};
  int rc = prelux_s3_change(s, &ask, guard, &a, why);
  prelux_net_answer_free(&a);
  return rc;
}

int prelux_s3_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_able able;
  struct prelux_s3_guard guard = {.unmet = 0};
  struct prelux_object obj;
  char *key = malloc(PRELUX_S3_KEY_MAX);
  int rc = key ? prelux_s3_needs(s, PRELUX_CAP_WRITE | PRELUX_CAP_MKDIR_MARKER, "folders of their own", why)
               : prelux_problem(why, ENOMEM, "no memory for a key");
  if (rc == 0 && path[0])
    rc = prelux_s3_writable(s, path, true, key, why);
  if (rc == 0 && (rc = b->ops->stat(b, path, &obj, why)) == 0)
    rc = prelux_problem(why, EEXIST, "%.200s is there", path);
  rc = rc == -ENOENT ? 0 : rc;
  if (rc == 0)
    rc = prelux_s3_able(b, &able, why);
  if (rc == 0 && (able.caps & PRELUX_CAP_PUT_ABSENT))
    rc = prelux_s3_guard(s, &(struct prelux_condition){.must = PRELUX_MUST_BE_ABSENT}, 0, &guard, why);
  if (rc == 0)
    rc = make_marker(s, key, &guard, why);
  free(key);
  return rc;
}

/* 0: nothing is in the folder but its marker. */
static int check_empty(struct prelux_s3 *s, const char *key, struct prelux_problem *why)
{
  struct prelux_s3_page *page;
  struct prelux_s3_entry e;
  int rc = prelux_s3_first_keys(s, key, "2", &page, why);
  if (rc < 0)
    return rc;
  bool more = prelux_s3_page_truncated(page);
  for (size_t i = 0; i < prelux_s3_page_count(page); i++)
  {
    prelux_s3_page_entry(page, i, &e);
    more = more || e.key_len != strlen(key) || memcmp(e.key, key, e.key_len) != 0;
  }
  prelux_s3_page_free(page);
  return more ? prelux_problem(why, ENOTEMPTY, "%.200s is not empty", key) : 0;
}

int prelux_s3_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_object obj;
  char *key = malloc(PRELUX_S3_KEY_MAX);
  int rc = key ? prelux_s3_needs(s, PRELUX_CAP_WRITE | PRELUX_CAP_MKDIR_MARKER, "folders of their own", why)
               : prelux_problem(why, ENOMEM, "no memory for a key");
  if (rc == 0 && !path[0])
    rc = prelux_problem(why, EBUSY, "the root cannot be removed");
  if (rc == 0)
    rc = b->ops->stat(b, path, &obj, why);
  if (rc == 0 && obj.type != PRELUX_DIR)
    rc = prelux_problem(why, ENOTDIR, "%.200s is no folder", path);
  if (rc == 0)
    rc = (int)prelux_s3_key(s, path, true, key, why) < 0 ? -EOPNOTSUPP : check_empty(s, key, why);
  if (rc == 0)
    rc = delete_key(s, key, NULL, why);
  if (rc == 0 && prelux_s3_is_folder(s, path, NULL) > 0)
    rc =
        prelux_problem(why, EBUSY, "%.200s: the server keeps this folder, or somebody has put something into it", path);
  free(key);
  return rc;
}

int prelux_s3_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                       const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  return prelux_problem(why, path[0] ? EOPNOTSUPP : EBUSY,
                        "S3 keeps no mode and no time of an object that a listing would show");
}
