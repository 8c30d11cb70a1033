/* A whole daemon in this process, on a fake backend (here, in this file): who joins whom, limits, and what happens when
 * system calls fail. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/daemon.h"
#include "daemon/files.h"
#include "daemon/place.h"
#include "daemon/server.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"

/* The fake backend: every path but "" is a file of six bytes; stat of "slow..." waits for the gate. */
static atomic_int stats, reads, creates;
static atomic_bool gate = true;

struct fake {
  struct prelux_backend base;
  char root[64];
};
static const struct prelux_backend_ops fake_ops;

static int fake_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                       struct prelux_problem *why)
{
  struct fake *b = calloc(1, sizeof *b);
  b->base.ops = &fake_ops;
  snprintf(b->root, sizeof b->root, "%s", prelux_conf_str(conf, "root"));
  creates++;
  *ret = &b->base;
  return 0;
}

static void fake_free(struct prelux_backend *b)
{
  free(b);
}

static int fake_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  snprintf(buf, cap, "fake:%s", ((const struct fake *)b)->root);
  return 0;
}

static int fake_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  stats++;
  if (strncmp(path, "slow", 4) == 0)
    while (!atomic_load(&gate))
      usleep(1000);
  if (strncmp(path, "none", 4) == 0)
    return prelux_problem(why, ENOENT, "the fake has no %s", path);
  if (strncmp(path, "odd", 3) == 0)
    return prelux_problem(why, EPROTO, "the fake lies about %s", path);
  memset(ret, 0, sizeof *ret);
  ret->type = path[0] ? PRELUX_FILE : PRELUX_DIR;
  ret->size = path[0] ? 6 : 0;
  ret->mtime_ns = 1000000000;
  strcpy(ret->version, "v1");
  return 0;
}

static int fake_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                     struct prelux_problem *why)
{
  struct prelux_object obj = {.type = PRELUX_FILE, .size = 6, .mtime_ns = 1000000000, .version = "v1"};
  return path[0] ? prelux_problem(why, ENOTDIR, "a file") : add(arg, "one", 3, &obj);
}

static int fake_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                     uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  reads++;
  return len ? sink(arg, off, "abcdef" + off, len) : 0;
}

static const struct prelux_backend_ops fake_ops = {
    .type = "file",
    .caps = PRELUX_CAP_RANGE,
    .create = fake_create,
    .free = fake_free,
    .identity = fake_identity,
    .stat = fake_stat,
    .list = fake_list,
    .read = fake_read,
};

static const struct prelux_backend_ops *fake_find(const char *type)
{
  return strcmp(type, "file") == 0 ? &fake_ops : NULL;
}

/* The daemon. */
static char top[] = "/tmp/plx-unit-XXXXXX";
static char config[128];
static struct prelux_daemon d;
static pthread_t loop;

static void *run_loop(void *arg)
{
  *(bool *)arg = prelux_server_run(d.server);
  return NULL;
}

static bool clean_end;

static void write_config(const char *extra)
{
  char text[2048];
  int n = snprintf(text, sizeof text,
                   "version: 1\ncache: {dir: %s/cache}\nbackends: {b: {type: file, root: /fake}}\nmappings:\n"
                   "  - {local: /m, remote: 'b:/'}\n  - {local: /always, remote: 'b:/', freshness: always}\n%s",
                   top, extra);
  assert_int_equal(prelux_files_write(top, "c.yaml", text, (size_t)n), 0);
}

static int start(void **state)
{
  char path[128];
  sigset_t set;
  sigfillset(&set);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  assert_non_null(mkdtemp(top));
  snprintf(config, sizeof config, "%s/c.yaml", top);
  snprintf(path, sizeof path, "%s/rt", top);
  write_config("");
  d.runtime = strdup(path);
  d.tables_dir = prelux_join(path, "tables");
  d.exe = strdup("/nowhere/preluxd");
  d.runtime_fd = prelux_runtime_open(path);
  assert_true(d.runtime_fd >= 0);
  mkdir(d.tables_dir, 0700);
  snprintf(path, sizeof path, "%s/log", top);
  assert_int_equal(prelux_logfile_init(&d.log, path, PRELUX_LOG_DEBUG), 0);
  d.log.pinned = d.log.level_pinned = true;
  d.lock_fd = prelux_place_lock(d.runtime_fd, false);
  pthread_mutex_init(&d.compiling, NULL);
  assert_int_equal(prelux_bound_key(d.runtime, d.key), 0);
  assert_int_equal(prelux_index_writer_create(d.runtime, 1024, 4096, &d.index), 0);
  assert_int_equal(prelux_origins_create(NULL, fake_find, &d.origins), 0);
  assert_int_equal(prelux_stores_create(d.index, &d.stores), 0);
  assert_int_equal(prelux_tables_create(&d.tables), 0);
  assert_int_equal(prelux_server_create(&d, prelux_place_listen(d.runtime_fd, false), &d.server), 0);
  assert_int_equal(pthread_create(&loop, NULL, run_loop, &clean_end), 0);
  return 0;
}

/* Request and reply. */
static _Alignas(8) unsigned char out[PRELUX_MSG_MAX], in[PRELUX_MSG_MAX];
static struct prelux_msg m;
static unsigned char table[16];

static int call(int *fd)
{
  struct prelux_client_opts opts = {.runtime = d.runtime, .timeout_ms = 10000, .fd_cloexec = 1};
  return prelux_client_call(&opts, &m, in, sizeof in, fd);
}

static int do_register(const char *file)
{
  prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_REGISTER);
  prelux_msg_put_str(&m, PRELUX_FIELD_CWD, "/");
  prelux_msg_put_str(&m, PRELUX_FIELD_CONFIG, file);
  int ret = call(NULL);
  size_t pos = 0, len;
  const void *t = prelux_msg_next(in, PRELUX_FIELD_TABLE, &pos, &len);
  if (ret == 0 && t)
    memcpy(table, t, 16);
  return ret;
}

static void ask(enum prelux_op op, uint32_t mapping, const char *path, uint32_t flags)
{
  prelux_msg_begin(&m, out, sizeof out, op);
  prelux_msg_put(&m, PRELUX_FIELD_TABLE, table, sizeof table);
  prelux_msg_put_u32(&m, PRELUX_FIELD_MAPPING, mapping);
  prelux_msg_put_str(&m, PRELUX_FIELD_PATH, path);
  prelux_msg_put_u32(&m, PRELUX_FIELD_FLAGS, flags);
}

static int stop(void **state)
{
  char command[64];
  prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_CTL);
  prelux_msg_put_str(&m, PRELUX_FIELD_VERB, "daemon-stop");
  assert_int_equal(call(NULL), 0);
  pthread_join(loop, NULL);
  assert_true(clean_end);
  prelux_pool_free(d.pool);
  prelux_server_free(d.server);
  prelux_tables_free(d.tables);
  prelux_stores_free(d.stores);
  prelux_origins_free(d.origins);
  prelux_index_writer_free(d.index);
  prelux_logfile_release(&d.log);
  close(d.lock_fd);
  close(d.runtime_fd);
  free(d.runtime);
  free(d.tables_dir);
  free(d.exe);
  snprintf(command, sizeof command, "rm -rf %s", top);
  return system(command);
}

/* A request sent, its reply not awaited. */
static int send_only(void)
{
  struct prelux_client_opts opts = {.runtime = d.runtime, .timeout_ms = 10000};
  int fd = prelux_client_connect(&opts);
  assert_true(fd >= 0);
  assert_int_equal(send(fd, out, m.len, 0), m.len);
  return fd;
}

/* STATUS of the reply to come. */
static int receive_status(int fd)
{
  do
  {
    ssize_t n = recv(fd, in, sizeof in, 0);
    assert_true(n > 0);
    assert_int_equal(prelux_msg_check(in, (size_t)n), 0);
  } while (prelux_msg_op(in) == PRELUX_OP_PROGRESS);
  close(fd);
  return (int)prelux_msg_u32(in, PRELUX_FIELD_STATUS, 1);
}

static void wait_stats(int n)
{
  for (int i = 0; i < 5000 && atomic_load(&stats) < n; i++)
    usleep(1000);
  assert_int_equal(stats, n);
}

static void equal_requests_are_one(void **state)
{
  int fds[40];
  assert_int_equal(do_register(config), 0);
  stats = 0;
  gate = false;
  ask(PRELUX_OP_STAT, 0, "slow-one", 0);
  for (int i = 0; i < 40; i++)
    fds[i] = send_only();
  wait_stats(1);
  usleep(50000);
  struct prelux_pool_stats pool;
  prelux_pool_stats(d.pool, &pool);
  assert_int_equal(pool.running + pool.queued, 1); /* joined before they take a thread */
  assert_int_equal(stats, 1);
  close(fds[0]); /* the first asker leaves: the others, and one who comes now, still wait for the same */
  usleep(50000);
  fds[0] = send_only();
  usleep(50000);
  prelux_pool_stats(d.pool, &pool);
  assert_int_equal(pool.running + pool.queued, 1);
  gate = true;
  for (int i = 0; i < 40; i++)
    assert_int_equal(receive_status(fds[i]), 0);
  assert_int_equal(stats, 1);
}

static void always_joins_no_answer_older_than_the_question(void **state)
{
  assert_int_equal(do_register(config), 0);
  stats = 0;
  gate = false;
  ask(PRELUX_OP_STAT, 1, "slow-two", 0);
  int first = send_only();
  wait_stats(1);
  int second = send_only(); /* the first has asked the remote already: a change since then must be seen */
  wait_stats(2);
  gate = true;
  assert_int_equal(receive_status(first), 0);
  assert_int_equal(receive_status(second), 0);
}

static void ask_the_loop(void)
{
  static _Alignas(8) unsigned char text[256];
  struct prelux_msg saved = m;
  prelux_msg_begin(&m, text, sizeof text, PRELUX_OP_CTL);
  prelux_msg_put_str(&m, PRELUX_FIELD_VERB, "daemon-status");
  assert_int_equal(call(NULL), 0);
  m = saved;
}

/* Somebody connects, is preempted, asks for what only he can, and dies while that waits for a thread: it is done all the same. */
static void what_was_heard_is_done(void **state)
{
  enum { LANE = 48 }; /* all that a backend may hold */
  struct prelux_client_opts opts = {.runtime = d.runtime, .timeout_ms = 10000};
  int fds[LANE];
  char path[32];
  assert_int_equal(do_register(config), 0);
  stats = 0;
  gate = false;
  for (int i = 0; i < LANE; i++)
  {
    snprintf(path, sizeof path, "slow-lane-%d", i);
    ask(PRELUX_OP_STAT, 0, path, 0);
    fds[i] = send_only();
  }
  wait_stats(LANE);
  int fd = prelux_client_connect(&opts);
  ask_the_loop(); /* which has accepted him by now */
  ask(PRELUX_OP_OPEN, 0, "heard", PRELUX_F_STREAM);
  assert_int_equal(send(fd, out, m.len, 0), m.len);
  ask_the_loop();
  close(fd);
  for (int i = 0; i < 13; i++, usleep(100000)) /* more than a second: nor does it matter that he gets no PROGRESS frame */
    ask_the_loop();
  reads = 0;
  gate = true;
  for (int i = 0; i < LANE; i++)
    assert_int_equal(receive_status(fds[i]), 0);
  for (int i = 0; i < 60000 && atomic_load(&reads) == 0; i++)
    usleep(1000);
  assert_int_equal(reads, 1);
}

/* As many commands as a lane holds ask a remote that says nothing: who brings a configuration, and housekeeping, have lanes of their own. */
static void commands_that_hang_keep_nobody_out(void **state)
{
  enum { LANE = 48 };
  int fds[LANE];
  char path[32];
  assert_int_equal(do_register(config), 0);
  stats = 0;
  gate = false;
  for (int i = 0; i < LANE; i++)
  {
    snprintf(path, sizeof path, "/m/slow-verb-%d", i);
    prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_CTL);
    prelux_msg_put(&m, PRELUX_FIELD_TABLE, table, sizeof table);
    prelux_msg_put_str(&m, PRELUX_FIELD_VERB, "stat");
    prelux_msg_put_str(&m, PRELUX_FIELD_ARG, path);
    fds[i] = send_only();
  }
  wait_stats(LANE);
  write_config("# while all of them hang\n");
  assert_int_equal(do_register(config), 0);
  gate = true;
  for (int i = 0; i < LANE; i++)
    assert_int_equal(receive_status(fds[i]), 0);
}

static void odd_errors_become_eio(void **state)
{
  assert_int_equal(do_register(config), 0);
  ask(PRELUX_OP_STAT, 0, "odd", 0);
  assert_int_equal(call(NULL), -EIO);
  assert_non_null(strstr(prelux_msg_str(in, PRELUX_FIELD_TEXT), "lies"));
  ask(PRELUX_OP_STAT, 0, "none", 0);
  assert_int_equal(call(NULL), -ENOENT);
  stats = 0;
  assert_int_equal(call(NULL), -ENOENT); /* from memory, on the loop */
  assert_int_equal(stats, 0);
}

static void each_has_its_own_offset(void **state)
{
  int a = -1, b = -1;
  char text[8];
  assert_int_equal(do_register(config), 0);
  ask(PRELUX_OP_OPEN, 0, "file", PRELUX_F_WANT_FD);
  assert_int_equal(call(&a), 0);
  assert_int_equal(call(&b), 0);
  assert_int_equal(read(a, text, 8), 6);
  assert_int_equal(read(b, text, 8), 6);
  assert_memory_equal(text, "abcdef", 6);
  close(a);
  close(b);
}

static void message_limits(void **state)
{
  static unsigned char big[PRELUX_MSG_MAX + 4096];
  struct prelux_client_opts opts = {.runtime = d.runtime};
  assert_int_equal(do_register(config), 0);
  /* The largest message is served; one byte more is refused, and nobody else suffers. */
  prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_STAT);
  prelux_msg_put(&m, PRELUX_FIELD_TABLE, table, sizeof table);
  prelux_msg_put_u32(&m, PRELUX_FIELD_MAPPING, 0);
  prelux_msg_put(&m, PRELUX_FIELD_ARG, big, sizeof out - m.len - 16);
  assert_false(m.overflow);
  assert_true(m.len > PRELUX_MSG_MAX - 16);
  assert_int_equal(call(NULL), 0);
  memcpy(big, out, m.len);
  int fd = prelux_client_connect(&opts);
  assert_int_equal(send(fd, big, sizeof big, 0), sizeof big);
  assert_int_equal(receive_status(fd), -EMSGSIZE);
  fd = prelux_client_connect(&opts);
  send(fd, out, m.len, 0);
  send(fd, out, m.len, 0); /* a second message on one connection */
  ssize_t n = recv(fd, in, sizeof in, 0);
  assert_true(n >= 0 || errno == ECONNRESET);
  close(fd);
  assert_int_equal(call(NULL), 0);
}

/* The N-th call of these fails with ENOSPC (or EIO), for N = 1, 2, ... until none is left to fail. */
static atomic_int countdown;

static bool now(void)
{
  return atomic_fetch_sub(&countdown, 1) == 1;
}

static ssize_t failing_write(int fd, const void *buf, size_t n)
{
  if (n == 8 || !now()) /* 8: the loop's own wake-up */
    return write(fd, buf, n);
  errno = ENOSPC;
  return -1;
}

static int failing_rename(const char *from, const char *to)
{
  if (!now())
    return rename(from, to);
  errno = EIO;
  return -1;
}

static int failing_open(const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
  va_end(ap);
  if (!now())
    return open(path, flags, mode);
  errno = EMFILE;
  return -1;
}

static ssize_t failing_pread(int fd, void *buf, size_t n, off_t off)
{
  if (!now())
    return pread(fd, buf, n, off);
  errno = EIO;
  return -1;
}

static int failing_memfd(const char *name, unsigned flags)
{
  if (!now())
    return memfd_create(name, flags);
  errno = ENFILE;
  return -1;
}

static int temporary_files(void)
{
  int n = 0;
  DIR *dir = opendir(d.tables_dir);
  for (struct dirent *e; (e = readdir(dir));)
    n += e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
  closedir(dir);
  return n;
}

static void failing_calls_fail_one_request(void **state)
{
  int left = 1, n = 0;
  while (left > 0)
  {
    char extra[64];
    snprintf(extra, sizeof extra, "# %d\n", n); /* each round compiles anew */
    countdown = 0;
    write_config(extra);
    countdown = ++n;
    int ret = do_register(config);
    if (ret == 0)
    {
      ask(PRELUX_OP_LIST, 0, "", PRELUX_F_RECHECK);
      ret = call(NULL);
    }
    left = atomic_exchange(&countdown, 0);
    left = left > 0 ? 0 : 1; /* the call that should fail was never reached: all have been tried */
    assert_true(ret == 0 || ret == -EIO || ret == -ENOSPC || ret == -EINVAL || ret == -ENFILE || ret == -EMFILE);
    assert_int_equal(temporary_files(), 0);
    ret = -EIO;
    for (int i = 0; i < 40 && ret == -EIO; i++) /* a cache folder that could not be opened for want of descriptors is tried again soon */
    {
      usleep(i ? 50000 : 0);
      assert_int_equal(do_register(config), 0);
      ask(PRELUX_OP_STAT, 0, "file", 0);
      ret = call(NULL);
    }
    assert_int_equal(ret, 0);
  }
  assert_in_range(n, 5, 200);
}

static void equal_backends_are_shared(void **state)
{
  int before = creates;
  for (int i = 0; i < 5; i++)
  {
    char extra[64];
    snprintf(extra, sizeof extra, "  - {local: /extra%d, remote: 'b:/x'}\n", i);
    write_config(extra);
    assert_int_equal(do_register(config), 0);
  }
  assert_int_equal(creates, before); /* the same configuration of a backend is one instance */
}

static void newest_idle(struct prelux_live_table *t, void *arg)
{
  uint64_t *ns = arg;
  *ns = *ns == 1 ? t->idle_ns : *ns;
}

static uint64_t idle_of(const char *extra)
{
  uint64_t ns = 1;
  write_config(extra);
  assert_int_equal(do_register(config), 0);
  prelux_tables_each(d.tables, newest_idle, &ns);
  return ns;
}

static void idle_exit_of_zero_is_never(void **state)
{
  assert_true(idle_of("idle_exit: 7s\n") == UINT64_C(7000000000));
  assert_true(idle_of("idle_exit: 0\n") == UINT64_MAX);
  assert_true(idle_of("# the default\n") == UINT64_C(300000000000));
}

int main(void)
{
  /* For the whole run, before there are threads; they fail while `countdown` says so. */
  prelux_os.write = failing_write;
  prelux_os.rename = failing_rename;
  prelux_os.open = failing_open;
  prelux_os.pread = failing_pread;
  prelux_os.memfd_create = failing_memfd;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equal_requests_are_one),
      cmocka_unit_test(always_joins_no_answer_older_than_the_question),
      cmocka_unit_test(what_was_heard_is_done),
      cmocka_unit_test(commands_that_hang_keep_nobody_out),
      cmocka_unit_test(odd_errors_become_eio),
      cmocka_unit_test(each_has_its_own_offset),
      cmocka_unit_test(message_limits),
      cmocka_unit_test(failing_calls_fail_one_request),
      cmocka_unit_test(equal_backends_are_shared),
      cmocka_unit_test(idle_exit_of_zero_is_never),
  };
  return cmocka_run_group_tests(tests, start, stop);
}
