/* Backend `azure`, writing.
 *
 * Theory of operation. Azure changes a blob in one step and tests a condition on its ETag in the same step, so every
 * promise is the server's own. A put of up to PUT_MAX bytes is one Put Blob. A larger one is sent as blocks (Put
 * Block), which nobody sees, and becomes a blob by Put Block List: it can be stopped, and a block that was lost is sent
 * again, without harm. The same makes uploads in parts: azure_blocks.c. All bytes are hashed before they go and the
 * server checks the MD5.
 *
 * A put replaces all of a blob: its metadata, type and tags, too. Mode and time are metadata: azure_meta.h. Folders are
 * a blob of no bytes with the metadata hdi_isfolder, or nothing but blobs below them; a put looks for both before it
 * begins, since a blob with bytes would hide what lies below.
 *
 * azure_change.c sends and judges; azure_names.c removes, marks folders and sets attributes; azure_copy.c copies and
 * renames. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "lib/backend/azure_write.h"

#define PUT_MAX (UINT64_C(8) << 20)
#define LARGE_TRIES 4
#define BLOCKS_USUAL 10000u /* a put has no more, and larger ones if need be */

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

static int azure_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  const struct prelux_azure_cred *cred = self(b)->cred;
  *ret = (struct prelux_able){
      .caps = prelux_azure_cred_may(cred, 'w') ? PRELUX_AZURE_WRITE_CAPS : 0,
      .put_max = PRELUX_AZURE_BLOCK_MAX * PRELUX_AZURE_BLOCKS_MAX,
      .part_min = 1,
      .part_max = PRELUX_AZURE_BLOCK_MAX,
      .parts_max = PRELUX_AZURE_BLOCKS_MAX,
  };
  if (!prelux_azure_cred_may(cred, 'd')) /* the old name could not go */
    ret->caps &= ~(unsigned)(PRELUX_CAP_RENAME_FILE | PRELUX_CAP_RENAME_NOREPLACE);
  return 0;
}

/* Where it goes. */

/* What a put replaces. Who may not list sees no folders. */
static int look_at_old(struct prelux_azure *z, const char *path, const struct prelux_put *how,
                       struct prelux_azure_target *t, struct prelux_problem *why)
{
  struct prelux_azure_seen seen;
  int rc = prelux_azure_look(z, path, &seen, why);
  if (rc == -EACCES && seen.answer.status == 404)
    rc = 0;
  if (rc == 0 && seen.obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", path);
  if (rc == 0 && how->cond.must == PRELUX_MUST_BE_VERSION && strcmp(seen.obj.version, how->cond.version) != 0)
    rc = prelux_problem(why, ESTALE, "%.200s is not of version %.100s", path, how->cond.version);
  t->old = seen.obj;
  prelux_azure_seen_free(&seen);
  return rc;
}

static int look_for_folder(struct prelux_azure *z, const char *path, struct prelux_problem *why)
{
  struct prelux_problem own = {0};
  int rc = prelux_azure_has_children(z, path, &own);
  if (rc == -EACCES)
    return 0;
  if (rc > 0)
    return prelux_problem(why, EEXIST, "%.200s is a folder", path);
  if (rc < 0 && why)
    *why = own;
  return rc;
}

int prelux_azure_target_open(struct prelux_azure *z, const char *path, const struct prelux_put *how,
                             struct prelux_azure_target *ret, struct prelux_problem *why)
{
  struct prelux_azure_call call = {0};
  *ret = (struct prelux_azure_target){.has_mtime = how->set.which & PRELUX_SET_MTIME, .mtime_ns = how->set.mtime_ns};
  if (!path[0])
    return prelux_problem(why, EISDIR, "the root is a folder");
  int rc = prelux_azure_guard(&call, &how->cond, why);
  if (rc == 0)
    rc = prelux_azure_may_make(z, path, why);
  if (rc < 0)
    return rc;
  ret->url = malloc(PRELUX_URL_MAX);
  if (!ret->url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  rc = prelux_azure_blob_url(z, path, ret->url, PRELUX_URL_MAX, why);
  bool has_mode = how->set.which & PRELUX_SET_MODE;
  if (rc == 0 && how->cond.must == PRELUX_MUST_BE_ABSENT)
    rc = look_for_folder(z, path, why);
  else if (rc == 0 && (how->cond.must == PRELUX_MUST_NOTHING || !has_mode))
    rc = look_at_old(z, path, how, ret, why);
  ret->mode = has_mode ? how->set.mode & 07777 : ret->old.type == PRELUX_FILE ? ret->old.mode : 0644;
  return rc;
}

void prelux_azure_target_free(struct prelux_azure_target *t)
{
  free(t->url);
  t->url = NULL;
}

void prelux_azure_made(const struct prelux_azure_target *t, const struct prelux_net_answer *a, uint64_t size,
                       const char *md5, struct prelux_object *ret)
{
  struct prelux_object obj = {.type = PRELUX_FILE, .mode = t->mode, .size = size};
  obj.mtime_ns = t->has_mtime ? t->mtime_ns : prelux_http_date(a->last_modified);
  if (!prelux_azure_version(a->etag, obj.version))
    obj.version[0] = 0;
  snprintf(obj.md5, sizeof(obj.md5), "%s", md5 ? md5 : "");
  *ret = obj;
}

/* put */

struct putting
{
  struct prelux_azure *z;
  const struct prelux_azure_target *target;
  const struct prelux_put *how;
  int fd;
  uint64_t size;
  struct prelux_object *ret;
  struct prelux_problem *why;
};

/* One Put Blob. *ret_conflict: refused because of the condition, for sure. */
static int put_whole(const struct putting *p, bool *ret_conflict)
{
  struct prelux_azure_md5 md5;
  struct prelux_azure_meta head = {0};
  struct prelux_azure_watch watch = {.how = p->how, .size = p->size};
  struct prelux_net_upload upload = {.fd = p->fd, .len = p->size, .progress = prelux_azure_progress, .arg = &watch};
  struct prelux_azure_change c = {.call = {.method = "PUT", .url = p->target->url}, .expect = 201, .watch = &watch};
  int rc = prelux_azure_hash(p->fd, 0, p->size, NULL, &md5, p->why);
  if (rc == 0)
    rc = prelux_azure_guard(&c.call, &p->how->cond, p->why);
  if (rc == 0)
    rc = prelux_azure_meta_line(&head, "x-ms-blob-type: BlockBlob");
  if (rc == 0)
    rc = prelux_azure_meta_line(&head, md5.header);
  if (rc == 0)
    rc = prelux_azure_meta_set(&head, p->target->mode, p->target->has_mtime, p->target->mtime_ns);
  c.call.headers = (const char *const *)head.lines;
  c.call.upload = p->size ? &upload : NULL;
  c.harmless = c.call.etag || c.call.absent;
  if (rc == 0)
    rc = prelux_azure_change(p->z, &c, p->why);
  if (rc == 0)
    prelux_azure_made(p->target, &c.answer, p->size, md5.hex, p->ret);
  *ret_conflict = rc == -EEXIST && c.answer.status == 409;
  prelux_net_answer_free(&c.answer);
  prelux_azure_meta_free(&head);
  return rc;
}

static uint64_t block_size(uint64_t size)
{
  uint64_t least = (size + BLOCKS_USUAL - 1) / BLOCKS_USUAL, usual = PUT_MAX;
  while (usual < least)
    usual *= 2;
  return usual;
}

static int send_blocks(const struct putting *p, EVP_MD_CTX *whole, char (*ids)[PRELUX_AZURE_ID + 1], size_t n,
                       uint64_t each)
{
  struct prelux_azure_id id = {.kind = PRELUX_AZURE_PART, .time_s = (int64_t)time(NULL)};
  struct prelux_azure_watch watch = {.how = p->how, .size = p->size};
  if (getrandom(&id.upload, sizeof(id.upload), 0) != sizeof(id.upload))
    return prelux_problem(p->why, EIO, "no random number");
  for (size_t i = 0; i < n; i++)
  {
    struct prelux_azure_md5 md5;
    uint64_t off = i * each, len = p->size - off < each ? p->size - off : each;
    int rc = prelux_azure_hash(p->fd, off, len, whole, &md5, p->why);
    if (rc < 0)
      return rc;
    id.n = (unsigned)i;
    memcpy(id.md5, md5.bytes, sizeof(id.md5));
    prelux_azure_id_text(&id, ids[i]);
    watch.base = off;
    struct prelux_azure_block block = {
        .url = p->target->url, .id = ids[i], .fd = p->fd, .off = off, .len = len, .md5 = &md5, .watch = &watch};
    rc = prelux_azure_put_block(p->z, &block, p->why);
    if (rc == 0 && (rc = prelux_azure_progress(&watch, len)) < 0)
      rc = prelux_problem(p->why, -rc, "stopped");
    if (rc < 0)
      return rc;
  }
  return 0;
}

static int put_blocks(const struct putting *p)
{
  uint64_t each = block_size(p->size);
  struct prelux_azure_md5 md5;
  struct prelux_azure_commit c = {
      .target = p->target, .cond = &p->how->cond, .n = (p->size + each - 1) / each, .size = p->size, .md5 = &md5};
  EVP_MD_CTX *whole = EVP_MD_CTX_new();
  c.ids = calloc(c.n + 1, sizeof(*c.ids));
  int rc = whole && c.ids && EVP_DigestInit_ex(whole, EVP_md5(), NULL)
               ? 0
               : prelux_problem(p->why, ENOMEM, "no memory for a put");
  if (rc == 0)
    rc = send_blocks(p, whole, c.ids, c.n, each);
  if (rc == 0)
  {
    prelux_azure_hash_end(whole, &md5);
    rc = prelux_azure_commit(p->z, &c, p->ret, p->why);
  }
  EVP_MD_CTX_free(whole);
  free(c.ids);
  return rc;
}

/* Somebody else's put drops our blocks. Of conditions only "any" still holds then. */
static int put_large(const struct putting *p)
{
  int rc = -ENXIO;
  for (int tries = 0; tries < LARGE_TRIES && rc == -ENXIO; tries++)
    rc = put_blocks(p);
  return rc == -ENXIO ? prelux_problem(p->why, EBUSY, "others write it all the time") : rc;
}

static int azure_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                     struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_azure_target target;
  struct prelux_azure_seen seen;
  bool conflict = false;
  int rc = prelux_azure_target_open(self(b), path, how, &target, why);
  struct putting p = {.z = self(b), .target = &target, .how = how, .fd = fd, .size = size, .ret = ret, .why = why};
  if (rc == 0)
    rc = size > PUT_MAX ? put_large(&p) : put_whole(&p, &conflict);
  if (conflict)
  {
    /* To Azurite blocks which nobody committed make a blob; not to readers, and not to Put Block List. */
    if (prelux_azure_look(self(b), path, &seen, NULL) == 0 && seen.obj.type == PRELUX_NONE)
      rc = put_large(&p);
    prelux_azure_seen_free(&seen);
  }
  prelux_azure_target_free(&target);
  return rc;
}

const struct prelux_backend_write prelux_azure_write = {
    .able = azure_able,
    .put = azure_put,
    .begin = prelux_azure_begin,
    .part = prelux_azure_part,
    .complete = prelux_azure_complete,
    .abort = prelux_azure_abort,
    .uploads = prelux_azure_uploads,
    .clean = prelux_azure_clean,
    .remove = prelux_azure_remove,
    .rename = prelux_azure_rename,
    .mkdir = prelux_azure_mkdir,
    .rmdir = prelux_azure_rmdir,
    .set_attr = prelux_azure_set_attr,
    .copy = prelux_azure_copy,
};
