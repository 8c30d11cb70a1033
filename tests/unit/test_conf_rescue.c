/* Failing closed: from a file that is not YAML any more, or wrong, the prefixes are still known. */
#include "conf_util.h"

/* The lenient load of `text` must be -EINVAL and give just these prefixes ("a|b|c"; CWD stands for the scratch folder). */
static void rescued(const char *text, const char *want)
{
  char *env[] = {"HOME=/home/me", "A=/va", NULL}, got[8192] = "", expanded[8192] = "", *report = NULL;
  struct prelux_conf *c = NULL;
  assert_int_equal(load_text(text, env, true, &c, &report), -EINVAL);
  assert_non_null(c);
  assert_non_null(report);
  for (size_t i = 0; i < c->n_mappings; i++)
    strcat(strcat(got, i ? "|" : ""), c->mappings[i].local);
  for (const char *p = want; *p;)
  {
    if (strncmp(p, "CWD", 3) == 0)
      strcat(expanded, scratch), p += 3;
    else
      strncat(expanded, p++, 1);
  }
  if (strcmp(got, expanded) != 0)
    fail_msg("wanted %s\ngot %s\nof\n%s\n%s", expanded, got, text, report);
  assert_true(c->daemon_timeout_ns > 0);
  free(report);
  prelux_conf_free(c);
}

static void lines(void **state)
{
#define BROKEN "version: 1\nbroken: [\n"
  rescued(BROKEN "mappings:\n  - local: /a\n    remote: x\n  - remote: y\n    local: /b # comment\n", "/a|/b");
  rescued(BROKEN "  - {local: /a, remote: x}\n  - {remote: y, local: /b}\n", "/a|/b");
  rescued(BROKEN "  - {remote: x,\n     local: /a,\n     cache: /c}\n", "/a|/a,");
  rescued(BROKEN "  - local: /with,comma\n", "/with|/with,comma");
  rescued(BROKEN "  - local: /with space  \n", "/with space");
  rescued(BROKEN "  - local: \"/dq \\\"x\\\" , y\" # c\n  - local: '/it''s'\n", "/dq \"x\" , y|/it's");
  rescued(BROKEN "  {\"local\":\"/js\",'local' : '/single'}\n", "/js|/single");
  rescued(BROKEN "  - local: &x /anchored\n  - local: !!str /tagged\n  - local: *x\n", "/anchored|/tagged");
  rescued(BROKEN "  - local:\n      /next\n  - local: >-\n      /folded\n", "/next|/folded");
  rescued(BROKEN "  # local: /comment\n  my_local: /other\n  local: \n", "");
  rescued(BROKEN "  locals: /x\n  local:/x\n", "");
  rescued(BROKEN "  - local: /a\r\n  - local: /b\r\n", "/a|/b");
  rescued(BROKEN "  - local: /a", "/a");
  rescued(BROKEN "  - local: /a\n  - local: /a/\n  - local: /b/../a\n", "/a");
  rescued(BROKEN "  - local: ~/x\n  - local: rel\n  - local: \"${A}/y\"\n  - local: \"${UNSET}/z\"\n  - local: s3://b/k\n",
          "/home/me/x|CWD/rel|/va/y|s3:/b/k");
}

static void lists(void **state)
{
  rescued("- local: ~/x\n  broken: [\n- {local: rel, cache: ~/c}\n- local: s3://b\n- local: ${A}\n", "CWD/~/x|CWD/rel|CWD/s3:/b|CWD/${A|CWD/${A}");
  rescued("# c\n\n---\n-\n  local: /a\n  broken: }\n", "/a");
}

static void wrong_but_yaml(void **state)
{
  rescued("version: 1\nmapings:\n  - {local: /a, remote: x}\n", "/a");
  rescued("version: 9\nmappings:\n  - {local: /a, remote: 'x:'}\n  - {local: [b], remote: 'x:'}\n", "/a|CWD/[b");
  rescued("version: 1\nmappings:\n  - {local: /a, remote: 'x:'}\nmappings:\n  - {local: /b, remote: 'x:'}\n", "/a|/b");
  rescued("version: 1\nmappings:\n  - local: /a\n---\nmappings:\n  - local: /b\n", "/a|/b");
  rescued("local: /top\n", "/top");
}

/* The mistakes met while scanning are not reported: only what the file is wrong in. */
static void says_nothing_more(void **state)
{
  char *report = NULL;
  struct prelux_conf *c = NULL;
  assert_int_equal(load_text("a: [\n- local: \"${UNSET}\"\n- local: ''\n", no_env, true, &c, &report), -EINVAL);
  assert_null(strchr(report, '\n'));
  assert_non_null(strstr(report, "not YAML"));
  free(report);
  prelux_conf_free(c);
}

/* Whatever bytes a file holds: no crash, an end, a report. */
static void any_bytes(void **state)
{
  static const char pieces[][16] = {"local", ": ", "\"", "'", "{", "}", "[", "]", "\n", "  - ", ",", "#", "&a", "*a", "!!x ", "${", "\\", "\xff",
                                    "\t", "<<: ", "|", "\0x", "/p", "version: 1\n", "mappings:\n", "~", "\r"};
  unsigned seed = 12345;
  for (int round = 0; round < 3000; round++)
  {
    char text[512];
    size_t len = 0;
    for (int i = 0; i < 40; i++)
    {
      seed = seed * 1103515245 + 12345;
      const char *p = pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)];
      size_t n = *p ? strlen(p) : 2;
      if (len + n < sizeof text)
        memcpy(text + len, p, n), len += n;
    }
    put_bytes("conf.yaml", text, len);
    struct prelux_conf *c = NULL;
    struct prelux_conf_error err = {NULL};
    int status = prelux_conf_load(&(struct prelux_conf_input){.file = conf_file, .cwd = scratch, .env = no_env}, true, &c, &err);
    assert_true(status == 0 || (status == -EINVAL && err.text && c));
    free(err.text);
    prelux_conf_free(c);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(lines), cmocka_unit_test(lists), cmocka_unit_test(wrong_but_yaml),
                                     cmocka_unit_test(says_nothing_more), cmocka_unit_test(any_bytes)};
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
