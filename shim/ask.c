/* Requests to the daemon, and the index that spares them. Buffers are small on purpose: a request is a path and little
 * else, and a reply's attributes and words fit in 4 KiB, so a miss is safe on a 64 KiB thread stack. */
#include "shim/ask.h"

#include <time.h>

#include "lib/base/errlog.h"
#include "lib/index/listing.h"
#include "lib/index/names.h"
#include "lib/ipc/client.h"
#include "shim/deep.h"
#include "shim/fds.h"
#include "shim/init.h"
#include "shim/pages.h"
#include "shim/report.h"
#include "shim/stats.h"

enum { FIXED_BYTES = 256, REPLY_BYTES = PRELUX_REPLY_BYTES, REGISTER_TRIES = 10 };
enum { DAEMONS = 8 }; /* so many successors of a killed daemon are told of the configuration */

static struct prelux_index_reader prelux_reader;
static __thread struct prelux_client_slot slot = {.fd = -1};

long prelux_index_fstat(int fd, struct stat *st)
{
  return prelux_fstat(fd, st);
}

/* Where it is the kernel's call a program need not have heard of it. */
void prelux_index_clock(struct timespec *ret)
{
  if (prelux_quiet()) clock_gettime(CLOCK_MONOTONIC_COARSE, ret);
  else prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, ret);
}

int prelux_fail(int err, const char *call, const char *path, const char *cause, const char *advice)
{
  const struct prelux_error_record rec = {.err = err, .call = call, .path = path, .cause = cause, .advice = advice};
  if (!prelux_quiet() && prelux_state.runtime[0]) prelux_error_record(prelux_state.runtime, &rec);
  return -err;
}

int prelux_refuse(const char *call, const struct prelux_route *r)
{
  return prelux_fail(EROFS, call, r->logical, "prefixes are read-only", NULL);
}

/* Object path in its tree: mapping's object, then what lies below the mapping root. */
static size_t object_len(const struct prelux_route *r)
{
  size_t head = r->mapping->object.len;
  return head + (head && r->rel_len) + r->rel_len;
}

static void object_path(const struct prelux_route *r, char *out)
{
  size_t head = r->mapping->object.len;
  memcpy(out, prelux_table_str(prelux_state.table, r->mapping->object), head);
  if (head && r->rel_len) out[head++] = '/';
  memcpy(out + head, r->rel, r->rel_len + 1);
}

bool prelux_index_look(const struct prelux_route *r, struct prelux_attr *ret)
{
  const char *runtime = prelux_state.runtime;
  if (r->mapping->object.len == 0)
    return prelux_index_get(&prelux_reader, runtime, r->mapping->tree_id, r->rel, r->rel_len, ret) == 1;
  size_t n = object_len(r);
  char object[n + 1];
  object_path(r, object);
  return prelux_index_get(&prelux_reader, runtime, r->mapping->tree_id, object, n, ret) == 1;
}

bool prelux_index_look_inode(uint64_t dev, uint64_t ino, struct prelux_attr *ret)
{
  return prelux_index_get_inode(&prelux_reader, prelux_state.runtime, dev, ino, ret) == 1;
}

bool prelux_links_kept(void)
{
  return prelux_index_links(&prelux_reader, prelux_state.runtime) != 0;
}

uint64_t prelux_folders_moved(void)
{
  return prelux_index_moved(&prelux_reader, prelux_state.runtime);
}

/* No reply came. What is wrong with the way to the daemon is no errno of the object. */
static int unreachable(int rc, const struct prelux_request *q)
{
  const char *cause = "the daemon cannot be spoken to";
  switch (rc) {
  case -EMFILE:
  case -ENFILE:
  case -ENOMEM: return rc;
  case -ENOTCONN: cause = "no daemon is running and none could be started"; break;
  case -ETIMEDOUT: cause = "the daemon does not answer"; break;
  case -EPROTO: cause = "the daemon went away in the middle of a request"; break;
  case -EPROTONOSUPPORT: cause = "the daemon is of another version of prelux than this program's library"; break;
  case -EACCES: cause = "the daemon belongs to another user"; break;
  case -ENOENT:
  case PRELUX_STATUS_NO_TABLE: cause = "the daemon does not know this configuration any more"; break;
  default: break;
  }
  return prelux_fail(EIO, q->call, q->logical, cause, "see `prelux daemon status` and `prelux doctor`");
}

static void put_request(struct prelux_msg *m, const struct prelux_request *q)
{
  const struct prelux_table *t = prelux_state.table;
  prelux_msg_put(m, PRELUX_FIELD_TABLE, t->hash, sizeof(t->hash));
  prelux_msg_put_u32(m, PRELUX_FIELD_MAPPING, q->mapping);
  if (q->path) prelux_msg_put_str(m, PRELUX_FIELD_PATH, q->path);
  if (q->flags) prelux_msg_put_u32(m, PRELUX_FIELD_FLAGS, q->flags);
  if (q->has_mode) prelux_msg_put_u32(m, PRELUX_FIELD_MODE, q->mode);
  if (q->ino) prelux_msg_put(m, PRELUX_FIELD_INO, &q->ino, sizeof(q->ino));
  if (q->verb) prelux_msg_put_u32(m, PRELUX_FIELD_VERB32, q->verb);
  if (q->to) prelux_msg_put_u32(m, PRELUX_FIELD_TO_MAPPING, q->to_mapping);
  if (q->to) prelux_msg_put_str(m, PRELUX_FIELD_TO, q->to);
  if (q->once) prelux_msg_put(m, PRELUX_FIELD_ONCE, &q->once, sizeof(q->once));
  if (q->set) prelux_msg_put(m, PRELUX_FIELD_SET, q->set, sizeof(*q->set));
  if (q->text) prelux_msg_put_str(m, PRELUX_FIELD_TEXT, q->text);
  const uint64_t range[2] = {q->range_from, q->range_to};
  if (q->range_to) prelux_msg_put(m, PRELUX_FIELD_RANGE, range, sizeof(range));
  if (q->range_to) prelux_msg_put(m, PRELUX_FIELD_VERSION, &q->version, sizeof(q->version));
  if (q->lease) prelux_msg_put(m, PRELUX_FIELD_LEASE, &q->lease, sizeof(q->lease));
}

static size_t length(const char *s)
{
  return s ? strlen(s) : 0;
}

static int ask(const struct prelux_request *q, void *reply, int *ret_fd)
{
  const struct prelux_table *t = prelux_state.table;
  size_t bytes = FIXED_BYTES + length(q->path) + length(q->to) + length(q->text);
  if (prelux_quiet()) return -EIO;
  if (bytes > 3 * PATH_MAX) return -ENAMETOOLONG;
  unsigned char buf[bytes & ~(size_t)7] __attribute__((aligned(8)));
  const struct prelux_client_opts opts = {
    .runtime = prelux_state.runtime,
    .daemon = prelux_daemon_path(),
    .start = prelux_deep_start,
    .envp = prelux_state.envp,
    .timeout_ms = t->daemon_timeout_ms,
    .fd_cloexec = 1,
    .needs_fd = ret_fd && q->op == PRELUX_OP_WRITE,
    .slot = &slot,
    .ret_held = q->ret_held,
    .ret_lost = q->ret_lost,
  };
  struct prelux_msg m;
  prelux_msg_begin(&m, buf, sizeof(buf), q->op);
  put_request(&m, q);
  if (m.overflow) return -ENAMETOOLONG;
  /* Each new daemon must be told the table again, and it may be killed just as the one before it. */
  struct prelux_msg_header *head = reply;
  int rc = PRELUX_STATUS_NO_TABLE;
  for (int i = 0; i < REGISTER_TRIES && rc == PRELUX_STATUS_NO_TABLE; i++) {
    head->op = 0;
    if (i > 0 && (rc = prelux_register(NULL, NULL, t->hash, NULL, 0)) == -ENOENT) rc = prelux_register_again(t);
    if (rc < 0 && i > 0) break;
    rc = prelux_client_call(&opts, &m, reply, REPLY_BYTES, ret_fd);
  }
  return rc == 0 || (head->op == PRELUX_OP_REPLY && rc != PRELUX_STATUS_NO_TABLE) ? rc : unreachable(rc, q);
}

void prelux_mention(const struct prelux_request *q)
{
  size_t bytes = FIXED_BYTES + length(q->path);
  if (prelux_quiet() || !prelux_state.runtime[0] || bytes > 2 * PATH_MAX) return;
  unsigned char buf[bytes & ~(size_t)7] __attribute__((aligned(8)));
  const struct prelux_client_opts opts = {.runtime = prelux_state.runtime, .slot = &slot};
  struct prelux_msg m;
  prelux_msg_begin(&m, buf, sizeof(buf), q->op);
  put_request(&m, q);
  prelux_client_tell(&opts, &m);
}

int prelux_ask(const struct prelux_request *q, void *reply, int *ret_fd)
{
  int64_t since = prelux_report_clock();
  int rc = ask(q, reply, ret_fd);
  if (since) prelux_report_request(q->op, q->call, q->logical, since, rc);
  return rc;
}

bool prelux_grant_read(const void *reply, struct prelux_grant_heard *ret)
{
  size_t pos = 0, len = 0, files_pos = 0, files_len = 0;
  const void *number = prelux_msg_next(reply, PRELUX_FIELD_LEASE, &pos, &len);
  const void *files = prelux_msg_next(reply, PRELUX_FIELD_LEASE_FILES, &files_pos, &files_len);
  ret->n = 0;
  if (!number || len != sizeof(ret->number) || !files || files_len == 0 || files_len > sizeof(ret->files)) return false;
  memcpy(&ret->number, number, len);
  memcpy(ret->files, files, files_len);
  ret->n = (unsigned)(files_len / sizeof(ret->files[0]));
  return ret->n > 0 && ret->number > 0;
}

static int checked(const struct prelux_route *r, const struct prelux_attr *attr)
{
  if (attr->type == PRELUX_NONE) return -ENOENT;
  return attr->type != PRELUX_DIR && r->must_dir ? -ENOTDIR : 0;
}

int prelux_ask_for_attr(const struct prelux_request *q, struct prelux_attr *ret, int *ret_fd)
{
  unsigned char reply[REPLY_BYTES] __attribute__((aligned(8)));
  int fd = -1;
  int rc = prelux_ask(q, reply, ret_fd ? &fd : NULL);
  if (rc == 0 && prelux_msg_attr(reply, ret) < 0)
    rc = prelux_fail(EIO, q->call, q->logical, "the daemon's answer has no attributes", NULL);
  if (q->ret_grant && (rc < 0 || !prelux_grant_read(reply, q->ret_grant))) q->ret_grant->n = 0;
  if (rc == 0 && q->ret_asker) *q->ret_asker = prelux_msg_u32(reply, PRELUX_FIELD_ASKER, 0);
  if (rc < 0 && fd >= 0) prelux_fd_let_go(fd);
  if (rc < 0 && q->ret_held && *q->ret_held >= 0) {
    prelux_sys(SYS_close, *q->ret_held);
    *q->ret_held = -1;
  }
  if (rc == 0 && ret_fd) *ret_fd = fd;
  return rc;
}

static int ask_about(const struct prelux_route *r, const char *call, enum prelux_op op, unsigned flags,
                     struct prelux_attr *ret, int *ret_fd)
{
  const struct prelux_request q = {
    .op = op, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel, .flags = flags};
  int rc = prelux_ask_for_attr(&q, ret, ret_fd);
  if (rc == 0 && (rc = checked(r, ret)) < 0 && ret_fd && *ret_fd >= 0) {
    prelux_fd_let_go(*ret_fd);
    *ret_fd = -1;
  }
  return rc;
}

bool prelux_is_live(const struct prelux_route *r, const struct prelux_attr *attr)
{
  struct prelux_attr now;
  return prelux_index_look(r, &now) && (now.flags & PRELUX_ATTR_LIVE) && now.cache_ino == attr->cache_ino && now.ino == attr->ino;
}

/* A file that is being written here is as its staging file is now. False: there is none any more, or it is another object's. */
static bool take_live(const struct prelux_route *r, struct prelux_attr *attr)
{
  char path[PATH_MAX];
  struct stat st;
  if (!(attr->flags & PRELUX_ATTR_LIVE)) return true;
  if (prelux_staging_path(r->mapping, attr->cache_ino, path, sizeof(path)) < 0 ||
      prelux_sys(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != PRELUX_INO(attr->cache_ino) ||
      !prelux_is_live(r, attr))
    return false;
  attr->size = (uint64_t)st.st_size;
  attr->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
  return true;
}

static int ask_attr(const struct prelux_route *r, const char *call, struct prelux_attr *ret)
{
  /* A second look: it may have been sent between the look at the index and that at the file. */
  for (int i = 0; i < 2 && prelux_index_look(r, ret) && !(ret->flags & PRELUX_ATTR_OWNED); i++)
    if (take_live(r, ret)) return checked(r, ret);
  return ask_about(r, call, PRELUX_OP_STAT, 0, ret, NULL);
}

int prelux_ask_attr(const struct prelux_route *r, const char *call, struct prelux_attr *ret)
{
  struct prelux_report_mark m;
  prelux_report_mark(&m);
  int rc = ask_attr(r, call, ret);
  int family = prelux_reports() ? prelux_report_family_of(call) : -1;
  if (family >= 0) prelux_report_count(&m, (enum prelux_report_family)family, rc, -1);
  return rc;
}

int prelux_ask_anew(const struct prelux_route *r, const char *call, struct prelux_attr *ret)
{
  return ask_about(r, call, PRELUX_OP_STAT, 0, ret, NULL);
}

int prelux_ask_open(const struct prelux_route *r, const char *call, unsigned flags, struct prelux_attr *ret,
                    int *ret_fd)
{
  return ask_about(r, call, PRELUX_OP_OPEN, flags, ret, ret_fd);
}

/* The memfd is copied: what a program works on for long is its own, whatever becomes of the file. */
static int read_listing(int fd, const struct prelux_listing **ret)
{
  struct stat st;
  long rc = prelux_fstat(fd, &st);
  if (rc < 0) return (int)rc;
  if ((size_t)st.st_size < sizeof(struct prelux_listing)) return -EIO;
  struct prelux_listing *l = prelux_pages_take((size_t)st.st_size);
  if (!l) return -ENOMEM;
  size_t done = 0;
  while (done < (size_t)st.st_size && (rc = prelux_sys(SYS_pread64, fd, (char *)l + done, (size_t)st.st_size - done, done)) > 0)
    done += (size_t)rc;
  if (done == (size_t)st.st_size && prelux_listing_ok(l, done)) {
    *ret = l;
    return 0;
  }
  prelux_pages_free(l);
  return rc < 0 ? (int)rc : -EIO;
}

static bool names_of(const struct prelux_route *r, struct prelux_names_at *ret)
{
  size_t n = object_len(r);
  char object[n + 1];
  object_path(r, object);
  return prelux_index_get_names(&prelux_reader, prelux_state.runtime, r->mapping->tree_id, object, n, ret) == 1;
}

/* The listing that the daemon has put into shared memory: a copy of it. The folder's own slot says that it is still one. */
static bool shared_listing(const struct prelux_route *r, const struct prelux_listing **ret, struct prelux_attr *ret_attr)
{
  struct prelux_names_at at;
  if (r->mapping->freshness == PRELUX_FRESH_SKIP || !prelux_index_look(r, ret_attr) || ret_attr->type != PRELUX_DIR ||
      !names_of(r, &at) || at.bytes < sizeof(struct prelux_listing) || at.bytes > PRELUX_NAMES_MAX)
    return false;
  struct prelux_listing *l = prelux_pages_take(at.bytes);
  if (!l) return false;
  *ret = l;
  if (prelux_names_copy(&prelux_reader, prelux_state.runtime, &at, l) == 1 && prelux_listing_ok(l, at.bytes)) return true;
  prelux_pages_free(l);
  return false;
}

static int ask_list(const struct prelux_route *r, const char *call, const struct prelux_listing **ret, struct prelux_attr *ret_attr)
{
  if (shared_listing(r, ret, ret_attr)) return 0;
  unsigned char reply[REPLY_BYTES] __attribute__((aligned(8)));
  int fd = -1;
  const struct prelux_request q = {
    .op = PRELUX_OP_LIST, .call = call, .logical = r->logical, .mapping = r->index, .path = r->rel};
  int rc = prelux_ask(&q, reply, &fd);
  if (rc < 0) return rc;
  if (fd < 0 || prelux_msg_attr(reply, ret_attr) < 0) rc = -EIO;
  if (rc == 0) rc = read_listing(fd, ret);
  if (fd >= 0) prelux_sys(SYS_close, fd); /* a memfd: no lock can be on it */
  return rc == -EIO ? prelux_fail(EIO, call, r->logical, "the daemon's listing is damaged", NULL) : rc;
}

int prelux_ask_list(const struct prelux_route *r, const char *call, const struct prelux_listing **ret,
                    struct prelux_attr *ret_attr)
{
  struct prelux_report_mark m;
  prelux_report_mark(&m);
  int rc = ask_list(r, call, ret, ret_attr);
  prelux_report_count(&m, PRELUX_REPORT_LIST, rc, -1);
  return rc;
}

void prelux_listing_free(const struct prelux_listing *l)
{
  prelux_pages_free((void *)l);
}
