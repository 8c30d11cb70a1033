/* Keys of a mapping that go together, or do not. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "lib/base/os.h"

#include "lib/conf/internal.h"

/* Keys that say how something is written. */
static const char *const of_writing[] = {"async_durable", "fsync", "held", "on_conflict", "staging", "after_upload", "on_crash"};

#define TMPFS_MAGIC 0x01021994u
#define RAMFS_MAGIC 0x858458f6u

static const char *word(const struct prelux_conf_mapping *m, const char *name)
{
  const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, name);
  return v && v->text ? v->text : "";
}

/* Of the folder, or of the nearest one above it that is there. */
static bool in_memory(const char *dir)
{
  char path[PATH_MAX];
  struct statfs fs;
  int fd = -1;
  snprintf(path, sizeof path, "%s", dir);
  while ((fd = prelux_os.open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0 && strrchr(path, '/') > path)
    *strrchr(path, '/') = 0;
  bool is = fd >= 0 && prelux_os.fstatfs(fd, &fs) == 0 && ((uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC);
  if (fd >= 0)
    prelux_os.close(fd);
  return is;
}

/* A promise that cannot be kept is refused. */
static int check_power(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m)
{
  const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, "staging");
  if (!m->staging || !v || strcmp(word(m, "write"), "async") != 0 || strcmp(word(m, "async_durable"), "power") != 0 || !in_memory(m->staging))
    return 0;
  prelux_conf_complain(l, (struct prelux_conf_at){.file = d->file, .order = d->order, .line = v->line, .column = v->column},
                       "`staging`: %s is memory, and `async_durable: power` promises what memory does not keep", m->staging);
  return -EINVAL;
}

int prelux_conf_writing_check(struct prelux_conf_loader *l, const struct prelux_conf_doc *d, const struct prelux_conf_mapping *m)
{
  bool off = strcmp(word(m, "write"), "off") == 0, sync = strcmp(word(m, "write"), "sync") == 0;
  int rc = 0;
  for (size_t i = 0; i < sizeof of_writing / sizeof of_writing[0] && rc == 0; i++)
  {
    const struct prelux_conf_value *v = prelux_conf_find_value(m->values, m->n_values, of_writing[i]);
    if (!v || !v->line || !v->text || (v->key->fallback && strcmp(v->text, v->key->fallback) == 0))
      continue;
    const struct prelux_conf_at at = {.file = d->file, .order = d->order, .line = v->line, .column = v->column};
    if (off)
      rc = prelux_conf_warn(l, at, "`%s` has no effect: the mapping is read-only (`write: off`)", v->key->name);
    else if (sync && strcmp(v->key->name, "async_durable") == 0)
      rc = prelux_conf_warn(l, at, "`async_durable` has no effect with `write: sync`");
  }
  return rc < 0 ? rc : check_power(l, d, m);
}
