/* Membership of an Alluxio cluster: what etcd, a list and DNS say becomes views; what goes wrong on the way. */
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
#include "tests/unit/etcd_fake.h"

#define ONE FAKE_WORKER("11111111111141118111111111111111", "127.0.0.1", "28080")
#define TWO FAKE_WORKER("22222222222242228222222222222222", "127.0.0.2", "28180")
#define FIRST_WAIT_SLACK_MS 3000

static struct etcd_fake etcd;
static struct prelux_net *net;
static struct prelux_alluxio_health *health;
static struct prelux_alluxio_members *members;
static char place[2][64];
static char *places[2] = {place[0], place[1]};
static struct prelux_alluxio_options options;

static int set_up(void **state)
{
  (void)state;
  memset(&etcd, 0, sizeof etcd);
  etcd_fake_start(&etcd, 0);
  etcd_fake_set(&etcd, (const char *[]){ONE, TWO, NULL}, NULL);
  snprintf(place[0], sizeof place[0], "http://127.0.0.1:%u", etcd.port);
  options = (struct prelux_alluxio_options){.name = "lake", .root = "file:///tmp/ufs", .places = places, .n_places = 1, .cluster = "Mine",
                                            .http_port = 28080, .s3_port = 29998, .virtual_nodes = 5, .refresh_ms = 200};
  members = NULL;
  return prelux_net_create(&net) || prelux_alluxio_health_create(&health);
}

static int tear_down(void **state)
{
  (void)state;
  etcd_fake_stop(&etcd); /* so that nobody waits for its answer */
  prelux_alluxio_members_free(members);
  prelux_alluxio_health_free(health);
  prelux_net_free(net);
  free(etcd.kvs);
  pthread_mutex_destroy(&etcd.lock);
  return 0;
}

static int64_t now_ms(void)
{
  return prelux_alluxio_clock_ms();
}

static void begin(void)
{
  assert_int_equal(prelux_alluxio_members_create(&options, health, net, &members, NULL), 0);
}

static const struct prelux_alluxio_view *get(void)
{
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  int err = prelux_alluxio_view_get(members, &v, &why);
  if (err < 0)
    fail_msg("no view: %s", why.text);
  return v;
}

/* Waits for a view with n workers that is younger than `after`. */
static const struct prelux_alluxio_view *await_view(size_t n, uint64_t after)
{
  for (int64_t end = now_ms() + 10000; now_ms() < end; usleep(20000))
  {
    const struct prelux_alluxio_view *v = get();
    if (v->n == n && v->generation > after)
      return v;
    prelux_alluxio_view_put(v);
  }
  fail_msg("no view of %zu workers came", n);
  return NULL;
}

static void from_etcd(void **state)
{
  (void)state;
  begin();
  assert_int_equal(atomic_load(&etcd.asked), 0); /* opens no connection before it must */
  const struct prelux_alluxio_view *v = get();
  const struct prelux_alluxio_worker *owners[4];
  assert_int_equal(v->n, 2);
  assert_int_equal(v->generation, 1);
  assert_int_equal(v->born_ms, 0);
  assert_int_equal(v->trust, PRELUX_ALLUXIO_RING_KNOWN);
  assert_string_equal(v->workers[0].address, "127.0.0.1:28080");
  assert_string_equal(v->workers[1].http, "http://127.0.0.2:28180");
  assert_string_equal(v->workers[1].s3, "http://127.0.0.2:29998");
  /* As a real cluster of these two identities redirected. */
  assert_int_equal(prelux_alluxio_view_owners(v, "file:///tmp/ufs/b/big.bin", 4, owners), 2);
  assert_ptr_equal(owners[0], &v->workers[1]);
  assert_int_equal(prelux_alluxio_view_owners(v, "file:///tmp/ufs/b/new.txt", 1, owners), 1);
  assert_ptr_equal(owners[0], &v->workers[0]);
  assert_ptr_equal(prelux_alluxio_view_member(members, v, "127.0.0.2", 9, 29998), &v->workers[1]);
  assert_null(prelux_alluxio_view_member(members, v, "127.0.0.2", 9, 29999));
  assert_null(prelux_alluxio_view_member(members, v, "127.0.0.3", 9, 29998));
  assert_null(prelux_alluxio_view_member(members, v, "localhost", 9, 29998));
  prelux_alluxio_view_put(v);
}

/* A change is seen within the refresh; a view that is held stays as it was. */
static void changes(void **state)
{
  (void)state;
  begin();
  const struct prelux_alluxio_view *v = get(), *w;
  etcd_fake_set(&etcd, (const char *[]){ONE, NULL}, NULL);
  w = await_view(1, 1);
  assert_int_equal(w->generation, 2);
  assert_true(w->born_ms > 0 && w->born_ms <= now_ms());
  assert_string_equal(v->workers[1].address, "127.0.0.2:28180");
  assert_ptr_equal(v->workers[0].health, w->workers[0].health);
  /* Other workers may send us on to one that has left, for a while; it is in no ring. */
  const struct prelux_alluxio_worker *gone = prelux_alluxio_view_member(members, w, "127.0.0.2", 9, 29998), *owners[2];
  assert_non_null(gone);
  assert_string_equal(gone->s3, "http://127.0.0.2:29998");
  assert_int_equal(prelux_alluxio_view_owners(w, "file:///tmp/ufs/b/big.bin", 2, owners), 1);
  prelux_alluxio_view_put(v);
  prelux_alluxio_view_put(w);
  /* Nothing new: no new view. */
  int asked = atomic_load(&etcd.asked);
  while (atomic_load(&etcd.asked) < asked + 3)
    usleep(20000);
  v = get();
  assert_int_equal(v->generation, 2);
  prelux_alluxio_view_put(v);
}

/* A worker that has registered anew is another one: a new view, and its sins are forgotten. */
static void reborn(void **state)
{
  (void)state;
  begin();
  const struct prelux_alluxio_view *v = get();
  struct prelux_alluxio_patient *p = v->workers[1].health, *q = v->workers[0].health;
  prelux_alluxio_health_poisoned(p, NULL);
  prelux_alluxio_health_poisoned(q, NULL);
  assert_false(prelux_alluxio_health_well(p, PRELUX_ALLUXIO_S3));
  etcd_fake_set(&etcd, (const char *[]){ONE, TWO, NULL}, (const int[]){5, 9});
  prelux_alluxio_view_put(v);
  v = await_view(2, 1);
  assert_true(prelux_alluxio_health_well(p, PRELUX_ALLUXIO_S3));
  assert_false(prelux_alluxio_health_well(q, PRELUX_ALLUXIO_S3));
  prelux_alluxio_view_put(v);
}

/* etcd dies and is silent: the last workers stay, and nobody waits. It comes back: new ones are seen. */
static void last_known(void **state)
{
  (void)state;
  static const enum etcd_mood moods[] = {ETCD_SILENT, ETCD_HTML, ETCD_503, ETCD_CUT};
  begin();
  const struct prelux_alluxio_view *v = get();
  prelux_alluxio_view_put(v);
  for (size_t i = 0; i < sizeof moods / sizeof *moods; i++)
  {
    atomic_store(&etcd.mood, moods[i]);
    int asked = atomic_load(&etcd.asked);
    for (int64_t end = now_ms() + 8000; atomic_load(&etcd.asked) <= asked && now_ms() < end;)
    {
      int64_t begun = now_ms();
      v = get();
      assert_int_equal(v->n, 2);
      assert_int_equal(v->generation, 1);
      prelux_alluxio_view_put(v);
      assert_in_range(now_ms() - begun, 0, 500);
      usleep(10000);
    }
    assert_true(atomic_load(&etcd.asked) > asked);
  }
  unsigned port = etcd.port;
  etcd_fake_stop(&etcd);
  usleep(500000);
  v = get();
  assert_int_equal(v->n, 2);
  prelux_alluxio_view_put(v);
  atomic_store(&etcd.mood, ETCD_WELL);
  etcd_fake_set(&etcd, (const char *[]){TWO, NULL}, NULL);
  etcd_fake_start(&etcd, port);
  v = await_view(1, 1);
  prelux_alluxio_view_put(v);
}

/* Down at the start: EIO that names it, at once while it is known to be down; it heals by itself. */
static void down_at_start(void **state)
{
  (void)state;
  unsigned port = etcd.port;
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  etcd_fake_stop(&etcd);
  begin();
  int64_t begun = now_ms();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_null(v);
  assert_in_range(now_ms() - begun, 0, PRELUX_ALLUXIO_FIRST_WAIT_MS);
  assert_non_null(strstr(why.text, "backend lake: membership from etcd: "));
  assert_non_null(strstr(why.text, place[0]));
  begun = now_ms();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_in_range(now_ms() - begun, 0, 1500);
  etcd_fake_start(&etcd, port);
  for (int64_t end = now_ms() + 10000; now_ms() < end && prelux_alluxio_view_get(members, &v, NULL) < 0;)
    usleep(20000);
  assert_non_null(v);
  assert_int_equal(v->n, 2);
  prelux_alluxio_view_put(v);
}

/* It accepts and never answers: the first call is bounded, too. */
static void silent_at_start(void **state)
{
  (void)state;
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  atomic_store(&etcd.mood, ETCD_SILENT);
  begin();
  int64_t begun = now_ms();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_in_range(now_ms() - begun, 0, PRELUX_ALLUXIO_FIRST_WAIT_MS + FIRST_WAIT_SLACK_MS);
  assert_non_null(strstr(why.text, "etcd"));
}

/* The first end point is dead, silent or lies: the other is asked, and asked first from then on. */
static void another_place(void **state)
{
  (void)state;
  struct etcd_fake second = {0};
  etcd_fake_start(&second, 0);
  etcd_fake_set(&second, (const char *[]){TWO, NULL}, NULL);
  snprintf(place[1], sizeof place[1], "http://127.0.0.1:%u", second.port);
  options.n_places = 2;
  atomic_store(&etcd.mood, ETCD_HTML);
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 1);
  assert_string_equal(v->workers[0].host, "127.0.0.2");
  prelux_alluxio_view_put(v);
  int first = atomic_load(&etcd.asked), asked = atomic_load(&second.asked);
  while (atomic_load(&second.asked) < asked + 3)
    usleep(20000);
  assert_int_equal(atomic_load(&etcd.asked), first);
  atomic_store(&etcd.mood, ETCD_WELL);
  etcd_fake_stop(&second);
  v = await_view(2, 1);
  prelux_alluxio_view_put(v);
  free(second.kvs);
  pthread_mutex_destroy(&second.lock);
}

/* A token is asked for once and used; when it is no longer taken, a new one. */
static void tokens(void **state)
{
  (void)state;
  char user[] = "me", word[] = "word";
  options.etcd_user = user;
  options.etcd_password = word;
  atomic_store(&etcd.token, 1);
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 2);
  prelux_alluxio_view_put(v);
  int asked = atomic_load(&etcd.asked);
  while (atomic_load(&etcd.asked) < asked + 3)
    usleep(20000);
  assert_int_equal(atomic_load(&etcd.logged_in), 1);
  assert_int_equal(atomic_load(&etcd.refused), 0);
  etcd_fake_set(&etcd, (const char *[]){ONE, NULL}, NULL);
  atomic_store(&etcd.token, 2);
  v = await_view(1, 1);
  assert_int_equal(atomic_load(&etcd.logged_in), 2);
  assert_in_range(atomic_load(&etcd.refused), 0, 1);
  prelux_alluxio_view_put(v);
}

static void wrong_password(void **state)
{
  (void)state;
  char user[] = "me", word[] = "hush";
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  options.etcd_user = user;
  options.etcd_password = word;
  atomic_store(&etcd.token, 1);
  begin();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_non_null(strstr(why.text, "authentication failed"));
  assert_null(strstr(why.text, "hush"));
}

static void password_missing(void **state)
{
  (void)state;
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  atomic_store(&etcd.token, 1);
  begin();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_non_null(strstr(why.text, "user name is empty"));
  assert_non_null(strstr(why.advice, "etcd_user"));
}

/* etcd 3.3 knows /v3beta only; with a user, too. */
static void old_etcd(void **state)
{
  (void)state;
  char user[] = "me", word[] = "word";
  options.etcd_user = user;
  options.etcd_password = word;
  atomic_store(&etcd.token, 1);
  atomic_store(&etcd.beta, true);
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 2);
  prelux_alluxio_view_put(v);
}

/* Values that make no sense are skipped; 304 has no identity, 304 to 307 no HTTP port; hosts that would break a URL are nobody. */
static void odd_values(void **state)
{
  (void)state;
  etcd_fake_set(&etcd,
                (const char *[]){"", "nonsense", "[]", "{}", "{\"WorkerNetAddress\":{}}", FAKE_WORKER("11", "a", "1"),
                                 FAKE_WORKER("11111111111141118111111111111111", "evil/x", "1"),
                                 FAKE_WORKER("11111111111141118111111111111111", "a b", "1"),
                                 FAKE_WORKER("11111111111141118111111111111111", "u@h", "1"),
                                 FAKE_WORKER("11111111111141118111111111111111", "port", "0"),
                                 FAKE_WORKER("11111111111141118111111111111111", "port", "70000"),
                                 FAKE_WORKER("11111111111141118111111111111111", "", "1"), FAKE_WORKER("11111111111141118111111111111111", "fe80::1", "1"),
                                 "{\"Identity\":{\"version\":1,\"identifier\":\"33333333333343338333333333333333\"},\"WorkerNetAddress\":{\"Host\":\"old\"}}",
                                 NULL},
                NULL);
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 2);
  assert_string_equal(v->workers[0].http, "http://[fe80::1]:1");
  assert_string_equal(v->workers[1].address, "old:28080");
  assert_int_equal(v->trust, PRELUX_ALLUXIO_RING_KNOWN);
  assert_non_null(prelux_alluxio_view_member(members, v, "[fe80::1]", 9, 29998));
  assert_non_null(prelux_alluxio_view_member(members, v, "FE80::1", 7, 29998));
  prelux_alluxio_view_put(v);
  etcd_fake_set(&etcd, (const char *[]){"{\"WorkerNetAddress\":{\"Host\":\"older\"}}", NULL}, NULL);
  v = await_view(1, 1);
  assert_int_equal(v->trust, PRELUX_ALLUXIO_RING_GUESSED);
  prelux_alluxio_view_put(v);
}

/* One address under two identities: the younger is there. */
static void doubles(void **state)
{
  (void)state;
  etcd_fake_set(&etcd, (const char *[]){FAKE_WORKER("22222222222242228222222222222222", "h", "1"), FAKE_WORKER("11111111111141118111111111111111", "h", "1"), NULL},
                (const int[]){5, 7});
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 1);
  assert_int_equal(v->workers[0].identity.bytes[0], 0x11);
  prelux_alluxio_view_put(v);
}

/* Nobody registered is a view, too; after there were some, it is believed the third time. */
static void nobody(void **state)
{
  (void)state;
  begin();
  const struct prelux_alluxio_view *v = get(), *w;
  etcd_fake_set(&etcd, (const char *[]){NULL}, NULL);
  int asked = atomic_load(&etcd.asked);
  w = await_view(0, 1);
  assert_true(atomic_load(&etcd.asked) >= asked + 3);
  const struct prelux_alluxio_worker *owner;
  assert_int_equal(prelux_alluxio_view_owners(w, "x", 1, &owner), 0);
  prelux_alluxio_view_put(v);
  prelux_alluxio_view_put(w);
}

static void nobody_at_first(void **state)
{
  (void)state;
  etcd_fake_set(&etcd, (const char *[]){NULL}, NULL);
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_int_equal(v->n, 0);
  prelux_alluxio_view_put(v);
}

/* "Look again": at once, though the refresh is an hour away; but not more than once a second. */
static void stirred(void **state)
{
  (void)state;
  options.refresh_ms = 3600000;
  begin();
  const struct prelux_alluxio_view *v = get();
  prelux_alluxio_view_put(v);
  etcd_fake_set(&etcd, (const char *[]){ONE, NULL}, NULL);
  for (int i = 0; i < 100; i++)
    prelux_alluxio_members_stir(members);
  v = await_view(1, 1);
  prelux_alluxio_view_put(v);
  assert_in_range(atomic_load(&etcd.asked), 2, 3);
}

/* Stirred all the time: not asked all the time. */
static void not_too_often(void **state)
{
  (void)state;
  options.refresh_ms = 3600000;
  begin();
  prelux_alluxio_view_put(get());
  for (int64_t end = now_ms() + 2500; now_ms() < end; usleep(5000))
    prelux_alluxio_members_stir(members);
  assert_in_range(atomic_load(&etcd.asked), 2, 4);
}

/* However long the thread is to rest after many failures: who needs a view makes it look again. */
static void asked_for(void **state)
{
  (void)state;
  unsigned port = etcd.port;
  const struct prelux_alluxio_view *v = NULL;
  options.refresh_ms = 3600000;
  etcd_fake_stop(&etcd);
  begin();
  for (int i = 0; i < 4; i++) /* it rests 8 s after these */
  {
    assert_int_equal(prelux_alluxio_view_get(members, &v, NULL), -EIO);
    usleep(1100000);
  }
  etcd_fake_start(&etcd, port);
  assert_int_equal(prelux_alluxio_view_get(members, &v, NULL), 0);
  prelux_alluxio_view_put(v);
}

static void *use_views(void *arg)
{
  atomic_bool *ending = arg;
  while (!atomic_load(ending))
  {
    const struct prelux_alluxio_view *v = get();
    const struct prelux_alluxio_worker *owners[3];
    for (size_t i = prelux_alluxio_view_owners(v, "file:///tmp/ufs/x", 3, owners); i > 0; i--)
      if (prelux_alluxio_health_usable(owners[i - 1]->health, PRELUX_ALLUXIO_HTTP))
        (i % 2 ? prelux_alluxio_health_ok : prelux_alluxio_health_done)(owners[i - 1]->health, PRELUX_ALLUXIO_HTTP);
    prelux_alluxio_view_put(v);
  }
  return NULL;
}

/* Eight threads use views while the membership changes all the time. */
static void crowd(void **state)
{
  (void)state;
  pthread_t threads[8];
  atomic_bool ending = false;
  cJSON *o = cJSON_CreateObject();
  begin();
  for (int i = 0; i < 8; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, use_views, &ending), 0);
  for (int i = 0; i < 10; i++)
  {
    etcd_fake_set(&etcd, i % 2 ? (const char *[]){ONE, NULL} : (const char *[]){ONE, TWO, NULL}, (const int[]){i, i});
    usleep(150000);
  }
  prelux_alluxio_members_report(members, o);
  atomic_store(&ending, true);
  for (int i = 0; i < 8; i++)
    pthread_join(threads[i], NULL);
  const cJSON *m = cJSON_GetObjectItem(o, "membership");
  assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(m, "from")), "etcd");
  assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(m, "ring")), "known");
  assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(o, "workers")) > 0);
  cJSON_Delete(o);
}

/* Freed while an answer is awaited, and without ever having been asked. */
static void ends(void **state)
{
  (void)state;
  begin();
  prelux_alluxio_members_free(members);
  atomic_store(&etcd.mood, ETCD_SLOW);
  begin();
  prelux_alluxio_members_stir(members);
  const struct prelux_alluxio_view *v;
  assert_int_equal(prelux_alluxio_view_get(members, &v, NULL), -EIO);
  atomic_store(&etcd.mood, ETCD_SILENT);
  for (int asked = atomic_load(&etcd.asked); atomic_load(&etcd.asked) == asked;)
    usleep(1000);
  int64_t begun = now_ms();
  prelux_alluxio_members_free(members);
  assert_in_range(now_ms() - begun, 0, 700);
  members = NULL;
}

/* A fixed list: no thread, no network; identities are those of Alluxio's own static list. */
static void from_list(void **state)
{
  (void)state;
  static char *list[] = {"worker1", "worker2:1234", "[::1]:5", "worker1"};
  options.membership = PRELUX_ALLUXIO_LIST;
  options.places = list;
  options.n_places = 4;
  begin();
  const struct prelux_alluxio_view *v = get();
  const struct prelux_alluxio_worker *owners[3];
  assert_int_equal(v->n, 3);
  assert_int_equal(v->trust, PRELUX_ALLUXIO_RING_LIKELY);
  prelux_alluxio_view_owners(v, "s3://bucket/a.txt", 3, owners);
  bool seen[3] = {false};
  for (size_t i = 0; i < 3; i++)
  {
    seen[0] |= strcmp(v->workers[i].address, "worker1:28080") == 0;
    seen[1] |= strcmp(v->workers[i].address, "worker2:1234") == 0;
    seen[2] |= strcmp(v->workers[i].address, "[::1]:5") == 0;
  }
  assert_true(seen[0] && seen[1] && seen[2]);
  prelux_alluxio_view_put(v);
  assert_int_equal(atomic_load(&etcd.asked), 0);
}

/* A redirect by another name of a listed address. */
static void aliases(void **state)
{
  (void)state;
  static char *list[] = {"127.0.0.1", "localhost:9"};
  options.membership = PRELUX_ALLUXIO_LIST;
  options.places = list;
  begin();
  const struct prelux_alluxio_view *v = get();
  for (int i = 0; i < 2; i++) /* the second time from memory */
  {
    const struct prelux_alluxio_worker *w = prelux_alluxio_view_member(members, v, "LocalHost", 9, 29998);
    assert_non_null(w);
    assert_string_equal(w->host, "127.0.0.1");
    assert_null(prelux_alluxio_view_member(members, v, "no-such-host.invalid", 20, 29998));
    assert_null(prelux_alluxio_view_member(members, v, "127.9.9.9", 9, 29998));
  }
  prelux_alluxio_view_put(v);
}

static void from_dns(void **state)
{
  (void)state;
  static char *names[] = {"localhost"};
  options.membership = PRELUX_ALLUXIO_DNS;
  options.places = names;
  begin();
  const struct prelux_alluxio_view *v = get();
  assert_true(v->n >= 1);
  assert_int_equal(v->trust, PRELUX_ALLUXIO_RING_GUESSED);
  bool found = false;
  for (size_t i = 0; i < v->n; i++)
    found |= strcmp(v->workers[i].address, "127.0.0.1:28080") == 0;
  assert_true(found);
  assert_non_null(prelux_alluxio_view_member(members, v, "localhost", 9, 29998));
  prelux_alluxio_view_put(v);
}

static void no_such_domain(void **state)
{
  (void)state;
  static char *names[] = {"no-such-host.invalid"};
  const struct prelux_alluxio_view *v = NULL;
  struct prelux_problem why = {0};
  options.membership = PRELUX_ALLUXIO_DNS;
  options.places = names;
  begin();
  assert_int_equal(prelux_alluxio_view_get(members, &v, &why), -EIO);
  assert_non_null(strstr(why.text, "no-such-host.invalid"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(from_etcd),      TEST(changes),          TEST(reborn),     TEST(last_known), TEST(down_at_start), TEST(silent_at_start),
      TEST(another_place),  TEST(tokens),           TEST(old_etcd),   TEST(odd_values), TEST(wrong_password), TEST(password_missing),
      TEST(doubles),        TEST(nobody),           TEST(nobody_at_first), TEST(stirred), TEST(not_too_often), TEST(asked_for), TEST(crowd),        TEST(ends),
      TEST(from_list),      TEST(aliases),          TEST(from_dns),   TEST(no_such_domain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
