/* A compiled configuration (RUNTIME/tables/HASH) that somebody has written over: refused, or every look-up ends and stays within it. The input is laid over a
 * good table, or is a table itself when it begins with a table's magic; and what PRELUX_PREFIXES says. */
#include <errno.h>

#include "lib/map/build.h"
#include "lib/map/match.h"
#include "lib/map/prefixes.h"
#include "tests/fuzz/rig.h"

static struct prelux_table *make(void)
{
  static const struct prelux_build_mapping maps[] = {
      {.local = "/mnt/lake", .tree = "/c/a", .object = "", .remote = "lake:/", .staging = "/c/.prelux/staging", .scratch = "/x", .dev = 1},
      {.local = "/mnt/lake/deep/er", .tree = "/c/b", .object = "o/p", .remote = "lake:/o/p", .dev = 2},
      {.local = "s3:/bucket/x", .tree = "/c/d", .object = "", .remote = "b:/x", .dev = 3}};
  const struct prelux_build in = {.mappings = maps, .n_mappings = 3, .source = "/w/c.yaml", .cwd = "/w", .daemon = "/d", .runtime = "/r", .error = ""};
  struct prelux_table *t = NULL;
  size_t clash;
  if (prelux_table_build(&in, &t, &clash) < 0)
    abort();
  return t;
}

static void child(const char *name, size_t len, bool is_root, int mapping, void *arg)
{
  uint64_t *sum = arg;
  for (size_t i = 0; i < len; i++)
    *sum += (unsigned char)name[i];
}

/* Every string that programs read out of a table. */
static uint64_t read_strings(const struct prelux_table *t)
{
  const struct prelux_str all[] = {t->source, t->cwd, t->daemon, t->runtime, t->error};
  uint64_t sum = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    sum += strlen(prelux_table_str(t, all[i]));
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    const struct prelux_table_mapping *m = &prelux_table_mappings(t)[i];
    const struct prelux_str own[] = {m->local, m->tree, m->object, m->remote, m->staging, m->scratch};
    for (size_t k = 0; k < sizeof own / sizeof *own; k++)
    {
      size_t len = strlen(prelux_table_str(t, own[k]));
      FUZZ_CHECK(own[k].len < t->bytes);
      sum += len;
    }
  }
  return sum;
}

static void use(const struct prelux_table *t)
{
  static const char *const paths[] = {"/", "/mnt", "/mnt/lake", "/mnt/lake/deep", "/mnt/lake/deep/er/f", "/x/y", "//mnt/./lake", "/mnt/other"};
  uint64_t sum = read_strings(t);
  uint32_t index;
  const char *rel;
  char value[8192];
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
  {
    struct prelux_match m;
    prelux_table_match(t, paths[i], false, &m);
    FUZZ_CHECK(m.kind != PRELUX_MATCH_MAPPED || (m.index < t->n_mappings && m.rel >= paths[i] && m.rel <= paths[i] + strlen(paths[i])));
    prelux_table_match(t, "s3:/bucket/x/y", true, &m);
    prelux_table_maybe(t, paths[i]);
    prelux_table_children(t, paths[i], child, &sum);
    prelux_table_has_component(t, paths[i] + 1, strlen(paths[i] + 1));
    if (prelux_table_by_tree(t, "/c/b/o", (int)i - 1, &index, &rel))
      FUZZ_CHECK(index < t->n_mappings && strlen(rel) <= 6);
  }
  prelux_table_component_bits(t);
  size_t len = prelux_prefixes_format(t, value, sizeof value);
  FUZZ_CHECK(len <= PRELUX_PREFIXES_MAX || len < sizeof value);
}

static void prefixes(const char *value)
{
  struct prelux_prefixes p;
  size_t room = prelux_prefixes_room(value);
  void *memory = aligned_alloc(8, (room + 7) & ~(size_t)7);
  char config[64] = "/r/tables/";
  strncat(config, value, 32);
  if (memory && prelux_prefixes_parse(value, config, memory, &p) == 0)
  {
    FUZZ_CHECK(p.source && p.folder && strlen(p.source) <= strlen(value));
    prelux_prefixes_have(&p, "/mnt/lake/x");
    for (const char *s = p.list; s && *s; s += strlen(s) + 1)
      FUZZ_CHECK_TEXT(s[0] != '/' || prelux_prefixes_have(&p, s), s);
  }
  free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static struct prelux_table *good;
  uint64_t magic = PRELUX_TABLE_MAGIC;
  if (!good)
    good = make();
  if (size > 0 && data[0] == 'P')
  {
    size_t len;
    data++, size--;
    char *value = fuzz_piece(&data, &size, FUZZ_NEXT, &len);
    prefixes(value);
    free(value);
    return 0;
  }
  bool whole = size >= sizeof *good && memcmp(data, &magic, 8) == 0;
  size_t bytes = whole ? size : good->bytes;
  unsigned char *t = aligned_alloc(8, (bytes + 7) & ~(size_t)7);
  memcpy(t, whole ? data : (const uint8_t *)good, bytes);
  for (size_t i = 0; !whole && i + 3 <= size; i += 3) /* place, place, byte */
    t[(data[i] | (size_t)data[i + 1] << 8) % bytes] = data[i + 2];
  if (prelux_table_check(t, bytes) == 0)
    use((const struct prelux_table *)t);
  free(t);
  return 0;
}
