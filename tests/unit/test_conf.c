/* The native form: what comes out of right files, and mistakes written by hand. Made by rule: test_conf_broken.c. */
#include "conf_util.h"

#include "lib/conf/internal.h"

static const char design[] =
    "version: 1\n"
    "cache: {dir: ~/.cache/prelux, max_size: 200GiB, high: 0.9, low: 0.8, min_free: 5%}\n"
    "backends:\n"
    "  lake:    {type: alluxio, etcd: [\"127.0.0.1:2379\"], cluster: ai-alluxio, root: \"s3://data\", under_store: bucket, "
    "options: {alluxio.worker.page.store.page.size: 4MB}}\n"
    "  bucket:  {type: s3, endpoint: \"http://127.0.0.1:9000\", region: us-east-1, bucket: data}\n"
    "mappings:\n"
    "  - {local: /mnt/lake,   remote: \"lake:/datasets\", freshness: {max_age: 60s}, write: sync}\n"
    "  - {local: ./models,    remote: \"bucket:/models/\", cache: /tmp/models, freshness: immutable, write: async}\n";

static void the_example_of_the_design(void **state)
{
  char path[PATH_MAX + 16];
  char *env[] = {"HOME=/home/me", NULL};
  struct prelux_conf *c = load_good(design, env);
  assert_string_equal(c->source, conf_file);
  assert_false(c->azfuse);
  assert_string_equal(c->cache_dir, "/home/me/.cache/prelux");
  assert_int_equal(c->cache_max_size, 200ll << 30);
  assert_true(c->cache_high == 0.9 && c->cache_low == 0.8 && c->min_free_share == 0.05 && c->min_free_bytes == 0);
  assert_true(c->outside_links);
  assert_int_equal(c->daemon_timeout_ns, 15000000000);
  assert_int_equal(c->n_backends, 2);
  assert_int_equal(c->n_mappings, 2);
  const struct prelux_conf_backend *b = prelux_conf_backend(c, "lake");
  assert_string_equal(b->type, "alluxio");
  assert_string_equal(prelux_conf_str(b, "root"), "s3://data");
  assert_int_equal(prelux_conf_num(b, "http_port"), 28080);
  assert_int_equal(prelux_conf_num(b, "page_size"), 4 << 20);
  assert_string_equal(prelux_conf_item(b, "options", "alluxio.worker.page.store.page.size"), "4MB");
  assert_null(prelux_conf_item(b, "options", "other"));
  assert_int_equal(prelux_conf_get(b, "etcd")->n_items, 1);
  assert_null(prelux_conf_str(b, "domain"));
  assert_int_equal(prelux_conf_num(b, "domain"), 0);
  const struct prelux_conf_mapping *m = &c->mappings[0];
  assert_string_equal(m->local, "/mnt/lake");
  assert_string_equal(m->backend, "lake");
  assert_string_equal(m->path, "datasets");
  assert_string_equal(m->remote, "lake:/datasets");
  assert_int_equal(m->freshness, PRELUX_FRESH_MAX_AGE);
  assert_int_equal(m->max_age_ns, 60000000000);
  assert_int_equal(m->file_mode, 0644);
  assert_int_equal(m->dir_mode, 0755);
  assert_true(m->exec_auto);
  assert_null(m->cache);
  m = &c->mappings[1];
  snprintf(path, sizeof path, "%s/models", scratch);
  assert_string_equal(m->local, path);
  assert_string_equal(m->path, "models");
  assert_string_equal(m->cache, "/tmp/models");
  assert_int_equal(m->freshness, PRELUX_FRESH_IMMUTABLE);
  assert_true(c->n_used_env > 10); /* s3 looks for keys in the environment by itself */
  for (size_t i = 0; i < c->n_used_env; i++)
    assert_int_equal(strncmp(c->used_env[i], "AWS_", 4), 0);
  prelux_conf_free(c);
}

#define STORE "version: 1\nbackends: {s: {type: file, root: /r}}\nmappings:\n"

static void locals(void **state)
{
  static const struct {
    const char *yaml, *want;
  } rows[] = {
      {"/a//b/./c/../d/", "/a/b/d"}, {"~/x", "/home/me/x"},          {"'~'", "/home/me"},         {"s3://bucket/x", "s3:/bucket/x"},
      {"s3:/bucket//x/", "s3:/bucket/x"}, {"\"gs+x://b\"", "gs+x:/b"}, {"'/it''s'", "/it's"},     {"/ä ö", "/ä ö"},
      {"&a /anchor", "/anchor"},     {"\"/tab\\tx\"", "/tab\tx"},    {"\"${A}/x$${B}\"", "/va/x${B}"},
      {"123", "CWD/123"},            {"./d", "CWD/d"},               {"d:e", "CWD/d:e"},        {"~nobody-here/x", "CWD/~nobody-here/x"},
  };
  char *env[] = {"HOME=/home/me", "A=/va", NULL};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char text[512], want[PATH_MAX + 64];
    snprintf(text, sizeof text, STORE " - {local: %s, remote: \"s:\"}\n", rows[i].yaml);
    snprintf(want, sizeof want, "%s%s", strncmp(rows[i].want, "CWD", 3) == 0 ? scratch : "",
             rows[i].want + (strncmp(rows[i].want, "CWD", 3) == 0 ? 3 : 0));
    struct prelux_conf *c = load_good(text, env);
    assert_string_equal(c->mappings[0].local, want);
    assert_string_equal(c->mappings[0].path, "");
    prelux_conf_free(c);
  }
}

static void remotes(void **state)
{
  static const struct {
    const char *yaml, *want;
  } rows[] = {{"\"s:/a/b\"", "a/b"}, {"s:a/b", "a/b"}, {"\"s:\"", ""}, {"\"s:/\"", ""}, {"\"s://a//b/\"", "a/b"},
              {"\"s:/a:b\"", "a:b"}, {"\"s:/...\"", "..."}, {"\"s:/a b\"", "a b"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char text[512];
    snprintf(text, sizeof text, STORE " - {local: /x, remote: %s}\n", rows[i].yaml);
    struct prelux_conf *c = load_good(text, no_env);
    assert_string_equal(c->mappings[0].backend, "s");
    assert_string_equal(c->mappings[0].path, rows[i].want);
    prelux_conf_free(c);
  }
  load_bad(STORE " - {local: /x, remote: s}\n", "4:24: a backend's name, a colon");
  load_bad(STORE " - {local: /x, remote: \":/a\"}\n", "4:24: a backend's name, a colon");
  load_bad(STORE " - {local: /x, remote: \"s:/a/../b\"}\n", "4:24: \"..\" is no part");
  load_bad(STORE " - {local: /x, remote: \"s:/./b\"}\n", "4:24: \".\" is no part");
  load_bad(STORE " - {local: /x, remote: \"t:/b\"}\n", "4:24: no backend \"t\"; did you mean s?");
  load_bad("version: 1\nmappings: [{local: /x, remote: \"t:/b\"}]\n", "2:32: no backend \"t\"");
}

static void numbers(void **state)
{
  int64_t n;
  double d;
  static const struct {
    const char *text;
    int64_t want;
  } sizes[] = {{"0", 0}, {"512b", 512}, {"4KiB", 4096}, {"4MB", 4 << 20}, {"4 MB", 4 << 20}, {"1.5k", 1536}, {"2g", 2ll << 30}, {"7EiB", 7ll << 60},
               {"8EiB", -ERANGE}, {"99999999999999999999", -ERANGE}, {"4XB", -EINVAL}, {"", -EINVAL}, {"-1", -EINVAL}, {"1.", -EINVAL},
               {"0x10", -EINVAL}, {"4MB ", -EINVAL}, {"12", 12}},
    times[] = {{"0", 0}, {"500ms", 500000000}, {"60s", 60000000000}, {"5m", 300000000000}, {"2h", 7200000000000}, {"1d", 86400000000000},
               {"1.5s", 1500000000}, {"60", -EINVAL}, {"1w", -EINVAL}, {"200000d", -ERANGE}},
    modes[] = {{"0644", 0644}, {"644", 0644}, {"0o755", 0755}, {"0", 0}, {"0888", -EINVAL}, {"01000", -ERANGE}, {"77777777777777777777777777", -ERANGE},
               {"rw", -EINVAL}, {"", -EINVAL}},
    ints[] = {{"0", 0}, {"-5", -5}, {"+7", 7}, {"1.0", -EINVAL}, {"9223372036854775808", -ERANGE}, {" 1", -EINVAL}, {"", -EINVAL}, {"--1", -EINVAL}};
#define EACH(rows, parse)                                          \
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)          \
  {                                                                \
    n = 0;                                                         \
    int err = parse(rows[i].text, &n);                             \
    if ((err < 0 ? err : n) != rows[i].want)                       \
      fail_msg(#parse "(%s): %d, %lld", rows[i].text, err, (long long)n); \
  }
  EACH(sizes, prelux_conf_parse_size)
  EACH(times, prelux_conf_parse_duration)
  EACH(modes, prelux_conf_parse_mode)
  EACH(ints, prelux_conf_parse_int)
  assert_int_equal(prelux_conf_parse_share("5%", &d), 0);
  assert_true(d == 0.05);
  assert_int_equal(prelux_conf_parse_share("1", &d), 0);
  assert_int_equal(prelux_conf_parse_share("1.01", &d), -ERANGE);
  assert_int_equal(prelux_conf_parse_share("101%", &d), -ERANGE);
  assert_int_equal(prelux_conf_parse_share("half", &d), -EINVAL);
  assert_int_equal(prelux_conf_parse_share("0.5x", &d), -EINVAL);
}

/* Every default and every sample of the table is a valid value; only so may defaults go unchecked. */
static void the_table_of_keys(void **state)
{
  size_t n = 0;
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++, n++)
  {
    struct prelux_conf_value v = {.key = k, .text = (char *)k->fallback};
    assert_true((k->where == PRELUX_AT_BACKEND) == (k->backend != NULL));
    assert_non_null(k->help);
    assert_true(strlen(k->name) < PRELUX_CONF_NAME_MAX);
    if (k->fallback && k->type != PRELUX_T_FRESHNESS && prelux_conf_convert(&v) < 0)
      fail_msg("default of %s", k->name);
    if (k->type != PRELUX_T_SECTION && !k->fallback && !k->sample)
      fail_msg("%s has neither default nor sample", k->name);
    if (k->required && k->fallback)
      fail_msg("%s is required and has a default", k->name);
    if (k->type == PRELUX_T_SECRET && !k->hidden)
      fail_msg("%s is a secret that is not hidden", k->name);
    for (const struct prelux_conf_key *o = k + 1; o->name; o++)
      if (o->where == k->where && strcmp(o->name, k->name) == 0 && (!k->backend || strcmp(k->backend, o->backend) == 0))
        fail_msg("%s is there twice", k->name);
  }
  assert_true(n > 80);
}

static void secrets(void **state)
{
  char *env[] = {"TOKEN=t0p", "HOME=/nonexistent", "EMPTY=", NULL};
#define WEB "version: 1\nmappings: []\nbackends:\n  w:\n    type: http\n    url: \"http://h/\"\n"
  put_file("tok", "from-file\n");
  put_file("two", "a\nb\n");
  put_file("none", "\n");
  struct prelux_conf *c = load_good(WEB "    bearer: \"${TOKEN}\"\n    headers: {A: \"x${TOKEN}y\", B: file:tok}\n", env);
  const struct prelux_conf_backend *b = prelux_conf_backend(c, "w");
  assert_string_equal(prelux_conf_str(b, "bearer"), "t0p");
  assert_string_equal(prelux_conf_get(b, "bearer")->raw, "${TOKEN}");
  assert_string_equal(prelux_conf_item(b, "headers", "A"), "xt0py");
  assert_string_equal(prelux_conf_item(b, "headers", "B"), "from-file");
  assert_int_equal(c->n_used_env, 1);
  assert_string_equal(c->used_env[0], "TOKEN");
  prelux_conf_free(c);
  c = load_good(WEB "    bearer: file:tok\n", env); /* relative to the configuration's folder */
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "w"), "bearer"), "from-file");
  prelux_conf_free(c);
  c = load_good("version: 1\nmappings: []\nbackends: {b: {type: s3, bucket: b, region: file:tok}}\n", env); /* no secret, so no file */
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "b"), "region"), "file:tok");
  prelux_conf_free(c);
  load_bad_env(WEB "    bearer: file:missing\n", "7:13: missing\" cannot be read: No such file", env);
  load_bad_env(WEB "    bearer: file:two\n", "7:13: more than one line", env);
  load_bad_env(WEB "    bearer: file:none\n", "7:13: is empty", env);
  load_bad_env(WEB "    bearer: \"${EMPTY}\"\n", "7:13: is empty", env);
  load_bad_env(WEB "    bearer: \"${NOT_SET}${NOR_THIS}\"\n", "7:13: variable NOR_THIS is not set\n7:13: variable NOT_SET is not set", env);
  load_bad_env(WEB "    bearer: \"${1X}\"\n", "7:13: must begin a variable", env);
  load_bad_env(WEB "    bearer: \"${TOKEN\"\n", "7:13: must begin a variable", env);
  load_bad_env(WEB "    headers: {A: \"x\\ny\"}\n", "7:18: without control characters", env);
  load_bad_env(WEB "    bearer: \"a\\0b\"\n", "7:13: NUL byte", env);
}

/* A message about a secret may not repeat it. */
static void reports_keep_secrets(void **state)
{
  char *env[] = {"S=ssh-hush", NULL}, *report = NULL;
  struct prelux_conf *c = NULL;
  put_file("tok", "ssh-hush\nx");
  assert_int_equal(load_text(WEB "    bearer: file:tok\n    index: \"${S}\"\n    headers: {A: \"${S}\\n\"}\n", env, false, &c, &report), -EINVAL);
  assert_null(strstr(report, "hush"));
  free(report);
}

static void urls_and_addresses(void **state)
{
  static const char *const good[] = {"http://h", "HTTPS://h/", "http://h:1/x", "http://u:p@h:65535", "http://[::1]/", "http://[::1]:80", "http://h/a@b:c"},
                           *const bad[] = {"http://", "http:///x", "http://h:0", "http://h:65536/", "http://h:", "http://:80", "http://u@", "http://h?q",
                                           "http://h/#f", "http://h /", "http://[::1", "http://[::1]x", "http://a:b:c", "h", "//h"},
                           *const good_address[] = {"h:1", "[::1]:80", "127.0.0.1:65535"},
                           *const bad_address[] = {"h", "h:", ":1", "h:0", "h:65536", "::1:80", "[::1]", "h:1x", "h/:1", "h :1"};
  char text[256];
#define EACH_TEXT(rows, format, load, ...)                  \
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)   \
  {                                                         \
    snprintf(text, sizeof text, format, rows[i]);           \
    load(text, __VA_ARGS__);                                \
  }
#define URL "version: 1\nmappings: []\nbackends: {w: {type: http, url: \"%s\"}}\n"
#define ADDRESS "version: 1\nmappings: []\nmetrics: {listen: \"%s\"}\n"
#define load_and_free(text, env) prelux_conf_free(load_good(text, env))
  EACH_TEXT(good, URL, load_and_free, no_env)
  EACH_TEXT(bad, URL, load_bad, "3:33: must be a URL")
  EACH_TEXT(good_address, ADDRESS, load_and_free, no_env)
  EACH_TEXT(bad_address, ADDRESS, load_bad, "3:19: must be an address")
}

static void mistakes_of_a_whole_file(void **state)
{
  load_bad("version: 2\n"
           "cahe: {dir: x}\n"
           "cache: {max_sise: 1, high: 2, low: a}\n"
           "backends:\n"
           "  lake:    {type: alluxio, cluster: ai, root: data, under_store: bukket}\n"
           "  bucket:  {type: s3, endpoint: htps://x, region: [us-east-1], bucket: data, tls: {ca: 3}, root: 2}\n"
           "  bucket:  {type: s4}\n"
           "  odd name: {type: file, root: /x}\n"
           "  none:\n"
           "mappings:\n"
           "  - {local: /mnt/lake, remote: \"lake:/x\", freshness: {max_age: 60}, write: maybe}\n"
           "  - {local: /mnt/lake/, remote: \"bukket:/m\", cache: \"${NOPE}/x\", freshness: imutable}\n"
           "  - remote: bucket\n"
           "    file_mode: 0999\n"
           "    exec:\n"
           "  - just text\n",
           "1:10: \"2\" is out of range (1..1)\n"
           "2:1: unknown key \"cahe\"; did you mean cache?\n"
           "3:9: unknown key \"max_sise\"; did you mean max_size?\n"
           "3:28: \"2\" is out of range\n"
           "3:36: must be a share such as 0.9 or 90%, not \"a\"\n"
           "5:12: one of `etcd`, `workers`, `domain` is missing\n"
           "5:47: full path with its scheme\n"
           "5:66: no backend \"bukket\"\n"
           "6:33: must be a URL\n"
           "6:51: `region` must be a string, not a list\n"
           "6:84: unknown key \"ca\"; did you mean tls.ca_file?\n"
           "6:92: unknown key \"root\": backends of type file have it, those of type s3 do not\n"
           "7:3: \"bucket\" is given twice, first in line 6\n"
           "8:3: \"odd name\" is no name for a backend\n"
           "9:8: the backend \"none\" must be a map\n"
           "11:64: must be a time with its unit such as 60s, not \"60\"\n"
           "11:76: must be one of off, sync, async, not \"maybe\"\n"
           "12:13: never reached: `local` \"/mnt/lake\" is that of line 11 already\n"
           "12:33: no backend \"bukket\"; did you mean bucket?\n"
           "12:53: variable NOPE is not set\n"
           "12:77: not \"imutable\"; did you mean immutable?\n"
           "13:5: the key `local` is missing\n"
           "13:13: a backend's name, a colon\n"
           "14:16: an octal mode such as 0644, not \"0999\"\n"
           "16:5: a mapping must be a map");
}

static void volatile_data(void **state)
{
#define LAKE(keys, write) "version: 1\nbackends:\n  b: {type: alluxio-proxy, url: \"http://x\", " keys "}\nmappings:\n" \
                          "  - {local: /m, remote: \"b:/\", write: " write "}\n"
  static const char *const kinds[] = {"MUST_CACHE", "TRY_CACHE", "NONE"};
  for (size_t i = 0; i < 3; i++)
  {
    char text[400], want[300];
    snprintf(text, sizeof text, LAKE("write_type: %s", "sync"), kinds[i]);
    snprintf(want, sizeof want, "5:39: `write: sync`: backend b has `write_type: %s`, which keeps data in the workers' memory only; "
             "allow_volatile: true", kinds[i]);
    load_bad(text, want);
  }
  static const struct { const char *text; size_t warnings; } good[] = {
      {LAKE("write_type: MUST_CACHE, allow_volatile: true", "sync"), 0},
      {LAKE("write_type: MUST_CACHE", "off"), 0},
      {LAKE("write_type: MUST_CACHE", "async"), 1},
      {LAKE("write_type: ASYNC_THROUGH", "sync"), 1},
      {LAKE("write_type: THROUGH", "sync"), 0},
      {LAKE("root: /x", "sync"), 0},
  };
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
  {
    struct prelux_conf *c = load_good(good[i].text, no_env);
    assert_int_equal(c->n_warnings, good[i].warnings);
    prelux_conf_free(c);
  }
}

static void rules_of_backends(void **state)
{
#define ONE(keys) "version: 1\nmappings: []\nbackends:\n  f: {type: file, root: /x}\n  b: {" keys "}\n"
  load_bad(ONE("type: alluxio, root: \"s3://x\", etcd: a, workers: b"), "5:56: `etcd` and `workers` exclude each other");
  load_bad(ONE("type: alluxio, root: \"s3://x\", etcd: a, etcd_user: me"), "5:58: `etcd_user` is given without `etcd_password`");
  load_bad(ONE("type: alluxio, root: \"s3://x\", etcd: [], under_store: f"), "5:44: `etcd` is an empty list");
  load_bad(ONE("type: alluxio, root: \"s3://x\", etcd: a, under_store: b"), "5:60: \"b\" is Alluxio too");
  load_bad(ONE("type: alluxio-ee, root: /x"), "5:6: one of `domain`, `workers` is missing");
  load_bad(ONE("type: alluxio-proxy, url: \"http://x\", root: data"), "5:51: an Alluxio path such as /data");
  load_bad(ONE("type: alluxio-proxy, url: \"http://x\", ttl_action: FREE"), "5:57: `ttl_action` is given without `ttl`");
  load_bad(ONE("type: s3, bucket: x, access_key: a"), "5:40: `access_key` is given without `secret_key`");
  load_bad(ONE("type: s3, bucket: x, profile: a, anonymous: true"), "5:51: `profile` and `anonymous` exclude each other");
  load_bad(ONE("type: azure, account: a, container: c, account_key: k, sas_token: s"), "5:73: `account_key` and `sas_token` exclude");
  load_bad(ONE("type: s3, bucket: ''"), "5:25: is empty");
  load_bad(ONE("type: s3, bucket: a/b"), "5:25: \"a/b\" is no name of a bucket");
  load_bad(ONE("type: s3, bucket: '..'"), "5:25: \"..\" is no name of a bucket");
  load_bad(ONE("type: s3, bucket: b, prefix: a/../b"), "5:36: `prefix` must not have . or .. in it");
  load_bad(ONE("type: s3, bucket: b, prefix: a/."), "5:36: `prefix` must not have . or .. in it");
  load_bad(ONE("type: s3, bucket: b, endpoint: 'http://u:p@h/'"), "5:38: `endpoint` must not have a user");
  load_bad(ONE("type: s3, bucket: b, endpoint: 'http://h/?x'"), "5:38: `endpoint` must be a URL");
  load_bad(ONE("type: http, url: \"http:///x\""), "5:24: must be a URL");
  load_bad(ONE("type: http, url: \"ftp://x\""), "5:24: must be a URL");
  struct prelux_conf *c = load_good(ONE("type: alluxio, root: /x, etcd: \"a:1, b ,\", under_store: f"), no_env);
  const struct prelux_conf_value *v = prelux_conf_get(prelux_conf_backend(c, "b"), "etcd");
  assert_int_equal(v->n_items, 2);
  assert_string_equal(v->items[0], "a:1");
  assert_string_equal(v->items[1], "b");
  prelux_conf_free(c);
  c = load_good(ONE("type: S3, bucket: x, anonymous: yes, access_key: null"), no_env); /* words in any case, null: not given */
  assert_string_equal(prelux_conf_backend(c, "b")->type, "s3");
  assert_int_equal(prelux_conf_num(prelux_conf_backend(c, "b"), "anonymous"), 1);
  prelux_conf_free(c);
}

static void rules_of_mappings(void **state)
{
  load_bad(STORE " - {local: /a, remote: \"s:x\", cache: /c}\n - {local: /b, remote: \"s:y\", cache: /c/}\n",
           "5:38: `cache` \"/c\" mirrors the other `remote` of line 4 already");
  struct prelux_conf *c = load_good(STORE " - {local: /a, remote: \"s:x\", cache: /c}\n - {local: /b, remote: \"s:/x/\", cache: /c}\n", no_env);
  prelux_conf_free(c);
  load_bad(STORE " - {local: \"s3://\", remote: \"s:\"}\n", "4:12: names nothing behind its scheme");
  load_bad(STORE " - {local: '', remote: \"s:\"}\n", "4:12: is empty");
  load_bad(STORE " - {local: , remote: \"s:\"}\n", "4:5: `local` has no value");
  load_bad(STORE " - {local: /a, remote: \"s:\", freshness: {max_agee: 1s}}\n", "4:42: unknown key \"max_agee\" in `freshness`");
  load_bad(STORE " - {local: /a, remote: \"s:\", freshness: {}}\n", "4:41: lacks max_age");
  load_bad(STORE " - {local: /a, remote: \"s:\", freshness: [a]}\n", "4:41: not a list");
  load_bad("version: 1\ncache: {high: 0.5, low: 0.5}\nmappings: []\n", "2:25: `low` (0.5) must be below `high` (0.5)");
  load_bad("version: 1\ncache: {high: 0.5}\nmappings: []\n", "2:15: `low` (0.8) must be below `high` (0.5)");
}

static void not_yaml(void **state)
{
  load_bad("", "1:1: no configuration");
  load_bad("# nothing\n", "1:1: no configuration");
  load_bad("text\n", "1:1: no configuration");
  load_bad("version: 1\n  bad: [\n", "2:6: not YAML: mapping values are not allowed");
  load_bad("a: [1,\nb: }\n", "2:4: not YAML: did not find expected");
  load_bad("version: 1\nx: \xff\n", "2:4: not YAML in UTF-8");
  load_bad("version: 1\nmappings: []\n---\nversion: 1\n", "3:1: a second document");
  load_bad("version: 1\nmappings: *nowhere\n", "2:11: undefined alias");
  load_bad("version: !!python/object/apply:os.system [\"touch pwned\"]\nmappings: []\n", "1:10: is not allowed: nothing is ever made from a tag");
  load_bad("version: !custom 1\nmappings: []\n", "1:10: \"!custom\" is not allowed");
  struct prelux_conf *c = load_good("version: !!int 1\nmappings: !!seq []\n", no_env);
  prelux_conf_free(c);
  struct prelux_conf *none = NULL;
  struct prelux_conf_error err = {NULL};
  char want[PATH_MAX + 64], missing[PATH_MAX + 16];
  snprintf(missing, sizeof missing, "%s/not-there", scratch);
  snprintf(want, sizeof want, "%s:1:1: cannot be read: No such file or directory", missing);
  assert_int_equal(prelux_conf_load(&(struct prelux_conf_input){.file = "not-there", .cwd = scratch, .env = no_env}, false, &none, &err), -EINVAL);
  assert_string_equal(err.text, want);
  free(err.text);
}

static void anchors(void **state)
{
  struct prelux_conf *c = load_good("version: 1\nbackends:\n  a: &web {type: http, url: \"http://h/\", index: json}\n  b: {<<: *web, index: html}\n"
                                    "mappings:\n  - &m {local: /a, remote: \"a:\", exec: off}\n  - {<<: [*m], local: /b}\n",
                                    no_env);
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "b"), "index"), "html");
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "b"), "url"), "http://h/");
  assert_string_equal(c->mappings[1].local, "/b");
  assert_false(c->mappings[1].exec_auto);
  prelux_conf_free(c);
  load_bad("version: 1\nmappings: []\nbackends:\n  a: &a {<<: *a, type: file, root: /x}\n", "4:6: `<<` is nested too deeply");
  load_bad("version: 1\nmappings: []\nbackends: {a: {<<: 5, type: file, root: /x}}\n", "3:20: wants a map or a list of maps");
}

/* A line of `n` "x, " between `head` and `tail`; malloc'd. */
static char *long_text(const char *head, const char *unit, size_t n, const char *tail)
{
  char *text = malloc(strlen(head) + n * strlen(unit) + strlen(tail) + 1);
  strcpy(text, head);
  char *p = text + strlen(head);
  for (size_t i = 0; i < n; i++, p += strlen(unit))
    memcpy(p, unit, strlen(unit));
  strcpy(p, tail);
  return text;
}

static void bombs(void **state)
{
  char *deep = long_text("version: 1\nmappings: ", "[", 100000, "\n");
  load_bad(deep, "2:74: nested too deeply");
  free(deep);
  char *many = long_text("version: 1\nmappings: [", "1,", 1000001, "]\n");
  load_bad(many, "2:2000002: more than 1000000 values");
  free(many);
  /* 1 + 4000 + 16,000,000 steps behind 80 KB. */
  char *list = long_text("version: 1\nmappings: []\nbackends:\n  a: {type: http, url: \"http://h/\", headers: {<<: [&m {A: b}, &l [", "*m,", 4000, "]");
  char *bomb = long_text(list, ",*l", 4000, "]}}\n");
  load_bad(bomb, "4:52: unfold to more than 4000000 values");
  free(bomb);
  free(list);
  char *large = long_text("version: 1\n# ", "x", 17 << 20, "\nmappings: []\n");
  load_bad(large, "1:1: larger than 16 MiB");
  free(large);
  char *keys = long_text("version: 1\nmappings: []\nbackends:\n", "", 0, "");
  size_t len = strlen(keys);
  keys = realloc(keys, len + 6000 * 16);
  for (int i = 0; i < 5000; i++)
    len += (size_t)sprintf(keys + len, " k%d: 1\n", i);
  char *report = NULL;
  struct prelux_conf *c = NULL;
  assert_int_equal(load_text(keys, no_env, false, &c, &report), -EINVAL);
  assert_non_null(strstr(report, ":4100:2: too many keys in one map"));
  assert_non_null(strstr(report, "mistakes more")); /* the report has an end, too */
  assert_true(strlen(report) < 65536);
  free(report);
  free(keys);
}

static void finds(void **state)
{
  char home[PATH_MAX + 64], xdg[PATH_MAX + 64], out[PATH_MAX * 2], want[PATH_MAX * 2];
  snprintf(home, sizeof home, "HOME=%s/home", scratch);
  snprintf(xdg, sizeof xdg, "XDG_CONFIG_HOME=%s/xdg", scratch);
  char *env[] = {"PRELUX_CONFIG=p.yaml", "QD_CLOUD_FUSE_CONFIG_FILE=/q.yaml", "AZFUSE_CLOUD_FUSE_CONFIG_FILE=/a.yaml",
                 "AZFUSE_USE_FUSE=1", xdg, home, NULL};
  struct prelux_conf_input in = {.file = "given.yaml", .cwd = scratch, .env = env};
#define FINDS(want_fmt, arg)                                      \
  snprintf(want, sizeof want, want_fmt, arg);                     \
  assert_int_equal(prelux_conf_find(&in, out, sizeof out), 0);    \
  assert_string_equal(out, want)
  FINDS("%s/given.yaml", scratch);
  in.file = NULL;
  FINDS("%s/p.yaml", scratch);
  env[0] = "PRELUX_CONFIG=";
  FINDS("%s", "/q.yaml");
  env[1] = "X=";
  FINDS("%s", "/a.yaml");
  env[2] = "X=";
  put_file("home/.config/prelux/config.yaml", "");
  put_file("xdg/prelux/config.yaml", "");
  put_file("aux_data/configs/azfuse.yaml", "");
  FINDS("%s/aux_data/configs/azfuse.yaml", scratch);
  env[3] = "AZFUSE_USE_FUSE=0";
  FINDS("%s/xdg/prelux/config.yaml", scratch);
  env[4] = "XDG_CONFIG_HOME=relative";
  FINDS("%s/home/.config/prelux/config.yaml", scratch);
  env[5] = "HOME=/nonexistent";
  if (access("/etc/prelux/config.yaml", F_OK) != 0)
    assert_int_equal(prelux_conf_find(&in, out, sizeof out), -ENOENT);
  struct prelux_conf *c = (void *)1;
  assert_int_equal(prelux_conf_load(&in, true, &c, NULL), -ENOENT);
  assert_ptr_equal(c, (void *)1);
}

static int replay(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  char *log = arg;
  strcat(strcat(log, secret ? " secret:" : " plain:"), strrchr(path, '/') + 1);
  if (strstr(path, "gone"))
    return -EACCES;
  *ret = strdup(secret ? "s3cr3t\n" : WEB "    bearer: file:tok\n");
  *ret_len = strlen(*ret);
  return 0;
}

static void files_through_the_callers_reader(void **state)
{
  char log[256] = "";
  struct prelux_conf *c = NULL;
  struct prelux_conf_error err = {NULL};
  struct prelux_conf_input in = {.file = "/not/there/snap.yaml", .cwd = "/", .env = no_env, .read_file = replay, .read_arg = log};
  assert_int_equal(prelux_conf_load(&in, false, &c, &err), 0);
  assert_string_equal(log, " plain:snap.yaml secret:tok");
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "w"), "bearer"), "s3cr3t");
  prelux_conf_free(c);
  in.file = "/gone.yaml";
  assert_int_equal(prelux_conf_load(&in, false, &c, &err), -EINVAL);
  assert_string_equal(err.text, "/gone.yaml:1:1: cannot be read: Permission denied");
  free(err.text);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_example_of_the_design), cmocka_unit_test(locals), cmocka_unit_test(remotes),
      cmocka_unit_test(numbers), cmocka_unit_test(the_table_of_keys), cmocka_unit_test(secrets),
      cmocka_unit_test(reports_keep_secrets), cmocka_unit_test(urls_and_addresses), cmocka_unit_test(mistakes_of_a_whole_file),
      cmocka_unit_test(volatile_data), cmocka_unit_test(rules_of_backends),
      cmocka_unit_test(rules_of_mappings), cmocka_unit_test(not_yaml), cmocka_unit_test(anchors), cmocka_unit_test(bombs),
      cmocka_unit_test(finds), cmocka_unit_test(files_through_the_callers_reader),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
