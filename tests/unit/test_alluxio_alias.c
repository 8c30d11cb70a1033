/* Names that workers redirect to, where the membership has addresses: remembered for a minute, and then looked up again. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/backend/alluxio_members.h"

#define NAME "moves.test"

static const char *_Atomic address; /* of NAME; NULL: there is no such name */
static atomic_int looked_up;
static int64_t later_ms, (*real_clock)(void);

/* The resolver's place is taken for one name. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (strcmp(node, NAME) == 0)
  {
    atomic_fetch_add(&looked_up, 1);
    node = address;
    if (!node)
      return EAI_NONAME;
  }
  return real(node, service, hints, ret);
}

static int64_t later_clock(void)
{
  return real_clock() + later_ms;
}

static const struct prelux_alluxio_worker *find(struct prelux_alluxio_members *m, const struct prelux_alluxio_view *v)
{
  return prelux_alluxio_view_member(m, v, NAME, strlen(NAME), 29998);
}

/* It has another address by now: for a minute the old one counts, whether there was one or none. */
static void age(void **state)
{
  static char *list[] = {"127.0.0.1", "127.0.0.2"};
  struct prelux_alluxio_options options = {.name = "lake", .root = "/x", .membership = PRELUX_ALLUXIO_LIST, .places = list,
                                           .n_places = 2, .http_port = 28080, .s3_port = 29998, .virtual_nodes = 5, .refresh_ms = 1000};
  struct prelux_alluxio_health *health;
  struct prelux_alluxio_members *m;
  struct prelux_net *net;
  const struct prelux_alluxio_view *v;
  (void)state;
  real_clock = prelux_alluxio_clock_ms;
  prelux_alluxio_clock_ms = later_clock; /* no thread looks at it: a list needs none */
  assert_int_equal(prelux_net_create(&net), 0);
  assert_int_equal(prelux_alluxio_health_create(&health), 0);
  assert_int_equal(prelux_alluxio_members_create(&options, health, net, &m, NULL), 0);
  assert_int_equal(prelux_alluxio_view_get(m, &v, NULL), 0);

  assert_null(find(m, v)); /* no such name */
  address = "127.0.0.1";
  assert_null(find(m, v));
  later_ms = 59000;
  assert_null(find(m, v));
  assert_int_equal(looked_up, 1);
  later_ms = 61000;
  assert_non_null(find(m, v));
  assert_string_equal(find(m, v)->host, "127.0.0.1");
  assert_int_equal(looked_up, 2);
  address = "127.0.0.2";
  later_ms = 120000;
  assert_string_equal(find(m, v)->host, "127.0.0.1");
  later_ms = 122000;
  assert_string_equal(find(m, v)->host, "127.0.0.2");
  assert_int_equal(looked_up, 3);
  address = NULL; /* the name is gone */
  later_ms = 183000;
  assert_null(find(m, v));

  prelux_alluxio_view_put(v);
  prelux_alluxio_members_free(m);
  prelux_alluxio_health_free(health);
  prelux_net_free(net);
  prelux_alluxio_clock_ms = real_clock;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(age)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
