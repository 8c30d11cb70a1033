/* Broken configurations, made from the key table: for every key and every class of mistake that its type allows one file, right
 * but for that mistake. Each must give exactly one line, with the mistake's file, line and column, and leak nothing. A new key
 * is tested as soon as it has a row. */
#include "conf_util.h"

#include "lib/conf/internal.h"

/* A file being written; knows where the key under test and its value stand. */
struct text {
  char buf[8192];
  size_t len;
  int line;
  int key_line, key_column, value_line, value_column, map_line, map_column;
};

static void emit(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void emit(struct text *t, const char *fmt, ...)
{
  va_list ap;
  va_start(ap, fmt);
  size_t before = t->len;
  t->len += (size_t)vsnprintf(t->buf + t->len, sizeof t->buf - t->len, fmt, ap);
  va_end(ap);
  assert_true(t->len < sizeof t->buf);
  for (size_t i = before; i < t->len; i++)
    t->line += t->buf[i] == '\n';
}

/* What to do to the key under test. */
struct plan {
  const struct prelux_conf_key *key;
  const char *name;  /* as written; NULL: the key is left out */
  const char *value; /* NULL: none */
  bool twice;        /* the position wanted is that of the second */
  bool beside;       /* `name` is written beside the right key, not in its place */
};

static const char *good_value(const struct prelux_conf_key *k)
{
  if (k->type == PRELUX_T_SECTION)
    return strcmp(k->name, "mappings") == 0 ? "[]" : strcmp(k->name, "backends") == 0 ? "{store: {type: file, root: /r}}" : "{}";
  if (k->hidden) /* samples of secrets want an environment */
    return k->type == PRELUX_T_MAP ? "{a: b}" : "secret";
  return k->fallback ? k->fallback : k->sample;
}

static void emit_key(struct text *t, const struct plan *p, const char *indent, const char *type)
{
  const char *name = p->key->name, *dot = strrchr(name, '.');
  name = dot ? dot + 1 : name;
  if (p->beside || p->twice)
    emit(t, "%s%s: %s\n", indent, name, strcmp(name, "type") == 0 ? type : good_value(p->key));
  if (!p->name)
    return;
  t->key_line = t->line;
  t->key_column = (int)strlen(indent) + 1;
  t->value_line = t->line;
  t->value_column = t->key_column + (int)strlen(p->name) + 2;
  emit(t, "%s%s:%s%s\n", indent, p->name, p->value ? " " : "", p->value ? p->value : "");
}

/* Emits "indent name: value" for a key that is not under test, and notes where its map begins. */
static void emit_other(struct text *t, const struct plan *p, const char *indent, const char *name, const char *value)
{
  if (p->key && strcmp(p->key->name, name) == 0)
    return;
  if (!t->map_line)
    t->map_line = t->line, t->map_column = (int)strlen(indent) + 1;
  emit(t, "%s%s: %s\n", indent, name, value);
}

static void emit_backend(struct text *t, const struct plan *p, const char *type)
{
  bool member = strcmp(p->key->name, "etcd") == 0 || strcmp(p->key->name, "workers") == 0 || strcmp(p->key->name, "domain") == 0;
  emit(t, "  tested:\n");
  emit_other(t, p, "    ", "type", type);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == PRELUX_AT_BACKEND && strcmp(k->backend, type) == 0 && k->required)
      emit_other(t, p, "    ", k->name, good_value(k));
  if (strncmp(type, "alluxio", 7) == 0 && strcmp(type, "alluxio-proxy") != 0)
  {
    emit_other(t, p, "    ", "root", "/r"); /* not required: a property under `options` may give it */
    if (!member)
      emit(t, "    domain: workers\n");
  }
  if (strchr(p->key->name, '.'))
    emit(t, "    %.*s:\n", (int)strcspn(p->key->name, "."), p->key->name);
  emit_key(t, p, strchr(p->key->name, '.') ? "      " : "    ", type);
}

static void build(struct text *t, const struct plan *p, const char *type)
{
  static const char *const sections[] = {[PRELUX_AT_CACHE] = "cache", [PRELUX_AT_LOG] = "log", [PRELUX_AT_METRICS] = "metrics"};
  const struct plan other = {.key = NULL};
  bool top = p->key->where == PRELUX_AT_TOP;
  memset(t, 0, sizeof *t);
  t->line = 1;
  if (top)
    emit_other(t, p, "", "version", "1");
  else
    emit(t, "version: 1\n");
  if (top)
    emit_key(t, p, "", NULL);
  if (p->key->where == PRELUX_AT_CACHE || p->key->where == PRELUX_AT_LOG || p->key->where == PRELUX_AT_METRICS)
  {
    emit(t, "%s:\n", sections[p->key->where]);
    emit_key(t, p, "  ", NULL);
  }
  if (!top || strcmp(p->key->name, "backends") != 0)
  {
    emit(t, "backends:\n  store: {type: file, root: /r}\n  bucket: {type: s3, bucket: b}\n");
    if (p->key->where == PRELUX_AT_BACKEND)
      emit_backend(t, p, type);
  }
  if (top && strcmp(p->key->name, "mappings") == 0)
  {
    if (!t->map_line) /* `version` came first */
      t->map_line = t->map_column = 1;
    return;
  }
  if (top && strcmp(p->key->name, "version") == 0 && !p->name)
    t->map_line = t->map_column = 1;
  emit(t, "mappings:\n");
  if (p->key->where != PRELUX_AT_MAPPING && strcmp(p->key->name, "backends") != 0)
    emit(t, "  - {local: /other, remote: \"store:/x\"}\n");
  if (p->key->where == PRELUX_AT_MAPPING || strcmp(p->key->name, "backends") == 0)
  {
    const struct plan *q = p->key->where == PRELUX_AT_MAPPING ? p : &other;
    emit(t, "  -\n");
    emit_other(t, q, "    ", "local", "/l");
    emit_other(t, q, "    ", "remote", "\"store:/x\"");
    if (q == p)
      emit_key(t, p, "    ", NULL);
  }
}

static size_t cases;

/* Loads the file of `p`; wants one line at line:column whose message holds `word`. */
static void expect(const struct plan *p, const char *type, char at, int shift, const char *word)
{
  static struct text t;
  char want[PATH_MAX + 64], *report = NULL;
  struct prelux_conf *c = NULL;
  build(&t, p, type);
  int line = at == 'k' ? t.key_line : at == 'v' ? t.value_line : t.map_line;
  int column = at == 'k' ? t.key_column : at == 'v' ? t.value_column + shift : t.map_column;
  int status = load_text(t.buf, no_env, false, &c, &report);
  snprintf(want, sizeof want, "%s:%d:%d: ", conf_file, line, column);
  cases++;
  if (status != -EINVAL || !report || strncmp(report, want, strlen(want)) != 0 || strchr(report, '\n') || !strstr(report + strlen(want), word))
    fail_msg("key %s of %s: status %d, wanted %s...%s..., got\n%s\nof\n%s", p->key->name, type ? type : "-", status, want, word,
             report ? report : "(nothing)", t.buf);
  free(report);
  /* Failing closed: the prefixes are known all the same. */
  report = NULL;
  assert_int_equal(load_text(t.buf, no_env, true, &c, &report), -EINVAL);
  assert_non_null(c);
  if (strstr(t.buf, "local: /") && c->n_mappings != 1)
    fail_msg("lost the prefix of\n%s", t.buf);
  free(report);
  prelux_conf_free(c);
}

static void bad_value(const struct prelux_conf_key *k, const char *type, const char *value, int shift, const char *word)
{
  const char *dot = strrchr(k->name, '.');
  expect(&(struct plan){.key = k, .name = dot ? dot + 1 : k->name, .value = value}, type, 'v', shift, word);
}

static void wrong_types(const struct prelux_conf_key *k, const char *type)
{
  static const char *const nonsense[] = {
      [PRELUX_T_BOOL] = "maybe", [PRELUX_T_INT] = "x1",        [PRELUX_T_SIZE] = "4XB",           [PRELUX_T_SHARE] = "half",
      [PRELUX_T_DURATION] = "60", [PRELUX_T_MODE] = "rw",      [PRELUX_T_ENUM] = "no-such-word",  [PRELUX_T_URL] = "gopher://x",
      [PRELUX_T_ADDRESS] = "here", [PRELUX_T_SHARE_OR_SIZE] = "lots", [PRELUX_T_FRESHNESS] = "stale",
  };
  switch (k->type)
  {
  case PRELUX_T_LIST:
    bad_value(k, type, "{a: b}", 0, "must be");
    bad_value(k, type, "[a, {b: c}]", 4, "must be");
    bad_value(k, type, "[]", 0, "empty");
    break;
  case PRELUX_T_MAP:
    bad_value(k, type, "[a]", 0, "must be");
    bad_value(k, type, "word", 0, "must be");
    bad_value(k, type, "{a: [b]}", 4, "must be");
    bad_value(k, type, "{a: b, a: c}", 7, "twice");
    break;
  case PRELUX_T_SECTION:
    bad_value(k, type, "word", 0, "must be");
    bad_value(k, type, strcmp(k->name, "mappings") == 0 ? "{a: b}" : "[a]", 0, "must be");
    break;
  case PRELUX_T_FRESHNESS:
    bad_value(k, type, "{max_age: 60}", 10, "max_age");
    bad_value(k, type, "{max_age: 60s, min_age: 1s}", 15, "min_age");
    bad_value(k, type, "{}", 0, "max_age");
    break;
  default:
    bad_value(k, type, "{a: b}", 0, "must be");
    bad_value(k, type, "\"a\\0b\"", 0, "NUL");
    break;
  }
  if (k->type != PRELUX_T_LIST && k->type != PRELUX_T_MAP && k->type != PRELUX_T_SECTION)
    bad_value(k, type, "[a]", 0, "must be");
  if (k->type < sizeof nonsense / sizeof *nonsense && nonsense[k->type])
    bad_value(k, type, nonsense[k->type], 0, "must be");
}

/* One below and one above "min..max". */
static void out_of_range(const struct prelux_conf_key *k, const char *type)
{
  static const char *const units[] = {[PRELUX_T_INT] = "", [PRELUX_T_SIZE] = "b", [PRELUX_T_DURATION] = "ns"};
  int64_t low, high;
  char min[32], value[64];
  if (k->type == PRELUX_T_MODE)
    bad_value(k, type, "01000", 0, "range");
  if (k->type == PRELUX_T_SHARE || k->type == PRELUX_T_SHARE_OR_SIZE)
    bad_value(k, type, "101%", 0, "range");
  if (k->type == PRELUX_T_SIZE || k->type == PRELUX_T_SHARE_OR_SIZE)
    bad_value(k, type, "9999999999999GiB", 0, "range");
  if (k->type != PRELUX_T_INT && k->type != PRELUX_T_SIZE && k->type != PRELUX_T_DURATION)
    return;
  assert_non_null(k->choices);
  snprintf(min, sizeof min, "%.*s", (int)(strstr(k->choices, "..") - k->choices), k->choices);
  const char *max = strstr(k->choices, "..") + 2;
  int (*parse)(const char *, int64_t *) = k->type == PRELUX_T_INT    ? prelux_conf_parse_int
                                          : k->type == PRELUX_T_SIZE ? prelux_conf_parse_size
                                                                     : prelux_conf_parse_duration;
  assert_int_equal(parse(min, &low), 0);
  assert_int_equal(parse(max, &high), 0);
  assert_true(low <= high);
  snprintf(value, sizeof value, "%lld%s", (long long)high + 1, units[k->type]);
  bad_value(k, type, value, 0, "range");
  snprintf(value, sizeof value, "%lld%s", (long long)low - 1, units[k->type]);
  if (low > 0 || k->type == PRELUX_T_INT)
    bad_value(k, type, value, 0, "range");
}

static void unset_variable(const struct prelux_conf_key *k, const char *type)
{
  static const char variable[] = "\"${PRELUX_TEST_UNSET}\"";
  char value[64];
  if (k->type == PRELUX_T_SECTION)
    return;
  bool list = k->type == PRELUX_T_LIST, map = k->type == PRELUX_T_MAP;
  snprintf(value, sizeof value, "%s%s%s", list ? "[" : map ? "{a: " : "", variable, list ? "]" : map ? "}" : "");
  bad_value(k, type, value, list ? 1 : map ? 4 : 0, "PRELUX_TEST_UNSET");
}

static void every_mistake(const struct prelux_conf_key *k, const char *type)
{
  char wrong[PRELUX_CONF_NAME_MAX + 8];
  const char *dot = strrchr(k->name, '.'), *name = dot ? dot + 1 : k->name;
  wrong_types(k, type);
  out_of_range(k, type);
  unset_variable(k, type);
  if (k->hidden && k->type == PRELUX_T_SECRET)
    bad_value(k, type, "file:/nonexistent/secret", 0, "cannot be read");
  if ((k->hidden && k->type == PRELUX_T_SECRET) || (k->required && k->type == PRELUX_T_STRING && strcmp(k->name, "remote") != 0))
    bad_value(k, type, "''", 0, "empty");
  snprintf(wrong, sizeof wrong, "%sx", name);
  expect(&(struct plan){.key = k, .name = wrong, .value = "1", .beside = true}, type, 'k', 0, wrong);
  expect(&(struct plan){.key = k, .name = "qqqqqq", .value = "1", .beside = true}, type, 'k', 0, "unknown key \"qqqqqq\"");
  expect(&(struct plan){.key = k, .name = name, .value = good_value(k), .twice = true}, type, 'k', 0, "given twice");
  if (!k->required)
    return;
  expect(&(struct plan){.key = k}, type, 'm', 0, k->name);
  if (k->type == PRELUX_T_SECTION)
    return;
  expect(&(struct plan){.key = k, .name = name}, type, 'k', 0, "has no value");
  if (strcmp(k->name, "type") != 0) /* without it nothing else of the backend can be judged */
    expect(&(struct plan){.key = k, .name = wrong, .value = good_value(k)}, type, 'k', 0, "did you mean");
}

static void each_key_each_mistake(void **state)
{
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    if (k->where != PRELUX_AT_BACKEND)
      every_mistake(k, NULL);
    else if (strcmp(k->backend, "*") != 0)
      every_mistake(k, k->backend);
    else
      for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
        every_mistake(k, kind->type);
  }
  print_message("%zu broken files\n", cases);
  assert_true(cases > 800);
}

/* The frame itself is right: without a mistake all of these load. */
static void frames_are_right(void **state)
{
  static struct text t;
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    const char *dot = strrchr(k->name, '.'), *type = k->backend && strcmp(k->backend, "*") == 0 ? "http" : k->backend;
    bool pair = strstr(k->name, "_key") || strcmp(k->name, "session_token") == 0 || strncmp(k->name, "etcd_", 5) == 0 ||
                strcmp(k->name, "ttl_action") == 0; /* not alone */
    if (pair && strcmp(k->name, "account_key") != 0)
      continue;
    build(&t, &(struct plan){.key = k, .name = dot ? dot + 1 : k->name, .value = strcmp(k->name, "type") == 0 ? type : good_value(k)}, type);
    if (strcmp(k->name, "type") == 0 || (k->where == PRELUX_AT_TOP && strcmp(k->name, "backends") == 0))
      continue; /* other keys depend on it */
    struct prelux_conf *c = load_good(t.buf, no_env);
    prelux_conf_free(c);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(frames_are_right), cmocka_unit_test(each_key_each_mistake)};
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
