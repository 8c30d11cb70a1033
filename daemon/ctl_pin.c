/* pin, unpin, pins: what eviction leaves alone. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl.h"
#include "daemon/files.h"
#include "lib/map/match.h"

#define OPTION_CHECK "option=check"

/* What all PATHs are, before the first is pinned: all of them, or none. */
static int collect(struct prelux_ctl *x, struct prelux_target **ret, size_t *ret_n, struct prelux_problem *why)
{
  int err = 0;
  for (unsigned i = 0; err == 0 && i < x->n_args; i++)
    if (strcmp(x->args[i], OPTION_CHECK) != 0)
      err = prelux_ctl_targets_add(x, x->args[i], ret, ret_n, why);
  for (size_t i = 0; err == 0 && i < *ret_n; i++)
  {
    const struct prelux_live_mapping *m = prelux_target_mapping(&(*ret)[i]);
    if (m->broken)
      err = prelux_problem(why, EIO, "%s", m->cause ? m->cause : "the configuration is broken");
  }
  return err;
}

/* One command after the other: what another one has pinned meanwhile would go with what is undone. */
static pthread_mutex_t pinning = PTHREAD_MUTEX_INITIALIZER;

/* Their number, or -errno; what was pinned before the one that failed is not, then. `pinning` held. */
static int pin_targets(const struct prelux_target *targets, size_t n, bool on)
{
  bool *fresh = calloc(n + 1, sizeof *fresh);
  int done = 0, ret = fresh ? 0 : -ENOMEM;
  size_t i = 0;
  for (; ret >= 0 && i < n; i++)
  {
    ret = prelux_store_pin(&prelux_target_mapping(&targets[i])->view, targets[i].object, on);
    done += ret >= 0;
    if (ret == -ENOENT && !on) /* it was not */
      ret = 0;
    fresh[i] = on && ret == 0;
  }
  while (ret < 0 && i-- > 0)
    if (fresh[i])
      prelux_store_pin(&prelux_target_mapping(&targets[i])->view, targets[i].object, false);
  free(fresh);
  return ret < 0 ? ret : done;
}

static bool pin_all(struct prelux_ctl *x, bool on)
{
  struct prelux_problem why = {0};
  struct prelux_target *targets = NULL;
  size_t n = 0;
  int ret = collect(x, &targets, &n, &why);
  if (ret == 0 && strcmp(x->args[x->n_args - 1], OPTION_CHECK) != 0)
  {
    pthread_mutex_lock(&pinning);
    ret = pin_targets(targets, n, on);
    pthread_mutex_unlock(&pinning);
  }
  prelux_ctl_targets_free(targets, n);
  if (ret < 0)
    return prelux_ctl_fail(x, ret, &why);
  cJSON *out = cJSON_CreateObject();
  cJSON_AddNumberToObject(out, on ? "pinned" : "unpinned", ret);
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
