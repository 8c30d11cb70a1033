/* Messages to a whole daemon in this process, on a folder: each is answered or refused, and afterwards the daemon serves as before. Input: messages, two
 * bytes of length each. In them "plx-fuzz-XXXXXX" stands for the folder's name, sixteen T for the table's. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/files.h"
#include "daemon/place.h"
#include "daemon/server.h"
#include "include/prelux/ctl.h"
#include "lib/index/writer.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"
#include "tests/fuzz/rig.h"

enum { REPLY_MS = 300, ALIVE_MS = 60000, MESSAGES = 16 };

static struct prelux_daemon d;
static char config[64];
static _Alignas(8) unsigned char out[PRELUX_MSG_MAX], in[PRELUX_MSG_MAX];
static unsigned char table[16];

static void *run_loop(void *arg)
{
  prelux_server_run(d.server);
  return NULL;
}

static int call(struct prelux_msg *m)
{
  const struct prelux_client_opts opts = {.runtime = d.runtime, .timeout_ms = ALIVE_MS, .fd_cloexec = 1};
  return prelux_client_call(&opts, m, in, sizeof in, NULL);
}

static void do_register(void)
{
  struct prelux_msg m;
  size_t pos = 0, len;
  prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_REGISTER);
  prelux_msg_put_str(&m, PRELUX_FIELD_CWD, "/");
  prelux_msg_put_str(&m, PRELUX_FIELD_CONFIG, config);
  int rc = call(&m);
  const void *t = rc == 0 ? prelux_msg_next(in, PRELUX_FIELD_TABLE, &pos, &len) : NULL;
  FUZZ_CHECK_TEXT(t && len == sizeof table, prelux_msg_str(in, PRELUX_FIELD_TEXT));
  memcpy(table, t, sizeof table);
}

static void make_folder(void)
{
  char path[96], text[1024];
  const char *top = fuzz_folder();
  static const char *const dirs[] = {"remote", "remote/d", "rt", "rt/tables"};
  for (size_t i = 0; i < 4; i++)
  {
    snprintf(path, sizeof path, "%s/%s", top, dirs[i]);
    mkdir(path, 0700);
  }
  fuzz_file("remote/f.txt", "text\n", 5, 0644);
  fuzz_file("remote/d/g", "more", 4, 0644);
  int n = snprintf(text, sizeof text,
                   "version: 1\ncache: {dir: %s/cache, min_free: 0B}\nbackends: {b: {type: file, root: %s/remote}}\nmappings:\n"
                   "  - {local: /m, remote: 'b:/', write: async}\n  - {local: /m/ro, remote: 'b:/d', freshness: always}\n",
                   top, top);
  snprintf(config, sizeof config, "%s/c.yaml", top);
  fuzz_file("c.yaml", text, (size_t)n, 0600);
}

static void start(void)
{
  char path[96];
  pthread_t loop;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  make_folder();
  snprintf(path, sizeof path, "%s/rt", fuzz_folder());
  d.runtime = strdup(path);
  d.tables_dir = prelux_join(path, "tables");
  d.exe = strdup("/nowhere/preluxd");
  d.runtime_fd = prelux_runtime_open(path);
  snprintf(path, sizeof path, "%s/log", fuzz_folder());
  prelux_logfile_init(&d.log, path, PRELUX_LOG_DEBUG);
  d.log.pinned = d.log.level_pinned = true;
  d.lock_fd = prelux_place_lock(d.runtime_fd, false);
  pthread_mutex_init(&d.compiling, NULL);
  if (prelux_bound_key(d.runtime, d.key) < 0 || prelux_index_writer_create(d.runtime, 1024, 4096, &d.index) < 0 ||
      prelux_origins_create(NULL, NULL, &d.origins) < 0 || prelux_stores_create(d.index, &d.stores) < 0 || prelux_tables_create(&d.tables) < 0 ||
      prelux_server_create(&d, prelux_place_listen(d.runtime_fd, false), &d.server) < 0 || pthread_create(&loop, NULL, run_loop, NULL) != 0)
    abort();
  do_register();
}

/* The names that cannot be known beforehand. */
static void name(unsigned char *buf, size_t len)
{
  static const char sign[] = "plx-fuzz-XXXXXX";
  const char *own = strrchr(fuzz_folder(), '/') + 1;
  for (unsigned char *p = buf; (p = memmem(p, len - (size_t)(p - buf), sign, sizeof sign - 1)); p += sizeof sign - 1)
    memcpy(p, own, sizeof sign - 1);
  for (unsigned char *p = buf; (p = memmem(p, len - (size_t)(p - buf), "TTTTTTTTTTTTTTTT", 16)); p += 16)
    memcpy(p, table, 16);
}

/* What would end the daemon, or leave the folder: another configuration may name any place as its cache. */
static bool may_be_sent(const unsigned char *buf, size_t len)
{
  if (prelux_msg_check(buf, len) < 0)
    return true;
  const char *verb = prelux_msg_str(buf, PRELUX_FIELD_VERB), *text;
  if (verb && strcmp(verb, "daemon-stop") == 0)
    return false;
  size_t pos = 0, n;
  while ((text = prelux_msg_next(buf, PRELUX_FIELD_CONFIG, &pos, &n)))
    if (strcmp(text, config) != 0)
      return false;
  return prelux_msg_op(buf) != PRELUX_OP_REGISTER || prelux_msg_str(buf, PRELUX_FIELD_CONFIG) || prelux_msg_str(buf, PRELUX_FIELD_TABLE);
}

static void send_one(const unsigned char *buf, size_t len)
{
  const struct prelux_client_opts opts = {.runtime = d.runtime, .timeout_ms = ALIVE_MS};
  int fd = prelux_client_connect(&opts);
  FUZZ_CHECK(fd >= 0);
  if (send(fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len)
  {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, REPLY_MS) > 0)
    {
      ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT); /* a descriptor that comes along is dropped by the kernel */
      if (n <= 0)
        break;
      FUZZ_CHECK(prelux_msg_check(in, (size_t)n) == 0);
      FUZZ_CHECK(prelux_msg_op(in) == PRELUX_OP_REPLY || prelux_msg_op(in) == PRELUX_OP_PROGRESS);
      if (prelux_msg_op(in) == PRELUX_OP_REPLY)
        break;
    }
  }
  close(fd);
}

static void serves(void)
{
  for (int tries = 0; tries < 3; tries++)
  {
    struct prelux_msg m;
    prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_STAT);
    prelux_msg_put(&m, PRELUX_FIELD_TABLE, table, sizeof table);
    prelux_msg_put_u32(&m, PRELUX_FIELD_MAPPING, 0);
    prelux_msg_put_str(&m, PRELUX_FIELD_PATH, "");
    int rc = call(&m);
    if (rc == 0)
      return;
    FUZZ_CHECK(rc == PRELUX_STATUS_NO_TABLE);
    do_register();
  }
  FUZZ_CHECK(!"the table stays");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (!d.server)
    start();
  for (int i = 0; i < MESSAGES && size > 2; i++)
  {
    size_t len = data[0] | (size_t)(data[1] & 0x7f) << 8;
    bool as_is = data[1] & 0x80;
    data += 2, size -= 2;
    len = len < size ? len : size;
    unsigned char *buf = aligned_alloc(8, (len + 8) & ~(size_t)7);
    memcpy(buf, data, len);
    name(buf, len);
    if (len >= sizeof(struct prelux_msg_header) && !as_is)
      ((struct prelux_msg_header *)(void *)buf)->bytes = (uint32_t)len;
    if (may_be_sent(buf, len))
      send_one(buf, len);
    free(buf);
    data += len, size -= len;
  }
  serves();
  return 0;
}
