#include "shim/tell.h"

#include "lib/ipc/msg.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"

static int tell(const struct prelux_request *q)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  return prelux_ask(q, reply, NULL);
}

/* What every request about r begins with. */
static struct prelux_request about(const struct prelux_route *r, const char *call, enum prelux_op op)
{
  return (struct prelux_request){.op = op, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel};
}

static struct prelux_request name(const struct prelux_route *r, const char *call, enum prelux_name_verb verb)
{
  struct prelux_request q = about(r, call, PRELUX_OP_NAME);
  q.verb = verb;
  return q;
}

/* What the index knows of the object: its number, 0: there is none, or UINT64_MAX: nothing is known. */
static uint64_t known(const struct prelux_route *r)
{
  struct prelux_attr attr;
  if (!prelux_index_look(r, &attr)) return UINT64_MAX;
  return attr.type == PRELUX_NONE ? 0 : attr.ino;
}

/* Asks for a change of r. done: the errno by which a daemon says that it is so already; when one went away with the request and its
 * successor says that, *ret_again is true, and who asks looks whether it was he. */
static int change(struct prelux_request *q, int done, bool *ret_again)
{
  int lost = 0;
  q->ret_lost = &lost;
  int rc = tell(q);
  q->ret_lost = NULL;
  *ret_again = lost > 0 && rc == -done;
  return rc;
}

static int remove_name(const struct prelux_route *r, const char *call, enum prelux_name_verb verb)
{
  bool again;
  struct prelux_request q = name(r, call, verb);
  int rc = change(&q, ENOENT, &again);
  return again ? 0 : rc;
}

int prelux_tell_unlink(const struct prelux_route *r, const char *call)
{
  return remove_name(r, call, PRELUX_NAME_UNLINK);
}

int prelux_tell_rmdir(const struct prelux_route *r, const char *call)
{
  return remove_name(r, call, PRELUX_NAME_RMDIR);
}

/* A name that was made is ours only if it is known that nobody had made it before: programs lock by such calls. */
int prelux_tell_mkdir(const struct prelux_route *r, const char *call, mode_t mode)
{
  bool again, fresh = known(r) == 0;
  struct prelux_attr attr;
  struct prelux_request q = name(r, call, PRELUX_NAME_MKDIR);
  q.has_mode = true;
  q.mode = mode;
  int rc = change(&q, EEXIST, &again);
  return again && fresh && prelux_ask_attr(r, call, &attr) == 0 && attr.type == PRELUX_DIR ? 0 : rc;
}

/* Is `now`, at the new name, what `was` at the old one? The number goes along; a daemon that died before it could note that has left the
 * target another, and then kind and size have to do: the old name was there just now, and nobody but us is known to have moved it. */
static bool moved(const struct prelux_attr *was, const struct prelux_attr *now)
{
  if (was->type != now->type) return false;
  return was->ino == now->ino || was->type == PRELUX_DIR || was->size == now->size;
}

int prelux_tell_rename(const struct prelux_route *from, const struct prelux_route *to, const char *call, unsigned flags)
{
  bool again;
  struct prelux_attr was, attr;
  bool seen = prelux_ask_attr(from, call, &was) == 0;
  struct prelux_request q = name(from, call, PRELUX_NAME_RENAME);
  q.flags = flags;
  q.to = to->rel;
  q.to_mapping = to->index;
  int rc = change(&q, ENOENT, &again);
  return again && seen && prelux_ask_attr(to, call, &attr) == 0 && moved(&was, &attr) ? 0 : rc;
}

int prelux_tell_symlink(const struct prelux_route *r, const char *call, const char *target)
{
  bool again, fresh = known(r) == 0;
  char there[PATH_MAX];
  struct prelux_request q = name(r, call, PRELUX_NAME_SYMLINK);
  q.text = target;
  int rc = change(&q, EEXIST, &again);
  return again && fresh && prelux_tell_readlink(r, call, there, sizeof(there)) > 0 && strcmp(there, target) == 0 ? 0 : rc;
}

int prelux_tell_link(const struct prelux_route *r, const char *call, uint64_t ino)
{
  struct prelux_request q = name(r, call, PRELUX_NAME_LINK);
  q.ino = ino;
  return tell(&q);
}

int prelux_tell_set(const struct prelux_route *r, const char *call, const struct prelux_setattr *set)
{
  struct prelux_request q = about(r, call, PRELUX_OP_SETATTR);
  q.set = set;
  return tell(&q);
}

/* For records: a staging file has no name that the program knows by its inode. */
static const char *local_of(uint32_t mapping)
{
  return prelux_table_str(prelux_state.table, prelux_table_mappings(prelux_state.table)[mapping].local);
}

int prelux_tell_set_inode(uint32_t mapping, uint64_t ino, const char *call, const struct prelux_setattr *set)
{
  const struct prelux_request q = {
    .op = PRELUX_OP_SETATTR, .call = call, .logical = local_of(mapping), .mapping = mapping, .ino = ino, .set = set};
  return tell(&q);
}

long prelux_tell_readlink(const struct prelux_route *r, const char *call, char *out, size_t cap)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  struct prelux_request q = about(r, call, PRELUX_OP_READLINK);
  int rc = prelux_ask(&q, reply, NULL);
  if (rc < 0) return rc;
  const char *target = prelux_msg_str(reply, PRELUX_FIELD_TEXT);
  size_t n = target ? strlen(target) : 0;
  if (n == 0) return prelux_fail(EIO, call, r->logical, "the daemon's answer has no target", NULL);
  if (n >= cap) return -ENAMETOOLONG;
  memcpy(out, target, n + 1);
  return (long)n;
}

/* r becomes the object `rel` of a mapping. */
static int route_object(uint32_t index, const char *rel, struct prelux_route *r)
{
  if (index >= prelux_state.table->n_mappings) return -EIO;
  prelux_route_root(index, r);
  if (r->where < 0) return r->where;
  size_t head = strlen(r->path), n = strlen(rel);
  if (head + n + 2 > sizeof(r->path)) return -ENAMETOOLONG;
  if (head > 1) r->path[head++] = '/';
  memcpy(r->path + head, rel, n + 1);
  r->rel = r->path + head;
  r->rel_len = n;
  r->must_dir = r->slash = false;
  return 1;
}

int prelux_tell_whose(uint32_t mapping, uint64_t ino, const char *call, struct prelux_attr *ret, struct prelux_route *r)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {
    .op = PRELUX_OP_WHOSE, .call = call, .logical = local_of(mapping), .mapping = mapping, .ino = ino};
  int rc = prelux_ask(&q, reply, NULL);
  if (rc < 0) return rc;
  if (prelux_msg_attr(reply, ret) < 0) return prelux_fail(EIO, call, q.logical, "the daemon's answer has no attributes", NULL);
  const char *rel = prelux_msg_str(reply, PRELUX_FIELD_PATH);
  return rel ? route_object(prelux_msg_u32(reply, PRELUX_FIELD_MAPPING, mapping), rel, r) : 0;
}

/* ---- staging files by what the kernel says of a descriptor */

static bool lies_in_folder(const struct prelux_str *of, const char *real)
{
  const char *folder = prelux_table_str(prelux_state.table, *of);
  return of->len > 0 && strncmp(real, folder, of->len) == 0 && real[of->len] == '/' && !strchr(real + of->len + 1, '/');
}

/* Where its name begins in its folder, and what its number has beside the inode's; 0: it lies in none. */
static size_t lies_in(const struct prelux_table_mapping *m, const char *real, uint64_t *ret_scratch)
{
  *ret_scratch = 0;
  if (lies_in_folder(&m->staging, real)) return m->staging.len + 1;
  if (!lies_in_folder(&m->scratch, real)) return 0;
  *ret_scratch = PRELUX_INO_SCRATCH;
  return m->scratch.len + 1;
}

bool prelux_staged(int fd, uint64_t *ret_ino, uint32_t *ret_mapping)
{
  char real[PATH_MAX];
  struct stat st;
  uint32_t hint;
  uint64_t scratch;
  const struct prelux_table *t = prelux_state.table;
  enum prelux_class class = prelux_fd_get(fd, &hint);
  if (!t || class == PRELUX_CLASS_FAR || class == PRELUX_CLASS_PLAIN) return false;
  if (prelux_fd_name(fd, real, sizeof(real)) <= 0 || real[0] != '/') return false;
  const struct prelux_table_mapping *m = prelux_table_mappings(t);
  bool hinted = class == PRELUX_CLASS_SHADOW && hint < t->n_mappings && lies_in(&m[hint], real, &scratch);
  uint32_t i = hinted ? hint : 0;
  while (i < t->n_mappings && !lies_in(&m[i], real, &scratch)) i++;
  if (i == t->n_mappings || prelux_fstat(fd, &st) < 0) return false;
  *ret_ino = st.st_ino | scratch;
  *ret_mapping = i;
  return true;
}

bool prelux_staged_path(const char *real, uint64_t *ret_ino, uint32_t *ret_mapping)
{
  const struct prelux_table *t = prelux_state.table;
  if (!t) return false;
  const struct prelux_table_mapping *m = prelux_table_mappings(t);
  for (uint32_t i = 0; i < t->n_mappings; i++) {
    uint64_t ino = 0, scratch;
    size_t at = lies_in(&m[i], real, &scratch);
    if (at == 0) continue;
    const char *p = real + at;
    for (; *p >= '0' && *p <= '9'; p++) ino = ino * 10 + (uint64_t)(*p - '0');
    *ret_ino = ino | scratch;
    *ret_mapping = i;
    return !*p && ino != 0;
  }
  return false;
}
