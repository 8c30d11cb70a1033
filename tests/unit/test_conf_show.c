/* What people see of a configuration: safe to paste, and right as a file again; the example; the pages made from the table. */
#include "conf_util.h"

#include "lib/conf/internal.h"
#include "lib/conf/show.h"

static char *shown(const struct prelux_conf *c)
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  prelux_conf_show(c, f);
  assert_int_equal(fclose(f), 0);
  return text;
}

static char *printed(void (*print)(FILE *f))
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  print(f);
  assert_int_equal(fclose(f), 0);
  return text;
}

/* What is shown loads again, and then shows the same but for the marks of defaults. */
static void round_trip(const char *yaml, char *const *env)
{
  char *once, *twice, *again, *p;
  struct prelux_conf *c = load_good(yaml, env);
  once = shown(c);
  struct prelux_conf *d = load_good(once, env);
  twice = shown(d);
  again = malloc(strlen(once) + 1);
  strcpy(again, once);
  for (; (p = strstr(again, " # default\n")); memmove(p, p + 10, strlen(p + 10) + 1))
    ;
  /* The first line names the file, which is the same one, written anew. */
  if (!c->azfuse)
    assert_string_equal(again, twice);
  assert_int_equal(c->n_mappings, d->n_mappings);
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    const struct prelux_conf_mapping *a = &c->mappings[i], *b = &d->mappings[i];
    assert_string_equal(a->local, b->local);
    assert_string_equal(a->path, b->path);
    assert_true(a->freshness == b->freshness && a->file_mode == b->file_mode);
    if (!c->azfuse)
      assert_true(a->max_age_ns == b->max_age_ns && a->negative_age_ns == b->negative_age_ns);
  }
  free(once);
  free(twice);
  free(again);
  prelux_conf_free(c);
  prelux_conf_free(d);
}

static void what_is_shown_is_a_configuration(void **state)
{
  char *env[] = {"HOME=/home/me", "T=hush", NULL};
  round_trip("version: 1\ncache: {dir: ~/c, min_free: 1GiB}\nlog: {level: debug}\nbackends:\n"
             "  lake: {type: alluxio, etcd: \"a:1,b\", root: \"s3://x\", options: {a.b: \"c: d\"}, tls: {insecure: yes}}\n"
             "  web: {type: http, url: \"http://h/x%20y\", bearer: \"${T}\", headers: {A: b}}\n"
             "mappings:\n  - {local: \"./odd \\\"name\\\"\", remote: \"web:/a: b # c\", freshness: {max_age: 90s}}\n"
             "  - {local: ~/y, remote: \"lake:\", freshness: always, exec: off, file_mode: 0600}\n"
             "  - {local: s3://b/k, remote: \"lake:/x\", freshness: {max_age: 1500us}}\n",
             env);
  round_trip("version: 1\nmappings: []\n", env);
  put_file("aux_data/storage_account/vig.yaml", "account_name: a\ncontainer_name: c\n");
  round_trip("- {local: data, remote: a/b, cache: ~/c, storage_account: vig}\n", env);
}

static void secrets_are_not_shown(void **state)
{
  char *env[] = {"T=hush", "U=http://hush@h/", NULL};
  put_file("tok", "hush\n");
  struct prelux_conf *c = load_good("version: 1\nmappings: []\nbackends:\n"
                                    "  a: {type: http, url: \"http://me:hush@h:1/p\", bearer: hush, headers: {X: hush, Y: \"${T}\"}}\n"
                                    "  b: {type: http, url: \"${U}\", bearer: \"${T}\"}\n"
                                    "  c: {type: http, url: \"http://h/a@b\", bearer: \"file:tok\"}\n"
                                    "  d: {type: http, url: \"http://h\", bearer: \"hush${T}\"}\n"
                                    "  e: {type: alluxio, root: /x, workers: [w], options: {fs.s3a.secret.key: hush, "
                                    "s3a.accessKeyId: hush, page.size: 4MB}}\n"
                                    "  f: {type: s3, bucket: b, access_key: hush, secret_key: hush}\n",
                                    env);
  char *text = shown(c);
  if (strstr(text, "hush"))
    fail_msg("a secret in\n%s", text);
  static const char *const there[] = {"\"http://***@h:1/p\"", "bearer: \"${T}\"", "url: \"${U}\"", "bearer: \"file:tok\"", "http://h/a@b",
                                      "page.size: 4MB", "access_key: \"***\"", "headers: {X: \"***\", Y: \"***\"}"};
  for (size_t i = 0; i < sizeof there / sizeof *there; i++)
    if (!strstr(text, there[i]))
      fail_msg("%s is not in\n%s", there[i], text);
  free(text);
  prelux_conf_free(c);
}

static void azfuse_keys_are_not_shown(void **state)
{
  put_file("aux_data/storage_account/vig.yaml", "account_name: a\ncontainer_name: c\nsas_token: '?hush'\n");
  struct prelux_conf *c = load_good("- {local: data, remote: a/b, cache: /c, storage_account: vig}\n", no_env);
  char *text = shown(c);
  assert_null(strstr(text, "hush"));
  assert_non_null(strstr(text, "sas_token: \"***\""));
  assert_non_null(strstr(text, "the first entry that matches wins"));
  free(text);
  prelux_conf_free(c);
}

static void redaction(void **state)
{
  static const struct {
    const char *in, *out;
  } rows[] = {{"plain", "plain"}, {"http://h/p", "http://h/p"}, {"http://u:p@h", "http://***@h"}, {"http://u@v@h/x@y", "http://***@h/x@y"},
              {"http://h/p?a=b", "http://h/p?***"}, {"http://h?u@x", "http://h?***"}, {"see ftp://u@h", "see ftp://***@h"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char *got = prelux_conf_redacted(rows[i].in);
    assert_string_equal(got, rows[i].out);
    free(got);
  }
}

static void the_example(void **state)
{
  char home[PATH_MAX + 16];
  snprintf(home, sizeof home, "HOME=%s", scratch);
  char *env[] = {home, "API_KEY=a", "ETCD_PASSWORD=a", "MY_ACCESS_KEY=a", "MY_SECRET_KEY=a", "MY_TOKEN=a", "SAS_TOKEN=a", "AZURE_TOKEN=a", NULL};
  char *text = printed(prelux_conf_example), *whole = malloc(strlen(text) + 1), *out = whole, *report = NULL;
  struct prelux_conf *c = load_good(text, no_env);
  assert_int_equal(c->n_mappings, 1);
  assert_int_equal(c->n_backends, 1);
  prelux_conf_free(c);
  /* With each "#key" made a key: only that some exclude others may be wrong. */
  for (const char *p = text, *start = text; *p; p++)
  {
    bool first = strspn(start, " ") == (size_t)(p - start);
    if (!(first && *p == '#' && p[1] != ' '))
      *out++ = *p;
    start = *p == '\n' ? p + 1 : start;
  }
  *out = 0;
  put_file(".token", "a\n");
  put_file(".azure-key", "a\n");
  c = NULL;
  assert_int_equal(load_text(whole, env, false, &c, &report), -EINVAL);
  for (char *save, *line = strtok_r(report, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
    if (!strstr(line, "exclude each other") && !strstr(line, "no backend \"bucket\""))
      fail_msg("%s", line);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    char key[PRELUX_CONF_NAME_MAX + 4];
    snprintf(key, sizeof key, "%s:", strchr(k->name, '.') ? strchr(k->name, '.') + 1 : k->name);
    if (!strstr(whole, key))
      fail_msg("%s is not in the example", k->name);
  }
  free(report);
  free(whole);
  free(text);
}

static void the_tables(void **state)
{
  char *text = printed(prelux_conf_markdown);
  assert_int_equal(strncmp(text, PRELUX_CONF_MARK_BEGIN, strlen(PRELUX_CONF_MARK_BEGIN)), 0);
  assert_non_null(strstr(text, PRELUX_CONF_MARK_END));
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    char cell[PRELUX_CONF_NAME_MAX + 8];
    snprintf(cell, sizeof cell, "| `%s` | ", k->name);
    if (!strstr(text, cell) || !strstr(text, k->help))
      fail_msg("%s is not in the tables", k->name);
  }
  free(text);
}

/* Files of the tree; tests run in its root. */
static char *slurp(const char *path)
{
  FILE *f = fopen(path, "r");
  if (!f)
    return NULL;
  char *text = NULL;
  size_t cap = 0;
  ssize_t n = getdelim(&text, &cap, 0, f);
  fclose(f);
  return n >= 0 ? text : NULL;
}

static void the_page_holds_the_tables(void **state)
{
  char *page = slurp("docs/CONFIGURATION.md"), *text = printed(prelux_conf_markdown);
  if (!page)
    skip();
  if (!strstr(page, text))
    fail_msg("docs/CONFIGURATION.md differs from the key table: put the output of `prelux config keys` between its markers");
  free(page);
  free(text);
}

static void types_that_cannot_be_served(void **state)
{
  for (const struct prelux_conf_kind *k = prelux_conf_kinds; k->type; k++)
    assert_true((prelux_conf_unserved(&(struct prelux_conf_backend){.type = (char *)k->type}) != NULL) == k->later);
  assert_null(prelux_conf_unserved(&(struct prelux_conf_backend){.type = "file"}));
  assert_null(prelux_conf_unserved(&(struct prelux_conf_backend){.type = "alluxio-ee"}));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_shown_is_a_configuration), cmocka_unit_test(secrets_are_not_shown),
      cmocka_unit_test(azfuse_keys_are_not_shown), cmocka_unit_test(redaction), cmocka_unit_test(the_example),
      cmocka_unit_test(the_tables), cmocka_unit_test(the_page_holds_the_tables), cmocka_unit_test(types_that_cannot_be_served),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
