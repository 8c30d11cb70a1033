/* Alluxio's property names under `options`, and the addresses of a cluster. */
#include "tests/unit/conf_util.h"

#include "lib/conf/internal.h"

#define FILE_OF(body) "version: 1\nmappings: []\nbackends:\n  b: {type: alluxio,\n" body "}\n"

static const struct prelux_conf_backend *only(const struct prelux_conf *c)
{
  assert_int_equal(c->n_backends, 1);
  return &c->backends[0];
}

/* Wrong in one way, whose words these are. */
static void refused(const char *text, const char *words)
{
  struct prelux_conf *c = NULL;
  char *report = NULL;
  assert_int_equal(load_text(text, no_env, false, &c, &report), -EINVAL);
  if (!strstr(report, words) || strchr(report, '\n'))
    fail_msg("wanted %s, got\n%s", words, report);
  free(report);
}

static void properties_become_keys(void **state)
{
  (void)state;
  struct prelux_conf *c = load_good(FILE_OF("options: {alluxio.dora.client.ufs.root: \"s3://data/x\",\n"
                                            "alluxio.etcd.endpoints: \"http://a:1, b,https://c:3\",\n"
                                            "alluxio.etcd.username: me, alluxio.etcd.password: \"hu:sh\",\n"
                                            "alluxio.cluster.name: mine, alluxio.worker.http.server.port: 1234, alluxio.worker.rest.port: 4321,\n"
                                            "alluxio.worker.page.store.page.size: 4MB,\n"
                                            "alluxio.user.consistent.hash.virtual.node.count.per.worker: 2000,\n"
                                            "alluxio.user.worker.selection.policy: CONSISTENT,\n"
                                            "alluxio.worker.membership.manager.type: ETCD, alluxio.security.login.username: somebody,\n"
                                            "alluxio.user.worker.list.refresh.interval: 2min}"),
                                    no_env);
  const struct prelux_conf_backend *b = only(c);
  assert_string_equal(prelux_conf_str(b, "root"), "s3://data/x");
  const struct prelux_conf_value *etcd = prelux_conf_get(b, "etcd");
  assert_int_equal(etcd->n_items, 3);
  assert_string_equal(etcd->items[0], "http://a:1");
  assert_string_equal(etcd->items[1], "b");
  assert_string_equal(etcd->items[2], "https://c:3");
  assert_string_equal(prelux_conf_str(b, "etcd_user"), "me");
  assert_string_equal(prelux_conf_str(b, "etcd_password"), "hu:sh");
  assert_string_equal(prelux_conf_str(b, "cluster"), "mine");
  assert_int_equal(prelux_conf_num(b, "http_port"), 1234);
  assert_int_equal(prelux_conf_num(b, "s3_port"), 4321);
  assert_int_equal(prelux_conf_num(b, "page_size"), 4 << 20);
  assert_int_equal(prelux_conf_num(b, "virtual_nodes"), 2000);
  assert_int_equal(prelux_conf_num(b, "refresh"), 120000000000);
  assert_int_equal(c->n_warnings, 0);
  prelux_conf_free(c);
}

/* Alluxio's ways of writing a time; a bare number is milliseconds there. */
static void times(void **state)
{
  (void)state;
  static const struct {
    const char *text;
    int64_t ms;
  } rows[] = {{"1500", 1500}, {"20s", 20000}, {"20sec", 20000}, {"1minute", 60000}, {"2m", 120000}, {"1hour", 3600000}, {"500millisecond", 500}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char text[512];
    snprintf(text, sizeof text, FILE_OF("root: /x, etcd: a, options: {alluxio.user.worker.list.refresh.interval: %s}"), rows[i].text);
    struct prelux_conf *c = load_good(text, no_env);
    assert_int_equal(prelux_conf_num(only(c), "refresh"), rows[i].ms * 1000000);
    prelux_conf_free(c);
  }
}

static void both_may_say_the_same(void **state)
{
  (void)state;
  struct prelux_conf *c = load_good(FILE_OF("root: /x, etcd: [a, \"b:1\"], page_size: 4MiB,\n"
                                            "options: {alluxio.worker.page.store.page.size: 4096KB, alluxio.etcd.endpoints: \"a,b:1\"}"),
                                    no_env);
  assert_int_equal(prelux_conf_num(only(c), "page_size"), 4 << 20);
  prelux_conf_free(c);
}

static void contradictions(void **state)
{
  (void)state;
  load_bad(FILE_OF("root: /x, etcd: a, page_size: 1MiB,\noptions: {alluxio.worker.page.store.page.size: 4MB}"),
           "6:48: `alluxio.worker.page.store.page.size` contradicts `page_size` of line 5");
  refused(FILE_OF("root: /x, etcd: a,\noptions: {alluxio.dora.client.ufs.root: /y}"), "contradicts `root` of line 5");
  refused(FILE_OF("root: /x, etcd: [a, b],\noptions: {alluxio.etcd.endpoints: a}"), "contradicts `etcd` of line 5");
  refused(FILE_OF("root: /x, workers: a,\noptions: {alluxio.etcd.endpoints: a}"), "`etcd` and `workers` exclude each other");
}

static void bad_values(void **state)
{
  (void)state;
  load_bad(FILE_OF("root: /x, etcd: a, options: {alluxio.worker.page.store.page.size: lots}"),
           "5:67: `alluxio.worker.page.store.page.size` must be a size such as 4MiB, not \"lots\"");
  refused(FILE_OF("root: /x, etcd: a, options: {alluxio.worker.page.store.page.size: 1KB}"), "is out of range (4KiB..1GiB)");
  refused(FILE_OF("root: /x, etcd: a, options: {alluxio.worker.http.server.port: 0}"), "out of range");
  refused(FILE_OF("root: /x, etcd: a, options: {alluxio.user.worker.selection.policy: JUMP}"), "\"JUMP\" cannot be served");
  refused(FILE_OF("root: /x, etcd: a, options: {alluxio.worker.membership.manager.type: MASTER}"), "\"MASTER\" cannot be served");
  refused(FILE_OF("root: /x, options: {alluxio.etcd.endpoints: \" , \"}"), "must be a list of strings");
  refused(FILE_OF("etcd: a, options: {alluxio.dora.client.ufs.root: \"\"}"), "must be a string");
  refused(FILE_OF("root: /x, etcd: a, options: {alluxio.etcd.username: me}"), "`etcd_user` is given without `etcd_password`");
  refused(FILE_OF("etcd: a"), "the key `root` is missing");
}

/* Names that mean nothing here are warned of with their place: whole site files are pasted. */
static void unknown_names(void **state)
{
  (void)state;
  struct prelux_conf *c = load_good(FILE_OF("root: /x, etcd: a, options: {\nalluxio.worker.ramdisk.size: 1GB,\n"
                                            "fs.s3a.secret.key: hush}"),
                                    no_env);
  assert_int_equal(c->n_warnings, 2);
  assert_non_null(strstr(c->warnings[0], ":6:30: `options`: nothing here looks at \"alluxio.worker.ramdisk.size\""));
  assert_non_null(strstr(c->warnings[1], ":7:20: "));
  assert_null(strstr(c->warnings[1], "hush"));
  prelux_conf_free(c);
}

static void addresses(void **state)
{
  (void)state;
  static const char *const good[] = {"a", "a:1", "[::1]", "[::1]:2379", "10.0.0.1:65535", "w-1.example.org"};
  static const char *const bad[] = {"", ":1", "a:", "a:0", "a:65536", "a:b", "a b", "a/b", "::1", "[::1", "[::1]1", "u@h", "a:1:2", "a%41", "a:+1"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    assert_true(prelux_conf_is_place(good[i], false));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (prelux_conf_is_place(bad[i], true) || prelux_conf_is_place(bad[i], false))
      fail_msg("%s passes", bad[i]);
  assert_true(prelux_conf_is_place("http://a:1/", true));
  assert_true(prelux_conf_is_place("https://[::1]:1", true));
  assert_false(prelux_conf_is_place("http://a:1", false));
  assert_false(prelux_conf_is_place("http://a:1/x", true));
  assert_false(prelux_conf_is_place("ftp://a:1", true));
  assert_false(prelux_conf_is_place("http://", true));
  load_bad(FILE_OF("root: /x, etcd: \"http://me:hush@a:1\""), "5:17: `etcd`: \"http://***@a:1\" is no URL or host:port");
  refused(FILE_OF("root: /x, workers: [a, \"b:x\"]"), "`workers`: \"b:x\" is no host:port");
  refused(FILE_OF("root: /x, domain: \"a:1\""), "`domain`: \"a:1\" is no name of a host");
}

/* A password behind TLS must not go to a plain URL. */
static void plain_etcd(void **state)
{
  (void)state;
  refused(FILE_OF("root: /x, etcd: \"http://a:1\", etcd_ca: /ca.pem"), "but `etcd_ca` asks for TLS");
  refused(FILE_OF("root: /x, etcd: [\"a:1\", \"HTTP://b\"], options: {alluxio.etcd.tls.enabled: true}"), "but `etcd_tls` asks for TLS");
  refused(FILE_OF("root: /x, etcd: \"http://a:1\", etcd_cert: /me.pem"), "but `etcd_cert` asks for TLS");
  refused(FILE_OF("root: /x, etcd: \"a:1\", etcd_key: /me.pem"), "`etcd_key` ");
  struct prelux_conf *c = load_good(FILE_OF("root: /x, etcd: [\"a:1\", \"https://b\"], options: {alluxio.etcd.tls.client.cert: /me.pem, "
                                            "alluxio.etcd.tls.client.key: /key.pem}"), no_env);
  assert_string_equal(prelux_conf_str(only(c), "etcd_cert"), "/me.pem");
  assert_string_equal(prelux_conf_str(only(c), "etcd_key"), "/key.pem");
  prelux_conf_free(c);
  c = load_good(FILE_OF("root: /x, etcd: [\"a:1\", \"https://b\"], options: {alluxio.etcd.tls.ca.cert: /ca.pem}"), no_env);
  assert_string_equal(prelux_conf_str(only(c), "etcd_ca"), "/ca.pem");
  prelux_conf_free(c);
}

#define TWO_OF(keys, type, mapping) "version: 1\nbackends:\n  b: {type: alluxio, root: /x, etcd: a, under_store: u" keys "}\n  u: {" type "}\nmappings: [" mapping "]\n"
#define UNDER "type: file, root: /x"

static void writing(void **state)
{
  static const struct
  {
    const char *mapping;
    bool written;
  } rows[] = {{"", false}, {"{local: /m, remote: \"b:/\"}", false}, {"{local: /m, remote: \"b:/\", write: off}", false},
              {"{local: /m, remote: \"b:/\", write: sync}", true}, {"{local: /m, remote: \"u:/\", write: sync}", false},
              {"{local: /m, remote: \"b:/\"}, {local: /n, remote: \"b:/n\", write: async}", true}};
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
  {
    char text[400];
    snprintf(text, sizeof text, TWO_OF("", UNDER, "%s"), rows[i].mapping);
    struct prelux_conf *c = load_good(text, no_env);
    if (prelux_conf_backend(c, "b")->written != rows[i].written)
      fail_msg("%s", rows[i].mapping);
    assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "b"), "write_through"), "auto");
    prelux_conf_free(c);
  }
  struct prelux_conf *c = load_good(TWO_OF(", write_through: under_store", UNDER, ""), no_env);
  assert_int_equal(prelux_conf_num(prelux_conf_backend(c, "b"), "write_through"), 2);
  prelux_conf_free(c);
  refused(FILE_OF("root: /x, etcd: a, write_through: under_store"), "`write_through` is given without `under_store`");
  refused(TWO_OF(", write_through: under_store", "type: http, url: \"http://a\"", ""), "of type http, which cannot be written");
  refused(FILE_OF("root: /x, etcd: a, write_through: proxy"), "`write_through`");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(properties_become_keys), cmocka_unit_test(times),         cmocka_unit_test(both_may_say_the_same),
      cmocka_unit_test(contradictions),         cmocka_unit_test(bad_values),    cmocka_unit_test(unknown_names),
      cmocka_unit_test(addresses),              cmocka_unit_test(plain_etcd),
      cmocka_unit_test(writing),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
