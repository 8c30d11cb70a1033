/* Ops of a backend against answers of the input. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/backend/backend.h"
#include "tests/fuzz/rig.h"

enum { READ_MAX = 1 << 20 };

/* An object path as the store gives it. */
static const char *good_path(char *s)
{
  size_t len = strlen(s);
  bool bad = len > 1000 || len == 0 || s[0] == '/' || s[len - 1] == '/' || strstr(s, "//");
  char copy[1024], *save = NULL;
  snprintf(copy, sizeof copy, "%s", s);
  for (char *part = strtok_r(copy, "/", &save); part && !bad; part = strtok_r(NULL, "/", &save))
    bad = strcmp(part, ".") == 0 || strcmp(part, "..") == 0;
  return bad ? "d/f.txt" : s;
}

static void check_text(const char *text, size_t cap)
{
  FUZZ_CHECK(strnlen(text, cap) < cap);
  FUZZ_CHECK_TEXT(!fuzz_tells(text), text);
}

static void check_object(const struct prelux_object *o)
{
  FUZZ_CHECK(o->type == PRELUX_FILE || o->type == PRELUX_DIR);
  FUZZ_CHECK((o->mode & ~07777u) == 0);
  check_text(o->version, sizeof o->version);
  size_t n = strnlen(o->md5, sizeof o->md5);
  FUZZ_CHECK_TEXT(n == 0 || (n == 32 && strspn(o->md5, "0123456789abcdef") == 32), o->md5);
}

/* An op's end: what it may return, and what it says. */
static void check_end(int rc, const struct prelux_problem *why)
{
  FUZZ_CHECK(rc >= -4095);
  FUZZ_CHECK(rc != -EFAULT && rc != -EBADMSG && rc != -EBADF);
  check_text(why->text, sizeof why->text);
  check_text(why->advice, sizeof why->advice);
}

struct reading {
  uint64_t next, end;
};

static int on_bytes(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct reading *r = arg;
  FUZZ_CHECK(off == r->next && len > 0 && len <= r->end - off);
  unsigned char sum = 0;
  for (size_t i = 0; i < len; i++)
    sum ^= ((const unsigned char *)buf)[i];
  r->next += len;
  return sum == 0 && len > 77 ? -ENOSPC : 0;
}

static int on_begin(void *arg, const struct prelux_object *o)
{
  struct reading *r = arg;
  check_object(o);
  FUZZ_CHECK(r->next == 0);
  r->end = o->size;
  return o->type == PRELUX_FILE ? 0 : -EIO;
}

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *o)
{
  unsigned char sum = 0; /* all of it can be read */
  for (size_t i = 0; i < len; i++)
    sum ^= (unsigned char)name[i];
  check_object(o);
  return ++*(unsigned *)arg > 100000u + sum ? -E2BIG : 0;
}

static int on_owner(void *arg, const char *owner)
{
  FUZZ_CHECK(*owner);
  return 0;
}

static int on_upload(void *arg, const char *path, const char *token, uint64_t idle_s)
{
  FUZZ_CHECK(strlen(token) < PRELUX_TOKEN_MAX && !strpbrk(token, " \n") && path);
  return 0;
}

static int do_stat(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object o, before;
  memset(&o, 0x5a, sizeof o);
  before = o;
  int rc = b->ops->stat(b, path, &o, why);
  if (rc == 0)
    check_object(&o);
  else
    FUZZ_CHECK(memcmp(&o, &before, sizeof o) == 0);
  return rc;
}

static int do_read(struct prelux_backend *b, const char *path, bool fetch, struct prelux_problem *why)
{
  struct prelux_object o = {0};
  struct reading r = {0};
  if (fetch)
  {
    int rc = b->ops->fetch ? b->ops->fetch(b, path, on_begin, on_bytes, &r, &o, why) : -EOPNOTSUPP;
    FUZZ_CHECK(rc != 0 || o.type != PRELUX_FILE || r.next == o.size);
    return rc;
  }
  int rc = b->ops->stat(b, path, &o, why);
  if (rc < 0 || o.type != PRELUX_FILE || o.size > READ_MAX)
    return rc;
  r.next = o.size / 3;
  r.end = o.size - (o.size - r.next) / 4;
  if (r.end == r.next)
    return 0;
  rc = b->ops->read(b, path, &o, r.next, r.end - r.next, on_bytes, &r, why);
  FUZZ_CHECK(rc != 0 || r.next == r.end);
  if (b->ops->distrust)
    b->ops->distrust(b, path);
  return rc;
}

static int do_tell(struct prelux_backend *b, bool ask)
{
  cJSON *o = cJSON_CreateObject();
  if (ask && b->ops->examine)
    b->ops->examine(b, o);
  if (b->ops->report)
    b->ops->report(b, o);
  char *text = cJSON_PrintUnformatted(o);
  FUZZ_CHECK_TEXT(text && !fuzz_tells(text), text);
  cJSON_free(text);
  cJSON_Delete(o);
  return 0;
}

static int do_load(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_load l = {0};
  const struct prelux_load_options options = {.verify = true};
  int rc = b->ops->load ? b->ops->load(b, path, (enum prelux_load_verb)(strlen(path) % 3), &options, &l, why) : -EOPNOTSUPP;
  if (rc == 0)
    check_text(l.text, sizeof l.text), check_text(l.job, sizeof l.job);
  return rc;
}

static int do_cluster(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  static const char *const properties[] = {"s3a.accessKeyId", "k", "s3a.secretKey", FUZZ_SECRET, NULL};
  struct prelux_cluster call = {.verb = (enum prelux_cluster_verb)(strlen(path) % 6), .source = "s3://data/x", .properties = properties,
                                .which = PRELUX_CLUSTER_MODE | PRELUX_CLUSTER_TTL, .mode = 0644, .ttl_ms = -1};
  cJSON *o = cJSON_CreateObject();
  int rc = b->ops->cluster ? b->ops->cluster(b, path, &call, o, why) : -EOPNOTSUPP;
  char *text = cJSON_PrintUnformatted(o);
  FUZZ_CHECK_TEXT(text && !fuzz_tells(text), text);
  cJSON_free(text);
  cJSON_Delete(o);
  return rc;
}

static int file_of(const char *text)
{
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0)
    abort();
  return fd;
}

/* Whole, or in two parts. */
static int do_put(struct prelux_backend *b, const char *path, bool parts, struct prelux_problem *why)
{
  const struct prelux_backend_write *w = b->ops->write;
  const struct prelux_put how = {.cond.must = strlen(path) & 1 ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING,
                                 .set = {.which = PRELUX_SET_MODE | PRELUX_SET_MTIME, .mode = 0755, .mtime_ns = 1700000000123456789}};
  struct prelux_object o = {0};
  struct prelux_part two[2] = {{.n = 0}, {.n = 1}};
  char token[PRELUX_TOKEN_MAX] = "";
  int fd = file_of("some bytes of a file\n"), rc = -EOPNOTSUPP;
  if (!parts && w->put)
    rc = w->put(b, path, fd, 21, &how, &o, why);
  else if (parts && w->begin && (rc = w->begin(b, path, 16, &how.set, token, why)) == 0)
  {
    check_text(token, sizeof token);
    for (unsigned n = 0; n < 2 && rc == 0; n++)
      rc = w->part(b, path, token, n, fd, n * 16u, n ? 5 : 16, two[n].tag, why);
    if (rc == 0)
      rc = w->complete(b, path, token, two, 2, 21, &how, &o, why);
    else
      w->abort(b, path, token, why);
  }
  if (rc == 0)
    check_object(&o);
  close(fd);
  return rc;
}

static int do_change(struct prelux_backend *b, char what, const char *path, struct prelux_problem *why)
{
  static const struct prelux_set set = {.which = PRELUX_SET_MODE | PRELUX_SET_MTIME, .mode = 0600, .mtime_ns = 1};
  const struct prelux_backend_write *w = b->ops->write;
  struct prelux_condition any = {.must = PRELUX_MUST_NOTHING};
  struct prelux_put how = {0};
  struct prelux_object o = {.type = PRELUX_FILE};
  struct prelux_able able = {0};
  int rc = -EOPNOTSUPP;
  if (what == 'D' && w->remove)
    rc = w->remove(b, path, &any, why);
  else if (what == 'M' && w->rename)
    rc = w->rename(b, path, "d/other", strlen(path) % 3, &o, why);
  else if (what == 'K' && w->mkdir)
    rc = w->mkdir(b, path, 0755, why);
  else if (what == 'R' && w->rmdir)
    rc = w->rmdir(b, path, why);
  else if (what == 'A' && w->set_attr)
    rc = w->set_attr(b, path, &any, &set, &o, why);
  else if (what == 'C' && w->copy)
    rc = w->copy(b, path, "", "d/other", &how, &o, why);
  else if (what == 'U' && w->uploads)
    rc = w->uploads(b, path, on_upload, NULL, why);
  else if (what == 'X' && w->clean)
    rc = w->clean(b, path, 60, why);
  else if (what == 'Y' && w->able)
    rc = w->able(b, &able, why);
  if (rc == 0)
    check_object(&o);
  return rc;
}

/* By the first letter of the word: small ones look, great ones change. */
static int do_op(struct prelux_backend *b, char what, const char *path, struct prelux_problem *why)
{
  unsigned names = 0;
  char object[4096];
  switch (what)
  {
  case 'l':
    return b->ops->list(b, strcmp(path, "root") == 0 ? "" : path, on_name, &names, why);
  case 'r':
  case 'f':
    return do_read(b, path, what == 'f', why);
  case 't':
  case 'e':
    return do_tell(b, what == 'e');
  case 'j':
    return do_load(b, path, why);
  case 'c':
    return do_cluster(b, path, why);
  case 'o':
    return b->ops->owners ? b->ops->owners(b, path, on_owner, NULL, why) : 0;
  case 'u':
    return b->ops->object ? b->ops->object(b, path, object, sizeof object) : 0;
  case 'P':
  case 'Q':
    return b->ops->write ? do_put(b, path, what == 'Q', why) : 0;
  default:
    return what >= 'A' && what <= 'Z' && b->ops->write ? do_change(b, what, path, why) : do_stat(b, path, why);
  }
}

int fuzz_drive(const struct prelux_conf_backend *conf, const uint8_t *data, size_t size)
{
  struct prelux_backend *b = NULL;
  struct prelux_problem why = {0};
  size_t len;
  char *line = fuzz_piece(&data, &size, "\n", &len), *path = line + strcspn(line, " ");
  fuzz_log();
  fuzz_answers(data, size);
  int rc = prelux_backend_find(conf->type)->create(conf, fuzz_net(), &b, &why);
  FUZZ_CHECK_TEXT(rc == 0, why.text);
  if (*path)
    *path++ = 0;
  for (int twice = 0; twice < 2; twice++) /* what was learned is used */
  {
    why = (struct prelux_problem){0};
    rc = do_op(b, line[0], good_path(path), &why);
    check_end(rc, &why);
  }
  do_tell(b, false);
  b->ops->free(b);
  fuzz_log_check();
  free(line);
  return 0;
}
