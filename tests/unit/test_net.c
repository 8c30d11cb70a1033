/* lib/net: the engine's life, its sinks and its shutdown, against a few lines of server in this process. Servers that
 * lie are in tests/integration/test_backends_raw.py. */
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/net/engine.h"

#define BIG (24u << 20)
#define SHORT 300000u

/* What the server does after it has read a request's head. */
enum behaviour
{
  SILENT,   /* says nothing, keeps the connection */
  ANSWER,   /* 200 and two bytes */
  SEND_BIG, /* 200 and BIG bytes */
  SEND_SHORT,
  CUT_SHORT, /* less than it says, then the end */
  BUSY,     /* 503 */
  CUT_BIG,
  LONG_BIG, /* more than it says */
  CHUNKS,   /* BIG bytes, which it says, too, in chunks */
  STALL,    /* nothing, to one request; then ANSWER */
  DRIBBLE,  /* SHORT bytes in small pieces, with pauses */
  BUSY_ONCE, /* 503, to one request; then SLOW */
  SLOW,      /* as ANSWER, after twice as long as anybody has patience */
};

static struct
{
  int listener;
  unsigned port;
  _Atomic enum behaviour behaviour;
  atomic_int accepted;
  atomic_bool ending;
  pthread_t thread;
} server;

static void send_all(int fd, const char *data, size_t len)
{
  while (len)
  {
    ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
    if (n <= 0)
      return;
    data += n;
    len -= (size_t)n;
  }
}

static char big_byte(size_t at)
{
  return (char)(at * 2654435761u >> 13);
}

static void send_big(int fd, size_t said, size_t len)
{
  char head[100], block[65536];
  int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", said);
  send_all(fd, head, (size_t)n);
  for (size_t at = 0; at < len; at += sizeof(block))
  {
    for (size_t i = 0; i < sizeof(block); i++)
      block[i] = big_byte(at + i);
    send_all(fd, block, len - at < sizeof(block) ? len - at : sizeof(block));
  }
}

static void send_chunks(int fd)
{
  static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: %u\r\n\r\n";
  char text[128], block[65536];
  send_all(fd, text, (size_t)snprintf(text, sizeof(text), head, BIG));
  for (size_t at = 0; at < BIG; at += sizeof(block))
  {
    for (size_t i = 0; i < sizeof(block); i++)
      block[i] = big_byte(at + i);
    send_all(fd, "10000\r\n", 7);
    send_all(fd, block, sizeof(block));
    send_all(fd, "\r\n", 2);
  }
  send_all(fd, "0\r\n\r\n", 5);
}

static void dribble(int fd)
{
  char head[100];
  send_all(fd, head, (size_t)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", SHORT));
  for (size_t at = 0, n; at < SHORT; at += n)
  {
    char block[3001];
    n = SHORT - at < sizeof(block) ? SHORT - at : 1 + at % sizeof(block);
    for (size_t i = 0; i < n; i++)
      block[i] = big_byte(at + i);
    send_all(fd, block, n);
    if (at % 7 == 0)
      usleep(2000);
  }
}

static void *serve_one(void *arg)
{
  int fd = (int)(intptr_t)arg;
  char head[4096];
  size_t len = 0;
  while (!atomic_load(&server.ending))
  {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 50) == 0)
      continue;
    ssize_t n = recv(fd, head + len, sizeof(head) - 1 - len, 0);
    if (n <= 0)
      break;
    len += (size_t)n;
    head[len] = 0;
    if (!strstr(head, "\r\n\r\n"))
      continue;
    len = 0;
    enum behaviour b = STALL;
    if (atomic_compare_exchange_strong(&server.behaviour, &b, ANSWER))
      continue;
    b = BUSY_ONCE;
    if (atomic_compare_exchange_strong(&server.behaviour, &b, SLOW))
      b = BUSY;
    if (b == SLOW)
      usleep(2000000);
    if (b == ANSWER || b == SLOW)
      send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 40);
    else if (b == BUSY)
      send_all(fd, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 40);
    else if (b == SEND_BIG)
      send_big(fd, BIG, BIG);
    else if (b == SEND_SHORT)
      send_big(fd, SHORT, SHORT);
    else if (b == LONG_BIG)
      send_big(fd, BIG, BIG + (1u << 20));
    else if (b == CHUNKS)
      send_chunks(fd);
    else if (b == DRIBBLE)
      dribble(fd);
    else if (b == CUT_BIG)
    {
      send_big(fd, BIG, BIG / 2);
      break;
    }
    else if (b == CUT_SHORT)
    {
      send_big(fd, SHORT, SHORT / 2);
      break;
    }
  }
  close(fd);
  return NULL;
}

static void *serve(void *arg)
{
  pthread_t threads[256];
  int n = 0;
  while (!atomic_load(&server.ending))
  {
    struct pollfd p = {.fd = server.listener, .events = POLLIN};
    if (poll(&p, 1, 50) <= 0)
      continue;
    int fd = accept(server.listener, NULL, NULL);
    if (fd < 0 || n == 256)
      continue;
    atomic_fetch_add(&server.accepted, 1);
    pthread_create(&threads[n++], NULL, serve_one, (void *)(intptr_t)fd);
  }
  while (n)
    pthread_join(threads[--n], NULL);
  return NULL;
}

static char url[64];
static struct prelux_net *net;

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
  atomic_store(&server.accepted, 0);
  atomic_store(&server.behaviour, ANSWER);
  return pthread_create(&server.thread, NULL, serve, NULL) || prelux_net_create(&net);
}

static int tear_down(void **state)
{
  prelux_net_free(net);
  net = NULL;
  atomic_store(&server.ending, true);
  pthread_join(server.thread, NULL);
  close(server.listener);
  return 0;
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct caller
{
  pthread_t thread;
  struct prelux_net_request req;
  struct prelux_net_answer answer;
  struct prelux_problem why;
  size_t got;
  uint64_t straight;
  int calls;
  bool wrong;
  int slow_us, rc;
};

static int take(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct caller *c = arg;
  const char *p = buf;
  c->wrong |= head->status != 200 || (head->content_length != BIG && head->content_length != SHORT);
  c->wrong |= c->req.target && p != (const char *)c->req.target + c->got;
  c->calls++;
  for (size_t i = 0; i < len; i += 4093)
    c->wrong |= p[i] != big_byte(c->got + i);
  c->got += len;
  if (c->slow_us)
    usleep((useconds_t)c->slow_us);
  return 0;
}

static void *call_thread(void *arg)
{
  struct caller *c = arg;
  c->req.method = "GET";
  c->req.url = url;
  c->req.arg = c;
  c->rc = prelux_net_call(net, &c->req, &c->answer, &c->why);
  c->straight = c->answer.straight;
  prelux_net_answer_free(&c->answer);
  return NULL;
}

static void test_an_answer(void **state)
{
  struct prelux_net_answer a;
  struct prelux_net_request req = {.method = "GET", .url = url};
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
  assert_int_equal(a.status, 200);
  assert_string_equal(a.body, "ok");
  assert_true(a.received == 2 && a.content_length == 2 && a.bounded);
  prelux_net_answer_free(&a);
  prelux_net_answer_free(NULL);
}

static void test_urls_that_are_refused(void **state)
{
  static const char *const bad[] = {"file:///etc/passwd", "gopher://h/", "http://h/ x", ""};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
  {
    struct prelux_net_answer a;
    struct prelux_net_request req = {.method = "GET", .url = bad[i]};
    assert_int_equal(prelux_net_call(net, &req, &a, NULL), -EIO);
  }
}

/* A sink slower than the network: the transfer is paused and resumed, and every byte comes once, in order. */
static void test_slow_sinks_get_every_byte(void **state)
{
  struct caller callers[6] = {0};
  atomic_store(&server.behaviour, SEND_BIG);
  for (int i = 0; i < 6; i++)
  {
    callers[i].req.sink = take;
    callers[i].slow_us = i * 3000;
    pthread_create(&callers[i].thread, NULL, call_thread, &callers[i]);
  }
  for (int i = 0; i < 6; i++)
  {
    pthread_join(callers[i].thread, NULL);
    assert_int_equal(callers[i].rc, 0);
    assert_true(callers[i].got == BIG && !callers[i].wrong);
  }
}

/* Bytes that are put where the caller wants them: all of them there, the sink called for the first and once for the others. */
static void test_targets(void **state)
{
  struct caller c = {.req.sink = take, .req.target_len = BIG};
  char *memory = malloc(BIG + 1);
  atomic_store(&server.behaviour, SEND_BIG);
  for (int slow_us = 0; slow_us <= 20000; slow_us += 20000)
  {
    c.req.target = memory;
    c.slow_us = slow_us;
    c.got = 0;
    c.calls = 0;
    memset(memory, 0, BIG + 1);
    call_thread(&c);
    assert_int_equal(c.rc, 0);
    assert_true(c.got == BIG && !c.wrong && memory[BIG] == 0);
    assert_true(c.calls >= 1 && c.calls <= 2);
    for (size_t i = 0; i < BIG; i += 1021)
      assert_true(memory[i] == big_byte(i));
  }
  free(memory);
}

static void test_targets_are_bounded(void **state)
{
  struct caller c = {.req.sink = take, .req.target_len = BIG - 1, .req.retries = 2};
  char *memory = malloc(BIG); /* a byte more would be seen by the sanitizer */
  atomic_store(&server.behaviour, SEND_BIG);
  memory[BIG - 1] = 'x';
  c.req.target = memory;
  call_thread(&c);
  assert_int_equal(c.rc, -EPROTO);
  assert_true(c.got < BIG && !c.wrong && memory[BIG - 1] == 'x');
  free(memory);
}

static int refuse(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  return -ENOSPC;
}

static void test_a_sink_that_refuses(void **state)
{
  struct prelux_net_answer a;
  struct prelux_net_request req = {.method = "GET", .url = url, .sink = refuse, .retries = 3};
  atomic_store(&server.behaviour, SEND_BIG);
  for (int i = 0; i < 5; i++)
  {
    assert_int_equal(prelux_net_call(net, &req, &a, NULL), -ENOSPC);
    assert_int_equal(a.status, 200);
    prelux_net_answer_free(&a);
  }
}

static void test_bodies_are_bounded(void **state)
{
  struct prelux_net_answer a;
  struct prelux_net_request req = {.method = "GET", .url = url, .max_body = 1};
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), -EPROTO);
  prelux_net_answer_free(&a);
  req.max_body = 2;
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
  prelux_net_answer_free(&a);
}

/* ---- large bodies on connections of their own, which go past curl ---- */

static void test_large_and_lone(void **state)
{
  char *memory = malloc(BIG + 1);
  atomic_store(&server.behaviour, SEND_BIG);
  for (int i = 1; i <= 8; i++)
  {
    struct caller c = {.req.sink = take, .req.lone = true, .req.target = i % 2 ? memory : NULL, .req.target_len = BIG, .slow_us = i > 4 ? 3000 : 0};
    c.req.stall_s = 3600; /* an end that nobody notices is not mended by a stall */
    memset(memory, 0, BIG + 1);
    call_thread(&c);
    assert_int_equal(c.rc, 0);
    assert_true(c.got == BIG && !c.wrong && memory[BIG] == 0 && c.straight > BIG / 4 && c.straight < BIG);
    for (size_t at = 0; i % 2 && at < BIG; at += 1021)
      assert_true(memory[at] == big_byte(at));
    assert_int_equal(atomic_load(&server.accepted), i);
  }
  free(memory);
}

static void test_large_and_lone_goes_wrong(void **state)
{
  static const struct { enum behaviour behaviour; int rc; size_t got; bool straight; } rows[] = {
      {CUT_BIG, -EPROTO, BIG / 2, true}, {LONG_BIG, 0, BIG, true}, {CHUNKS, 0, BIG, false}, {DRIBBLE, 0, SHORT, true}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    struct caller c = {.req.sink = take, .req.lone = true, .req.retries = 2};
    atomic_store(&server.behaviour, rows[i].behaviour);
    call_thread(&c);
    assert_int_equal(c.rc, rows[i].rc);
    assert_true(c.got == rows[i].got && !c.wrong && (rows[i].straight || c.straight == 0));
  }
  char *memory = malloc(BIG); /* a byte more would be seen by the sanitizer */
  struct caller c = {.req.sink = take, .req.lone = true, .req.target = memory, .req.target_len = BIG - 1};
  memory[BIG - 1] = 'x';
  atomic_store(&server.behaviour, SEND_BIG);
  call_thread(&c);
  assert_int_equal(c.rc, -EPROTO);
  assert_true(c.got < BIG && !c.wrong && memory[BIG - 1] == 'x');
  free(memory);
}

/* ---- short answers on connections of their own, which the caller takes himself ---- */

static void test_short_and_lone(void **state)
{
  struct caller c = {.req.sink = take, .req.lone = true, .req.max_body = SHORT};
  atomic_store(&server.behaviour, SEND_SHORT);
  for (int i = 1; i <= 20; i++)
  {
    c.got = 0;
    call_thread(&c);
    assert_int_equal(c.rc, 0);
    assert_true(c.got == SHORT && !c.wrong);
    assert_int_equal(atomic_load(&server.accepted), i);
  }
}

static void test_short_and_lone_goes_wrong(void **state)
{
  struct caller c = {.req.sink = take, .req.lone = true, .req.max_body = SHORT - 1, .req.retries = 2};
  struct prelux_net_answer a;
  struct prelux_net_request req = {.method = "GET", .url = url, .sink = refuse, .lone = true, .max_body = SHORT, .retries = 3};
  atomic_store(&server.behaviour, SEND_SHORT);
  call_thread(&c);
  assert_int_equal(c.rc, -EPROTO);
  assert_true(c.got < SHORT && !c.wrong);
  assert_int_equal(prelux_net_call(net, &req, &a, NULL), -ENOSPC);
  assert_int_equal(a.status, 200);
  prelux_net_answer_free(&a);
  atomic_store(&server.behaviour, CUT_SHORT);
  c = (struct caller){.req.sink = take, .req.lone = true, .req.max_body = SHORT, .req.retries = 2};
  int before = atomic_load(&server.accepted);
  call_thread(&c);
  assert_int_equal(c.rc, -EPROTO);
  assert_true(c.got == SHORT / 2 && !c.wrong);
  assert_int_equal(atomic_load(&server.accepted), before + 1); /* who has had bytes goes on by himself */
}

static void test_short_and_lone_is_given_up(void **state)
{
  static atomic_bool over;
  struct caller c = {.req.sink = take, .req.lone = true, .req.max_body = SHORT, .req.cancel = &over};
  atomic_store(&over, false);
  atomic_store(&server.behaviour, SILENT);
  pthread_create(&c.thread, NULL, call_thread, &c);
  while (atomic_load(&server.accepted) < 1)
    usleep(1000);
  atomic_store(&over, true);
  pthread_join(c.thread, NULL);
  assert_int_equal(c.rc, -ECANCELED);
}

/* Freed while some calls wait for an answer, some for a place, some in a back-off: all end at once. */
static void freed_under_calls(bool lone, uint64_t max_body)
{
  struct caller callers[40] = {0};
  atomic_store(&server.behaviour, SILENT);
  for (int i = 0; i < 40; i++)
  {
    callers[i].req.sink = lone || i % 2 ? take : NULL;
    callers[i].req.lone = lone;
    callers[i].req.max_body = max_body;
    pthread_create(&callers[i].thread, NULL, call_thread, &callers[i]);
  }
  while (atomic_load(&server.accepted) < 32)
    usleep(1000);
  usleep(20000);
  assert_int_equal(atomic_load(&server.accepted), 32); /* 16 of each kind, or of each engine, or by their callers and by the engine, no more */
  double begin = now();
  prelux_net_free(net);
  net = NULL;
  assert_true(now() - begin < 2);
  for (int i = 0; i < 40; i++)
  {
    pthread_join(callers[i].thread, NULL);
    assert_int_equal(callers[i].rc, -ECANCELED);
    assert_true(callers[i].why.text[0]);
  }
}

static void test_freed_under_calls(void **state)
{
  freed_under_calls(false, 0);
}

static void test_freed_under_lone_calls(void **state)
{
  freed_under_calls(true, 0);
}

static void test_freed_under_short_and_lone_calls(void **state)
{
  freed_under_calls(true, SHORT);
}

static void test_freed_under_a_back_off(void **state)
{
  struct caller caller = {.req.retries = 1000};
  atomic_store(&server.behaviour, BUSY);
  pthread_create(&caller.thread, NULL, call_thread, &caller);
  sleep(1); /* in its 0.8 s pause by now */
  double begin = now();
  prelux_net_free(net);
  net = NULL;
  pthread_join(caller.thread, NULL);
  assert_true(now() - begin < 0.5);
  assert_int_equal(caller.rc, -ECANCELED);
}

/* One that takes much longer than all before it is asked anew, on another connection. */
static void test_a_late_answer_is_asked_for_again(void **state)
{
  for (int i = 0; i <= 20; i++)
  {
    struct prelux_net_answer a;
    struct prelux_net_request req = {.method = "GET", .url = url, .retries = 2};
    if (i == 20)
      atomic_store(&server.behaviour, STALL);
    assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
    assert_string_equal(a.body, "ok");
    prelux_net_answer_free(&a);
  }
  assert_int_equal(atomic_load(&server.accepted), 2);
}

/* Not so at the last try that is left: it would be asked for no more. */
static void test_the_last_try_is_waited_for(void **state)
{
  for (int i = 0; i <= 20; i++)
  {
    struct prelux_net_answer a;
    struct prelux_net_request req = {.method = "GET", .url = url, .retries = 1};
    if (i == 20)
      atomic_store(&server.behaviour, BUSY_ONCE);
    assert_int_equal(prelux_net_call(net, &req, &a, NULL), 0);
    assert_string_equal(a.body, "ok");
    prelux_net_answer_free(&a);
  }
}

/* When an answer is late, and how often that counts. */
static void test_patience(void **state)
{
  struct prelux_net_request req = {.method = "GET", .url = url, .retries = 1}, once = {.method = "GET", .once = true, .retries = 1},
                            post = {.method = "POST", .retries = 1}, last = {.method = "GET"};
  struct prelux_net_transfer t = {.req = &req, .origin = "0h:80", .sent_ms = 1000, .head_ms = 1300};
  assert_true(prelux_net_patience_may(&req) && !prelux_net_patience_may(&once) && !prelux_net_patience_may(&post) && !prelux_net_patience_may(&last));
  for (int i = 0; i < 15; i++)
    prelux_net_patience_learn(net, &t, false);
  assert_true(prelux_net_patience_ms(net, &t) == INT64_MAX); /* nobody knows yet */
  prelux_net_patience_learn(net, &t, false);
  assert_int_equal(prelux_net_patience_ms(net, &t), 3000);
  t.head_ms = 1001;
  for (int i = 0; i < 64; i++)
    prelux_net_patience_learn(net, &t, false);
  assert_int_equal(prelux_net_patience_ms(net, &t), 1000);
  for (int i = 0; i < 8; i++) /* so it is said of one in twenty, and of four */
  {
    assert_true(prelux_net_patience_ms(net, &t) != INT64_MAX);
    t.sent_ms = prelux_net_now_ms() - 500;
    prelux_net_patience_learn(net, &t, true);
  }
  assert_true(prelux_net_patience_ms(net, &t) == INT64_MAX);
  snprintf(t.origin, sizeof(t.origin), "0other:80");
  assert_true(prelux_net_patience_ms(net, &t) == INT64_MAX);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      T(test_an_answer),
      T(test_urls_that_are_refused),
      T(test_slow_sinks_get_every_byte),
      T(test_a_sink_that_refuses),
      T(test_targets),
      T(test_targets_are_bounded),
      T(test_bodies_are_bounded),
      T(test_freed_under_calls),
      T(test_freed_under_lone_calls),
      T(test_freed_under_short_and_lone_calls),
      T(test_large_and_lone),
      T(test_large_and_lone_goes_wrong),
      T(test_short_and_lone),
      T(test_short_and_lone_goes_wrong),
      T(test_short_and_lone_is_given_up),
      T(test_a_late_answer_is_asked_for_again),
      T(test_the_last_try_is_waited_for),
      T(test_patience),
      T(test_freed_under_a_back_off),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
