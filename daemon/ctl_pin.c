/* pin, unpin, pins: what eviction leaves alone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/files.h"
#include "lib/map/match.h"

static int pin_path(struct prelux_ctl *x, const char *path, bool on, unsigned *done)
{
  struct prelux_target *targets;
  size_t n;
  int ret = prelux_ctl_targets(x, path, &targets, &n);
  if (ret == 0 && n == 0)
    ret = -ENOENT;
  for (size_t i = 0; ret == 0 && i < n; i++)
  {
    const struct prelux_live_mapping *m = prelux_target_mapping(&targets[i]);
    ret = m->broken ? -EIO : prelux_store_pin(&m->view, targets[i].object, on);
    *done += ret == 0;
    if (ret == -ENOENT) /* it was not */
      ret = 0;
  }
  prelux_ctl_targets_free(targets, n);
  return ret;
}

static bool pin_all(struct prelux_ctl *x, bool on)
{
  struct prelux_problem why = {0};
  unsigned done = 0;
  for (unsigned i = 0; i < x->n_args; i++)
  {
    int ret = pin_path(x, x->args[i], on, &done);
    if (ret == -ENOENT)
      prelux_problem(&why, ENOENT, "%s is in no mapping", x->args[i]);
    if (ret < 0)
      return prelux_ctl_fail(x, ret, &why);
  }
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, on ? "pinned" : "unpinned", done);
  return prelux_ctl_answer(x, out);
}

bool prelux_ctl_pin(struct prelux_ctl *x)
{
  return pin_all(x, true);
}

bool prelux_ctl_unpin(struct prelux_ctl *x)
{
  return pin_all(x, false);
}

struct listing {
  cJSON *list;
  const char *local, *root; /* of the mapping, and what of its tree that is */
};

static int list_one(void *arg, const struct prelux_pin_info *pin)
{
  const struct listing *l = arg;
  size_t n = strlen(l->root);
  const char *rest = pin->object;
  if (strncmp(rest, l->root, n) == 0 && (n == 0 || rest[n] == 0 || rest[n] == '/'))
    rest += n + (n && rest[n] == '/');
  else
    return 0;
  char *path = prelux_join(l->local, rest);
  cJSON *o = cJSON_CreateObject();
  prelux_json_text(o, "path", path && *path ? path : "/");
  cJSON_AddNumberToObject(o, "files", (double)pin->files);
  cJSON_AddNumberToObject(o, "bytes", (double)pin->bytes);
  cJSON_AddItemToArray(l->list, o);
  free(path);
  return 0;
}

bool prelux_ctl_pins(struct prelux_ctl *x)
{
  cJSON *out = cJSON_CreateObject();
  struct listing l = {.list = cJSON_AddArrayToObject(out, "pins")};
  for (uint32_t i = 0; i < x->table->n_mappings; i++)
  {
    const struct prelux_table_mapping *tm = &prelux_table_mappings(x->table->table)[i];
    const struct prelux_live_mapping *m = &x->table->mappings[i];
    l.local = prelux_table_str(x->table->table, tm->local);
    l.root = prelux_table_str(x->table->table, tm->object);
    if (!m->broken)
      prelux_store_pins(&m->view, list_one, &l);
  }
  return prelux_ctl_answer(x, out);
}
