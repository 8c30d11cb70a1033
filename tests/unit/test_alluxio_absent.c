/* Workers that etcd has lost and that answer: who stays in the ring, and for how long. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#include "lib/backend/alluxio_members.h"
#include "lib/backend/alluxio_roster.h"
#include "lib/backend/alluxio_view.h"
#include "tests/unit/etcd_fake.h"

#define FIRST_ID "11111111111141118111111111111111"
#define OTHER_ID "22222222222242228222222222222222"

/* A worker that closes whatever comes, as one before 313 does with a health call. */
struct worker
{
  int listener;
  pthread_t thread;
  atomic_bool ending;
  char value[512], moved[512];
};

static struct etcd_fake etcd;
static struct worker workers[2];
static struct prelux_net *net;
static struct prelux_alluxio_health *health;
static struct prelux_alluxio_members *members;
static char place[64];
static char *places[1] = {place};
static struct prelux_alluxio_options options;

static void *close_all(void *arg)
{
  struct worker *w = arg;
  while (!atomic_load(&w->ending))
  {
    struct pollfd p = {.fd = w->listener, .events = POLLIN};
    int fd = poll(&p, 1, 50) > 0 ? accept(w->listener, NULL, NULL) : -1;
    if (fd >= 0)
      close(fd);
  }
  return NULL;
}

static void worker_value(char *out, size_t cap, const char *id, unsigned port)
{
  snprintf(out, cap, "{\"Identity\":{\"version\":1,\"identifier\":\"%s\"},\"WorkerNetAddress\":{\"Host\":\"127.0.0.1\",\"HttpServerPort\":%u}}",
           id, port);
}

static void worker_start(struct worker *w, const char *id)
{
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof sin;
  w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(w->listener, (struct sockaddr *)&sin, sizeof sin), 0);
  assert_int_equal(listen(w->listener, 10), 0);
  getsockname(w->listener, (struct sockaddr *)&sin, &len);
  worker_value(w->value, sizeof w->value, id, ntohs(sin.sin_port));
  worker_value(w->moved, sizeof w->moved, id, 9);
  atomic_store(&w->ending, false);
  assert_int_equal(pthread_create(&w->thread, NULL, close_all, w), 0);
}

static void worker_stop(struct worker *w)
{
  if (w->listener < 0)
    return;
  atomic_store(&w->ending, true);
  pthread_join(w->thread, NULL);
  close(w->listener);
  w->listener = -1;
}

static int set_up(void **state)
{
  (void)state;
  memset(&etcd, 0, sizeof etcd);
  etcd_fake_start(&etcd, 0);
  worker_start(&workers[0], FIRST_ID);
  worker_start(&workers[1], OTHER_ID);
  etcd_fake_set(&etcd, (const char *[]){workers[0].value, workers[1].value, NULL}, NULL);
  snprintf(place, sizeof place, "http://127.0.0.1:%u", etcd.port);
  options = (struct prelux_alluxio_options){.name = "lake", .root = "file:///tmp/ufs", .places = places, .n_places = 1, .cluster = "Mine",
                                            .http_port = 28080, .s3_port = 29998, .virtual_nodes = 5, .refresh_ms = 200};
  members = NULL;
  return prelux_net_create(&net) || prelux_alluxio_health_create(&health);
}

static int tear_down(void **state)
{
  (void)state;
  etcd_fake_stop(&etcd);
  prelux_alluxio_members_free(members);
  prelux_alluxio_health_free(health);
  prelux_net_free(net);
  worker_stop(&workers[0]);
  worker_stop(&workers[1]);
  free(etcd.kvs);
  pthread_mutex_destroy(&etcd.lock);
  return 0;
}

static size_t count(void)
{
  const struct prelux_alluxio_view *v = NULL;
  assert_int_equal(prelux_alluxio_view_get(members, &v, NULL), 0);
  size_t n = v->n;
  prelux_alluxio_view_put(v);
  return n;
}

/* A number of "membership"; -1: it has none of that name. Of texts: 0. */
static double told(const char *name)
{
  cJSON *o = cJSON_CreateObject();
  prelux_alluxio_members_report(members, o);
  const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(o, "membership"), name);
  double ret = !v ? -1 : cJSON_IsNumber(v) ? v->valuedouble : 0;
  cJSON_Delete(o);
  return ret;
}

static void begin(void)
{
  assert_int_equal(prelux_alluxio_members_create(&options, health, net, &members, NULL), 0);
  assert_int_equal(count(), 2);
}

static void await_told(const char *name, bool present)
{
  for (int64_t end = prelux_alluxio_clock_ms() + 10000; (told(name) >= 0) != present; usleep(10000))
    if (prelux_alluxio_clock_ms() > end)
      fail_msg("%s is still %s", name, present ? "missing" : "there");
}

/* ms until there are so many */
static int64_t await_count(size_t n, int64_t at_most_ms)
{
  int64_t begun = prelux_alluxio_clock_ms();
  while (count() != n)
  {
    if (prelux_alluxio_clock_ms() - begun > at_most_ms)
      fail_msg("%zu workers, and not %zu, after %lld ms", count(), n, (long long)at_most_ms);
    usleep(10000);
  }
  return prelux_alluxio_clock_ms() - begun;
}

/* It is silent, and comes back with other values. */
static void silence(const char *const *values)
{
  atomic_store(&etcd.mood, ETCD_503);
  await_told("error", true);
  etcd_fake_set(&etcd, values, NULL);
  atomic_store(&etcd.mood, ETCD_WELL);
  await_told("error", false);
}

/* Kept, as the same worker in the same view; and still there when etcd dies for good before it has registered again. */
static void kept_after_a_silence(void **state)
{
  (void)state;
  begin();
  silence((const char *[]){workers[0].value, NULL});
  assert_true(told("lost_by_etcd") == 1);
  assert_int_equal(count(), 2);
  int asked = atomic_load(&etcd.asked);
  while (atomic_load(&etcd.asked) < asked + 2) /* it is looked at again soon */
    usleep(10000);
  assert_int_equal(count(), 2);
  assert_true(told("generation") == 1);
  atomic_store(&etcd.mood, ETCD_503);
  await_told("error", true);
  usleep(300000);
  assert_int_equal(count(), 2);
}

/* Both leases are gone, both workers there. */
static void all_lost(void **state)
{
  (void)state;
  begin();
  silence((const char *[]){NULL});
  assert_true(told("lost_by_etcd") == 2);
  for (int i = 0; i < 40; i++, usleep(100000))
    assert_int_equal(count(), 2);
  etcd_fake_set(&etcd, (const char *[]){workers[0].value, workers[1].value, NULL}, (const int[]){7, 8});
  await_told("lost_by_etcd", false);
  assert_int_equal(count(), 2);
  assert_true(told("generation") == 2); /* they have registered anew */
}

/* Not kept: one that does not answer. */
static void dead_after_a_silence(void **state)
{
  (void)state;
  begin();
  worker_stop(&workers[1]);
  silence((const char *[]){workers[0].value, NULL});
  await_count(1, 1000);
  assert_true(told("lost_by_etcd") == -1);
}

/* Kept at first, and then it dies. */
static void dies_later(void **state)
{
  (void)state;
  begin();
  silence((const char *[]){workers[0].value, NULL});
  assert_int_equal(count(), 2);
  worker_stop(&workers[1]);
  await_count(1, 4000);
}

/* Its identity is registered elsewhere: it has moved, whoever answers at the old place. */
static void moved(void **state)
{
  (void)state;
  begin();
  silence((const char *[]){workers[0].value, workers[1].moved, NULL});
  const struct prelux_alluxio_view *v = NULL;
  assert_int_equal(prelux_alluxio_view_get(members, &v, NULL), 0);
  assert_int_equal(v->n, 2);
  assert_true(v->workers[0].http_port == 9 || v->workers[1].http_port == 9);
  prelux_alluxio_view_put(v);
}

/* etcd goes on saying so: it is right. */
static void believed_in_the_end(void **state)
{
  (void)state;
  begin();
  silence((const char *[]){workers[0].value, NULL});
  int64_t ms = await_count(1, 20000);
  assert_in_range(ms, 12000, 18000);
  assert_true(told("lost_by_etcd") == -1);
}

/* An etcd that has been well all along is believed at once, whoever answers. */
static void believed_at_once(void **state)
{
  (void)state;
  begin();
  usleep(500000);
  etcd_fake_set(&etcd, (const char *[]){workers[0].value, NULL}, NULL);
  await_count(1, 1500);
}

/* Looked at so seldom that it may have been silent meanwhile: it must say so again; all within the refresh. */
static void within_the_refresh(void **state)
{
  (void)state;
  options.refresh_ms = 6000;
  begin();
  etcd_fake_set(&etcd, (const char *[]){workers[0].value, NULL}, NULL);
  await_told("lost_by_etcd", true);
  assert_int_equal(count(), 2);
  await_count(1, 6500);
}

static int64_t later_ms, (*real_clock)(void);

static int64_t later_clock(void)
{
  return real_clock() + later_ms;
}

static struct prelux_alluxio_view *view_of(const char *host, const struct prelux_alluxio_view *before)
{
  struct prelux_alluxio_roster roster = {0};
  struct prelux_alluxio_identity id;
  struct prelux_alluxio_view *v = NULL;
  assert_int_equal(prelux_alluxio_identity_of_host(host, &id), 0);
  assert_int_equal(prelux_alluxio_roster_add(&roster, host, strlen(host), 1, &id, 1), 0);
  assert_int_equal(prelux_alluxio_view_make(&options, health, PRELUX_ALLUXIO_RING_KNOWN, &roster, &v), 0);
  prelux_alluxio_roster_release(&roster);
  if (before)
    prelux_alluxio_view_inherit(v, before, health);
  return v;
}

static size_t count_gone(const struct prelux_alluxio_view *v, const char *host)
{
  const struct prelux_alluxio_worker *w;
  size_t n = 0;
  for (size_t i = 0; prelux_alluxio_view_gone(v, i, &w); i++)
    n += w && strcmp(w->host, host) == 0;
  return n;
}

/* Who has left is known for a while, over several changes, once; not when it is back. */
static void left(void **state)
{
  (void)state;
  later_ms = 0;
  real_clock = prelux_alluxio_clock_ms;
  prelux_alluxio_clock_ms = later_clock;
  struct prelux_alluxio_view *a = view_of("a", NULL), *b = view_of("b", a), *c = view_of("c", b), *again = view_of("a", c);
  assert_int_equal(count_gone(a, "a"), 0);
  assert_int_equal(count_gone(b, "a"), 1);
  assert_int_equal(count_gone(c, "a"), 1);
  assert_int_equal(count_gone(c, "b"), 1);
  assert_int_equal(count_gone(again, "a"), 0);
  prelux_alluxio_view_put(a); /* they are copies */
  prelux_alluxio_view_put(b);
  assert_int_equal(count_gone(c, "a"), 1);
  later_ms = PRELUX_ALLUXIO_GONE_MS + 1000;
  assert_int_equal(count_gone(c, "a"), 0);
  struct prelux_alluxio_view *d = view_of("d", c);
  assert_int_equal(count_gone(d, "a") + count_gone(d, "b"), 0);
  assert_int_equal(count_gone(d, "c"), 1);
  prelux_alluxio_clock_ms = real_clock;
  prelux_alluxio_view_put(c);
  prelux_alluxio_view_put(again);
  prelux_alluxio_view_put(d);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(kept_after_a_silence), TEST(all_lost),         TEST(dead_after_a_silence), TEST(dies_later),
      TEST(moved),                TEST(believed_at_once), TEST(within_the_refresh),   TEST(believed_in_the_end),
      TEST(left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
