/* Backend `alluxio-proxy`, writing.
 *
 * Theory of operation. A file grows through a stream of the proxy, and what closes that stream, completes the file: our
 * close, but also the proxy itself when the stream was idle for an hour, with as many bytes as had come by then. And
 * create-file with `overwrite` drops the old file before the first byte of the new one is there. So nothing is ever
 * written under its own name: bytes go to a hidden name in the same folder, and when get-status after the close says
 * that all of them are there (and are in the under store, by the write types that promise that), the file is renamed.
 * close itself answers 200 whatever happened.
 *
 * Alluxio's rename is one step and fails where something is. That is what makes PUT_ABSENT, RENAME_NOREPLACE and a new
 * file safe; an old one has to be moved aside first: alluxio_proxy_swap.c, which also says what a death leaves.
 *
 * Not promised: conditions on a version (there is no such thing in the API; looking first would be two steps), times
 * (Alluxio sets them), copies, uploads in parts (a stream is one pass, within one proxy). Dora (3.x) is read-only here:
 * its renames and deletes answer otherwise, and no fileId tells whose file it is; type `alluxio` is made for it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_names.h"
#include "lib/backend/alluxio_proxy.h"
#include "lib/base/log.h"

#define SEND_TRIES 3
#define NAME_BYTES 255 /* of a component: under stores keep no more */

static int proxy_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  struct prelux_proxy *p = (struct prelux_proxy *)b;
  struct prelux_proxy_info root;
  int rc = p->release == PRELUX_PROXY_UNKNOWN ? prelux_proxy_status(p, "", &root, why) : 0;
  if (rc == -ENOENT) /* the root is to be made yet; of the server it says enough */
    rc = 0;
  if (rc == 0)
    *ret = (struct prelux_able){
        .caps = p->release == PRELUX_PROXY_3 ? 0 : PRELUX_PROXY_WRITE_CAPS, .put_max = UINT64_MAX};
  return rc;
}

int prelux_proxy_writable(struct prelux_proxy *p, struct prelux_problem *why)
{
  struct prelux_able able;
  int rc = proxy_able(&p->base, &able, why);
  if (rc == 0 && !able.caps)
    rc = prelux_problem(why, EOPNOTSUPP, "the proxy is of Alluxio 3.x: read-only by this backend; type `alluxio` can write");
  return rc;
}

int prelux_proxy_may_make(struct prelux_proxy *p, const char *path, struct prelux_problem *why)
{
  for (const char *name = path; *name; name += strcspn(name, "/"), name += *name == '/')
    if (strcspn(name, "/") > NAME_BYTES)
      return prelux_problem(why, ENAMETOOLONG, "%.200s: a name of more than %d bytes", path, NAME_BYTES);
  if (prelux_alluxio_name_way(path) == PRELUX_ALLUXIO_NAME_NONE)
    return prelux_problem(why, EOPNOTSUPP, "%.200s: a name that is not UTF-8, or has ? or \\ in it, cannot be on Alluxio", path);
  if (prelux_hidden(path))
    return prelux_problem(why, EOPNOTSUPP, "%.200s: names that begin with %s are prelux's own", path, PRELUX_HIDDEN);
  return prelux_proxy_writable(p, why);
}

int prelux_proxy_no_version(const struct prelux_condition *cond, struct prelux_problem *why)
{
  if (cond->must == PRELUX_MUST_BE_VERSION)
    return prelux_problem(why, EOPNOTSUPP, "Alluxio's REST API has no condition on a version");
  return 0;
}

/* Sending */

struct putting
{
  struct prelux_proxy *p;
  const char *path;
  int fd;
  uint64_t size;
  const struct prelux_put *how;
  uint32_t mode;
  char owner[256], group[256]; /* "": as Alluxio makes it */
  char *temp;
  char id[32];                   /* of the stream; "": none */
  struct prelux_proxy_info made; /* what is at `temp` */
  int stopped;                   /* what `progress` said */
};

static int watch(void *arg, uint64_t done)
{
  struct putting *w = arg;
  if (!w->how->progress || done >= w->size)
    return 0; /* all of it is with the connection */
  w->stopped = w->how->progress(w->how->arg, done);
  return w->stopped;
}

/* Closed before it is removed: of an open stream the under store would get the bytes later, under the hidden name. */
static void give_up(struct putting *w)
{
  struct prelux_proxy_outcome o;
  struct prelux_proxy_info left;
  for (int tries = 0; tries < 2 && w->id[0]; tries++) /* a stream holds room in a worker */
    if (prelux_proxy_stream(w->p, w->id, "close", NULL, &o, NULL, NULL) != -PRELUX_EUNKNOWN)
      w->id[0] = 0;
  w->id[0] = 0;
  int rc = w->temp ? prelux_proxy_status(w->p, w->temp, &left, NULL) : -ENOENT;
  if (rc == 0)
    rc = prelux_proxy_drop(w->p, w->temp, left.id, NULL);
  if (rc < 0 && rc != -ENOENT)
    prelux_hidden_leave(w->temp);
}

/* -EAGAIN: not done, and another try may go better. */
static int worth_another(int rc, const struct prelux_proxy_outcome *o)
{
  return rc == -PRELUX_EUNKNOWN || (rc == -EIO && o->again) ? -EAGAIN : rc;
}

static int create(struct putting *w, struct prelux_problem *why)
{
  char *body = prelux_proxy_message(w->p, PRELUX_PROXY_CREATE, w->mode), *answer = NULL;
  struct prelux_proxy_call c = {.action = "create-file", .path = w->temp, .body = body};
  struct prelux_proxy_outcome o = {0};
  int end = 0;
  int rc = body ? prelux_proxy_change(w->p, &c, &o, &answer, why) : -ENOMEM;
  if (rc < 0)
    rc = worth_another(rc, &o);
  else if (sscanf(answer, "%31[0-9]%n", w->id, &end) != 1 || answer[end])
  {
    w->id[0] = 0;
    rc = prelux_problem(why, EPROTO, "create-file /%.200s: the answer is no stream: %.40s", w->temp, answer);
  }
  free(answer);
  free(body);
  return rc;
}

static int send_bytes(struct putting *w, struct prelux_problem *why)
{
  struct prelux_net_upload upload = {.fd = w->fd, .len = w->size, .progress = watch, .arg = w};
  struct prelux_proxy_outcome o = {0};
  char *answer = NULL, *end = NULL;
  struct prelux_problem own = {0};
  if (w->size == 0)
    return 0;
  int rc = prelux_proxy_stream(w->p, w->id, "write", &upload, &o, &answer, &own);
  if (w->stopped < 0)
    rc = prelux_problem(&own, -w->stopped, "stopped");
  else if (rc == 0 && (strtoull(answer, &end, 10) != w->size || *end))
    rc = prelux_problem(&own, EIO, "%.200s: Alluxio took %.40s of %" PRIu64 " bytes", w->path, answer, w->size);
  else if (rc < 0 && rc != -EINVAL)
    rc = worth_another(rc, &o);
  if (rc < 0 && why)
    *why = own;
  free(answer);
  return rc;
}

/* Only get-status tells whether the close went well; one that has not reached the proxy is sent again. */
static int close_stream(struct putting *w, struct prelux_problem *why)
{
  for (int tries = 0;; tries++)
  {
    struct prelux_proxy_outcome o;
    int sent = prelux_proxy_stream(w->p, w->id, "close", NULL, &o, NULL, NULL);
    int rc = prelux_proxy_status(w->p, w->temp, &w->made, why);
    bool again = rc == 0 && !w->made.complete && (sent == -PRELUX_EUNKNOWN || sent == -EIO);
    if (!again || tries == PRELUX_PROXY_TRIES || prelux_net_backoff(w->p->net, tries) < 0)
      return rc;
  }
}

static int close_and_look(struct putting *w, struct prelux_problem *why)
{
  const struct prelux_proxy_info *now = &w->made;
  int rc = close_stream(w, why);
  w->id[0] = 0;
  if (rc < 0)
    return rc == -ENOENT || rc == -EIO ? -EAGAIN : rc;
  if (!now->complete || now->obj.type != PRELUX_FILE || now->obj.size != w->size)
  {
    prelux_problem(why, EIO, "%.200s: after close Alluxio has %s%" PRIu64 " of %" PRIu64 " bytes", w->path,
                   now->complete ? "" : "not completed it: ", now->complete ? now->obj.size : 0, w->size);
    return -EAGAIN;
  }
  if (w->p->persists && strcmp(now->persistence, "PERSISTED") != 0)
    return prelux_problem(why, EIO, "%.200s: after close it is %.30s: not in the under store", w->path, now->persistence);
  return 0;
}

/* The bytes under a hidden name. */
static int send_hidden(struct putting *w, struct prelux_problem *why)
{
  int rc = -EAGAIN;
  for (int tries = 0; tries < SEND_TRIES && rc == -EAGAIN; tries++)
  {
    if (tries && prelux_net_backoff(w->p->net, tries) < 0)
      break;
    free(w->temp);
    w->temp = prelux_hidden_beside(w->path, "put");
    rc = w->temp ? create(w, why) : prelux_problem(why, ENOMEM, "no memory for a name");
    if (rc == 0)
      rc = send_bytes(w, why);
    if (rc == 0)
      rc = close_and_look(w, why);
    if (rc < 0)
      give_up(w);
  }
  return rc == -EAGAIN ? -EIO : rc;
}

/* Before anybody sees it. Who may write need not be one who may give files away. */
static void give_owner(struct putting *w)
{
  const char *owner = strcmp(w->made.owner, w->owner) == 0 ? "" : w->owner, *group = strcmp(w->made.group, w->group) == 0 ? "" : w->group;
  struct prelux_problem why = {0};
  if (prelux_proxy_set_owner(w->p, w->temp, owner, group, &why) < 0)
    prelux_warn("%s: owner %s, group %s: %s", w->path, w->owner, w->group, why.text);
}

/* What is at the path: whether it may be put, its mode and owner. */
static int look_before(struct putting *w, struct prelux_problem *why)
{
  struct prelux_proxy_info old;
  bool absent = w->how->cond.must == PRELUX_MUST_BE_ABSENT;
  int rc = prelux_proxy_status(w->p, w->path, &old, why);
  bool chosen = w->how->set.which & PRELUX_SET_MODE;
  w->mode = chosen ? w->how->set.mode & 0777 : w->p->mode ? w->p->mode : 0644;
  snprintf(w->owner, sizeof(w->owner), "%s", w->how->set.which & PRELUX_SET_OWNER ? w->how->set.owner : rc == 0 ? old.owner : "");
  snprintf(w->group, sizeof(w->group), "%s", w->how->set.which & PRELUX_SET_GROUP ? w->how->set.group : rc == 0 ? old.group : "");
  if (rc < 0)
    return rc == -ENOENT ? 0 : rc;
  if (absent)
    return prelux_problem(why, EEXIST, "%.200s is there", w->path);
  if (old.obj.type == PRELUX_DIR)
    return prelux_problem(why, EISDIR, "%.200s is a folder", w->path);
  if (!old.complete)
    return prelux_problem(why, EBUSY, "%.200s is still being written on Alluxio", w->path);
  if (!chosen && old.obj.mode)
    w->mode = old.obj.mode & 0777;
  return 0;
}

static int proxy_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                     struct prelux_object *ret, struct prelux_problem *why)
{
  struct putting w = {.p = (struct prelux_proxy *)b, .path = path, .fd = fd, .size = size, .how = how};
  struct prelux_proxy_turn turn = {.paths = {path}};
  int rc = path[0] ? prelux_proxy_may_make(w.p, path, why) : prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0)
    rc = prelux_proxy_no_version(&how->cond, why);
  if (rc < 0)
    return rc;
  prelux_proxy_turn_begin(w.p, &turn);
  rc = look_before(&w, why);
  if (rc == 0)
    rc = send_hidden(&w, why);
  if (rc == 0)
  {
    give_owner(&w);
    rc = prelux_proxy_publish(w.p, w.temp, w.made.id, path, how->cond.must != PRELUX_MUST_BE_ABSENT, why);
    if (rc == -PRELUX_EUNKNOWN)
      prelux_hidden_leave(w.temp);
    else if (rc < 0)
      give_up(&w);
  }
  prelux_proxy_turn_end(w.p, &turn);
  if (rc == 0)
  {
    prelux_hidden_tidy(b, path);
    *ret = w.made.obj;
  }
  free(w.temp);
  return rc;
}

static int proxy_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                       char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  return prelux_problem(why, EOPNOTSUPP, "%.200s: Alluxio's REST API has no uploads in parts", path);
}

static int proxy_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                      const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  return prelux_problem(why, EOPNOTSUPP, "%.200s: Alluxio's REST API copies nothing", from);
}

const struct prelux_backend_write prelux_proxy_write = {
    .able = proxy_able,
    .put = proxy_put,
    .begin = proxy_begin,
    .clean = prelux_proxy_clean,
    .remove = prelux_proxy_remove,
    .rename = prelux_proxy_rename,
    .mkdir = prelux_proxy_mkdir,
    .rmdir = prelux_proxy_rmdir,
    .set_attr = prelux_proxy_set_attr,
    .copy = proxy_copy,
};
