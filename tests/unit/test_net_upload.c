/* lib/net: bodies out of a file, and what a caller learns of a request that had no answer; against a server in this process. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net/net.h"

#define SIZE ((5u << 20) + 12345) /* several buffers, and a bit */
#define AT 4096u

/* What the server does with a request, once it has read... */
enum behaviour
{
  TAKE,         /* ... all of it: 200 and the sum of its body */
  SLOW,         /* the same, slowly */
  TAKE_SILENT,  /* ... all of it: closes */
  BREAK_SECOND, /* ... 2500 KiB of the second on a connection: closes; the first is taken */
  LOSE_SECOND,  /* ... all of the second on a connection: closes */
  REFUSE,       /* ... its head: 403, closes */
  BUSY_ONCE,    /* ... all of it: 503 to the first, then takes */
};

static struct
{
  int listener;
  _Atomic enum behaviour behaviour;
  atomic_int requests;
  atomic_bool ending;
  pthread_mutex_t lock; /* of threads that nothing else orders */
  char head[4096];      /* of the last request */
  pthread_t thread;
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char url[64];
static struct prelux_net *net;
static int file;

static unsigned char byte_at(uint64_t at)
{
  return (unsigned char)(at * 2654435761u >> 13);
}

static uint64_t sum_of(uint64_t off, uint64_t len)
{
  uint64_t sum = 1469598103934665603u;
  for (uint64_t i = 0; i < len; i++)
    sum = (sum ^ byte_at(off + i)) * 1099511628211u;
  return sum;
}

static ssize_t get(int fd, void *buf, size_t cap)
{
  while (!atomic_load(&server.ending))
  {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 50) > 0)
      return recv(fd, buf, cap, 0);
  }
  return 0;
}

/* A head, to the byte. 0: the connection is over. */
static size_t get_head(int fd, char *head, size_t cap)
{
  size_t n = 0;
  while (n + 1 < cap && get(fd, head + n, 1) == 1)
  {
    head[++n] = 0;
    if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
      return n;
  }
  return 0;
}

static uint64_t length_in(const char *head)
{
  const char *line = strcasestr(head, "\r\nContent-Length:");
  return line ? strtoull(line + 17, NULL, 10) : 0;
}

static void answer(int fd, const char *line, const char *body)
{
  char text[300];
  int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nX-Word: kept\r\nContent-Length: %zu\r\n\r\n%s", line, strlen(body), body);
  send(fd, text, (size_t)n, MSG_NOSIGNAL);
}

/* Reads a body of `left` bytes, at most `most` of it. False: it did not come. */
static bool get_body(int fd, uint64_t left, uint64_t most, bool slow, uint64_t *sum)
{
  unsigned char block[65536];
  uint64_t got = 0;
  *sum = 1469598103934665603u;
  while (got < left && got < most)
  {
    ssize_t n = get(fd, block, left - got < sizeof(block) ? (size_t)(left - got) : sizeof(block));
    if (n <= 0)
      return false;
    for (ssize_t i = 0; i < n; i++)
      *sum = (*sum ^ block[i]) * 1099511628211u;
    got += (uint64_t)n;
    if (slow)
      usleep(10000);
  }
  return got == left;
}

static void *serve_one(void *arg)
{
  int fd = (int)(intptr_t)arg;
  char head[4096], text[40];
  bool open = true;
  for (int nth = 0; open && get_head(fd, head, sizeof(head)); nth++)
  {
    enum behaviour b = atomic_load(&server.behaviour);
    int before = atomic_fetch_add(&server.requests, 1);
    uint64_t sum = 0;
    pthread_mutex_lock(&server.lock);
    strcpy(server.head, head);
    pthread_mutex_unlock(&server.lock);
    if (b == REFUSE)
    {
      answer(fd, "403 Forbidden", "no");
      break;
    }
    if (strcasestr(head, "\r\nExpect: 100-continue"))
      send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    open = get_body(fd, length_in(head), b == BREAK_SECOND && nth > 0 ? 2500u << 10 : UINT64_MAX, b == SLOW, &sum);
    if (!open || b == TAKE_SILENT || (b == LOSE_SECOND && nth > 0))
      break;
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)sum);
    if (b == BUSY_ONCE && before == 0)
      answer(fd, "503 Busy", "later");
    else
      answer(fd, "200 OK", text);
  }
  shutdown(fd, SHUT_WR);
  while (get(fd, head, sizeof(head)) > 0) /* else what was not read would make it a reset */
    ;
  close(fd);
  return NULL;
}

static void *serve(void *arg)
{
  pthread_t threads[64];
  int n = 0;
  while (!atomic_load(&server.ending))
  {
    struct pollfd p = {.fd = server.listener, .events = POLLIN};
    if (n == 64 || poll(&p, 1, 50) <= 0)
      continue;
    int fd = accept(server.listener, NULL, NULL);
    if (fd >= 0)
      pthread_create(&threads[n++], NULL, serve_one, (void *)(intptr_t)fd);
  }
  while (n)
    pthread_join(threads[--n], NULL);
  return NULL;
}

static int make_file(void)
{
  char path[] = "/tmp/test_net_upload.XXXXXX";
  unsigned char block[4096];
  file = mkstemp(path);
  if (file < 0 || unlink(path) < 0)
    return -1;
  for (uint64_t at = 0; at < AT + SIZE; at += sizeof(block))
  {
    for (size_t i = 0; i < sizeof(block); i++)
      block[i] = byte_at(at + i);
    if (pwrite(file, block, sizeof(block), (off_t)at) != (ssize_t)sizeof(block))
      return -1;
  }
  return ftruncate(file, AT + SIZE);
}

static int set_up(void **state)
{
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof(sin);
  server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(server.listener, (struct sockaddr *)&sin, sizeof(sin)) || listen(server.listener, 100) ||
      getsockname(server.listener, (struct sockaddr *)&sin, &len))
    return -1;
  snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", ntohs(sin.sin_port));
  atomic_store(&server.ending, false);
  atomic_store(&server.requests, 0);
  atomic_store(&server.behaviour, TAKE);
  return make_file() || pthread_create(&server.thread, NULL, serve, NULL) || prelux_net_create(&net);
}

static int tear_down(void **state)
{
  prelux_net_free(net);
  atomic_store(&server.ending, true);
  pthread_join(server.thread, NULL);
  close(server.listener);
  close(file);
  return 0;
}

struct sent
{
  int rc, status;
  bool sent;
  char body[64], word[16];
};

static struct sent send_file(struct prelux_net_request req, struct prelux_net_upload up)
{
  struct sent ret = {0};
  struct prelux_net_answer a;
  struct prelux_problem why;
  if (!req.method)
    req.method = "PUT";
  if (!req.url)
    req.url = url;
  up.fd = file;
  req.upload = &up;
  ret.rc = prelux_net_call(net, &req, &a, &why);
  ret.status = a.status;
  ret.sent = a.sent;
  snprintf(ret.body, sizeof(ret.body), "%s", a.body ? a.body : "");
  prelux_net_header(&a, "x-word", ret.word, sizeof(ret.word));
  prelux_net_answer_free(&a);
  return ret;
}

static void assert_taken(struct sent got, uint64_t off, uint64_t len)
{
  char sum[40];
  snprintf(sum, sizeof(sum), "%016llx", (unsigned long long)sum_of(off, len));
  assert_int_equal(got.rc, 0);
  assert_int_equal(got.status, 200);
  assert_true(got.sent);
  assert_string_equal(got.body, sum);
  assert_string_equal(got.word, "kept");
}

static void test_every_byte_arrives(void **state)
{
  static const struct
  {
    uint64_t off, len;
  } parts[] = {{0, SIZE}, {AT, SIZE}, {1, 1}, {AT, 0}, {3, (1u << 20)}, {5, (2u << 20) + 1}};
  for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
  {
    struct prelux_net_upload up = {.off = parts[i].off, .len = parts[i].len};
    assert_taken(send_file((struct prelux_net_request){.method = i % 2 ? "POST" : "PUT"}, up), up.off, up.len);
    assert_int_equal(length_in(server.head), up.len);
    assert_non_null(strcasestr(server.head, "\r\nContent-Length:"));
    assert_null(strcasestr(server.head, "\r\nExpect:"));
    assert_null(strcasestr(server.head, "\r\nTransfer-Encoding:"));
    assert_null(strcasestr(server.head, "\r\nContent-Type:"));
  }
  assert_taken(send_file((struct prelux_net_request){.expect = true}, (struct prelux_net_upload){.len = SIZE}), 0, SIZE);
  assert_non_null(strcasestr(server.head, "\r\nExpect: 100-continue"));
}

static void test_a_body_in_memory_has_the_type_it_is_given(void **state)
{
  static const char *const typed[] = {"Content-Type: text/x", NULL};
  struct prelux_net_answer a;
  struct prelux_net_request req = {.method = "PUT", .url = url, .body = "abc", .body_len = 3};
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
  assert_true(a.sent && length_in(server.head) == 3);
  assert_null(strcasestr(server.head, "\r\nContent-Type:"));
  prelux_net_answer_free(&a);
  req.headers = typed;
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
  assert_non_null(strcasestr(server.head, "\r\nContent-Type: text/x\r\n"));
  prelux_net_answer_free(&a);
}

struct watch
{
  uint64_t last, stop_at;
  int calls;
};

static int watch(void *arg, uint64_t done)
{
  struct watch *w = arg;
  assert_true(done >= w->last && done <= SIZE);
  w->last = done;
  w->calls++;
  return w->stop_at && done >= w->stop_at ? -ENOSPC : 0;
}

static void test_progress_is_told_and_may_stop_it(void **state)
{
  struct watch w = {0};
  struct prelux_net_upload up = {.len = SIZE, .progress = watch, .arg = &w};
  atomic_store(&server.behaviour, SLOW);
  assert_taken(send_file((struct prelux_net_request){0}, up), 0, SIZE);
  assert_true(w.calls >= 2 && w.last > 0);
  w = (struct watch){.stop_at = 1};
  struct sent got = send_file((struct prelux_net_request){.retries = 3}, up);
  assert_int_equal(got.rc, -ENOSPC);
  assert_true(got.sent);
  for (int i = 0; i < 2000 && atomic_load(&server.requests) < 2; i++)
    usleep(10000); /* the server's thread may not have come to it yet */
  assert_int_equal(atomic_load(&server.requests), 2);
}

static void *set_true(void *arg)
{
  usleep(300000);
  atomic_store((atomic_bool *)arg, true);
  return NULL;
}

static void test_cancel(void **state)
{
  pthread_t thread;
  atomic_bool cancel = false;
  atomic_store(&server.behaviour, SLOW);
  pthread_create(&thread, NULL, set_true, &cancel);
  struct sent got = send_file((struct prelux_net_request){.cancel = &cancel}, (struct prelux_net_upload){.len = SIZE});
  pthread_join(thread, NULL);
  assert_int_equal(got.rc, -ECANCELED);
}

static void test_a_file_that_ends_early(void **state)
{
  struct sent got = send_file((struct prelux_net_request){.retries = 3}, (struct prelux_net_upload){.off = AT, .len = SIZE + 1});
  assert_int_equal(got.rc, -EINVAL);
  assert_int_equal(atomic_load(&server.requests), 1);
  int folder = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int keep = file;
  file = folder;
  assert_int_equal(send_file((struct prelux_net_request){0}, (struct prelux_net_upload){.len = 1}).rc, -EISDIR);
  file = keep;
  close(folder);
}

static void test_a_refusal_before_the_body_is_read(void **state)
{
  atomic_store(&server.behaviour, REFUSE);
  struct sent got = send_file((struct prelux_net_request){.expect = true}, (struct prelux_net_upload){.len = SIZE});
  assert_int_equal(got.rc, 0);
  assert_int_equal(got.status, 403);
  assert_string_equal(got.body, "no");
}

static void test_an_answer_that_is_lost(void **state)
{
  atomic_store(&server.behaviour, TAKE_SILENT);
  struct sent got = send_file((struct prelux_net_request){.once = true, .retries = 3}, (struct prelux_net_upload){.len = SIZE});
  assert_true(got.rc < 0 && got.sent);
  assert_int_equal(atomic_load(&server.requests), 1);
  got = send_file((struct prelux_net_request){.retries = 2}, (struct prelux_net_upload){.len = 100});
  assert_true(got.rc < 0 && got.sent);
  assert_int_equal(atomic_load(&server.requests), 1 + 3);
}

static void test_nobody_listens(void **state)
{
  struct prelux_net_request req = {.url = "http://127.0.0.1:1/x", .once = true};
  struct sent got = send_file(req, (struct prelux_net_upload){.len = SIZE});
  assert_int_equal(got.rc, -ECONNREFUSED);
  assert_false(got.sent);
}

/* A connection that breaks when it is used again: it is sent anew over another, from the beginning of the body (by curl
 * itself); but not what must be sent once. */
static void used_connection(enum behaviour b)
{
  struct prelux_net_upload up = {.off = 7, .len = SIZE};
  atomic_store(&server.requests, 0);
  atomic_store(&server.behaviour, b);
  assert_taken(send_file((struct prelux_net_request){0}, up), 7, SIZE);
  assert_taken(send_file((struct prelux_net_request){0}, up), 7, SIZE);
  assert_int_equal(atomic_load(&server.requests), 3);
  struct sent got = send_file((struct prelux_net_request){.once = true, .retries = 3}, up);
  assert_true(got.rc < 0 && got.sent);
  assert_int_equal(atomic_load(&server.requests), 4);
}

static void test_a_used_connection_that_breaks(void **state)
{
  used_connection(LOSE_SECOND);
}

static void test_a_used_connection_that_breaks_early(void **state)
{
  used_connection(BREAK_SECOND);
}

static void test_not_done_is_asked_again(void **state)
{
  atomic_store(&server.behaviour, BUSY_ONCE);
  struct prelux_net_upload up = {.len = SIZE};
  assert_taken(send_file((struct prelux_net_request){.once = true, .retries = 1}, up), 0, SIZE);
  assert_int_equal(atomic_load(&server.requests), 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_every_byte_arrives, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_body_in_memory_has_the_type_it_is_given, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_progress_is_told_and_may_stop_it, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_ends_early, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_refusal_before_the_body_is_read, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_an_answer_that_is_lost, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_nobody_listens, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_used_connection_that_breaks, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_used_connection_that_breaks_early, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_not_done_is_asked_again, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
