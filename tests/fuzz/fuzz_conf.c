/* A configuration: whatever the text is, it is refused with places, or what is in force can be shown, read again, and is the same; its prefixes are all
 * found in the table made of it. No secret of the environment or of a file is in what is shown. */
#include <errno.h>

#include "lib/conf/show.h"
#include "lib/map/build.h"
#include "lib/map/match.h"
#include "tests/fuzz/rig.h"

struct text {
  const char *data;
  size_t len;
};

static int give(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  const struct text *t = arg, word = {FUZZ_SECRET, strlen(FUZZ_SECRET)};
  if (strcmp(path, "/w/fuzz.yaml") != 0 && !secret)
    return -ENOENT;
  if (secret)
    t = &word;
  *ret = malloc(t->len + 1);
  if (!*ret)
    return -ENOMEM;
  memcpy(*ret, t->data, t->len);
  (*ret)[t->len] = 0;
  *ret_len = t->len;
  return 0;
}

static int load(const char *data, size_t len, bool lenient, struct prelux_conf **ret)
{
  static char *env[] = {"HOME=/home/u", "KEY=" FUZZ_SECRET, "WORD=w", "EMPTY=", "AWS_SECRET_ACCESS_KEY=" FUZZ_SECRET, NULL};
  struct text t = {data, len};
  const struct prelux_conf_input in = {.file = "/w/fuzz.yaml", .cwd = "/w", .env = env, .read_file = give, .read_arg = &t};
  struct prelux_conf_error err = {NULL};
  struct prelux_conf *none = NULL;
  *ret = NULL;
  int rc = prelux_conf_load(&in, lenient, ret, &err);
  FUZZ_CHECK(rc == 0 || rc == -EINVAL);
  FUZZ_CHECK((rc == 0) == (err.text == NULL));
  FUZZ_CHECK(*ret != NULL || (rc < 0 && !lenient));
  FUZZ_CHECK_TEXT(!fuzz_tells(err.text), err.text);
  for (const char *line = err.text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "")
    FUZZ_CHECK_TEXT(strncmp(line, "/w/fuzz.yaml:", 13) == 0 || strncmp(line, "/", 1) == 0, err.text);
  free(err.text);
  return *ret == none ? -EINVAL : rc;
}

static char *show(const struct prelux_conf *c)
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    abort();
  prelux_conf_show(c, f);
  fclose(f);
  FUZZ_CHECK_TEXT(!fuzz_tells(text), text);
  for (size_t i = 0; i < c->n_warnings; i++)
    FUZZ_CHECK_TEXT(!fuzz_tells(c->warnings[i]), c->warnings[i]);
  return text;
}

/* The same values, given or not. */
static void drop_marks(char *text)
{
  static const char mark[] = " # default\n";
  for (char *p = text; (p = strstr(p, mark));)
    memmove(p, p + sizeof mark - 2, strlen(p + sizeof mark - 2) + 1);
}

/* The prefixes are in the table, and it keeps its own promises. */
static void compile(const struct prelux_conf *c)
{
  struct prelux_build_mapping *maps = calloc(c->n_mappings + 1, sizeof *maps);
  struct prelux_table *t = NULL;
  size_t clash = 0;
  for (size_t i = 0; i < c->n_mappings; i++)
    maps[i] = (struct prelux_build_mapping){.local = c->mappings[i].local, .tree = "/t", .object = c->mappings[i].path ? c->mappings[i].path : "",
                                            .remote = "x", .dev = i + 1, .freshness = c->mappings[i].freshness};
  const struct prelux_build in = {.mappings = maps, .n_mappings = c->n_mappings, .flags = c->azfuse ? PRELUX_TABLE_FIRST_MATCH : 0,
                                  .source = "/w/fuzz.yaml", .cwd = "/w", .daemon = "/d", .runtime = "/r", .error = ""};
  int rc = prelux_table_build(&in, &t, &clash);
  FUZZ_CHECK(rc == 0 || rc == -EEXIST);
  if (rc == 0)
  {
    FUZZ_CHECK(prelux_table_check(t, t->bytes) == 0);
    for (size_t i = 0; i < c->n_mappings; i++)
    {
      struct prelux_match m;
      const char *local = c->mappings[i].local;
      prelux_table_match(t, local, local[0] != '/', &m);
      FUZZ_CHECK_TEXT(m.kind == PRELUX_MATCH_MAPPED && (c->azfuse ? m.index <= i : m.index == i), local);
      FUZZ_CHECK_TEXT(local[0] != '/' || prelux_table_maybe(t, local), local);
    }
  }
  free(t);
  free(maps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct prelux_conf *c, *again;
  int rc = load((const char *)data, size, true, &c);
  prelux_conf_free(c);
  FUZZ_CHECK(load((const char *)data, size, false, &c) == rc);
  if (rc < 0)
    return 0;
  compile(c);
  char *first = show(c), *second;
  if (!c->azfuse)
  {
    rc = load(first, strlen(first), false, &again);
    FUZZ_CHECK_TEXT(rc == 0, first);
    second = show(again);
    drop_marks(first);
    drop_marks(second);
    if (strcmp(first, second) != 0)
    {
      fprintf(stderr, "%s\n-- becomes --\n%s\n", first, second);
      abort();
    }
    free(second);
    prelux_conf_free(again);
  }
  free(first);
  prelux_conf_free(c);
  return 0;
}
