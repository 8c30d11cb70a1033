/* Backend `alluxio-proxy`, writing: names, folders, modes.
 *
 * A delete goes without `recursive`, and never with the options that take a mount point along or that leave the under
 * store as it is; Alluxio itself refuses a folder in which something is, also something that only the under store knows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"

static struct prelux_proxy *self(struct prelux_backend *b)
{
  return (struct prelux_proxy *)b;
}

/* What is at a path that is to be changed; incomplete files too. */
static int look(struct prelux_proxy *p, const char *path, struct prelux_proxy_info *ret, struct prelux_problem *why)
{
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root can be neither removed nor changed");
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%s: a name of unfinished work", path);
  int rc = prelux_proxy_writable(p, why);
  return rc == 0 ? prelux_proxy_status(p, path, ret, why) : rc;
}

/* Alluxio removes a mount point that looks empty to it, without a word, and its under store is gone from the tree. */
static int no_mount(const char *path, const struct prelux_proxy_info *info, struct prelux_problem *why)
{
  return info->mount ? prelux_problem(why, EBUSY, "%.200s is a mount point: `unmount` is the call for it", path) : 0;
}

/* Removing */

int prelux_proxy_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_proxy_info now;
  if (cond->must == PRELUX_MUST_BE_ABSENT)
    return prelux_problem(why, EINVAL, "%.200s: to remove what must not be there", path);
  int rc = prelux_proxy_no_version(cond, why);
  if (rc == 0)
    rc = look(self(b), path, &now, why);
  if (rc == 0 && now.obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", path);
  return rc == 0 ? prelux_proxy_drop(self(b), path, now.id, why) : rc;
}

int prelux_proxy_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_proxy_info now;
  int rc = look(self(b), path, &now, why);
  if (rc == 0 && now.obj.type != PRELUX_DIR)
    rc = prelux_problem(why, ENOTDIR, "%.200s is a file", path);
  if (rc == 0)
    rc = no_mount(path, &now, why);
  if (rc == 0)
    rc = prelux_proxy_drop(self(b), path, now.id, why);
  /* What the dead have left does not count. */
  if (rc == -ENOTEMPTY && prelux_proxy_clean(b, path, PRELUX_HIDDEN_IDLE_S, NULL) > 0)
    rc = prelux_proxy_drop(self(b), path, now.id, why);
  return rc;
}

/* Folders */

static int is_folder(struct prelux_proxy *p, void *arg)
{
  const char *path = arg;
  struct prelux_proxy_info now;
  int rc = prelux_proxy_status(p, path, &now, NULL);
  if (rc == -ENOENT)
    return 0;
  if (rc < 0)
    return rc;
  return prelux_hidden(path) ? 1 : -EEXIST; /* nobody else makes our names; who made another one cannot be told */
}

int prelux_proxy_make_folder(struct prelux_proxy *p, const char *path, uint32_t mode, struct prelux_problem *why)
{
  char *body = prelux_proxy_message(p, PRELUX_PROXY_MKDIR, mode & 0777);
  struct prelux_proxy_call c = {.action = "create-directory", .path = path, .body = body};
  char *name = strdup(path);
  int rc = body && name ? prelux_proxy_settle(p, &c, is_folder, name, why) : -ENOMEM;
  free(name);
  free(body);
  return rc;
}

int prelux_proxy_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  if (!path[0])
    return prelux_problem(why, EEXIST, "the root is there");
  int rc = prelux_proxy_may_make(self(b), path, why);
  return rc == 0 ? prelux_proxy_make_folder(self(b), path, mode, why) : rc;
}

/* Renaming */

struct renaming
{
  struct prelux_proxy *p;
  const char *from, *to;
  struct prelux_proxy_info it; /* what is renamed */
  struct prelux_problem *why;
};

/* The target is there. */
static int rename_over(const struct renaming *r)
{
  struct prelux_proxy_info there;
  bool folder = r->it.obj.type == PRELUX_DIR;
  int rc = prelux_proxy_status(r->p, r->to, &there, r->why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  if (rc == 0 && !folder && there.obj.type == PRELUX_DIR)
    return prelux_problem(r->why, EISDIR, "%.200s is a folder", r->to);
  if (rc == 0 && folder && there.obj.type != PRELUX_DIR)
    return prelux_problem(r->why, ENOTDIR, "%.200s is a file", r->to);
  if (!folder)
    return prelux_proxy_publish(r->p, r->from, r->it.id, r->to, true, r->why);
  if (rc == 0)
    rc = no_mount(r->to, &there, r->why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  rc = rc == 0 ? prelux_proxy_drop(r->p, r->to, there.id, r->why) : 0;
  return rc == 0 ? prelux_proxy_move(r->p, r->from, r->it.id, r->to, r->why) : rc;
}

static int rename_it(const struct renaming *r, unsigned flags)
{
  bool same = strcmp(r->from, r->to) == 0, folder = r->it.obj.type == PRELUX_DIR;
  size_t len = strlen(r->from);
  bool inside = strncmp(r->from, r->to, len) == 0 && r->to[len] == '/';
  if (same && flags)
    return prelux_problem(r->why, EEXIST, "%.200s is there", r->to);
  if (same)
    return 0;
  if (inside)
    return prelux_problem(r->why, folder ? EINVAL : ENOTDIR, "%.200s: into itself", r->from);
  int rc = prelux_proxy_move(r->p, r->from, r->it.id, r->to, r->why);
  return rc == -EEXIST && !flags ? rename_over(r) : rc;
}

int prelux_proxy_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                        struct prelux_problem *why)
{
  struct renaming r = {.p = self(b), .from = from, .to = to, .why = why};
  if (flags == (PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE))
    return prelux_problem(why, EINVAL, "not to replace, and to exchange");
  if (flags & ~(unsigned)PRELUX_RENAME_NOREPLACE)
    return prelux_problem(why, EOPNOTSUPP, "Alluxio cannot rename so");
  if (!to[0])
    return prelux_problem(why, EBUSY, "the root cannot be replaced");
  int rc = look(r.p, from, &r.it, why);
  struct prelux_proxy_turn turn = {.paths = {from, to}, .folder = rc == 0 && r.it.obj.type == PRELUX_DIR};
  if (rc == 0)
    rc = prelux_proxy_may_make(r.p, to, why);
  if (rc == 0 && !r.it.complete)
    rc = prelux_problem(why, EBUSY, "%.200s is still being written on Alluxio", from);
  if (rc == 0)
    rc = no_mount(from, &r.it, why);
  if (rc < 0)
    return rc;
  prelux_proxy_turn_begin(r.p, &turn);
  rc = rename_it(&r, flags);
  prelux_proxy_turn_end(r.p, &turn);
  if (rc == 0)
    *ret = r.it.obj; /* inode, length and times stay */
  return rc;
}

/* Attributes */

struct setting
{
  const char *path;
  uint32_t mode;
  bool group;       /* which of both `name` is */
  const char *name;
};

static int has_mode(struct prelux_proxy *p, void *arg)
{
  const struct setting *s = arg;
  struct prelux_proxy_info now;
  int rc = prelux_proxy_status(p, s->path, &now, NULL);
  return rc < 0 ? rc : now.obj.mode == s->mode;
}

static int set_mode(struct prelux_proxy *p, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct setting s = {.path = path, .mode = mode & 0777};
  cJSON *message = cJSON_CreateObject();
  char *body = message && prelux_proxy_add_mode(message, s.mode) ? cJSON_PrintUnformatted(message) : NULL;
  struct prelux_proxy_call c = {.action = "set-attribute", .path = path, .body = body};
  int rc = body ? prelux_proxy_settle(p, &c, has_mode, &s, why) : prelux_problem(why, ENOMEM, "no memory for options");
  free(body);
  cJSON_Delete(message);
  return rc;
}

static int has_name(struct prelux_proxy *p, void *arg)
{
  const struct setting *s = arg;
  struct prelux_proxy_info now;
  int rc = prelux_proxy_status(p, s->path, &now, NULL);
  return rc < 0 ? rc : strcmp(s->group ? now.group : now.owner, s->name) == 0;
}

static int set_name(struct prelux_proxy *p, struct setting *s, struct prelux_problem *why)
{
  cJSON *message = cJSON_CreateObject();
  const char *key = s->group ? "group" : "owner";
  char *body = message && cJSON_AddStringToObject(message, key, s->name) ? cJSON_PrintUnformatted(message) : NULL;
  struct prelux_proxy_call c = {.action = "set-attribute", .path = s->path, .body = body};
  int rc = body ? prelux_proxy_settle(p, &c, has_name, s, why) : prelux_problem(why, ENOMEM, "no memory for options");
  free(body);
  cJSON_Delete(message);
  return rc == -EACCES ? -EPERM : rc; /* what chown says */
}

/* One after the other: of both at once Alluxio wants that the user is a member of the group. */
int prelux_proxy_set_owner(struct prelux_proxy *p, const char *path, const char *owner, const char *group, struct prelux_problem *why)
{
  struct setting user = {.path = path, .name = owner}, team = {.path = path, .name = group, .group = true};
  int rc = owner && owner[0] ? set_name(p, &user, why) : 0;
  return rc == 0 && group && group[0] ? set_name(p, &team, why) : rc;
}

int prelux_proxy_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                          const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_proxy_info now;
  int rc = prelux_proxy_no_version(cond, why);
  if (rc == 0)
    rc = look(self(b), path, &now, why);
  if (rc == 0 && !now.complete)
    rc = prelux_problem(why, EBUSY, "%.200s is still being written on Alluxio", path);
  if (rc == 0 && (set->which & PRELUX_SET_MODE))
    rc = set_mode(self(b), path, set->mode, why);
  if (rc == 0)
    rc = prelux_proxy_set_owner(self(b), path, set->which & PRELUX_SET_OWNER ? set->owner : NULL,
                                set->which & PRELUX_SET_GROUP ? set->group : NULL, why);
  if (rc == 0 && (set->which & (PRELUX_SET_MODE | PRELUX_SET_OWNER | PRELUX_SET_GROUP)))
    rc = prelux_proxy_status(self(b), path, &now, why);
  if (rc == 0)
    *ret = now.obj;
  return rc;
}
