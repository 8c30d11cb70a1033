/* A tool for tests: the ops of one backend, driven line by line.
 *
 *   backend_tool CONFIG.yaml BACKEND
 *
 * Reads requests from stdin, one JSON object a line, and answers each with one JSON object a line. Paths and names are
 * percent-encoded in both directions, so that any byte can travel.
 *   {"op": "stat", "path": P}
 *   {"op": "list", "path": P, "stop_after": N (200000)?}    names, with attributes
 *   {"op": "read", "path": P, "out": FILE, "off": N?, "len": N?, "expect": {"size", "version", "mtime_ns"}?, "threads": N?,
 *    "slow_ms": N?, "fail_at": N?, "meanwhile": P?}         without expect: a stat comes first; meanwhile: P is looked
 * at while the threads read ("meanwhile_ms")
 *   {"op": "identity"}   {"op": "caps"}   {"op": "owners", "path": P}   {"op": "report"}   {"op": "examine"}
 * Writing; CONDITION is "absent": true or "if_version": V, SET is "mode": N and "mtime_ns": TEXT, both optional:
 *   {"op": "able"}
 *   {"op": "put", "path": P, "from": FILE, "size": N?, "stop_at": N?, CONDITION, SET}      stop_at: `progress` says no
 *   {"op": "copy", "path": P, "to": P, "source_version": V?, CONDITION, SET}
 *   {"op": "begin", "path": P, "part_size": N, SET}                                         gives "token"
 *   {"op": "part", "path": P, "token": T, "n": N, "from": FILE, "off": N, "len": N}         gives "tag"
 *   {"op": "complete", "path": P, "token": T, "tags": [T...], "size": N, CONDITION, SET}
 *   {"op": "abort", "path": P, "token": T}   {"op": "uploads", "path": P}   {"op": "clean", "path": P, "idle_s": N}
 *   {"op": "remove", "path": P, CONDITION}   {"op": "rename", "path": P, "to": P, "flags": N?}
 *   {"op": "mkdir", "path": P, "mode": N?}   {"op": "rmdir", "path": P}   {"op": "set_attr", "path": P, CONDITION, SET}
 *   {"op": "steps", "die_at": N?, "step_ms": N?, "no_tmpfile": B?, "fstype": N?}   from now on calls that change something are
 *     counted: SIGKILL before the N-th, a pause before each; no O_TMPFILE; f_type of statfs; gives "steps" so far
 *   {"op": "cluster", "verb": "free"|"mount"|"unmount"|"setattr"|"info"|"locate", "path": P, "recursive", "forced", "read_only", "shared": B?,
 *    "source": TEXT?, "properties": [TEXT...]?, "mode", "ttl_ms", "replication_min", "replication_max": N?, "pinned", "persisted": B?,
 *    "ttl_action", "owner", "group": TEXT?}                                                gives "info"
 * The answer has "rc" (0 or -errno), "why", "advice", "ms" and what the op gives. A read checks that bytes come in
 * order, exactly once, and writes them to FILE (FILE.0, FILE.1, ... with threads). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "lib/backend/backend.h"
#include "lib/conf/conf.h"
#include "lib/net/net.h"

#define PATH_BYTES 32768
#define THREADS_MAX 64

static struct prelux_backend *backend;

static double now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void die(const char *text, const char *detail)
{
  fprintf(stderr, "backend_tool: %s%s\n", text, detail ? detail : "");
  exit(2);
}

static const char *text_of(const cJSON *request, const char *key)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, key);
  return cJSON_IsString(item) ? item->valuestring : NULL;
}

static double number_of(const cJSON *request, const char *key, double otherwise)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, key);
  return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static void add_object(cJSON *to, const struct prelux_object *obj)
{
  cJSON_AddStringToObject(to, "type", obj->type == PRELUX_DIR ? "dir" : obj->type == PRELUX_FILE ? "file" : "?");
  cJSON_AddNumberToObject(to, "mode", obj->mode);
  if (obj->size != UINT64_MAX)
    cJSON_AddNumberToObject(to, "size", (double)obj->size);
  char mtime[32];
  snprintf(mtime, sizeof(mtime), "%lld", (long long)obj->mtime_ns);
  cJSON_AddStringToObject(to, "mtime_ns", mtime);
  cJSON_AddBoolToObject(to, "mtime_rough", obj->mtime_rough);
  cJSON_AddStringToObject(to, "version", obj->version);
  cJSON_AddStringToObject(to, "md5", obj->md5);
}

/* list */

struct names
{
  cJSON *array;
  int left;
};

static int add_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct names *n = arg;
  char *encoded = malloc(3 * len + 8);
  if (n->left-- == 0 || !encoded || prelux_url_encode(encoded, 3 * len + 8, name, len) < 0)
  {
    free(encoded);
    return -EINTR;
  }
  cJSON *row = cJSON_CreateObject();
  cJSON_AddStringToObject(row, "name", encoded);
  add_object(row, obj);
  cJSON_AddItemToArray(n->array, row);
  free(encoded);
  return 0;
}

static int op_list(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  struct names n = {.array = cJSON_CreateArray(), .left = (int)number_of(request, "stop_after", 200000)};
  int rc = backend->ops->list(backend, path, add_name, &n, why);
  cJSON_AddItemToObject(answer, "names", n.array);
  return rc;
}

/* read */

struct reader
{
  pthread_t thread;
  const char *path;
  struct prelux_object expect;
  uint64_t off, len, next;
  int64_t fail_at;
  int slow_ms, fd, rc;
  bool disorder;
  struct prelux_problem why;
};

static int take(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct reader *r = arg;
  if (off != r->next || len == 0 || len > r->off + r->len - off)
    r->disorder = true;
  r->next = off + len;
  if (r->fail_at >= 0 && r->next > (uint64_t)r->fail_at)
    return -ENOSPC;
  if (r->slow_ms)
    usleep((useconds_t)r->slow_ms * 1000);
  return write(r->fd, buf, len) == (ssize_t)len ? 0 : -errno;
}

static void *read_thread(void *arg)
{
  struct reader *r = arg;
  r->next = r->off;
  r->rc = backend->ops->read(backend, r->path, &r->expect, r->off, r->len, take, r, &r->why);
  if (r->rc == 0 && r->next != r->off + r->len)
    r->disorder = true;
  return NULL;
}

/* How long a stat takes while others read; -1: it failed. */
static double look_meanwhile(const char *path)
{
  struct prelux_object obj;
  usleep(100000);
  double begin = now_ms();
  return backend->ops->stat(backend, path, &obj, NULL) < 0 ? -1 : now_ms() - begin;
}

static int run_readers(struct reader *readers, int n, const char *out, const char *meanwhile, double *ret_ms)
{
  for (int i = 0; i < n; i++)
  {
    char name[PATH_BYTES];
    snprintf(name, sizeof(name), n > 1 ? "%s.%d" : "%s", out, i);
    readers[i].fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (readers[i].fd < 0)
      die("cannot write ", name);
    if (pthread_create(&readers[i].thread, NULL, read_thread, &readers[i]))
      die("no thread", NULL);
  }
  int rc = 0;
  if (meanwhile)
    *ret_ms = look_meanwhile(meanwhile);
  for (int i = 0; i < n; i++)
  {
    pthread_join(readers[i].thread, NULL);
    close(readers[i].fd);
    if (readers[i].disorder)
      rc = 1;
    else if (rc == 0)
      rc = readers[i].rc;
  }
  return rc;
}

static int op_read(const cJSON *request, const char *path, cJSON *answer, struct prelux_problem *why)
{
  struct prelux_object expect = {.type = PRELUX_FILE};
  const cJSON *given = cJSON_GetObjectItemCaseSensitive(request, "expect");
  int n = (int)number_of(request, "threads", 1);
  const char *out = text_of(request, "out");
  if (!out || n < 1 || n > THREADS_MAX)
    die("read: out or threads", NULL);
  if (given)
  {
    expect.size = (uint64_t)number_of(given, "size", 0);
    snprintf(expect.version, sizeof(expect.version), "%s", text_of(given, "version") ? text_of(given, "version") : "");
    expect.mtime_ns = strtoll(text_of(given, "mtime_ns") ? text_of(given, "mtime_ns") : "0", NULL, 10);
  }
  else
  {
    int rc = backend->ops->stat(backend, path, &expect, why);
    if (rc < 0)
      return rc;
  }
  add_object(answer, &expect);
  struct reader *readers = calloc((size_t)n, sizeof(*readers));
  if (!readers)
    die("no memory", NULL);
  for (int i = 0; i < n; i++)
  {
    readers[i].path = path;
    readers[i].expect = expect;
    readers[i].off = (uint64_t)number_of(request, "off", 0);
    readers[i].len = (uint64_t)number_of(request, "len", (double)(expect.size - readers[i].off));
    readers[i].fail_at = (int64_t)number_of(request, "fail_at", -1);
    readers[i].slow_ms = (int)number_of(request, "slow_ms", 0);
  }
  double meanwhile_ms = 0;
  int rc = run_readers(readers, n, out, text_of(request, "meanwhile"), &meanwhile_ms);
  cJSON_AddNumberToObject(answer, "meanwhile_ms", meanwhile_ms);
  for (int i = 0; i < n; i++)
    if (readers[i].rc < 0)
      *why = readers[i].why;
  free(readers);
  return rc;
}

#include "tests/unit/backend_tool_write.h"

/* Requests */

static int op_stat(const char *path, cJSON *answer, struct prelux_problem *why)
{
  struct prelux_object obj;
  int rc = backend->ops->stat(backend, path, &obj, why);
  if (rc == 0)
    add_object(answer, &obj);
  return rc;
}

static int add_owner(void *arg, const char *owner)
{
  cJSON_AddItemToArray(arg, cJSON_CreateString(owner));
  return 0;
}

/* What only some backends have: -ENOSYS elsewhere. */
static int run_extra(const char *op, const char *path, cJSON *answer, struct prelux_problem *why)
{
  const struct prelux_backend_ops *ops = backend->ops;
  if (strcmp(op, "owners") == 0)
    return ops->owners ? ops->owners(backend, path, add_owner, cJSON_AddArrayToObject(answer, "owners"), why) : -ENOSYS;
  void (*tell)(struct prelux_backend *b, struct cJSON *into) = strcmp(op, "report") == 0 ? ops->report : ops->examine;
  if (!tell)
    return -ENOSYS;
  tell(backend, cJSON_AddObjectToObject(answer, "report"));
  return 0;
}

static int run_op(const cJSON *request, cJSON *answer, struct prelux_problem *why)
{
  const char *op = text_of(request, "op"), *encoded = text_of(request, "path");
  char path[PATH_BYTES] = "", identity[PATH_BYTES];
  if (!op || (encoded && prelux_url_decode(path, sizeof(path), encoded, strlen(encoded)) < 0))
    die("a request without op, or a bad path: ", encoded);
  if (strcmp(op, "stat") == 0)
    return op_stat(path, answer, why);
  if (strcmp(op, "list") == 0)
    return op_list(request, path, answer, why);
  if (strcmp(op, "read") == 0)
    return op_read(request, path, answer, why);
  if (strcmp(op, "caps") == 0)
  {
    cJSON_AddNumberToObject(answer, "caps", backend->ops->caps);
    return 0;
  }
  if (strcmp(op, "owners") == 0 || strcmp(op, "report") == 0 || strcmp(op, "examine") == 0)
    return run_extra(op, path, answer, why);
  if (strcmp(op, "cluster") == 0)
    return op_cluster(request, path, answer, why);
  if (strcmp(op, "identity") == 0)
  {
    int rc = backend->ops->identity(backend, identity, sizeof(identity));
    if (rc == 0)
      cJSON_AddStringToObject(answer, "identity", identity);
    return rc;
  }
  for (size_t i = 0; i < sizeof(write_ops) / sizeof(write_ops[0]); i++)
    if (strcmp(op, write_ops[i].name) == 0)
      return write_ops[i].run(request, path, answer, why);
  die("unknown op ", op);
  return 0;
}

static void answer_line(const char *line)
{
  cJSON *request = cJSON_Parse(line), *answer = cJSON_CreateObject();
  struct prelux_problem why = {0};
  if (!request)
    die("not JSON: ", line);
  double begin = now_ms();
  int rc = run_op(request, answer, &why);
  cJSON_AddNumberToObject(answer, "rc", rc);
  cJSON_AddStringToObject(answer, "why", rc ? why.text : "");
  cJSON_AddStringToObject(answer, "advice", rc ? why.advice : "");
  cJSON_AddNumberToObject(answer, "ms", now_ms() - begin);
  char *text = cJSON_PrintUnformatted(answer);
  puts(text);
  fflush(stdout);
  free(text);
  cJSON_Delete(answer);
  cJSON_Delete(request);
}

int main(int argc, char **argv)
{
  struct prelux_conf *conf;
  struct prelux_conf_error err = {0};
  struct prelux_problem why = {0};
  struct prelux_net *net;
  extern char **environ;
  if (argc != 3)
    die("usage: backend_tool CONFIG BACKEND", NULL);
  struct prelux_conf_input in = {.file = argv[1], .cwd = "/", .env = environ};
  if (prelux_conf_load(&in, false, &conf, &err) < 0)
    die("configuration: ", err.text);
  const struct prelux_conf_backend *b = prelux_conf_backend(conf, argv[2]);
  const struct prelux_backend_ops *ops = b ? prelux_backend_find(b->type) : NULL;
  if (!ops || prelux_net_create(&net) < 0)
    die("no such backend, or no network engine", NULL);
  if (ops->create(b, net, &backend, &why) < 0)
    die("create: ", why.text);
  writes = ops->write;
  prelux_conf_free(conf); /* borrowed for create only: what it kept shows under a sanitizer */
  char *line = NULL;
  size_t cap = 0;
  while (getline(&line, &cap, stdin) > 0)
    answer_line(line);
  free(line);
  backend->ops->free(backend);
  prelux_net_free(net);
  return 0;
}
