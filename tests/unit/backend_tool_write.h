/* The writing half of backend_tool: see there. A part of it, not a header for others. */
#ifndef TESTS_UNIT_BACKEND_TOOL_WRITE_H
#define TESTS_UNIT_BACKEND_TOOL_WRITE_H

#include <signal.h>
#include <stdarg.h>
#include <sys/file.h>

#include "lib/base/os.h"

static bool flag_of(const cJSON *request, const char *key)
{
  return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, key));
}

/* Another path of the request, percent-encoded as "path". */
static const char *path_of(const cJSON *request, const char *key, char buf[PATH_BYTES])
{
  const char *encoded = text_of(request, key);
  if (!encoded || prelux_url_decode(buf, PATH_BYTES, encoded, strlen(encoded)) < 0)
    die("a path is missing or bad: ", key);
  return buf;
}

static struct prelux_condition condition_of(const cJSON *request)
{
  struct prelux_condition cond = {.must = flag_of(request, "absent") ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING};
  const char *version = text_of(request, "if_version");
  if (version)
  {
    cond.must = PRELUX_MUST_BE_VERSION;
    snprintf(cond.version, sizeof(cond.version), "%s", version);
  }
  return cond;
}

static struct prelux_set set_of(const cJSON *request)
{
  struct prelux_set set = {0};
  const char *mtime = text_of(request, "mtime_ns");
  double mode = number_of(request, "mode", -1);
  if (mode >= 0)
  {
    set.which |= PRELUX_SET_MODE;
    set.mode = (uint32_t)mode;
  }
  if (mtime)
  {
    set.which |= PRELUX_SET_MTIME;
    set.mtime_ns = strtoll(mtime, NULL, 10);
  }
  set.owner = text_of(request, "owner");
  set.group = text_of(request, "group");
  set.which |= (set.owner ? PRELUX_SET_OWNER : 0) | (set.group ? PRELUX_SET_GROUP : 0);
  return set;
}

static uint64_t progress_last;
static int progress(void *arg, uint64_t done)
{
  progress_last = done;
  return *(double *)arg >= 0 && (double)done >= *(double *)arg ? -EINTR : 0;
}

static struct prelux_put put_of(const cJSON *request)
{
  static double stop_at;
  stop_at = number_of(request, "stop_at", -1);
  return (struct prelux_put){
      .cond = condition_of(request), .set = set_of(request), .progress = progress, .arg = &stop_at};
}

static int source_of(const cJSON *request, uint64_t *ret_size)
{
  const char *from = text_of(request, "from");
  int fd = from ? open(from, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0)
    die("cannot read ", from);
  *ret_size = (uint64_t)number_of(request, "size", (double)lseek(fd, 0, SEEK_END));
  lseek(fd, 7, SEEK_SET); /* nobody may care, or change it */
  return fd;
}

static void source_close(int fd)
{
  if (lseek(fd, 0, SEEK_CUR) != 7)
    die("the offset of the source was moved", NULL);
  close(fd);
}

/* Every op below: what is not there is refused, as a caller would. */
#define OP(name)                                                                                                       \
  if (!writes || !writes->name)                                                                                        \
    return -EOPNOTSUPP;

static int result(int rc, const struct prelux_object *obj, cJSON *answer)
{
  if (rc == 0)
    add_object(answer, obj);
  return rc;
}

static const struct prelux_backend_write *writes; /* of the backend */

static int op_able(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  struct prelux_able able = {0};
  int rc = writes && writes->able ? writes->able(backend, &able, why) : 0;
  cJSON_AddNumberToObject(answer, "caps", able.caps);
  cJSON_AddNumberToObject(answer, "put_max", (double)able.put_max);
  cJSON_AddNumberToObject(answer, "part_min", (double)able.part_min);
  cJSON_AddNumberToObject(answer, "part_max", (double)able.part_max);
  cJSON_AddNumberToObject(answer, "parts_max", (double)able.parts_max);
  return rc;
}

static int op_put(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(put)
  struct prelux_object obj;
  struct prelux_put how = put_of(request);
  uint64_t size;
  int fd = source_of(request, &size);
  int rc = writes->put(backend, path, fd, size, &how, &obj, why);
  source_close(fd);
  cJSON_AddNumberToObject(answer, "progress", (double)progress_last);
  return result(rc, &obj, answer);
}

static int op_begin(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(begin)
  char token[PRELUX_TOKEN_MAX];
  struct prelux_set set = set_of(request);
  int rc = writes->begin(backend, path, (uint64_t)number_of(request, "part_size", 8 << 20), &set, token, why);
  if (rc == 0)
    cJSON_AddStringToObject(answer, "token", token);
  return rc;
}

static int op_part(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(part)
  char tag[PRELUX_TAG_MAX];
  uint64_t size, off = (uint64_t)number_of(request, "off", 0);
  int fd = source_of(request, &size);
  int rc = writes->part(backend, path, text_of(request, "token"), (unsigned)number_of(request, "n", 0), fd, off,
                        (uint64_t)number_of(request, "len", (double)(size - off)), tag, why);
  source_close(fd);
  if (rc == 0)
    cJSON_AddStringToObject(answer, "tag", tag);
  return rc;
}

static int op_complete(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(complete)
  struct prelux_object obj;
  struct prelux_put how = put_of(request);
  const cJSON *tags = cJSON_GetObjectItemCaseSensitive(request, "tags"), *tag;
  struct prelux_part *parts = calloc((size_t)cJSON_GetArraySize(tags) + 1, sizeof(*parts));
  unsigned n = 0;
  cJSON_ArrayForEach(tag, tags)
  {
    parts[n].n = n;
    snprintf(parts[n++].tag, PRELUX_TAG_MAX, "%s", tag->valuestring);
  }
  int rc = writes->complete(backend, path, text_of(request, "token"), parts, n, (uint64_t)number_of(request, "size", 0),
                            &how, &obj, why);
  free(parts);
  return result(rc, &obj, answer);
}

static int op_abort(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(abort)
  return writes->abort(backend, path, text_of(request, "token"), why);
}

static int add_upload(void *arg, const char *path, const char *token, uint64_t idle_s)
{
  char encoded[3 * PATH_BYTES];
  cJSON *row = cJSON_CreateObject();
  if (prelux_url_encode(encoded, sizeof(encoded), path, strlen(path)) < 0)
    die("a path too long", NULL);
  cJSON_AddStringToObject(row, "path", encoded);
  cJSON_AddStringToObject(row, "token", token);
  cJSON_AddNumberToObject(row, "idle_s", (double)idle_s);
  cJSON_AddItemToArray(arg, row);
  return 0;
}

static int op_uploads(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(uploads)
  cJSON *rows = cJSON_AddArrayToObject(answer, "uploads");
  return writes->uploads(backend, path, add_upload, rows, why);
}

static int op_clean(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(clean)
  int rc = writes->clean(backend, path, (uint64_t)number_of(request, "idle_s", 0), why);
  cJSON_AddNumberToObject(answer, "removed", rc < 0 ? 0 : rc);
  return rc < 0 ? rc : 0;
}

static int op_remove(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(remove)
  struct prelux_condition cond = condition_of(request);
  return writes->remove(backend, path, &cond, why);
}

static int op_rename(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(rename)
  static char to[PATH_BYTES];
  struct prelux_object obj;
  int rc =
      writes->rename(backend, path, path_of(request, "to", to), (unsigned)number_of(request, "flags", 0), &obj, why);
  return result(rc, &obj, answer);
}

static int op_mkdir(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(mkdir)
  return writes->mkdir(backend, path, (uint32_t)number_of(request, "mode", 0755), why);
}

static int op_rmdir(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(rmdir)
  return writes->rmdir(backend, path, why);
}

static int op_set_attr(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(set_attr)
  struct prelux_object obj;
  struct prelux_condition cond = condition_of(request);
  struct prelux_set set = set_of(request);
  return result(writes->set_attr(backend, path, &cond, &set, &obj, why), &obj, answer);
}

static int op_copy(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  OP(copy)
  static char to[PATH_BYTES];
  struct prelux_object obj;
  struct prelux_put how = put_of(request);
  const char *version = text_of(request, "source_version");
  int rc = writes->copy(backend, path, version ? version : "", path_of(request, "to", to), &how, &obj, why);
  return result(rc, &obj, answer);
}

/* Steps: the calls of the operating system that change something. The tool can be made to die before the N-th. */

static long steps, die_at;
static bool no_tmpfile;
static int step_ms;
static long fstype; /* what every file system says it is, 0: itself */

static int step_fstatfs(int fd, struct statfs *st)
{
  int rc = fstatfs(fd, st);
  if (fstype)
    st->f_type = fstype;
  return rc;
}

static void step(void)
{
  if (++steps == die_at)
    kill(getpid(), SIGKILL);
  if (step_ms)
    usleep((useconds_t)step_ms * 1000);
}

static int step_openat(int dir, const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
  va_end(ap);
  if ((flags & O_TMPFILE) == O_TMPFILE && no_tmpfile)
  {
    errno = EOPNOTSUPP;
    return -1;
  }
  if (flags & O_CREAT)
    step();
  return openat(dir, path, flags, mode);
}

#define STEP(name, parameters, arguments)                                                                              \
  static int step_##name parameters                                                                                    \
  {                                                                                                                    \
    step();                                                                                                            \
    return name arguments;                                                                                             \
  }
STEP(linkat, (int a, const char *f, int b, const char *t, int flags), (a, f, b, t, flags))
STEP(renameat, (int a, const char *f, int b, const char *t), (a, f, b, t))
STEP(renameat2, (int a, const char *f, int b, const char *t, unsigned flags), (a, f, b, t, flags))
STEP(unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
STEP(mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
STEP(fchmod, (int fd, mode_t mode), (fd, mode))
STEP(futimens, (int fd, const struct timespec t[2]), (fd, t))
STEP(fsync, (int fd), (fd))
STEP(fdatasync, (int fd), (fd))
STEP(ftruncate, (int fd, off_t len), (fd, len))
STEP(flock, (int fd, int op), (fd, op))

static int op_steps(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  prelux_os.openat = step_openat;
  prelux_os.linkat = step_linkat;
  prelux_os.renameat = step_renameat;
  prelux_os.renameat2 = step_renameat2;
  prelux_os.unlinkat = step_unlinkat;
  prelux_os.mkdirat = step_mkdirat;
  prelux_os.fchmod = step_fchmod;
  prelux_os.futimens = step_futimens;
  prelux_os.fsync = step_fsync;
  prelux_os.fdatasync = step_fdatasync;
  prelux_os.ftruncate = step_ftruncate;
  prelux_os.flock = step_flock;
  prelux_os.fstatfs = step_fstatfs;
  cJSON_AddNumberToObject(answer, "steps", (double)steps);
  steps = 0;
  die_at = (long)number_of(request, "die_at", 0);
  step_ms = (int)number_of(request, "step_ms", 0);
  no_tmpfile = flag_of(request, "no_tmpfile");
  fstype = (long)number_of(request, "fstype", 0);
  return 0;
}

static int op_cluster(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  static const char *const verbs[] = {"free", "mount", "unmount", "setattr", "info", "locate"};
  static const struct { const char *key; unsigned bit; } bits[] = {
      {"mode", PRELUX_CLUSTER_MODE}, {"pinned", PRELUX_CLUSTER_PINNED}, {"ttl_ms", PRELUX_CLUSTER_TTL},
      {"replication_min", PRELUX_CLUSTER_REPLICATION_MIN}, {"replication_max", PRELUX_CLUSTER_REPLICATION_MAX},
      {"persisted", PRELUX_CLUSTER_PERSISTED}};
  const char *properties[16] = {NULL}, *verb = text_of(request, "verb");
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, "properties");
  for (int i = 0; i < 14 && i < cJSON_GetArraySize(item); i++)
    properties[i] = cJSON_GetArrayItem(item, i)->valuestring;
  struct prelux_cluster call = {
      .recursive = flag_of(request, "recursive"), .forced = flag_of(request, "forced"), .read_only = flag_of(request, "read_only"),
      .shared = flag_of(request, "shared"), .source = text_of(request, "source"), .properties = item ? properties : NULL,
      .mode = (uint32_t)number_of(request, "mode", 0), .pinned = flag_of(request, "pinned"), .persisted = flag_of(request, "persisted"),
      .ttl_ms = (int64_t)number_of(request, "ttl_ms", 0), .replication_min = (int64_t)number_of(request, "replication_min", 0),
      .replication_max = (int64_t)number_of(request, "replication_max", 0), .ttl_action = text_of(request, "ttl_action"),
      .owner = text_of(request, "owner"), .group = text_of(request, "group")};
  for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
    call.which |= cJSON_GetObjectItemCaseSensitive(request, bits[i].key) ? bits[i].bit : 0;
  for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++)
    if (strcmp(verb, verbs[i]) == 0)
      call.verb = (enum prelux_cluster_verb)i;
  return backend->ops->cluster ? backend->ops->cluster(backend, path, &call, cJSON_AddObjectToObject(answer, "info"), why) : -EOPNOTSUPP;
}

static const struct
{
  const char *name;
  int (*run)(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why);
} write_ops[] = {
    {"able", op_able},         {"put", op_put},       {"begin", op_begin},     {"part", op_part},
    {"complete", op_complete}, {"abort", op_abort},   {"uploads", op_uploads}, {"clean", op_clean},
    {"remove", op_remove},     {"rename", op_rename}, {"mkdir", op_mkdir},     {"rmdir", op_rmdir},
    {"set_attr", op_set_attr}, {"copy", op_copy},     {"steps", op_steps},
};

#endif
