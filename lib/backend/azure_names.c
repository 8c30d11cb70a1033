/* Backend `azure`, writing: names and attributes.
 *
 * What may be any version is looked at first, and then changed only if it still is that version: so a folder's mark is
 * never removed or changed for a file, and what is lost on the way can be sent again. When somebody else was faster it
 * is looked at again, a few times. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure_write.h"

#define LOOKS 8

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

/* A condition that a change of what is there may have. */
static int may_change(const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_azure_call call = {0};
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root stays");
  if (cond->must == PRELUX_MUST_BE_ABSENT)
    return prelux_problem(why, EINVAL, "%.200s: what is to be changed cannot be absent", path);
  return prelux_azure_guard(&call, cond, why);
}

static int gone(const char *path, struct prelux_problem *why)
{
  return prelux_problem(why, ENOENT, "%.200s: there is no such blob, and none below", path);
}

static int delete_blob(struct prelux_azure *z, const char *path, const char *etag, struct prelux_problem *why)
{
  char *url = malloc(PRELUX_URL_MAX);
  int rc = url ? prelux_azure_blob_url(z, path, url, PRELUX_URL_MAX, why)
               : prelux_problem(why, ENOMEM, "no memory for a URL");
  if (rc == 0)
  {
    struct prelux_azure_change c = {
        .call = {.method = "DELETE", .url = url, .etag = etag}, .expect = 202, .harmless = true};
    rc = prelux_azure_change(z, &c, why);
    prelux_net_answer_free(&c.answer);
  }
  free(url);
  return rc;
}

int prelux_azure_remove_version(struct prelux_azure *z, const char *path, const char *version,
                                struct prelux_problem *why)
{
  struct prelux_azure_seen seen;
  struct prelux_problem own = {0};
  int rc = delete_blob(z, path, version + 2, why);
  if (rc != -ESTALE)
    return rc;
  /* Azurite says 412 of what is not there, Azure 404. */
  int now = prelux_azure_look(z, path, &seen, &own);
  prelux_azure_seen_free(&seen);
  return now == 0 && !seen.version[0] ? gone(path, why) : rc;
}

static int remove_any(struct prelux_azure *z, const char *path, struct prelux_problem *why)
{
  int rc = -ESTALE;
  for (int looks = 0; looks < LOOKS && rc == -ESTALE; looks++)
  {
    struct prelux_azure_seen seen;
    rc = prelux_azure_look(z, path, &seen, why);
    if (rc == 0 && seen.obj.type == PRELUX_NONE)
      rc = gone(path, why);
    if (rc == 0 && seen.obj.type == PRELUX_DIR)
      rc = prelux_problem(why, EISDIR, "%.200s is a folder", path);
    if (rc == 0)
      rc = prelux_azure_remove_version(z, path, seen.obj.version, why);
    prelux_azure_seen_free(&seen);
  }
  return rc == -ESTALE ? prelux_problem(why, EBUSY, "%.200s: others write it all the time", path) : rc;
}

int prelux_azure_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                        struct prelux_problem *why)
{
  int rc = may_change(path, cond, why);
  if (rc < 0)
    return rc;
  return cond->must == PRELUX_MUST_NOTHING ? remove_any(self(b), path, why)
                                           : prelux_azure_remove_version(self(b), path, cond->version, why);
}

/* Folders */

int prelux_azure_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  static const char *const headers[] = {"x-ms-blob-type: BlockBlob", "x-ms-meta-" PRELUX_AZURE_META_FOLDER ": true",
                                        NULL};
  struct prelux_put how = {.cond.must = PRELUX_MUST_BE_ABSENT};
  struct prelux_azure_target target;
  if (!path[0])
    return prelux_problem(why, EEXIST, "the root exists");
  int rc = prelux_azure_target_open(self(b), path, &how, &target, why);
  if (rc == 0)
  {
    struct prelux_azure_change c = {.call = {.method = "PUT", .url = target.url, .absent = true, .headers = headers},
                                    .expect = 201,
                                    .harmless = true};
    rc = prelux_azure_change(self(b), &c, why);
    prelux_net_answer_free(&c.answer);
  }
  prelux_azure_target_free(&target);
  return rc;
}

/* The marks of a folder in which nothing is: the blob of its name, and one that ends in a slash. Whoever puts a file
 * there meanwhile makes the folder again by that. */
static int remove_marks(struct prelux_azure *z, const char *path, const struct prelux_azure_seen *seen, bool slash,
                        struct prelux_problem *why)
{
  char *below = NULL;
  int rc = seen->version[0] ? prelux_azure_remove_version(z, path, seen->version, why) : 0;
  if (rc < 0 || !slash)
    return rc == -ESTALE ? prelux_problem(why, EBUSY, "%.200s: somebody changes it", path) : rc;
  if (asprintf(&below, "%s/", path) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct prelux_azure_seen mark;
  rc = prelux_azure_look(z, below, &mark, why);
  if (rc == 0 && mark.answer.content_length != 0 && mark.version[0])
    rc = prelux_problem(why, ENOTEMPTY, "%.200s: the blob that marks it has bytes", path);
  if (rc == 0 && mark.version[0])
    rc = prelux_azure_remove_version(z, below, mark.version, why);
  prelux_azure_seen_free(&mark);
  free(below);
  return rc == -ENOENT ? 0 : rc;
}

int prelux_azure_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_azure_seen seen;
  bool slash = false;
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root stays");
  int rc = prelux_azure_look(self(b), path, &seen, why);
  if (rc == 0 && seen.obj.type == PRELUX_NONE)
    rc = gone(path, why);
  if (rc == 0 && seen.obj.type == PRELUX_FILE)
    rc = prelux_problem(why, ENOTDIR, "%.200s is a file", path);
  if (rc == 0)
  {
    int empty = prelux_azure_is_empty(self(b), path, &slash, why);
    rc = empty < 0 ? empty : empty ? 0 : prelux_problem(why, ENOTEMPTY, "%.200s: blobs are below it", path);
  }
  if (rc == 0)
    rc = remove_marks(self(b), path, &seen, slash, why);
  prelux_azure_seen_free(&seen);
  return rc;
}

/* Attributes: Set Blob Metadata replaces them all. A time that was not kept until now would become that of this change.
 */
static int set_once(struct prelux_azure *z, const char *path, const struct prelux_azure_seen *seen,
                    const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_azure_meta meta = {0};
  struct prelux_object obj = seen->obj;
  char *url = malloc(PRELUX_URL_MAX), *full = NULL;
  if (set->which & PRELUX_SET_MODE)
    obj.mode = set->mode & 07777;
  if (set->which & PRELUX_SET_MTIME)
    obj.mtime_ns = set->mtime_ns;
  int rc = url ? prelux_azure_blob_url(z, path, url, PRELUX_URL_MAX, why)
               : prelux_problem(why, ENOMEM, "no memory for a URL");
  if (rc == 0 && asprintf(&full, "%s?comp=metadata", url) < 0)
    rc = prelux_problem(why, ENOMEM, "no memory for a URL");
  if (rc == 0 && (prelux_azure_meta_copy(&meta, &seen->answer) < 0 ||
                  prelux_azure_meta_set(&meta, obj.mode, true, obj.mtime_ns) < 0))
    rc = prelux_problem(why, EOPNOTSUPP, "%.200s: too much metadata", path);
  if (rc == 0)
  {
    struct prelux_azure_change c = {
        .call = {.method = "PUT",
                 .url = full,
                 .etag = seen->obj.version + 2,
                 .headers = (const char *const *)meta.lines},
        .expect = 200,
        .harmless = true,
    };
    rc = prelux_azure_change(z, &c, why);
    if (rc == 0)
    {
      if (!prelux_azure_version(c.answer.etag, obj.version))
        obj.version[0] = 0;
      *ret = obj;
    }
    prelux_net_answer_free(&c.answer);
  }
  prelux_azure_meta_free(&meta);
  free(full);
  free(url);
  return rc;
}

int prelux_azure_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                          const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  int rc = may_change(path, cond, why);
  bool any = cond->must == PRELUX_MUST_NOTHING, again = rc == 0;
  for (int looks = 0; again && looks < LOOKS; looks++)
  {
    struct prelux_azure_seen seen;
    rc = prelux_azure_look(self(b), path, &seen, why);
    if (rc == 0 && seen.obj.type == PRELUX_NONE)
      rc = gone(path, why);
    if (rc == 0 && seen.obj.type == PRELUX_DIR)
      rc = prelux_problem(why, EOPNOTSUPP, "%.200s: Azure keeps no attributes of folders", path);
    if (rc == 0 && !any && strcmp(seen.obj.version, cond->version) != 0)
      rc = prelux_problem(why, ESTALE, "%.200s is not of version %.100s", path, cond->version);
    else if (rc == 0)
      rc = set_once(self(b), path, &seen, set, ret, why);
    prelux_azure_seen_free(&seen);
    again = any && rc == -ESTALE;
  }
  return again ? prelux_problem(why, EBUSY, "%.200s: others write it all the time", path) : rc;
}
