/* Changes through a worker: PUT and DELETE of its S3 port (PROTOCOLS 0.2). What it does to them, and what is done about that:
 *
 *   a long PUT may hang it for good and leave a cut file   none above PRELUX_ALLUXIO_PUT_MAX is sent: -EFBIG
 *   it overwrites in place, a file cut off may stay        what came of a PUT is looked at, length and bytes, by the under store where
 *                                                          there is one; what is not right is sent again, by another worker if need be
 *   it ignores conditions                                  none is taken
 *   a lost answer says nothing                             the same look; what cannot be told in the end is -PRELUX_EUNKNOWN
 *   PUT of a bucket makes it and says 500; DELETE of what  the answer is not believed, the look is
 *   is not there 500; of a folder with something in it 204
 *   it may tell of old listings for ever                   where no under store says what is there, the folder's listing must show
 *                                                          what was put; else nothing more is written: -EROFS
 *
 * A reader elsewhere may see the beginning of a file while it is replaced: this is the way for who has no other. */
#include "lib/backend/alluxio_put.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/os.h"

#define SEND_STALL_S 30 /* nothing comes before the under store has all */
#define SEND_TRIES 4
#define LOOK_TRIES 3
#define DIGEST 16
#define DIGEST_TEXT 25 /* in base64 */

enum sent
{
  DONE,     /* it says so */
  MAYBE,    /* it failed, or its answer was lost */
  REFUSED,  /* *ret_rc; surely not done */
  NOBODY,   /* could be asked; surely not done */
  NO_BUCKET /* the folder in the root is not there; surely not done */
};

/* One change of one name. */
struct change
{
  struct prelux_alluxio *x;
  struct prelux_alluxio_name name;
  const char *method;
  bool slash;       /* of the folder of that name */
  const char *body; /* PUT */
  size_t len;
  unsigned char digest[DIGEST];
};

static int change_init(struct change *c, struct prelux_alluxio *x, const char *path, const char *method, struct prelux_problem *why)
{
  *c = (struct change){.x = x, .method = method};
  return prelux_alluxio_name_init(x, &c->name, path, why);
}

static void change_release(struct change *c)
{
  prelux_alluxio_name_release(&c->name);
}

/* ---- asking ---- */

static enum sent weigh(const struct change *c, const struct prelux_alluxio_worker *w, const struct prelux_net_answer *a, int *ret_rc,
                       struct prelux_problem *why)
{
  char said[120];
  bool bad_digest = a->status == 400 && a->body && strstr(a->body, "BadDigest");
  prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
  if (a->status >= 200 && a->status < 300)
    return DONE;
  prelux_problem_said(said, sizeof(said), a->body, a->body_len);
  prelux_problem(why, EIO, "%s /%s: worker %s: HTTP %d %s", c->method, c->name.path, w->address, a->status, said);
  if (a->status == 404 && strcmp(c->method, "PUT") == 0)
    return NO_BUCKET;
  if ((a->status == 400 && !bad_digest) || a->status == 401 || a->status == 403)
  {
    if (why)
      why->err = EACCES;
    *ret_rc = -EACCES;
    return REFUSED;
  }
  return MAYBE;
}

static enum sent ask_one(const struct change *c, const struct prelux_alluxio_worker *w, int *ret_rc, struct prelux_problem *why)
{
  char digest[40] = "", *url;
  unsigned char text[DIGEST_TEXT];
  const char *headers[4] = {c->x->authorization, "Content-Type: application/octet-stream", NULL};
  struct prelux_net_answer a;
  enum sent ret = NOBODY;
  if (c->len)
  {
    EVP_EncodeBlock(text, c->digest, DIGEST);
    snprintf(digest, sizeof(digest), "Content-MD5: %s", (const char *)text);
    headers[2] = digest;
  }
  if (asprintf(&url, "%s%s%s", w->s3, c->name.s3, c->slash && c->name.key ? "/" : "") < 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return REFUSED;
  }
  struct prelux_net_request req = {
      .method = c->method,
      .url = url,
      .headers = headers,
      .body = c->body,
      .body_len = c->len,
      .once = true,
      .lone = true,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = SEND_STALL_S,
  };
  int rc = prelux_net_call(c->x->net, &req, &a, why);
  if (rc == 0)
    ret = weigh(c, w, &a, ret_rc, why);
  else
  {
    if (rc == -ECANCELED || rc == -ENOMEM)
      prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
    else
      prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_S3, why);
    ret = a.sent ? MAYBE : NOBODY;
  }
  prelux_net_answer_free(&a);
  free(url);
  return ret;
}

/* The owner, or whoever is next to it and can be asked. */
static enum sent ask(const struct change *c, int *ret_rc, struct prelux_problem *why)
{
  struct prelux_alluxio_round r;
  enum sent ret = NOBODY;
  if (prelux_alluxio_round_init(c->x, &r, c->name.ufs, why) == 0)
    prelux_problem(why, EIO, "backend %s: no worker's S3 API answers", c->x->options.name);
  for (size_t i = 0; i < r.n && ret == NOBODY; i++)
    if (prelux_alluxio_health_usable(r.workers[i]->health, PRELUX_ALLUXIO_S3))
      ret = ask_one(c, r.workers[i], ret_rc, why);
  prelux_alluxio_round_release(&r);
  if (ret != DONE)
    prelux_alluxio_members_stir(c->x->members);
  return ret;
}

static int look(struct prelux_alluxio *x, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  return prelux_alluxio_stat(&x->base, path, ret, why);
}

/* ---- names ---- */

static int needs_key(const struct change *c, struct prelux_problem *why)
{
  if (c->name.key)
    return 0;
  return prelux_problem(why, EOPNOTSUPP, "/%s lies in the root of the cluster, where its workers' S3 API knows folders only",
                        c->name.path);
}

/* 0; -ENOTDIR: a file stands in the way. */
static int parents(struct prelux_alluxio *x, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  char *above = strdup(path);
  int rc = above ? 0 : -ENOMEM;
  for (char *slash = above ? strrchr(above, '/') : NULL; slash && rc == 0; slash = strrchr(above, '/'))
  {
    *slash = 0;
    int seen = look(x, above, &obj, NULL);
    if (seen == 0 && obj.type == PRELUX_FILE)
      rc = prelux_problem(why, ENOTDIR, "/%s is no folder", above);
    if (seen == 0)
      break;
  }
  free(above);
  return rc;
}

/* The first folder of a path: "a bucket" to the S3 port. */
static int make_bucket(struct prelux_alluxio *x, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  struct change c;
  char *top = strndup(path, strcspn(path, "/"));
  int rc = top ? change_init(&c, x, top, "PUT", why) : -ENOMEM, refusal = 0;
  if (!top)
    return rc;
  if (rc == 0)
  {
    if (ask(&c, &refusal, why) == REFUSED)
      rc = refusal;
    else
      rc = look(x, top, &obj, why);
  }
  change_release(&c);
  free(top);
  return rc;
}

int prelux_alluxio_put_mkdir(struct prelux_alluxio *x, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  struct change c;
  int refusal = 0;
  if (!path[0])
    return prelux_problem(why, EEXIST, "the backend's root is there");
  int rc = change_init(&c, x, path, "PUT", why);
  if (rc == 0)
    rc = look(x, path, &obj, why);
  if (rc == 0)
    rc = prelux_problem(why, EEXIST, "/%s: it exists", path);
  else if (rc == -ENOENT)
    rc = parents(x, path, why);
  c.slash = true;
  if (rc == 0)
  {
    enum sent sent = ask(&c, &refusal, why);
    if (sent == NO_BUCKET && c.name.key && (rc = make_bucket(x, path, why)) == 0)
      sent = ask(&c, &refusal, why);
    if (sent == REFUSED || sent == NOBODY || sent == NO_BUCKET)
      rc = rc < 0 ? rc : sent == REFUSED ? refusal : -EIO;
    else if (look(x, path, &obj, NULL) < 0 || obj.type != PRELUX_DIR)
      rc = -PRELUX_EUNKNOWN;
  }
  change_release(&c);
  return rc;
}

static int one_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return -ENOTEMPTY;
}

static int empty(struct prelux_alluxio *x, const char *path, struct prelux_problem *why)
{
  int rc = prelux_alluxio_list(&x->base, path, one_name, NULL, why);
  return rc == -ENOTEMPTY ? prelux_problem(why, ENOTEMPTY, "/%s: the folder is not empty", path) : rc;
}

/* A DELETE was asked for: is it gone? */
static int settle_removal(struct change *c, enum sent sent, int refusal, struct prelux_problem *why)
{
  struct prelux_object obj;
  if (sent == REFUSED || sent == NOBODY)
    return sent == REFUSED ? refusal : -EIO;
  int rc = look(c->x, c->name.path, &obj, NULL);
  if (rc == -ENOENT)
    return 0;
  if (rc == 0 && obj.type == PRELUX_DIR && empty(c->x, c->name.path, NULL) == -ENOTEMPTY)
    return prelux_problem(why, ENOTEMPTY, "/%s: the folder is not empty", c->name.path);
  if (sent == DONE)
    prelux_problem(why, EIO, "DELETE /%s: a worker said that it is done, and it is there", c->name.path);
  return -PRELUX_EUNKNOWN;
}

int prelux_alluxio_put_rmdir(struct prelux_alluxio *x, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  struct change c;
  int refusal = 0;
  if (!path[0])
    return prelux_problem(why, EBUSY, "the backend's root stays");
  int rc = change_init(&c, x, path, "DELETE", why);
  if (rc == 0)
    rc = look(x, path, &obj, why);
  if (rc == 0 && obj.type != PRELUX_DIR)
    rc = prelux_problem(why, ENOTDIR, "/%s is no folder", path);
  if (rc == 0)
    rc = empty(x, path, why);
  if (rc == 0)
    rc = settle_removal(&c, ask(&c, &refusal, why), refusal, why);
  change_release(&c);
  return rc;
}

int prelux_alluxio_put_remove(struct prelux_alluxio *x, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_object obj;
  struct change c;
  int refusal = 0;
  if (!path[0])
    return prelux_problem(why, EBUSY, "the backend's root stays");
  if (cond->must != PRELUX_MUST_NOTHING)
    return prelux_problem(why, EOPNOTSUPP, "/%s: Alluxio's workers know no conditions", path);
  int rc = change_init(&c, x, path, "DELETE", why);
  if (rc == 0)
    rc = look(x, path, &obj, why);
  if (rc == 0 && obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "/%s is a folder", path);
  if (rc == 0)
    rc = needs_key(&c, why);
  if (rc == 0)
    rc = settle_removal(&c, ask(&c, &refusal, why), refusal, why);
  change_release(&c);
  return rc;
}

/* ---- files ---- */

int prelux_alluxio_put_able(struct prelux_alluxio *x, struct prelux_able *ret, struct prelux_problem *why)
{
  if (atomic_load(&x->old_listings))
  {
    prelux_problem(why, EROFS, "backend %s: the cluster's listings are old, so nothing is written through its workers alone", x->options.name);
    if (why)
      snprintf(why->advice, sizeof(why->advice),
               "set alluxio.user.file.metadata.sync.interval=0 in the cluster, or name its under store by `under_store:`");
    return -EROFS;
  }
  *ret = (struct prelux_able){.caps = PRELUX_CAP_WRITE | PRELUX_CAP_MKDIR_MARKER, .put_max = PRELUX_ALLUXIO_PUT_MAX};
  return 0;
}

struct sum
{
  EVP_MD_CTX *md;
};

static int add_bytes(void *arg, uint64_t off, const void *buf, size_t len)
{
  return EVP_DigestUpdate(((struct sum *)arg)->md, buf, len) == 1 ? 0 : -ENOMEM;
}

/* Of what is at the path now, which is *obj. */
static int digest_of(struct prelux_alluxio *x, const char *path, const struct prelux_object *obj, unsigned char ret[DIGEST],
                     struct prelux_problem *why)
{
  struct sum s = {.md = EVP_MD_CTX_new()};
  int rc = s.md && EVP_DigestInit_ex(s.md, EVP_md5(), NULL) == 1 ? 0 : -ENOMEM;
  if (rc == 0 && obj->size)
    rc = x->under ? x->under->ops->read(x->under, path, obj, 0, obj->size, add_bytes, &s, why)
                  : prelux_alluxio_read(&x->base, path, obj, 0, obj->size, add_bytes, &s, why);
  if (rc == 0 && EVP_DigestFinal_ex(s.md, ret, NULL) != 1)
    rc = -ENOMEM;
  EVP_MD_CTX_free(s.md);
  return rc;
}

/* Is it what was put? 1 yes, and *ret; 0 no; -errno: it cannot be told. */
static int arrived(const struct change *c, struct prelux_object *ret, struct prelux_problem *why)
{
  unsigned char there[DIGEST];
  int rc = -ESTALE;
  for (int i = 0; i < LOOK_TRIES && rc == -ESTALE; i++)
  {
    rc = look(c->x, c->name.path, ret, why);
    if (rc == -ENOENT || (rc == 0 && (ret->type != PRELUX_FILE || ret->size != c->len)))
      return 0;
    if (rc == 0)
      rc = digest_of(c->x, c->name.path, ret, there, why);
  }
  return rc < 0 ? rc : memcmp(there, c->digest, DIGEST) == 0;
}

/* One PUT; a folder in the root that is missing is made. */
static enum sent send_once(const struct change *c, int *ret_rc, struct prelux_problem *why)
{
  enum sent sent = ask(c, ret_rc, why);
  if (sent == NO_BUCKET && make_bucket(c->x, c->name.path, why) == 0)
    sent = ask(c, ret_rc, why);
  return sent;
}

/* PUT until it is there. While nobody can tell what came of one, none is sent after it: it would write over a good file in place, and over
 * what others have put there since. */
static int put_on(const struct change *c, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio_patience patience = {0};
  int refusal = 0, sends = 0, there = 0;
  for (;;)
  {
    enum sent sent = there == 0 ? send_once(c, &refusal, why) : MAYBE;
    if (sent == REFUSED || sent == NO_BUCKET)
      return sends ? -PRELUX_EUNKNOWN : sent == REFUSED ? refusal : -EIO;
    sends += there == 0 && sent != NOBODY;
    there = sends ? arrived(c, ret, why) : 0;
    if (there == 1)
      return 0;
    if (there == 0 && sends == SEND_TRIES)
      return -PRELUX_EUNKNOWN;
    if (prelux_alluxio_wait(c->x, &patience, why) < 0)
      return sends ? -PRELUX_EUNKNOWN : -EIO;
  }
}

/* Where workers alone say what is there, their listing must have it. */
static void check_listing(const struct change *c, const struct prelux_object *obj)
{
  struct prelux_object listed;
  if (c->x->under)
    return;
  int rc = prelux_alluxio_list_one(c->x, &c->name, &listed, NULL);
  if (rc != -ENOENT && (rc < 0 || prelux_alluxio_equal(&listed, obj)))
    return;
  if (!atomic_exchange(&c->x->old_listings, true))
    prelux_warn("backend %s: /%s was written, and the cluster's listing does not show it: its metadata are old, and nothing more is written "
                "(set alluxio.user.file.metadata.sync.interval=0 there, or name its under store)",
                c->x->options.name, c->name.path);
}

static int load(struct change *c, int fd, uint64_t size, char **ret, struct prelux_problem *why)
{
  char *body = malloc(size ? size : 1);
  uint64_t have = 0;
  if (!body)
    return prelux_problem(why, ENOMEM, "no memory for %" PRIu64 " bytes", size);
  while (have < size)
  {
    ssize_t n = prelux_os.pread(fd, body + have, size - have, (off_t)have);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
    {
      int err = n < 0 ? errno : EINVAL;
      free(body);
      return prelux_problem(why, err, "the file to be sent %s after %" PRIu64 " bytes", n < 0 ? "cannot be read" : "ends", have);
    }
    have += (uint64_t)n;
  }
  if (EVP_Digest(body, size, c->digest, NULL, EVP_md5(), NULL) != 1)
  {
    free(body);
    return prelux_problem(why, EIO, "no MD5");
  }
  c->body = *ret = body;
  c->len = size;
  return 0;
}

static int may_put(struct change *c, uint64_t size, const struct prelux_put *how, struct prelux_problem *why)
{
  struct prelux_object obj = {0};
  if (how->cond.must != PRELUX_MUST_NOTHING)
    return prelux_problem(why, EOPNOTSUPP, "/%s: Alluxio's workers know no conditions", c->name.path);
  if (size > PRELUX_ALLUXIO_PUT_MAX)
  {
    prelux_problem(why, EFBIG, "/%s: %" PRIu64 " bytes, and workers of Alluxio take %u at most", c->name.path, size, PRELUX_ALLUXIO_PUT_MAX);
    if (why)
      snprintf(why->advice, sizeof(why->advice), "name its under store by `under_store:`, and do not say `write_through: worker`");
    return -EFBIG;
  }
  int rc = look(c->x, c->name.path, &obj, why);
  if (rc == 0 && obj.type == PRELUX_DIR)
    return prelux_problem(why, EISDIR, "/%s is a folder", c->name.path);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  rc = needs_key(c, why);
  return rc < 0 || obj.type == PRELUX_FILE ? rc : parents(c->x, c->name.path, why);
}

int prelux_alluxio_put(struct prelux_alluxio *x, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_object obj = {0};
  struct change c;
  char *body = NULL;
  if (!path[0])
    return prelux_problem(why, EISDIR, "the backend's root is a folder");
  int rc = change_init(&c, x, path, "PUT", why);
  if (rc == 0)
    rc = may_put(&c, size, how, why);
  if (rc == 0)
    rc = load(&c, fd, size, &body, why);
  if (rc == 0 && how->progress)
    rc = how->progress(how->arg, size / 2); /* the last moment at which it can be stopped */
  if (rc == 0)
    rc = put_on(&c, &obj, why);
  if (rc == 0)
  {
    check_listing(&c, &obj);
    *ret = obj;
  }
  free(body);
  change_release(&c);
  return rc;
}
