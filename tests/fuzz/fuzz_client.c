/* What a daemon, or who sits at its socket, may answer to the library: frames of the input, with and without descriptors. The call ends, what it gives
 * back is a checked message, no descriptor is left open. Input: frames, two bytes of length each (the high bit: a descriptor goes along). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/ipc/client.h"
#include "tests/fuzz/rig.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *frames;
static size_t frames_len;
static int listener, served, inside;

static void send_frame(int fd, const void *bytes, size_t len, bool with_fd)
{
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec iov = {(void *)bytes, len};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  int passed = with_fd ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
  if (passed >= 0)
  {
    msg.msg_control = &control;
    msg.msg_controllen = sizeof control;
    *CMSG_FIRSTHDR(&msg) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &passed, sizeof passed);
  }
  sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (passed >= 0)
    close(passed);
}

/* The first who asks gets the input, whoever asks again a plain answer. */
static void serve(int fd)
{
  static _Alignas(8) unsigned char in[PRELUX_MSG_MAX];
  struct prelux_msg m;
  if (recv(fd, in, sizeof in, 0) <= 0)
    return;
  const uint8_t *p = frames, *end = frames + (served++ ? 0 : frames_len);
  while (end - p >= 2)
  {
    size_t len = p[0] | (size_t)(p[1] & 0x7f) << 8, have = (size_t)(end - p - 2);
    bool with_fd = p[1] & 0x80;
    len = len < have ? len : have;
    memcpy(in, p + 2, len);
    if (len >= sizeof(struct prelux_msg_header) && p[1] < 0xc0) /* its length is right, or nothing else is looked at */
      ((struct prelux_msg_header *)in)->bytes = (uint32_t)len;
    send_frame(fd, in, len, with_fd);
    p += 2 + len;
  }
  if (p != frames)
    return;
  prelux_msg_begin(&m, in, sizeof in, PRELUX_OP_REPLY);
  prelux_msg_put_u32(&m, PRELUX_FIELD_STATUS, 0);
  send_frame(fd, in, m.len, false);
}

static void *run(void *arg)
{
  for (;;)
  {
    struct pollfd p = {.fd = listener, .events = POLLIN};
    poll(&p, 1, -1);
    pthread_mutex_lock(&lock);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    inside = fd >= 0;
    pthread_mutex_unlock(&lock);
    if (fd < 0)
      continue;
    struct pollfd q = {.fd = fd, .events = POLLIN};
    poll(&q, 1, 1000);
    serve(fd);
    pthread_mutex_lock(&lock);
    close(fd);
    inside = 0;
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void start(void)
{
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  pthread_t thread;
  snprintf(un.sun_path, sizeof un.sun_path, "%s/sock", fuzz_folder());
  listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&un, sizeof un) < 0 || listen(listener, 64) < 0 || pthread_create(&thread, NULL, run, NULL) != 0)
    abort();
}

/* Until nobody is being served or waits to be. */
static void settle(void)
{
  for (;;)
  {
    struct pollfd p = {.fd = listener, .events = POLLIN};
    pthread_mutex_lock(&lock);
    bool busy = inside || poll(&p, 1, 0) > 0;
    pthread_mutex_unlock(&lock);
    if (!busy)
      return;
    usleep(50);
  }
}

static int next_fd(void)
{
  int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
  close(fd);
  return fd;
}

static void on_progress(void *arg, const void *frame)
{
  const char *text = prelux_msg_str(frame, PRELUX_FIELD_TEXT);
  *(size_t *)arg += text ? strlen(text) : 0;
}

static void ask(bool held, bool needs_fd)
{
  static _Alignas(8) unsigned char out[256], in[PRELUX_MSG_MAX];
  struct prelux_msg m;
  struct prelux_attr attr;
  int fd = -1, holds = -1, lost = 0;
  size_t told = 0;
  const struct prelux_client_opts opts = {.runtime = fuzz_folder(), .timeout_ms = 5000, .fd_cloexec = 1, .needs_fd = needs_fd, .progress = on_progress,
                                          .progress_arg = &told, .ret_lost = &lost, .ret_held = held ? &holds : NULL};
  prelux_msg_begin(&m, out, sizeof out, PRELUX_OP_STAT);
  prelux_msg_put_str(&m, PRELUX_FIELD_PATH, "x");
  memset(in, 0x5a, sizeof in);
  int rc = prelux_client_call(&opts, &m, in, sizeof in, held ? NULL : &fd);
  FUZZ_CHECK(lost <= 1);
  if (rc == 0)
  {
    size_t len = ((struct prelux_msg_header *)in)->bytes;
    FUZZ_CHECK(len <= sizeof in && prelux_msg_check(in, len) == 0 && prelux_msg_op(in) == PRELUX_OP_REPLY);
    prelux_msg_attr(in, &attr);
  }
  if (holds >= 0)
  {
    FUZZ_CHECK(rc == 0);
    int again = prelux_client_held(holds, in, sizeof in);
    FUZZ_CHECK(again == 0);
    close(holds);
  }
  if (fd >= 0)
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static int before = -1;
  if (before < 0)
  {
    start();
    before = next_fd();
  }
  for (int way = 0; way < 3; way++)
  {
    frames = data;
    frames_len = size;
    served = 0;
    ask(way == 1, way == 2);
    settle();
    FUZZ_CHECK(next_fd() == before);
  }
  return 0;
}
