/* azfuse's mapping files and storage accounts (PROTOCOLS 1.1 to 1.3). */
#include "conf_util.h"

#define ENTRY "- {local: data, remote: images, cache: /c, storage_account: vig}\n"

static void accounts(void)
{
  put_file("aux_data/storage_account/vig.yaml", "account_name: vigacc\ncontainer_name: box\naccount_key: null\nsas_token: \"?sv=1&sig=x%2B\"\n");
}

static struct prelux_conf *good(const char *text, char *const *env)
{
  accounts();
  return load_good(text, env);
}

static const char *below(char *buf, size_t cap, const char *rest)
{
  snprintf(buf, cap, "%s%s", scratch, rest);
  return buf;
}

static void a_list(void **state)
{
  char want[PATH_MAX + 64];
  char *env[] = {"HOME=/home/me", NULL};
  struct prelux_conf *c = good("# comment\n---\n"
                               "- local: ./data/../data//sub/\n"
                               "  remote: /images/2024/\n"
                               "  cache: ~/c/sub\n"
                               "  storage_account: vig\n"
                               "  cache_lock: true\n"
                               "  whatever: {nobody: knows}\n"
                               "- {local: data, remote: '', cache: rel/c, storage_account: vig}\n"
                               "- {local: ~/x, remote: x, cache: /c, storage_account: vig}\n"
                               "- {local: /, remote: \"${A}\", cache: /c, storage_account: vig}\n"
                               "- {local: data, remote: late, cache: /late, storage_account: vig}\n",
                               env);
  assert_true(c->azfuse);
  assert_false(c->azfuse_off);
  assert_int_equal(c->n_backends, 1);
  assert_int_equal(c->n_mappings, 5); /* the last is never reached, which azfuse does not mind */
  const struct prelux_conf_mapping *m = c->mappings;
  assert_string_equal(m[0].local, below(want, sizeof want, "/data/sub"));
  assert_string_equal(m[0].path, "images/2024");
  assert_string_equal(m[0].remote, "/images/2024/");
  assert_string_equal(m[0].cache, "/home/me/c/sub");
  assert_string_equal(m[0].backend, "vig");
  assert_int_equal(m[0].freshness, PRELUX_FRESH_IMMUTABLE);
  assert_int_equal(m[0].file_mode, 0644);
  assert_int_equal(m[0].dir_mode, 0755);
  assert_true(m[0].exec_auto && m[0].negative_age_ns > 0);
  assert_string_equal(m[1].local, below(want, sizeof want, "/data"));
  assert_string_equal(m[1].path, "");
  assert_string_equal(m[1].cache, below(want, sizeof want, "/rel/c"));
  assert_string_equal(m[2].local, below(want, sizeof want, "/~/x")); /* abspath() knows no ~ */
  assert_string_equal(m[3].local, "/");
  assert_string_equal(m[3].path, "${A}"); /* nor are there variables */
  const struct prelux_conf_backend *b = prelux_conf_backend(c, "vig");
  assert_string_equal(b->type, "azure");
  assert_string_equal(prelux_conf_str(b, "account"), "vigacc");
  assert_string_equal(prelux_conf_str(b, "container"), "box");
  assert_string_equal(prelux_conf_str(b, "sas_token"), "sv=1&sig=x%2B");
  assert_null(prelux_conf_str(b, "account_key"));
  assert_int_equal(prelux_conf_num(b, "tls.insecure"), 0);
  assert_int_equal(c->daemon_timeout_ns, 15000000000);
  prelux_conf_free(c);
}

static void repeated_keys_count_last(void **state)
{
  struct prelux_conf *c = good("- {local: a, local: /b, remote: x, cache: /c, storage_account: vig}\n", no_env);
  assert_string_equal(c->mappings[0].local, "/b");
  prelux_conf_free(c);
  c = good("- &base {local: /a, remote: x, cache: /c, storage_account: vig}\n- {<<: *base, local: /b}\n", no_env);
  assert_string_equal(c->mappings[1].local, "/b");
  assert_string_equal(c->mappings[1].cache, "/c");
  prelux_conf_free(c);
}

/* Which credential counts: SAS, key, default credential, none. */
static void credentials(void **state)
{
  static const struct {
    const char *yaml, *key, *want;
  } rows[] = {
      {"account_key: k\nsas_token: s\n", "sas_token", "s"},       {"sas_token: '?s'\n", "sas_token", "s"},
      {"account_key: k\nsas_token:\n", "account_key", "k"},       {"account_key: k\nsas_token: ''\n", "account_key", "k"},
      {"account_key: null\nuse_default_azure_cred: true\n", "default_credential", "true"},
      {"account_key: k\nuse_default_azure_cred: true\n", "account_key", "k"},
      {"use_default_azure_cred: false\n", "default_credential", "false"},
  };
  static const char *const all[] = {"sas_token", "account_key", "bearer"};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char text[256];
    snprintf(text, sizeof text, "account_name: a\ncontainer_name: 123\n%s", rows[i].yaml);
    put_file("aux_data/storage_account/vig.yaml", text);
    struct prelux_conf *c = load_good(ENTRY, no_env);
    const struct prelux_conf_backend *b = prelux_conf_backend(c, "vig");
    assert_string_equal(prelux_conf_str(b, rows[i].key), rows[i].want);
    assert_string_equal(prelux_conf_str(b, "container"), "123");
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
      if (strcmp(all[k], rows[i].key) != 0)
        assert_null(prelux_conf_str(b, all[k]));
    prelux_conf_free(c);
  }
}

static void includes(void **state)
{
  put_file("aux_data/storage_account/vig.yaml", "_base_: base/one.yaml\ncontainer_name: mine\naccount_key: null\n");
  put_file("aux_data/storage_account/base/one.yaml", "_base_: ../two.yaml\naccount_key: from-one\nlist: [1]\n");
  put_file("aux_data/storage_account/two.yaml", "account_name: from-two\ncontainer_name: from-two\nsas_token: t\nlist: [2, 3]\n");
  struct prelux_conf *c = load_good(ENTRY, no_env);
  const struct prelux_conf_backend *b = prelux_conf_backend(c, "vig");
  assert_string_equal(prelux_conf_str(b, "account"), "from-two");
  assert_string_equal(prelux_conf_str(b, "container"), "mine");
  assert_string_equal(prelux_conf_str(b, "sas_token"), "t");
  assert_null(prelux_conf_str(b, "account_key")); /* the SAS wins */
  prelux_conf_free(c);
  put_file("aux_data/storage_account/vig.yaml", "_base_: base/one.yaml\nsas_token: null\n"); /* null overlays */
  c = load_good(ENTRY, no_env);
  b = prelux_conf_backend(c, "vig");
  assert_null(prelux_conf_str(b, "sas_token"));
  assert_string_equal(prelux_conf_str(b, "account_key"), "from-one");
  prelux_conf_free(c);
}

/* One line, in the account's own file. */
static void bad_account(const char *text, const char *file, const char *want)
{
  char *report = NULL, path[PATH_MAX + 64];
  struct prelux_conf *c = NULL;
  put_file("aux_data/storage_account/vig.yaml", text);
  assert_int_equal(load_text(ENTRY "- {local: more, remote: x, cache: /d, storage_account: vig}\n", no_env, true, &c, &report), -EINVAL);
  snprintf(path, sizeof path, "%s/%s:", scratch, file);
  if (strncmp(report, path, strlen(path)) != 0 || !strstr(report, want) || strchr(report, '\n'))
    fail_msg("wanted %s ... %s, got\n%s\nof\n%s", path, want, report, text);
  assert_int_equal(c->n_mappings, 2); /* failing closed */
  free(report);
  prelux_conf_free(c);
}

static void broken_accounts(void **state)
{
#define VIG "aux_data/storage_account/vig.yaml"
  bad_account("container_name: c\n", VIG, "1:1: the key `account_name` is missing");
  bad_account("account_name: a\ncontainer_name:\n", VIG, "1:1: the key `container_name` is missing");
  bad_account("account_name: [a]\ncontainer_name: c\n", VIG, "1:15: `account_name` must be a string");
  bad_account("account_name: a\ncontainer_name: c\nuse_default_azure_cred: perhaps\n", VIG, "3:25: `use_default_azure_cred` must be true or false");
  bad_account("- a\n", VIG, "1:1: a storage account must be a map");
  bad_account("", VIG, "1:1: a storage account must be a map");
  bad_account("a: [\n", VIG, "2:1: not YAML");
  bad_account("account_name: !!python/object/apply:os.system [id]\ncontainer_name: c\n", VIG, "1:15: the tag");
  bad_account("_base_: vig.yaml\n", VIG, "1:9: the storage account's file");
  bad_account("_base_: ./../storage_account/vig.yaml\n", VIG, "includes itself");
  bad_account("_base_: nowhere.yaml\n", VIG, "1:9: the storage account's file");
  bad_account("_base_: [a]\n", VIG, "1:9: `_base_` must be the name of a file");
  put_file("aux_data/storage_account/b.yaml", "account_key: {}\n");
  bad_account("_base_: b.yaml\n", "aux_data/storage_account/b.yaml", "1:14: `account_key` must be a string");
  char name[PATH_MAX + 64], text[128];
  for (int i = 0; i < 20; i++)
  {
    snprintf(name, sizeof name, "aux_data/storage_account/deep%d.yaml", i);
    snprintf(text, sizeof text, "_base_: deep%d.yaml\n", i + 1);
    put_file(name, text);
  }
  bad_account("_base_: deep0.yaml\n", "aux_data/storage_account/deep15.yaml", "nested too deeply");
  unlink(below(name, sizeof name, "/" VIG));
}

static void broken_entries(void **state)
{
  accounts();
  load_bad("- {remote: x, cache: /c, storage_account: vig}\n", "1:3: the key `local` is missing");
  load_bad("- {local: x, cache: /c, storage_account: vig}\n", "1:3: the key `remote` is missing");
  load_bad("- {local: x, remote: x, storage_account: vig}\n", "1:3: the key `cache` is missing");
  load_bad("- {local: x, remote: x, cache: /c}\n", "1:3: the key `storage_account` is missing");
  load_bad("- {local: x, remote: , cache: /c, storage_account: vig}\n", "1:14: `remote` has no value");
  load_bad("- {local: [x], remote: x, cache: /c, storage_account: vig}\n", "1:11: `local` must be a string, not a list");
  load_bad("- {local: x, remote: a/../b, cache: /c, storage_account: vig}\n", "1:22: \"..\" is no part");
  load_bad("- text\n- {local: x, remote: x, cache: /c, storage_account: gone}\n",
           "1:3: an entry must be a map\n2:53: gone.yaml\" cannot be read: No such file");
  load_bad("- {local: !!python/object/apply:os.getcwd [], remote: x, cache: /c, storage_account: vig}\n", "1:11: nothing is ever made");
}

static void the_accounts_folder(void **state)
{
  char path[PATH_MAX + 64], env_path[PATH_MAX + 128];
  put_file("elsewhere/vig.yaml", "account_name: other\ncontainer_name: c\n");
  snprintf(env_path, sizeof env_path, "AZFUSE_STORAGE_ACCOUNT_CONFIG_FOLDER=%s", below(path, sizeof path, "/elsewhere"));
  char *env[] = {env_path, NULL, NULL};
  struct prelux_conf *c = good(ENTRY, env);
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "vig"), "account"), "other");
  prelux_conf_free(c);
  env[1] = "QD_STORAGE_ACCOUNT_CONFIG_FOLDER=./aux_data/storage_account";
  c = good(ENTRY, env);
  assert_string_equal(prelux_conf_str(prelux_conf_backend(c, "vig"), "account"), "vigacc");
  bool noted = false;
  for (size_t i = 0; i < c->n_used_env; i++)
    noted |= strcmp(c->used_env[i], "QD_STORAGE_ACCOUNT_CONFIG_FOLDER") == 0;
  assert_true(noted);
  prelux_conf_free(c);
}

static void the_switch(void **state)
{
  static const struct {
    const char *a, *b;
    bool bare;
    int want; /* 1 on, 0 off, -1 wrong */
  } rows[] = {
      {NULL, NULL, false, 1},
      {NULL, NULL, true, 0},
      {"AZFUSE_USE_FUSE=1", NULL, true, 1},
      {"AZFUSE_USE_FUSE=0", NULL, false, 0},
      {"AZFUSE_USE_FUSE=1", "QD_USE_FUSE=0", true, 0},
      {"AZFUSE_USE_FUSE=0", "QD_USE_FUSE=2", true, 1},
      {"AZFUSE_USE_FUSE=0", "AZFUSE_TSV_USE_FUSE=1", true, 1},
      {"AZFUSE_USE_FUSE=1", "AZFUSE_TSV_USE_FUSE=-1", false, 0},
      {"AZFUSE_USE_FUSE= +1_0 ", NULL, true, 1},
      {"AZFUSE_USE_FUSE=-1", NULL, true, 1},
      {"AZFUSE_USE_FUSE=yes", NULL, false, -1},
      {"AZFUSE_USE_FUSE=", NULL, false, -1},
      {"AZFUSE_USE_FUSE=1_", NULL, false, -1},
      {"AZFUSE_USE_FUSE=1.0", NULL, false, -1},
      {"AZFUSE_USE_FUSE=1", "QD_TSV_USE_FUSE=x", false, -1},
  };
  accounts();
  put_file("conf.yaml", ENTRY);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    char *env[] = {(char *)(rows[i].a ? rows[i].a : "X="), (char *)rows[i].b, NULL};
    struct prelux_conf *c = NULL;
    struct prelux_conf_error err = {NULL};
    struct prelux_conf_input in = {.file = conf_file, .cwd = scratch, .env = env, .bare = rows[i].bare};
    int status = prelux_conf_load(&in, false, &c, &err);
    int got = status < 0 ? -1 : c->azfuse_off ? 0 : 1;
    if (got != rows[i].want)
      fail_msg("row %zu: %d", i, got);
    if (got == 0)
      assert_int_equal(c->n_mappings, 0);
    if (got < 0)
      assert_non_null(strstr(err.text, "USE_FUSE must be a whole number"));
    free(err.text);
    prelux_conf_free(c);
  }
}

/* Whatever the first look says, all variables are named, those of the accounts' servers too, so that a client is asked once. */
static void all_variables_at_once(void **state)
{
  static const char *const names[] = {"QD_USE_FUSE", "AZFUSE_USE_FUSE", "QD_TSV_USE_FUSE", "AZFUSE_TSV_USE_FUSE",
                                      "QD_STORAGE_ACCOUNT_CONFIG_FOLDER", "AZFUSE_STORAGE_ACCOUNT_CONFIG_FOLDER"};
  const struct prelux_conf_kind *azure = prelux_conf_kinds;
  size_t n = sizeof names / sizeof *names, more = 0;
  while (strcmp(azure->type, "azure") != 0)
    azure++;
  while (azure->env[more])
    more++;
  accounts();
  put_file("conf.yaml", ENTRY);
  for (int bare = 0; bare < 2; bare++)
  {
    struct prelux_conf *c = NULL;
    struct prelux_conf_input in = {.file = conf_file, .cwd = scratch, .env = no_env, .bare = bare};
    assert_int_equal(prelux_conf_load(&in, false, &c, NULL), 0);
    assert_int_equal(c->azfuse_off, bare);
    assert_int_equal(c->n_used_env, n + more);
    for (size_t i = 0; i < c->n_used_env; i++)
      assert_string_equal(c->used_env[i], i < n ? names[i] : azure->env[i - n]);
    prelux_conf_free(c);
  }
}

/* A list that is switched off need not be right; the native form has no such switch. */
static void switched_off_is_not_read(void **state)
{
  char *env[] = {"AZFUSE_USE_FUSE=0", NULL};
  struct prelux_conf *c = load_good("- {local: [\n", env);
  assert_true(c->azfuse && c->azfuse_off);
  prelux_conf_free(c);
  c = load_good("version: 1\nbackends: {s: {type: file, root: /}}\nmappings: [{local: /x, remote: \"s:\"}]\n", env);
  assert_false(c->azfuse_off);
  assert_int_equal(c->n_mappings, 1);
  prelux_conf_free(c);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_list),          cmocka_unit_test(repeated_keys_count_last), cmocka_unit_test(credentials),
      cmocka_unit_test(includes),        cmocka_unit_test(broken_accounts),          cmocka_unit_test(broken_entries),
      cmocka_unit_test(the_accounts_folder), cmocka_unit_test(the_switch), cmocka_unit_test(all_variables_at_once),           cmocka_unit_test(switched_off_is_not_read),
  };
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
